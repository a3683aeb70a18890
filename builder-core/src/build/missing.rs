//! What is said of a source that isn't there, or isn't what it seems.

use crate::build::copy::{CopyInput, shown};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::hints;
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::image_path::ImagePath;
use crate::nearest::nearest;
use crate::plan::step::{CopyFrom, CopyStep, Spanned};
use crate::tree::Tree;

/// An error for a source that isn't there, with what is known of why.
pub(crate) fn missing(input: &CopyInput<'_>, word: &Spanned<String>, at: &ImagePath) -> Error {
    let source = input.source;
    let error = Error::new(
        missing_kind(input.step),
        format!("no file in {} matches `{}`", source.describe(), word.value),
    );
    if let Some(reason) = source
        .explain_absence(at)
        .or_else(|| source.explain_absence(&ImagePath::clean(&word.value)))
    {
        let help = if reason.starts_with("excluded") {
            let name = shown(at.as_relative());
            format!("add `!{name}` below that line, or copy from elsewhere")
        } else {
            "write the output elsewhere with `-o`, or give this file another name".to_owned()
        };
        return error.with_note(reason).with_help(help);
    }
    if let Some(note) = leading_link(source, &ImagePath::clean(&word.value)) {
        return error
            .with_note(note)
            .with_help("links are followed inside their tree only; copy what the link leads to");
    }
    let flags = [
        "chown=",
        "chmod=",
        "from=",
        "exclude=",
        "link",
        "parents",
        "checksum=",
        "unpack",
    ];
    let is_flag = |rest: &str| flags.iter().any(|flag| rest.starts_with(flag));
    if word.value.strip_prefix("--").is_some_and(is_flag) {
        let help = format!("flags stand in front of the sources: `{} …`", word.value);
        return error.with_help(help);
    }
    if let Some(meant) = meant_path(input, word) {
        return error.with_help(format!(
            "write `{meant}`: a backslash takes the next character as it is"
        ));
    }
    if let Some((_, c, name)) = hints::invisible(&word.value) {
        let shown = hints::shown(c, name);
        return error
            .with_note(format!("there is {shown} in it"))
            .with_help("delete that character");
    }
    match near(source, at) {
        Some(name) => error.with_help(format!("did you mean `{name}`?")),
        None => error.with_help(advice(input.step)),
    }
}

/// Who is to blame where a source isn't there.
pub(crate) fn missing_kind(step: &CopyStep) -> ErrorKind {
    match step.from {
        CopyFrom::Context | CopyFrom::Named(_) => ErrorKind::Context,
        CopyFrom::Stage(_) | CopyFrom::Image(_) => ErrorKind::Dockerfile,
    }
}

/// A socket is copied as an empty file, as BuildKit does; nobody wants that, so it is said.
pub(crate) fn warn_of_socket(input: &CopyInput<'_>, word: &Spanned<String>, named: &ImagePath) {
    let message = format!("`{named}` is a socket: an empty file stands for it in the image");
    let diagnostic = Diagnostic::warning("copied-socket", word.span, message)
        .with_help("leave it out, or name the files beside it");
    input.remote.events.send(Event::Diagnostic {
        file: input.file.clone(),
        diagnostic,
    });
}

/// The path with slashes that someone wrote with backslashes.
fn meant_path(input: &CopyInput<'_>, word: &Spanned<String>) -> Option<String> {
    let written = input.file.slice(word.span);
    if !written.contains('\\') {
        return None;
    }
    let meant = written.replace('\\', "/").replace("//", "/");
    let found = input.source.look_up(&ImagePath::clean(&meant)).ok()?;
    found.map(|_| meant)
}

fn advice(step: &CopyStep) -> &'static str {
    match step.from {
        CopyFrom::Context => {
            "paths are relative to the root of the build context, the last argument of the command line"
        }
        _ => "paths are relative to the root of the source, whatever its WORKDIR is",
    }
}

/// The first link on the way of a path, with where it leads.
pub(crate) fn leading_link(source: &dyn Tree, path: &ImagePath) -> Option<String> {
    let mut here = ImagePath::root();
    for name in path.components() {
        here = here.child(name);
        let node = source.look_up(&here).ok()??;
        if let EntryKind::Symlink { target } = node.entry.kind {
            return Some(format!("`{here}` is a link to `{}`", shown(&target)));
        }
    }
    None
}

/// A name in the same directory that differs by case or by one or two characters.
fn near(source: &dyn Tree, at: &ImagePath) -> Option<String> {
    let wanted = String::from_utf8_lossy(at.file_name()?).into_owned();
    let siblings = source.list(&at.parent()?).ok()?;
    let names = siblings.take(10_000).flatten().filter_map(|node| {
        let name = node.entry.path.file_name()?.to_vec();
        String::from_utf8(name).ok()
    });
    let names: Vec<String> = names.filter(|name| *name != wanted).collect();
    nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned)
}
