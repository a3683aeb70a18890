//! `rbuild commit`: a directory or a tar as an image, on its own or on top of another.

use std::path::Path;

use builder_core::catalog;
use builder_core::image::Image;
use builder_core::image::base::load;
use builder_core::image::import::{Import, import};
use builder_core::interrupt::Interrupt;
use builder_core::layer::archive::{ArchiveTree, Owners};
use builder_core::layer::{Compression, LayerOptions};
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::{Pull, Registry};
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use builder_core::tree::Tree;
use builder_core::tree::directory::{Directory, HostOwners};
use builder_core::{Error, ErrorKind, Result};

use super::moving::{Stoppable, standard_input, with_registry};
use super::tag::new_name;
use super::{open_store, platform, print};
use crate::environment::Environment;
use crate::flags::archives::CommitFlags;
use crate::request;

/// Makes the image, gives it its name, and prints its digest.
pub(crate) fn run(
    flags: &CommitFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let name = flags.name.as_deref().map(new_name).transpose()?;
    let platform = platform(flags.platform.as_deref())?.unwrap_or_else(Platform::host);
    let compression = flags.compression.as_deref().map(request::compression);
    let compression = compression.transpose()?.unwrap_or(Compression::DEFAULT);
    let epoch = epoch(flags, environment)?;
    let store = open_store(&flags.moving.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let tree = tree(&store, &flags.source, environment, interrupt).or_else(|error| {
        // Who was told to end read no broken tar.
        interrupt.check()?;
        Err(error)
    })?;
    let base = flags.from.as_deref();
    let base = base.map(|name| find_base(&store, name, &platform, flags, environment, interrupt));
    let request = Import {
        base: base.transpose()?,
        platform,
        changes: flags.changes.clone(),
        author: flags.author.clone(),
        message: flags.message.clone(),
        created_by: format!("rbuild commit {}", flags.source.display()),
        now: environment.now,
        options: LayerOptions {
            compression,
            epoch,
            threads: environment.processors,
        },
    };
    let made = import(&store, request, &*tree, interrupt)?;
    if let Some(name) = &name {
        let tag = name.tag().unwrap_or("latest");
        store.tag(&name.to_string(), tag, &made.manifest)?;
    }
    print(&format!("{}\n", made.digest()))
}

fn epoch(flags: &CommitFlags, environment: &Environment) -> Result<Option<Timestamp>> {
    let text = environment.text("SOURCE_DATE_EPOCH").map(str::trim);
    let seconds = match (flags.source_date_epoch, text) {
        (Some(seconds), _) => Some(seconds),
        (None, None | Some("")) => None,
        (None, Some(text)) => Some(text.parse().map_err(|_| {
            let message = format!("the variable SOURCE_DATE_EPOCH is `{text}`, which is no number");
            Error::new(ErrorKind::Usage, message)
                .with_help("set it to seconds since 1970, or unset it")
        })?),
    };
    Ok(seconds.map(Timestamp::from_seconds))
}

/// The files: a directory with the owners that it has, or an archive with its own.
fn tree(
    store: &Store,
    source: &Path,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Box<dyn Tree>> {
    let name = source.display().to_string();
    if source == Path::new("-") {
        if environment.input_terminal {
            let error = Error::new(
                ErrorKind::Usage,
                "standard input is a terminal, and no tar comes from there",
            );
            return Err(error.with_help("send it: `rbuild commit - NAME < FILE`"));
        }
        let tree = ArchiveTree::read(
            store,
            &name,
            Stoppable(standard_input()?, interrupt),
            Owners::Kept,
        )?;
        return Ok(Box::new(tree));
    }
    let path = environment.directory.join(source);
    if path.is_dir() {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let owners = if uid.is_root() {
            HostOwners::Host
        } else {
            HostOwners::HostBut(uid.as_raw(), gid.as_raw())
        };
        let directory = Directory::open(&path, "the directory")?;
        return Ok(Box::new(directory.with_owners(owners)));
    }
    let file = std::fs::File::open(&path).map_err(|error| {
        Error::new(ErrorKind::Context, format!("`{name}` can't be read"))
            .with_help("name a directory, or a tar, plain or compressed")
            .with_source(error)
    })?;
    Ok(Box::new(ArchiveTree::read(
        store,
        &name,
        Stoppable(file, interrupt),
        Owners::Kept,
    )?))
}

/// The image below: of the store, or, where the store has none of that name, of its registry, without its layers.
fn find_base(
    store: &Store,
    name: &str,
    platform: &Platform,
    flags: &CommitFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Image> {
    let found = match catalog::find(store, name) {
        Ok(found) => found.descriptor,
        Err(error) => {
            let Ok(reference) = name.parse::<Reference>() else {
                return Err(error);
            };
            let how = (
                &flags.moving.registry,
                flags.moving.progress,
                flags.moving.quiet,
            );
            let pull = &mut |registry: &Registry<'_>, _: &dyn builder_core::event::EventSink| {
                registry.pull(store, &reference, platform, Pull::Documents)
            };
            with_registry(how, environment, interrupt, pull)?
        }
    };
    Ok(load(store, name, &found, platform)?.image)
}
