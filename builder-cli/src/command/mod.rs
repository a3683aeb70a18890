//! The commands, one file each.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod history;
mod image_filter;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
mod moving;
mod place;
pub(crate) mod plan;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod tag;
pub(crate) mod transfer;
pub(crate) mod why;

use builder_core::build::request::BuildRequest;
use builder_core::interrupt::Interrupt;
use builder_core::platform::Platform;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use crate::environment::Environment;
use crate::flags::{BuildFlags, StoreFlags};
use crate::render::{snippet, text};
use crate::request::{self, Input};

/// Opens the store that the flags and the environment name.
pub(crate) fn open_store(flags: &StoreFlags, environment: &Environment) -> Result<Store> {
    let root = environment.store(flags.root.as_deref()).ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            "there is no place for the store: HOME is not set",
        )
        .with_help("name a directory with `--root` or `RBUILD_ROOT`")
    })?;
    Ok(Store::open(&root)?)
}

/// Reads the Dockerfile, and makes the request of `build`, `plan` and `check`.
pub(crate) fn prepare(
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(Store, BuildRequest)> {
    let store = open_store(&flags.store, environment)?;
    let input = Input::read(flags, environment, &store, interrupt)?;
    let request = request::make(flags, environment, input, interrupt)?;
    Ok((store, request))
}

/// A platform that a flag names; none where it isn't given.
pub(crate) fn platform(flag: Option<&str>) -> Result<Option<Platform>> {
    match flag {
        None => Ok(None),
        Some("local") => Ok(Some(Platform::host())),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error| Error::new(ErrorKind::Usage, format!("--platform: {error}"))),
    }
}

/// Tells something beside the result, on standard error.
pub(crate) fn note(message: &str) {
    use std::io::Write as _;
    // Who doesn't hear it lacks nothing.
    let _ = writeln!(std::io::stderr().lock(), "{}", text::shown(message));
}

/// Prints an error on standard error and gives the exit status.
pub(crate) fn report(error: &Error, environment: &Environment) -> u8 {
    use std::io::Write as _;
    let renderer = snippet::renderer(environment.colour());
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}",
        snippet::error(&renderer, error)
    );
    crate::exit_code::of(error.kind())
}

/// Prints a result on standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let text = text::shown(text);
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| {
        Error::new(ErrorKind::Output, "standard output can't be written").with_source(error)
    })
}
