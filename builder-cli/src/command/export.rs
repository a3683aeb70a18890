//! `rbuild export`: the root file system of an image, as a tar or as files.

use std::path::Path;

use builder_core::Result;
use builder_core::catalog;
use builder_core::image::base::manifest_of;
use builder_core::interrupt::Interrupt;
use builder_core::output::{self, Output, OutputKind};

use super::moving::{destination, with_registry};
use super::{open_store, platform};
use crate::environment::Environment;
use crate::flags::archives::ExportFlags;

/// Writes the root file system.
pub(crate) fn run(
    flags: &ExportFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let platform = platform(flags.platform.as_deref())?;
    let path = flags.output.as_deref();
    let destination = destination(path, environment)?;
    let is_directory =
        path.is_some_and(|path| ends_with_slash(path) || environment.directory.join(path).is_dir());
    let kind = if is_directory {
        OutputKind::Local
    } else {
        OutputKind::Tar
    };
    let store = open_store(&flags.moving.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let found = catalog::find(&store, &flags.image)?;
    let name = found.shown();
    let manifest = manifest_of(&store, &name, &found.descriptor, platform.as_ref())?;
    let mut output = Output { kind, destination };
    let moving = &flags.moving;
    with_registry(
        (&moving.registry, moving.progress, moving.quiet),
        environment,
        interrupt,
        &mut |registry, events| {
            output::write_root(
                &store,
                &name,
                &manifest,
                &mut output,
                registry,
                events,
                interrupt,
            )
        },
    )
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}
