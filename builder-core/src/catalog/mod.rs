//! The images of the store as people name, list, inspect and remove them.
//!
//! An image's id is the digest of what its name means: of the manifest, or of the index where there are several
//! platforms. It is what a build prints, and what a registry calls it. Who asks by the digest of the config, which
//! Docker's older engines call the image's id, finds it too.

mod find;
pub mod history;
pub mod inspect;
mod remove;
mod summary;

pub use find::{Found, find, find_all};
pub use remove::{Removed, free, remove};
pub use summary::{Summary, Unnamed, list, unnamed};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

/// What an image in the store is called in messages where it has no name.
fn short(digest: &Digest) -> String {
    digest.short()
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}
