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
    match near(source, at).as_slice() {
        [] => error.with_help(advice(input.step)),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            error.with_help(format!("did you mean {}?", names.join(" or ")))
        }
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

/// So many entries of a tree are looked at for a name, in all.
const LOOKED_AT: usize = 20_000;
/// So many names are told.
const TOLD: usize = 3;

/// Paths that may have been meant: the one that differs by case or by a few characters in some of its components, or else
/// those of the same name elsewhere.
fn near(source: &dyn Tree, at: &ImagePath) -> Vec<String> {
    let told = |path: &ImagePath| shown(path.as_relative());
    match repaired(source, at) {
        Some(path) => vec![told(&path)],
        None => elsewhere(source, at).iter().map(told).collect(),
    }
}

/// The path with the nearest name in the place of each component that isn't there.
fn repaired(source: &dyn Tree, at: &ImagePath) -> Option<ImagePath> {
    let mut here = ImagePath::root();
    for wanted in at.components() {
        let child = here.child(wanted);
        here = if source.look_up(&child).ok()?.is_some() {
            child
        } else {
            let wanted = String::from_utf8_lossy(wanted).into_owned();
            let siblings = source.list(&here).ok()?.take(LOOKED_AT).flatten();
            let names = siblings.filter_map(|node| {
                let name = node.entry.path.file_name()?.to_vec();
                String::from_utf8(name).ok()
            });
            let names: Vec<String> = names.collect();
            here.child(nearest(&wanted, names.iter().map(String::as_str))?.as_bytes())
        };
    }
    Some(here)
}

/// Files and directories of the same name, the highest first.
fn elsewhere(source: &dyn Tree, at: &ImagePath) -> Vec<ImagePath> {
    let mut found = Vec::new();
    let Some(wanted) = at.file_name() else {
        return found;
    };
    let mut folders = std::collections::VecDeque::from([ImagePath::root()]);
    let mut left = LOOKED_AT;
    while let Some(folder) = folders.pop_front() {
        let Ok(children) = source.list(&folder) else {
            continue;
        };
        for node in children.flatten() {
            if left == 0 || found.len() == TOLD {
                return found;
            }
            left -= 1;
            let is_same = node.entry.path.file_name() == Some(wanted);
            if is_same && !node.passage {
                found.push(node.entry.path.clone());
            }
            if node.entry.is_directory() {
                folders.push_back(node.entry.path);
            }
        }
    }
    found
}
