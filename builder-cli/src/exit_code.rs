//! The exit statuses: one table, also in `docs/errors.md`.

use builder_core::ErrorKind;

/// Done.
pub(crate) const DONE: u8 = 0;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// `check` found something, or the Dockerfile is wrong.
pub(crate) const DOCKERFILE: u8 = 3;

/// The status that tells what went wrong.
pub(crate) fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Dockerfile => DOCKERFILE,
        ErrorKind::Context => 4,
        ErrorKind::BaseImage | ErrorKind::Registry => 5,
        ErrorKind::Run | ErrorKind::NotStarted => 6,
        ErrorKind::Store => 7,
        ErrorKind::Output => 8,
        ErrorKind::Interrupted => 130,
        _ => 1,
    }
}
