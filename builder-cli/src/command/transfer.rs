//! `rbuild pull` and `rbuild push`.

use builder_core::interrupt::Interrupt;
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::retry::SystemClock;
use builder_core::registry::{Pull, Registry};
use builder_core::{Error, ErrorKind, Result};

use super::open_store;
use crate::environment::Environment;
use crate::flags::TransferFlags;
use crate::network;
use crate::render::Display;

fn reference(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| {
        Error::new(ErrorKind::Usage, format!("{error}"))
            .with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
    })
}

/// Does something with the registries, shows how, and prints the digest where that was asked for.
fn with_registry(
    flags: &TransferFlags,
    environment: &Environment,
    interrupt: &Interrupt,
    work: &dyn Fn(&Registry<'_>) -> Result<String>,
) -> Result<()> {
    let transport = network::transport(environment, interrupt)?;
    let access = network::registries(&flags.registry, environment, interrupt)?;
    let display = Display::start(flags.progress, flags.quiet, environment);
    let (sink, clock) = (display.sink(), SystemClock::default());
    let registry = Registry::new(
        &*transport,
        &clock,
        &*access.credentials,
        &access.options,
        &sink,
        interrupt,
    );
    let done = work(&registry);
    drop(registry);
    drop(sink);
    display.finish();
    let digest = done?;
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
    let platform = match flags.platform.as_deref() {
        None | Some("local") => Platform::host(),
        Some(text) => text
            .parse()
            .map_err(|error| Error::new(ErrorKind::Usage, format!("--platform: {error}")))?,
    };
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
        let Some(image) = store.resolve(&reference.to_string())? else {
            let name = reference.familiar();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("image `{name}` is not in the store"),
            )
            .with_note(format!("the store is `{}`", store.root().display()))
            .with_help(format!(
                "build it with `rbuild -t {name} .`; `rbuild images` lists what is there"
            )));
        };
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
