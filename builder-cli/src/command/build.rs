//! `rbuild build`.

use std::path::Path;

use builder_core::build::session::OnFailure;
use builder_core::build::{self, Built};
use builder_core::interrupt::Interrupt;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::moving::with_registry;
use super::prepare;
use crate::console::{Lent, Stage};
use crate::engine::{self, Done, Wish};
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::flags::run::OnFailureFlag;
use crate::render::Display;
use crate::request;

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
    let wish = request::load(flags);
    if let Some(wish) = &wish {
        engine::check(wish, environment)?;
    }
    let (store, request) = prepare(flags, environment, interrupt)?;
    let display = Display::start(flags.progress, flags.quiet, environment);
    let stage = Stage::new(Lent::shell(), display, |_| true, interrupt);
    let on_failure = flags.run.on_failure.map(|what| match what {
        OnFailureFlag::Keep => OnFailure::Keep,
        OnFailureFlag::Shell => OnFailure::Shell {
            console: &stage,
            busybox: request::session::busybox(),
        },
    });
    let built = build::build_with(&store, request, on_failure.as_ref(), &stage, interrupt);
    stage.finish();
    let built = built.inspect_err(|_| super::cache::after_build(&store))?;
    // What was built is told in any case: an engine that refuses it takes nothing away.
    let told = write_files(flags, &built, environment);
    let handed = wish.map(|wish| load(&built, &wish, (flags, &store), environment, interrupt));
    super::cache::after_build(&store);
    told?;
    if let (Some(done), false) = (handed.transpose()?, flags.quiet) {
        tell(&done, &built);
    }
    if flags.quiet {
        super::print(&format!("{}\n", built.digest))?;
    }
    Ok(())
}

/// The files that tell of the image.
fn write_files(flags: &BuildFlags, built: &Built, environment: &Environment) -> Result<()> {
    if let Some(path) = &flags.iidfile {
        write(&environment.directory.join(path), &built.digest.to_string())?;
    }
    if let Some(path) = &flags.metadata_file {
        write(&environment.directory.join(path), &metadata(built))?;
    }
    Ok(())
}

/// Hands the image to an engine.
fn load(
    built: &Built,
    wish: &Wish,
    (flags, store): (&BuildFlags, &Store),
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Done> {
    // Nothing is collected while the engine reads.
    let _in_use = store.lock_for_use()?;
    let how = (&flags.registry, flags.progress, true);
    with_registry(how, environment, interrupt, &mut |registry, _| {
        engine::load(built, wish, store, registry, environment, interrupt)
    })
}

fn tell(done: &Done, built: &Built) {
    let name = built.references.first().map_or_else(
        || built.digest.short(),
        builder_core::reference::Reference::familiar,
    );
    super::note(&match done {
        Done::Known(engine) => format!("{engine} has `{name}`"),
        Done::Loaded(engine) => format!("{engine} has taken `{name}`"),
        Done::NoEngine => format!(
            "note: --load finds no engine, neither Docker nor podman nor containerd; `{name}` is in rbuild's store, where `rbuild run`, `save` and `push` find it"
        ),
    });
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
