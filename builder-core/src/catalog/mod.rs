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
use crate::error::{Error, ErrorKind, Result};
use crate::image::base::{MAX_DOCUMENT_BYTES, choose_manifest};
use crate::oci::{Descriptor, ImageIndex};
use crate::platform::Platform;
use crate::store::Store;

/// The manifest of one platform: `descriptor` itself, or of an index the one for `wanted`. Without a wish it is this
/// machine's, or else the first whose manifest is in the store.
///
/// # Errors
/// [`ErrorKind::BaseImage`] where no manifest fits; those of reading the store.
pub fn manifest_of(
    store: &Store,
    name: &str,
    descriptor: &Descriptor,
    wanted: Option<&Platform>,
) -> Result<Descriptor> {
    if !descriptor.media_type.is_index() {
        return Ok(descriptor.clone());
    }
    let bytes = store.read_document(descriptor, MAX_DOCUMENT_BYTES)?;
    let index = ImageIndex::from_bytes(name, &bytes)?;
    let host = Platform::host();
    let chosen = choose_manifest(&index, name, wanted.unwrap_or(&host), &mut |document| {
        if store.contains(&document.digest)? {
            return Ok(Some(store.read_document(document, MAX_DOCUMENT_BYTES)?));
        }
        Ok(None)
    });
    if wanted.is_some() {
        return chosen;
    }
    if let Ok(chosen) = &chosen
        && store.contains(&chosen.digest)?
    {
        return Ok(chosen.clone());
    }
    for one in &index.manifests {
        if one.media_type.is_manifest() && store.contains(&one.digest)? {
            return Ok(one.clone());
        }
    }
    chosen
}

/// What an image in the store is called in messages where it has no name.
fn short(digest: &Digest) -> String {
    digest.short()
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}
