//! A diagnostic or an error with the lines of the Dockerfile that it is about.

use std::ops::Range;

use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};
use builder_core::diagnostic::{Diagnostic, Severity};
use builder_core::source::{SourceFile, Span};
use builder_core::{Error, ErrorKind};

use super::text;

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
    let related = diagnostic.related.as_ref();
    draw(
        renderer,
        level
            .primary_title(title)
            .elements(places(file, diagnostic.span, related)),
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
        .elements(Vec::<Element<'_>>::new());
    if let Some((file, span)) = error.place() {
        for element in places(file, span, None) {
            group = group.element(element);
        }
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

/// Lines that are further apart are shown for themselves, in bytes.
const NEAR: usize = 16 * 1024;

/// Of a longer line, in bytes, a part is shown without a mark.
const LONG_LINE: usize = 4 * 1024;

/// Bytes of a long line that are shown before and behind what is meant.
const AROUND: usize = 100;

/// The lines that a problem is about. Only they are given to the renderer, which reads all that it is given: a file of
/// many problems costs its length.
fn places<'a>(
    file: &'a SourceFile,
    span: Span,
    related: Option<&'a (Span, String)>,
) -> Vec<Element<'a>> {
    let main = bounded(file, span);
    let line = file.line_at(main.start);
    if line.len() > LONG_LINE {
        let at = file.position(main.start);
        let origin = Origin::path(&file.name)
            .line(at.line)
            .char_column(at.column);
        let start = line.start.max(main.start.saturating_sub(AROUND));
        let end = line.end.min(main.end.min(main.start + LONG_LINE) + AROUND);
        let part = file.text.floor_char_boundary(start)..file.text.floor_char_boundary(end);
        let part = format!("…{}…", file.text[part].trim_end());
        let part = Level::NOTE.with_name(None::<&str>).message(part);
        return vec![origin.into(), part.into()];
    }
    let primary = |window: &Range<usize>| {
        let mark = AnnotationKind::Primary.span(within(&main, window));
        lines(file, window, Some(&file.name)).annotation(mark)
    };
    let Some((other, label)) = related else {
        return vec![primary(&line).into()];
    };
    let other = bounded(file, *other);
    let other_line = file.line_at(other.start);
    let context = |window: &Range<usize>| {
        let mark = AnnotationKind::Context.span(within(&other, window));
        mark.label(label.as_str())
    };
    let window = line.start.min(other_line.start)..line.end.max(other_line.end);
    if window.len() <= NEAR {
        return vec![primary(&window).annotation(context(&window)).into()];
    }
    let end = other_line.end.min(other_line.start + LONG_LINE);
    let other_line = other_line.start..file.text.floor_char_boundary(end.max(other.end));
    let elsewhere = lines(file, &other_line, Some(&file.name));
    let elsewhere = elsewhere.annotation(context(&other_line));
    vec![primary(&line).into(), elsewhere.into()]
}

/// Some lines of a file.
fn lines<'a>(
    file: &'a SourceFile,
    window: &Range<usize>,
    path: Option<&'a str>,
) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(&file.text[window.clone()])
        .line_start(file.position(window.start).line)
        .path(path)
}

/// A place of a file as one of a window.
fn within(place: &Range<usize>, window: &Range<usize>) -> Range<usize> {
    place.start - window.start..place.end - window.start
}

/// A span within the first line that it covers: an instruction of fifty lines is marked where it begins.
fn bounded(file: &SourceFile, span: Span) -> Range<usize> {
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
    let drawn = match help {
        Some(help) => renderer.render(&[group.element(Level::HELP.message(help))]),
        None => renderer.render(&[group]),
    };
    text::shown(&text::without_passwords(&drawn))
}
