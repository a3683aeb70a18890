//! Documents and blobs that are no image: what the shared build cache keeps in a registry.
//!
//! Follows the OCI distribution specification, and the image specification's "Guidelines for Artifact Usage". A mirror
//! is never asked: what was written a moment ago is in the registry itself.

use std::io::{Read as _, Write as _};

use super::Registry;
use super::blob_reader::{BlobReader, unwrap};
use super::client::{Action, MAX_DOCUMENT_BYTES};
use super::error::{Error, Result};
use super::source::origin_of;
use crate::digest::Digest;
use crate::oci::{Descriptor, MediaType};
use crate::reference::Reference;
use crate::store::Store;

impl Registry<'_> {
    /// What a reference names, a manifest or an index; none where the registry knows nothing of that name.
    ///
    /// # Errors
    /// A refusal, a registry that can't be reached, and an answer that is no document.
    pub fn find_document(
        &self,
        reference: &Reference,
    ) -> crate::Result<Option<(Descriptor, Vec<u8>)>> {
        match self
            .home(reference)
            .and_then(|place| self.top_at(&place, reference))
        {
            Ok(found) => Ok(Some(found)),
            Err(Error::UnknownManifest { .. }) => Ok(None),
            // Something that is there and is understood, but is none of ours.
            Err(error @ (Error::Schema1 { .. } | Error::Foreign { .. })) => {
                let message = error.to_string();
                Err(crate::Error::new(crate::ErrorKind::Registry, message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a document under the tag of a reference.
    ///
    /// # Errors
    /// A refusal: of who we are, or of a document that names what the repository doesn't hold.
    pub fn send_document(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> crate::Result<Digest> {
        let place = self.home(reference)?;
        let name = reference.tag().unwrap_or("latest");
        Ok(self.put_manifest(&place, name, media_type, bytes)?)
    }

    /// A blob of at most 16 MiB, verified. None of it is stored.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn small_blob(&self, reference: &Reference, blob: &Descriptor) -> crate::Result<Vec<u8>> {
        if blob.size > MAX_DOCUMENT_BYTES {
            return Err(crate::store::Error::TooLarge {
                digest: blob.digest,
                size: blob.size,
                limit: MAX_DOCUMENT_BYTES,
            }
            .into());
        }
        let place = self.home(reference)?;
        let mut reader = BlobReader::open(self, &place, blob, true)?;
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| unwrap(error, blob))?;
        Ok(bytes)
    }

    /// Whether the repository of a reference has a blob.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn has(&self, reference: &Reference, blob: &Descriptor) -> crate::Result<bool> {
        let place = self.home(reference)?;
        Ok(self.has_blob(&place, Action::Pull, &blob.digest)?)
    }

    /// Brings a blob of the store, or one whose origin is remembered, to the repository of a reference.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send_blob(
        &self,
        store: &Store,
        reference: &Reference,
        blob: &Descriptor,
    ) -> crate::Result<()> {
        let place = self.home(reference)?;
        Ok(self.push_blob(store, blob, &place)?)
    }

    /// Brings bytes to the repository of a reference, as a blob.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send_bytes(
        &self,
        store: &Store,
        reference: &Reference,
        media_type: MediaType,
        bytes: &[u8],
    ) -> crate::Result<Descriptor> {
        let blob = Descriptor::of(media_type, bytes);
        let place = self.home(reference)?;
        if !self.has_blob(&place, Action::Push, &blob.digest)? {
            self.send_small(store, &place, &blob, bytes)?;
        }
        store.remember_origin(&blob.digest, &origin_of(reference))?;
        Ok(blob)
    }

    fn send_small(
        &self,
        store: &Store,
        place: &super::place::Place,
        blob: &Descriptor,
        bytes: &[u8],
    ) -> Result<()> {
        let mut file = store.temporary_file()?;
        let written = file.write_all(bytes).and_then(|()| file.flush());
        written.map_err(crate::store::Error::io("write", file.path()))?;
        self.upload(place, blob, file.path(), None)
    }
}
