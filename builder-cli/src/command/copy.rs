//! `rbuild copy`: images between registries, the store, layouts and archives, digests kept.

use builder_core::catalog;
use builder_core::event::{Event, EventSink};
use builder_core::image::base::manifest_of;
use builder_core::image::layout_source::{LayoutSource, Wanted};
use builder_core::image::load::{Loaded, load};
use builder_core::image::members::Members;
use builder_core::interrupt::Interrupt;
use builder_core::oci::Descriptor;
use builder_core::output::{self, Destination, Name, Outgoing, Output, OutputKind};
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::Registry;
use builder_core::store::{BlobSource as _, Store};
use builder_core::{Error, ErrorKind, Result};

use super::moving::with_registry;
use super::place::Place;
use super::tag::new_name;
use super::{open_store, platform, print};
use crate::environment::Environment;
use crate::flags::archives::CopyFlags;

/// Copies an image. On its way it is in the store, without a name there; `prune` takes what is left of it.
pub(crate) fn run(
    flags: &CopyFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let platform = platform(flags.platform.as_deref())?;
    let source = Place::parse(&flags.source, &environment.directory)?;
    let destination = Place::parse(&flags.destination, &environment.directory)?;
    destination.check_destination()?;
    let store = open_store(&flags.moving.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let moving = &flags.moving;
    let digest = with_registry(
        (&moving.registry, moving.progress, moving.quiet),
        environment,
        interrupt,
        &mut |registry, events| {
            let image = bring(&store, &source, platform.as_ref(), registry, interrupt)?;
            deliver(&store, &image, &destination, registry, events, interrupt)?;
            Ok(image.digest)
        },
    )?;
    if let Some(path) = &flags.digest_file {
        let path = environment.directory.join(path);
        std::fs::write(&path, format!("{digest}\n")).map_err(|error| {
            let message = format!("`{}` can't be written", path.display());
            Error::new(ErrorKind::Output, message).with_source(error)
        })?;
    }
    if flags.moving.quiet {
        print(&format!("{digest}\n"))?;
    }
    Ok(())
}

/// Brings the documents of the source into the store, and from files its layers too.
fn bring(
    store: &Store,
    source: &Place,
    platform: Option<&Platform>,
    registry: &Registry<'_>,
    interrupt: &Interrupt,
) -> Result<Descriptor> {
    let top = match source {
        Place::Store(name) => catalog::find(store, name)?.descriptor,
        Place::Registry(reference) => return registry.bring(store, reference, platform),
        Place::Layout { path, word, .. } => {
            let members = Members::open(store, path, interrupt)?;
            let layout = LayoutSource::new(store, &members)?;
            let digest = word
                .as_deref()
                .and_then(|word| word.strip_prefix('@')?.parse().ok());
            let wanted = Wanted {
                name: word.clone().filter(|_| digest.is_none()),
                digest,
            };
            let entry = layout.entry(store, &wanted)?;
            layout.import_whole(store, &entry)?;
            entry
        }
        Place::DockerArchive { path, name } => {
            let members = Members::open(store, path, interrupt)?;
            let loaded = load(store, &members, None)?;
            chosen(loaded, name.as_ref(), members.name())?
        }
    };
    if platform.is_some() {
        return manifest_of(store, &source.to_string(), &top, platform);
    }
    Ok(top)
}

/// The image of a name among those of an archive, or the only one.
fn chosen(loaded: Vec<Loaded>, name: Option<&Reference>, archive: &str) -> Result<Descriptor> {
    let all = loaded.iter().flat_map(|one| &one.names);
    let all: Vec<String> = all.map(Reference::familiar).collect();
    let only = loaded.len() == 1;
    let fits = |one: &Loaded| name.map_or(only, |name| one.names.contains(name));
    if let Some(one) = loaded.into_iter().find(fits) {
        return Ok(one.descriptor);
    }
    let message = match name {
        Some(name) => format!("`{archive}` holds no image `{}`", name.familiar()),
        None => format!("`{archive}` holds several images"),
    };
    Err(Error::new(ErrorKind::BaseImage, message)
        .with_note(format!("it holds {}", all.join(", ")))
        .with_help("name one of them: `docker-archive:FILE:NAME`"))
}

fn deliver(
    store: &Store,
    image: &Descriptor,
    destination: &Place,
    registry: &Registry<'_>,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut image = image.clone();
    image.annotations = None;
    let (kind, path, name) = match destination {
        Place::Registry(reference) => {
            registry.push(store, &image, std::slice::from_ref(reference))?;
            return Ok(());
        }
        Place::Store(name) => {
            let reference = new_name(name)?;
            let blobs = output::blobs_of(store, &image)?;
            registry.fetch(store, &store.missing(&blobs)?)?;
            let tag = reference.tag().unwrap_or("latest");
            store.tag(&reference.to_string(), tag, &image)?;
            events.send(Event::ImageWritten {
                references: vec![reference.familiar()],
                digest: image.digest,
            });
            return Ok(());
        }
        Place::Layout {
            path,
            word,
            is_archive,
        } => {
            let kind = if *is_archive {
                OutputKind::Oci
            } else {
                OutputKind::OciDirectory
            };
            (kind, path, word.clone().map(Name::Word))
        }
        Place::DockerArchive { path, name } => {
            (OutputKind::Docker, path, name.clone().map(Name::Full))
        }
    };
    let mut output = Output {
        kind,
        destination: Destination::Path {
            path: path.clone(),
            replace: true,
        },
    };
    let outgoing = Outgoing {
        descriptor: image,
        names: name.into_iter().collect(),
    };
    output::write_images(store, &[outgoing], &mut output, registry, events, interrupt)
}
