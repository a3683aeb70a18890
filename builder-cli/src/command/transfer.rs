//! `rbuild pull` and `rbuild push`.

use builder_core::catalog;
use builder_core::event::EventSink;
use builder_core::interrupt::Interrupt;
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::{Pull, Registry};
use builder_core::{Error, ErrorKind, Result};

use super::{moving, open_store, platform};
use crate::environment::Environment;
use crate::flags::TransferFlags;

fn reference(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| {
        Error::new(ErrorKind::Usage, format!("{error}"))
            .with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
    })
}

/// Does something with the registries, and prints the digest where that was asked for.
fn with_registry(
    flags: &TransferFlags,
    environment: &Environment,
    interrupt: &Interrupt,
    work: &dyn Fn(&Registry<'_>) -> Result<String>,
) -> Result<()> {
    let how = (&flags.registry, flags.progress, flags.quiet);
    let work = &mut |registry: &Registry<'_>, _: &dyn EventSink| work(registry);
    let digest = moving::with_registry(how, environment, interrupt, work)?;
    if flags.quiet {
        super::print(&format!("{digest}\n"))?;
    }
    Ok(())
}

/// Brings images into the store.
pub(crate) fn pull(
    flags: &TransferFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let references: Vec<Reference> = flags
        .names
        .iter()
        .map(|name| reference(name))
        .collect::<Result<_>>()?;
    let platform = platform(flags.platform.as_deref())?.unwrap_or_else(Platform::host);
    with_registry(flags, environment, interrupt, &|registry| {
        use builder_core::event::Event;
        let mut digests = Vec::new();
        for reference in &references {
            let found = registry.pull(&store, reference, &platform, Pull::Everything)?;
            registry.tell(Event::ImageWritten {
                references: vec![reference.familiar()],
                digest: found.digest,
            });
            digests.push(found.digest.to_string());
        }
        Ok(digests.join("\n"))
    })
}

/// Sends images of the store to their registries.
pub(crate) fn push(
    flags: &TransferFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let mut images = Vec::new();
    for name in &flags.names {
        let reference = reference(name)?;
        let found = catalog::find(&store, name)?;
        if found.name.is_none() {
            // A digest would be taken for a repository of the default registry.
            let message = format!("`{name}` is no name that an image could be pushed to");
            return Err(Error::new(ErrorKind::Usage, message).with_help(format!(
                "name it first: `rbuild tag {name} REGISTRY/REPOSITORY:TAG`"
            )));
        }
        let image = found.descriptor;
        images.push((reference, image));
    }
    with_registry(flags, environment, interrupt, &|registry| {
        let mut digests = Vec::new();
        for (reference, image) in &images {
            let pushed = registry.push(&store, image, std::slice::from_ref(reference))?;
            digests.push(pushed.digest.to_string());
        }
        Ok(digests.join("\n"))
    })
}
