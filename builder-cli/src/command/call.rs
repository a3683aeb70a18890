//! `--call`: questions about a Dockerfile instead of a build.
//!
//! The tables and the JSON are those of BuildKit's subrequests `outline`, `targets` and `lint`.

mod json;

use builder_core::build;
use builder_core::interrupt::Interrupt;
use builder_core::plan::outline::{Outline, Target};
use builder_core::{Error, ErrorKind, Result};

use super::{check, prepare, print};
use crate::environment::Environment;
use crate::exit_code;
use crate::flags::BuildFlags;
use crate::request::fields;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Nothing: an image is built.
    Build,
    /// All problems of the file.
    Check,
    /// What the target takes from outside.
    Outline,
    /// Which targets there are.
    Targets,
}

/// `--call=QUESTION[,format=json][,ignorestatus=BOOL]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) question: Question,
    /// The answer is JSON instead of a table.
    pub(crate) json: bool,
    /// The status is 0 whatever was found.
    pub(crate) ignore_status: bool,
}

impl Call {
    /// Reads the flag; `--check` is short for `--call=check`.
    pub(crate) fn of(flags: &BuildFlags) -> Result<Self> {
        let mut call = Self {
            question: Question::Build,
            json: false,
            ignore_status: false,
        };
        let mut named = false;
        for field in fields::split("--call", flags.call.as_deref().unwrap_or("build"))? {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            match (key, value) {
                ("format", "json") => call.json = true,
                ("format", "text" | "") => call.json = false,
                ("ignorestatus", _) => {
                    let value = builder_core::plan::scope::switch(value);
                    call.ignore_status = value.ok_or_else(|| unknown(&field))?;
                }
                (word, "") if !named => {
                    call.question = question(word).ok_or_else(|| unknown(word))?;
                    named = true;
                }
                _ => return Err(unknown(&field)),
            }
        }
        if flags.check {
            call.question = Question::Check;
        }
        Ok(call)
    }
}

fn question(word: &str) -> Option<Question> {
    Some(match word {
        "" | "build" => Question::Build,
        "check" | "lint" => Question::Check,
        "outline" => Question::Outline,
        "targets" => Question::Targets,
        _ => return None,
    })
}

fn unknown(what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("--call: `{what}` is unknown"))
        .with_help("write build, check, outline or targets, and `,format=json` behind it for JSON")
}

/// Answers.
pub(crate) fn run(
    call: Call,
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    if call.question == Question::Check && !call.json {
        let status = check::run(flags, environment, interrupt)?;
        return Ok(if call.ignore_status {
            exit_code::DONE
        } else {
            status
        });
    }
    let (store, request) = prepare(flags, environment, interrupt)?;
    let file = &request.dockerfile;
    let mut status = exit_code::DONE;
    let answer = match (call.question, call.json) {
        (Question::Outline, json) => {
            let outline = build::outline(&store, &request)?;
            if json {
                json::outline(file, &outline)
            } else {
                outline_text(&outline)
            }
        }
        (Question::Targets, json) => {
            let targets = build::targets(&request)?;
            if json {
                json::targets(file, &targets)
            } else {
                targets_text(&targets)
            }
        }
        (Question::Check | Question::Build, _) => {
            let found = build::check(&store, &request)?;
            status = check::status(&found, flags);
            json::findings(file, &found)
        }
    };
    print(&answer)?;
    Ok(if call.ignore_status {
        exit_code::DONE
    } else {
        status
    })
}

/// Lines in columns, `gap` blanks apart.
fn table(rows: &[Vec<&str>], gap: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + gap
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let blanks = width - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn targets_text(targets: &[Target]) -> String {
    let names = targets
        .iter()
        .map(|target| match (&target.name, target.default) {
            (None, true) => "(default)".to_owned(),
            (Some(name), true) => format!("{name} (default)"),
            (name, false) => name.clone().unwrap_or_default(),
        });
    let names: Vec<String> = names.collect();
    let lines = names.iter().zip(targets);
    let lines =
        lines.map(|(name, target)| vec![name.as_str(), or_empty(target.description.as_ref())]);
    let rows: Vec<_> = std::iter::once(vec!["TARGET", "DESCRIPTION"])
        .chain(lines)
        .collect();
    table(&rows, 1)
}

fn or_empty(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    if outline.name.is_some() || outline.description.is_some() {
        let mut rows = vec![vec![
            "TARGET:",
            outline.name.as_deref().unwrap_or("(default)"),
        ]];
        rows.extend(
            outline
                .description
                .iter()
                .map(|text| vec!["DESCRIPTION:", text]),
        );
        parts.push(table(&rows, 1));
    }
    if !outline.args.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        for arg in &outline.args {
            let (value, description) = (
                or_empty(arg.value.as_ref()),
                or_empty(arg.description.as_ref()),
            );
            rows.push(vec![&arg.name, value, description]);
        }
        parts.push(table(&rows, 3));
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            let mut rows = vec![vec![title, "REQUIRED"]];
            for one in list {
                rows.push(vec![&one.id, if one.required { "true" } else { "" }]);
            }
            parts.push(table(&rows, 3));
        }
    }
    let parts = parts.iter().flat_map(|part| [part.as_str(), "\n"]);
    parts.collect()
}
