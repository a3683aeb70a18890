//! `rbuild save`: images of the store as an archive or a layout.

use builder_core::catalog::{self, Found};
use builder_core::image::base::manifest_of;
use builder_core::interrupt::Interrupt;
use builder_core::output::{self, Name, Outgoing, Output, OutputKind};
use builder_core::platform::Platform;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use super::moving::{destination, with_registry};
use super::{open_store, platform};
use crate::environment::Environment;
use crate::flags::archives::{SaveFlags, SaveFormat};

/// Writes the images. A name goes as it was typed; an image that was asked for by digest goes without a name, as with
/// Docker.
pub(crate) fn run(
    flags: &SaveFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    if flags
        .compress
        .as_deref()
        .is_some_and(|value| value != "false")
    {
        let error = Error::new(
            ErrorKind::Usage,
            "--compress can't be honoured: layers go as they are in the store",
        );
        return Err(error.with_help("leave it out"));
    }
    let platform = platform(flags.platform.as_deref())?;
    let (kind, path) = match (flags.format, flags.output.as_deref()) {
        (SaveFormat::OciDir, None) => {
            let error = Error::new(
                ErrorKind::Usage,
                "a layout is a directory and can't go to standard output",
            );
            return Err(error.with_help("name a directory with `-o DIR`"));
        }
        (SaveFormat::OciDir, path) => (OutputKind::OciDirectory, path),
        (SaveFormat::Docker, path) => (OutputKind::Docker, path),
        (SaveFormat::Oci, path) => (OutputKind::Oci, path),
    };
    let destination = destination(path, environment)?;
    let store = open_store(&flags.moving.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let names: Vec<&str> = flags.images.iter().map(String::as_str).collect();
    let found = catalog::find_all(&store, &names)?;
    let images = together(&store, &found, platform.as_ref())?;
    let mut output = Output { kind, destination };
    let moving = &flags.moving;
    with_registry(
        (&moving.registry, moving.progress, moving.quiet),
        environment,
        interrupt,
        &mut |registry, events| {
            output::write_images(&store, &images, &mut output, registry, events, interrupt)
        },
    )
}

/// Each image once, with all names that it was asked for by.
fn together(store: &Store, found: &[Found], platform: Option<&Platform>) -> Result<Vec<Outgoing>> {
    let mut images: Vec<Outgoing> = Vec::new();
    for one in found {
        let mut descriptor = one.descriptor.clone();
        if platform.is_some() {
            descriptor = manifest_of(store, &one.shown(), &descriptor, platform)?;
        }
        let name = one.name.as_deref().and_then(|name| name.parse().ok());
        let name = name.map(Name::Full);
        let known = images
            .iter_mut()
            .find(|known| known.descriptor.digest == descriptor.digest);
        match known {
            Some(known) => {
                let fresh = name.filter(|name| !known.names.contains(name));
                known.names.extend(fresh);
            }
            None => images.push(Outgoing {
                descriptor,
                names: name.into_iter().collect(),
            }),
        }
    }
    Ok(images)
}
