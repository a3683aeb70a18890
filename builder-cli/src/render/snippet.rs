//! A diagnostic or an error with the lines of the Dockerfile that it is about.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use builder_core::diagnostic::{Diagnostic, Severity};
use builder_core::source::{SourceFile, Span};
use builder_core::{Error, ErrorKind};

/// How things are drawn: colours or none. Nothing needs colour to be understood.
pub(crate) fn renderer(colour: bool) -> Renderer {
    if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}

/// Draws one diagnostic.
pub(crate) fn diagnostic(
    renderer: &Renderer,
    file: &SourceFile,
    diagnostic: &Diagnostic,
) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let level = if diagnostic.is_error() {
        level
    } else {
        level.with_name("warning")
    };
    let title = match diagnostic.severity {
        Severity::Error => diagnostic.message.clone(),
        Severity::Warning => format!("{} [{}]", diagnostic.message, diagnostic.rule),
    };
    let mut source = snippet(file, diagnostic.span);
    if let Some((span, label)) = &diagnostic.related {
        source = source.annotation(
            AnnotationKind::Context
                .span(bounded(file, *span))
                .label(label.as_str()),
        );
    }
    draw(
        renderer,
        level.primary_title(title).element(source),
        &diagnostic.notes,
        diagnostic.help.as_deref(),
    )
}

/// Draws an error: its place if it has one, then its causes, notes and help.
pub(crate) fn error(renderer: &Renderer, error: &Error) -> String {
    let problems: Vec<&Diagnostic> = error
        .diagnostics()
        .iter()
        .filter(|one| one.is_error())
        .collect();
    if let (Some((file, _)), [_, ..]) = (error.place(), problems.as_slice()) {
        let drawn: Vec<String> = problems
            .into_iter()
            .map(|one| diagnostic(renderer, file, one))
            .collect();
        return drawn.join("\n\n");
    }
    let mut notes = causes(error);
    notes.extend_from_slice(error.notes());
    let mut group = Level::ERROR
        .primary_title(error.message())
        .elements(Vec::<annotate_snippets::Element<'_>>::new());
    if let Some((file, span)) = error.place() {
        group = group.element(snippet(file, span));
    }
    let bug = (error.kind() == ErrorKind::Internal)
        .then_some("this is a bug of rbuild; please report it");
    draw(renderer, group, &notes, error.help().or(bug))
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut here = std::error::Error::source(error);
    while let Some(cause) = here {
        causes.push(cause.to_string());
        here = cause.source();
    }
    causes
}

fn snippet(file: &SourceFile, span: Span) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(&*file.text)
        .path(&file.name)
        .annotation(AnnotationKind::Primary.span(bounded(file, span)))
}

/// A span within the first line that it covers: an instruction of fifty lines is marked where it begins.
fn bounded(file: &SourceFile, span: Span) -> std::ops::Range<usize> {
    let start = file
        .text
        .floor_char_boundary(span.start.min(file.text.len()));
    let end = file
        .text
        .floor_char_boundary(span.end.clamp(start, file.text.len()));
    let line_end = file.text[start..end]
        .find('\n')
        .map_or(end, |newline| start + newline);
    start..line_end
}

fn draw<'a>(
    renderer: &Renderer,
    mut group: Group<'a>,
    notes: &'a [String],
    help: Option<&'a str>,
) -> String {
    for note in notes {
        group = group.element(Level::NOTE.with_name(None::<&str>).message(note));
    }
    match help {
        Some(help) => renderer.render(&[group.element(Level::HELP.message(help))]),
        None => renderer.render(&[group]),
    }
}
