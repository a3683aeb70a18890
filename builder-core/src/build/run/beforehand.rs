//! Why a command can't be started, as far as the stage tells: a WORKDIR that is a file, a script without its interpreter.

use std::io::Read as _;

use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::{EscapeAsciiLossy as _, ImagePath};
use crate::plan::step::RunStep;
use crate::tree::Tree;
use crate::tree::resolve::{Resolved, resolve};

/// The kernel reads no more of a script's first line, in bytes (execve(2)).
const FIRST_LINE: u64 = 256;

/// Refuses a WORKDIR that is something else by now. One that is missing is made.
///
/// # Errors
/// [`ErrorKind::Run`], and those of reading the stage.
pub(super) fn check_workdir(step: &RunStep, base: &dyn Tree) -> Result<()> {
    let at = match resolve(base, &ImagePath::clean(&step.workdir), true)? {
        Resolved::Found(node) if !node.entry.is_directory() => node.entry.path,
        Resolved::NotADirectory(path) => path,
        _ => return Ok(()),
    };
    let message = format!(
        "the WORKDIR `{}` can't be entered: `{at}` is a file in the stage",
        step.workdir
    );
    Err(Error::new(ErrorKind::Run, message)
        .with_help("name a directory with WORKDIR, or remove the file first"))
}

/// Makes a missing interpreter the cause of a script that can't be started.
pub(super) fn explain(step: &RunStep, base: &dyn Tree, error: Error) -> Error {
    let Some(program) = step.argv.first().filter(|program| program.starts_with('/')) else {
        return error;
    };
    let script = step
        .scripts
        .iter()
        .find(|script| *program == format!("/dev/pipes/{}", script.name));
    let start = match script {
        Some(script) => Some(script.content.clone().into_bytes()),
        None => first_bytes(program, base),
    };
    let Some(interpreter) = start.as_deref().and_then(interpreter) else {
        return error;
    };
    let shown = interpreter.escape_ascii_lossy();
    let what = script.map_or_else(
        || format!("`{program}`"),
        |script| format!("the script `{}`", script.name),
    );
    if interpreter.ends_with(b"\r") {
        let message = format!(
            "{what} can't be started: its first line ends in a carriage return, so `{shown}` is looked for"
        );
        return Error::new(error.kind(), message)
            .with_help("save the file with Unix line ends: `sed -i 's/\\r$//' FILE`");
    }
    let missing = matches!(
        resolve(base, &ImagePath::clean(interpreter), true),
        Ok(Resolved::Missing(_) | Resolved::NotADirectory(_) | Resolved::Loop(_))
    );
    if !missing {
        return error;
    }
    let message =
        format!("{what} can't be started: its interpreter `{shown}` does not exist in the stage");
    Error::new(error.kind(), message)
        .with_help("install it in an earlier step, or name another one behind `#!`")
}

/// What the first line of a script names.
fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    words
        .find(|word| !word.is_empty())
        .filter(|word| word.starts_with(b"/"))
}

fn first_bytes(program: &str, base: &dyn Tree) -> Option<Vec<u8>> {
    let Ok(Resolved::Found(mut node)) = resolve(base, &ImagePath::clean(program), true) else {
        return None;
    };
    if !matches!(node.entry.kind, EntryKind::File { .. }) {
        return None;
    }
    let mut bytes = Vec::new();
    let reader = base.open(&mut node).ok()?;
    reader.take(FIRST_LINE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter() {
        for (start, expected) in [
            (&b"#!/bin/sh\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! /usr/bin/env python\n", Some(b"/usr/bin/env")),
            (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"#!sh\n", None),
            (b"echo", None),
            (b"#!", None),
        ] {
            assert_eq!(interpreter(start), expected);
        }
    }
}
