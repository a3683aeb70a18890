//! An image with all its platforms, on its way from a registry to another place.
//!
//! Documents come into the store; where the layers are is remembered, so that they are mounted, sent on or fetched by who
//! needs them.

use super::client::MAX_DOCUMENT_BYTES;
use super::error::{Error, Result};
use super::source::origin_of;
use super::{Pull, Registry};
use crate::image::base::manifest_of;
use crate::oci::{Descriptor, ImageIndex, ImageManifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// An index in an index in an index ends here.
const MAX_DEPTH: u32 = 8;

impl Registry<'_> {
    /// Brings the documents of an image into the store, of an index those of all platforms, or the manifest of one; gives
    /// the document that the copy begins with. It gets no name.
    ///
    /// # Errors
    /// See [`Error`]; a platform of the index that the registry doesn't hold is one.
    pub fn bring(
        &self,
        store: &Store,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> crate::Result<Descriptor> {
        if let Some(platform) = platform {
            let top = self.pull_image(store, reference, platform, Pull::Documents)?;
            return manifest_of(store, &reference.familiar(), &top, Some(platform));
        }
        let (top, bytes) = self.first(reference, |place| self.top_at(place, reference))?;
        store.put_as(&top.digest, &bytes)?;
        self.bring_parts(store, reference, &top, &bytes, MAX_DEPTH)?;
        Ok(top)
    }

    fn bring_parts(
        &self,
        store: &Store,
        reference: &Reference,
        document: &Descriptor,
        bytes: &[u8],
        depth: u32,
    ) -> Result<()> {
        let origin = origin_of(reference);
        store.remember_origin(&document.digest, &origin)?;
        let name = reference.familiar();
        if !document.media_type.is_index() {
            let manifest = ImageManifest::from_bytes(&name, bytes)?;
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                store.remember_origin(&blob.digest, &origin)?;
            }
            return Ok(());
        }
        for one in ImageIndex::from_bytes(&name, bytes)?.manifests {
            if depth == 0 || one.size > MAX_DOCUMENT_BYTES {
                return Err(Error::Nonsense {
                    registry: reference.registry().to_owned(),
                    verb: "the request for an index",
                    problem: "with one that is too deep or too large",
                });
            }
            let bytes = if store.contains(&one.digest)? {
                store.read_document(&one, MAX_DOCUMENT_BYTES)?
            } else {
                self.manifest_by_digest(reference, &one)?
            };
            store.put_as(&one.digest, &bytes)?;
            self.bring_parts(store, reference, &one, &bytes, depth - 1)?;
        }
        Ok(())
    }
}
