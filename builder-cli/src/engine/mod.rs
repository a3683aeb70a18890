//! `--load`: a built image into the engine that `docker run`, `podman run` or containerd's clients take it from.
//!
//! An engine that has the image under all of its names is asked once and told nothing. One that lacks it is given an
//! archive as it is made; no engine's interface says which layers it has.

mod choose;
mod docker;
mod http;
mod programs;

use std::fs::File;

use builder_core::build::Built;
use builder_core::event::Silent;
use builder_core::interrupt::Interrupt;
use builder_core::oci::{Descriptor, MediaType};
use builder_core::output::{self, Destination, Name, Outgoing, Output, OutputKind};
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::Registry;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

pub(crate) use choose::{Engine, Wish};

use crate::environment::Environment;

/// What is handed over.
struct Image<'b> {
    store: &'b Store,
    registry: &'b Registry<'b>,
    interrupt: &'b Interrupt,
    manifest: Descriptor,
    /// The digest of the config, which engines of old call the image's id.
    id: String,
    /// The digest of the manifest, which engines on containerd call so.
    digest: String,
    names: &'b [Reference],
    platform: Platform,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The engine had it.
    Known(String),
    /// It has it now.
    Loaded(String),
    /// There is no engine.
    NoEngine,
}

/// Refuses, before anything is built, an engine that is named and not there.
///
/// # Errors
/// [`ErrorKind::Output`].
pub(crate) fn check(wish: &Wish, environment: &Environment) -> Result<()> {
    choose::choose(wish, environment).map(drop)
}

/// Hands a built image to the engine that is wished for, or the one that is there.
///
/// # Errors
/// [`ErrorKind::Output`] where an engine that was named is not there, or refuses the image.
pub(crate) fn load(
    built: &Built,
    wish: &Wish,
    store: &Store,
    registry: &Registry<'_>,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Done> {
    let Some(engine) = choose::choose(wish, environment)? else {
        return Ok(Done::NoEngine);
    };
    let size = store.blob_size(&built.digest)?.unwrap_or(0);
    let image = Image {
        store,
        registry,
        interrupt,
        manifest: Descriptor::new(MediaType::Manifest, built.digest, size),
        id: built.image_id.to_string(),
        digest: built.digest.to_string(),
        names: &built.references,
        platform: built.platform.clone(),
    };
    let shown = engine.shown();
    let was_known = match &engine {
        Engine::Docker(endpoint) => docker::hand_over(endpoint, &image)?,
        Engine::Program(program) => programs::hand_over(program, &image)?,
    };
    Ok(if was_known {
        Done::Known(shown)
    } else {
        Done::Loaded(shown)
    })
}

impl Image<'_> {
    /// Writes the archive into a pipe.
    fn write(&self, kind: OutputKind, pipe: File) -> Result<()> {
        let outgoing = Outgoing {
            descriptor: self.manifest.clone(),
            names: self.names.iter().cloned().map(Name::Full).collect(),
        };
        let mut output = Output {
            kind,
            destination: Destination::Handle(pipe),
        };
        let images = std::slice::from_ref(&outgoing);
        let (store, registry) = (self.store, self.registry);
        output::write_images(
            store,
            images,
            &mut output,
            registry,
            &Silent,
            self.interrupt,
        )
    }
}

fn refused(engine: &str, said: &str) -> Error {
    let said = said.trim();
    let said = if said.is_empty() {
        "it says nothing"
    } else {
        said
    };
    let message = format!("{engine} doesn't take the image: {said}");
    Error::new(ErrorKind::Output, message).with_help(
        "the image is in rbuild's store: `rbuild save` writes it to a file, `rbuild run` starts it",
    )
}
