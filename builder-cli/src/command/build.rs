//! `rbuild build`.

use std::path::Path;

use builder_core::build::{self, Built};
use builder_core::interrupt::Interrupt;
use builder_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::prepare;
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::render::Display;

/// Builds, shows how, and prints the digest where that was asked for.
pub(crate) fn run(
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    if flags.warnings_as_errors {
        let message = "--warnings-as-errors is about `rbuild check` and `--check`";
        return Err(Error::new(ErrorKind::Usage, message)
            .with_help("to make a build fail over findings, put `# check=error=true` above FROM"));
    }
    let (store, request) = prepare(flags, environment, interrupt)?;
    let display = Display::start(flags.progress, flags.quiet, environment);
    let built = build::build(&store, request, &display.sink(), interrupt);
    display.finish();
    super::cache::after_build(&store);
    let built = built?;
    if let Some(path) = &flags.iidfile {
        write(&environment.directory.join(path), &built.digest.to_string())?;
    }
    if let Some(path) = &flags.metadata_file {
        write(&environment.directory.join(path), &metadata(&built))?;
    }
    if flags.quiet {
        super::print(&format!("{}\n", built.digest))?;
    }
    Ok(())
}

/// The keys that buildx writes.
fn metadata(built: &Built) -> String {
    let names: Vec<String> = built.references.iter().map(ToString::to_string).collect();
    let mut value = json!({
        "containerimage.config.digest": built.image_id.to_string(),
        "containerimage.digest": built.digest.to_string(),
    });
    if !names.is_empty() {
        value["image.name"] = names.join(",").into();
    }
    format!("{value:#}\n")
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| {
        Error::new(
            ErrorKind::Output,
            format!("`{}` can't be written", path.display()),
        )
        .with_source(error)
    })
}
