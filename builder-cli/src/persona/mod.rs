//! rbuild under the name of another tool: a link called `docker`, `buildah` or `executor` (kaniko's), or `rbuild kaniko …`.
//!
//! A command line of that tool becomes one of rbuild's own. What rbuild does in any case is dropped, what it can't do is
//! refused by name; nothing else changes. The image that a build makes is in rbuild's store, as it would be in that
//! tool's, and no tarball is written beside it.

mod buildah;
mod docker;
mod kaniko;
mod scan;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use builder_core::{Error, ErrorKind, Result};

use crate::environment::Environment;

/// The line that rbuild takes, and variables that it is to see.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    words: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// A text to print, instead of a command.
    answer: Option<String>,
}

/// What is to be done.
pub(crate) enum Translated {
    /// A line of rbuild's own.
    Line(Vec<OsString>),
    /// A text to print: there is nothing to do.
    Answer(String),
}

/// Translates the line where the program was started under another tool's name; gives any other as it is.
///
/// # Errors
/// [`ErrorKind::Usage`] for what rbuild can't do, by name.
pub(crate) fn translate(words: Vec<OsString>, environment: &mut Environment) -> Result<Translated> {
    let name = words.first().map(Path::new).and_then(Path::file_name);
    let name = name.unwrap_or(OsStr::new("rbuild")).to_owned();
    let (tool, rest) = match name.to_str() {
        Some(tool @ ("docker" | "buildah" | "executor")) => (tool, 1),
        // A directory of that name may be meant where nothing follows.
        _ if words.len() > 2 && words[1] == "kaniko" => ("executor", 2),
        _ => return Ok(Translated::Line(words)),
    };
    let mut given = Vec::with_capacity(words.len());
    for word in &words[rest..] {
        let text = word.to_str().ok_or_else(|| {
            let message = format!("`{}` is no text", word.display());
            Error::new(ErrorKind::Usage, message)
                .with_help(format!("say it to `rbuild` itself, instead of to `{tool}`"))
        })?;
        given.push(text.to_owned());
    }
    let line = match tool {
        "docker" => docker::line(given)?,
        "buildah" => buildah::line(given)?,
        _ => kaniko::line(given, environment)?,
    };
    if let Some(answer) = line.answer {
        return Ok(Translated::Answer(answer));
    }
    for (name, value) in line.variables {
        environment.variables.insert(name.into(), value.into());
    }
    let program = OsString::from("rbuild");
    let words = line.words.into_iter().map(OsString::from);
    Ok(Translated::Line(
        std::iter::once(program).chain(words).collect(),
    ))
}

impl Line {
    fn of(words: Vec<String>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    fn answer(text: impl Into<String>) -> Self {
        Self {
            answer: Some(text.into()),
            ..Self::default()
        }
    }
}

fn refuse(what: &str, why: &str, help: &str) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("`{what}` can't be done: {why}"));
    error.with_help(help.to_owned())
}

/// What `version` of the other tool is answered with.
fn version() -> String {
    format!("rbuild version {}\n", env!("CARGO_PKG_VERSION"))
}
