//! `rbuild load`: archives and layouts of images into the store.

use std::fmt::Write as _;
use std::path::Path;

use builder_core::image::load::load;
use builder_core::image::members::Members;
use builder_core::interrupt::Interrupt;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use super::moving::{Stoppable, standard_input};
use super::{open_store, platform, print};
use crate::environment::Environment;
use crate::flags::archives::LoadFlags;

/// Loads all images, and gives them their names when the last of them is whole.
pub(crate) fn run(
    flags: &LoadFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let platform = platform(flags.platform.as_deref())?;
    let path = flags.path.as_deref().or(flags.input.as_deref());
    let path = path.filter(|path| *path != Path::new("-"));
    if path.is_none() && environment.input_terminal {
        let error = Error::new(
            ErrorKind::Usage,
            "standard input is a terminal, and no archive comes from there",
        );
        return Err(
            error.with_help("name an archive with `-i FILE`, or send it: `rbuild load < FILE`")
        );
    }
    let store = open_store(&flags.store, environment)?;
    let _in_use = store.lock_for_use()?;
    let members = match path {
        Some(path) => open(&store, path, environment, interrupt)?,
        None => {
            let input = Stoppable(standard_input()?, interrupt);
            Members::aside(&store, "-", input, interrupt)?
        }
    };
    let loaded = load(&store, &members, platform.as_ref())?;
    let mut text = String::new();
    for image in &loaded {
        for name in &image.names {
            let tag = name.tag().map(str::to_owned);
            let tag = tag.unwrap_or_else(|| image.descriptor.digest.to_string());
            store.tag(&name.to_string(), &tag, &image.descriptor)?;
            // Writing to a string can't fail.
            let _ = writeln!(text, "Loaded image: {}", name.familiar());
        }
        if image.names.is_empty() {
            let _ = writeln!(text, "Loaded image ID: {}", image.descriptor.digest);
        }
    }
    if flags.quiet {
        return Ok(());
    }
    print(&text)
}

/// Opens what is at a path; a pipe or a device is read as it comes.
fn open(
    store: &Store,
    path: &Path,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Members> {
    use std::os::unix::fs::FileTypeExt as _;
    let here = environment.directory.join(path);
    let is_stream = here.metadata().is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_fifo() || kind.is_char_device()
    });
    if is_stream {
        let file = std::fs::File::open(&here).map_err(|error| {
            let message = format!("`{}` can't be read", path.display());
            Error::new(ErrorKind::BaseImage, message).with_source(error)
        })?;
        let name = path.display().to_string();
        return Members::aside(store, &name, Stoppable(file, interrupt), interrupt);
    }
    Members::open(store, &here, interrupt)
}
