//! `rbuild check`: all problems of a Dockerfile, and no build.

use builder_core::diagnostic::Diagnostic;
use builder_core::interrupt::Interrupt;
use builder_core::{Result, build};

use super::prepare;
use crate::environment::Environment;
use crate::exit_code;
use crate::flags::BuildFlags;
use crate::render::snippet;

/// Prints every problem; the status is that of a broken Dockerfile if one of them is an error, or any with
/// `--warnings-as-errors`.
pub(crate) fn run(
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    use std::io::Write as _;
    let (store, request) = prepare(flags, environment, interrupt)?;
    let found: Vec<Diagnostic> = build::check(&store, &request)?;
    let renderer = snippet::renderer(environment.colour());
    let mut out = std::io::stderr().lock();
    for diagnostic in &found {
        let _ = writeln!(
            out,
            "{}\n",
            snippet::diagnostic(&renderer, &request.dockerfile, diagnostic)
        );
    }
    let errors = found.iter().filter(|one| one.is_error()).count();
    let warnings = found.len() - errors;
    if found.is_empty() {
        let _ = writeln!(out, "{}: no problems found", request.dockerfile.name);
        return Ok(exit_code::DONE);
    }
    let _ = writeln!(
        out,
        "{}: {}, {}",
        request.dockerfile.name,
        counted(errors, "error"),
        counted(warnings, "warning")
    );
    Ok(status(&found, flags))
}

/// The status that findings give.
pub(super) fn status(found: &[Diagnostic], flags: &BuildFlags) -> u8 {
    let strict = flags.warnings_as_errors && !found.is_empty();
    if strict || found.iter().any(Diagnostic::is_error) {
        exit_code::DOCKERFILE
    } else {
        exit_code::DONE
    }
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
