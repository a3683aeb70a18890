//! From the store to a registry: layers, config, manifest, further tags, in that order.
//!
//! Follows the OCI distribution specification, "Push". A blob is asked for first, mounted where another repository of
//! the registry is known to have it, and sent otherwise: from the store, or through a temporary file
//! where the store never held it.

use std::collections::{BTreeMap, BTreeSet};

use super::Registry;
use super::client::{Action, Call, MAX_DOCUMENT_BYTES};
use super::error::{Error, Result};
use super::place::Place;
use super::source::{origin_of, origins};
use super::upload::Session;
use crate::digest::Digest;
use crate::event::{Event, Settled};
use crate::http::Request;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType};
use crate::reference::Reference;
use crate::store::Store;

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The digest, as the registry has it.
    pub digest: Digest,
    /// The names it has there.
    pub references: Vec<Reference>,
}

impl Registry<'_> {
    /// Pushes an image, or an index with its images, under one or more names. Layers that the store doesn't hold are
    /// mounted or sent on from where they are.
    ///
    /// # Errors
    /// See [`Error`]; a name never stands before all that it needs.
    pub fn push(
        &self,
        store: &Store,
        image: &Descriptor,
        to: &[Reference],
    ) -> crate::Result<Pushed> {
        let mut places: BTreeMap<String, Vec<&Reference>> = BTreeMap::new();
        for reference in to {
            places
                .entry(origin_of(reference))
                .or_default()
                .push(reference);
        }
        for references in places.values() {
            self.push_repository(store, image, references)?;
        }
        Ok(Pushed {
            digest: image.digest,
            references: to.to_vec(),
        })
    }

    fn push_repository(
        &self,
        store: &Store,
        image: &Descriptor,
        references: &[&Reference],
    ) -> Result<()> {
        let Some(first) = references.first() else {
            return Ok(());
        };
        let place = self.home(first)?;
        let bytes = self.push_parts(store, image, &place, 4)?;
        for reference in references {
            let digest = self.put_image(&place, reference, image, &bytes)?;
            self.events.send(Event::ImagePushed {
                reference: reference.familiar(),
                digest,
            });
        }
        store.remember_origin(&image.digest, &origin_of(first))?;
        Ok(())
    }

    /// Gives the image its name in the registry. One that knows no OCI gets it in Docker's form, which has another digest;
    /// that is said.
    fn put_image(
        &self,
        place: &Place,
        reference: &Reference,
        image: &Descriptor,
        bytes: &[u8],
    ) -> Result<Digest> {
        let name_of = |digest: &Digest| {
            let tag = reference.tag().map(str::to_owned);
            tag.unwrap_or_else(|| digest.to_string())
        };
        let name = name_of(&image.digest);
        let refused = match self.put_manifest(place, &name, &image.media_type, bytes) {
            Err(error) if image.media_type == MediaType::Manifest && error.is_about_type() => error,
            put => return put,
        };
        let document = ImageManifest::from_bytes(&name, bytes)?.into_docker();
        let bytes = document.to_bytes()?;
        let kind = MediaType::DockerManifest;
        let digest = Digest::of(&bytes);
        if self
            .put_manifest(place, &name_of(&digest), &kind, &bytes)
            .is_err()
        {
            return Err(refused);
        }
        self.tell(Event::Notice {
            message: format!(
                "registry `{}` takes no OCI manifest: `{}` was pushed with Docker's media types, as {digest}; `--docker-media-types` makes it so everywhere",
                place.endpoint.registry,
                reference.familiar()
            ),
        });
        Ok(digest)
    }

    /// Brings everything that a manifest or index names to a repository; gives the document's bytes.
    fn push_parts(
        &self,
        store: &Store,
        image: &Descriptor,
        place: &Place,
        depth: u32,
    ) -> Result<Vec<u8>> {
        let bytes = self.own_document(store, image)?;
        let name = image.digest.to_string();
        if image.media_type.is_index() && depth > 0 {
            for child in &ImageIndex::from_bytes(&name, &bytes)?.manifests {
                let bytes = self.push_parts(store, child, place, depth - 1)?;
                let name = child.digest.to_string();
                self.put_manifest(place, &name, &child.media_type, &bytes)?;
            }
            return Ok(bytes);
        }
        let manifest = ImageManifest::from_bytes(&name, &bytes)?;
        let mut seen = BTreeSet::new();
        let blobs: Vec<Descriptor> = manifest
            .layers
            .iter()
            .filter(|layer| seen.insert(layer.digest))
            .cloned()
            .collect();
        let push = |blob: &Descriptor| self.push_blob(store, blob, place);
        self.each(&blobs, push)?;
        push(&manifest.config)?;
        Ok(bytes)
    }

    /// A manifest of the store, or one whose origin is remembered.
    fn own_document(&self, store: &Store, document: &Descriptor) -> Result<Vec<u8>> {
        if store.contains(&document.digest)? {
            return Ok(store.read_document(document, MAX_DOCUMENT_BYTES)?);
        }
        let mut last = Error::NoOrigin {
            digest: document.digest,
        };
        for reference in origins(store, document)? {
            match self.manifest_by_digest(&reference, document) {
                Ok(bytes) => {
                    remember_parts(store, document, &bytes, &origin_of(&reference))?;
                    return Ok(bytes);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn push_blob(&self, store: &Store, blob: &Descriptor, place: &Place) -> Result<()> {
        let target = origin_of(&place.reference);
        let is_there = match self.has_blob(place, Action::Push, &blob.digest) {
            // An answer to HEAD has no words, and who may write need not be allowed to look: the upload tells.
            Err(Error::Denied { detail: None, .. }) => false,
            found => found?,
        };
        let how = if is_there {
            Settled::Exists
        } else {
            self.mount_or_send(store, blob, place)?
        };
        self.settled(blob, how);
        store.remember_origin(&blob.digest, &target)?;
        Ok(())
    }

    fn mount_or_send(&self, store: &Store, blob: &Descriptor, place: &Place) -> Result<Settled> {
        let mut session = None;
        for source in origins(store, blob)? {
            let same_registry = source.registry() == place.reference.registry();
            if !same_registry || source.repository() == place.repository {
                continue;
            }
            match self.mount(place, &blob.digest, source.repository())? {
                Mount::Done => {
                    return Ok(Settled::Mounted {
                        from: source.repository().to_owned(),
                    });
                }
                Mount::Upload(location) => session = Some(location),
                Mount::Refused => {}
            }
        }
        let here = store.blob_size(&blob.digest)? == Some(blob.size);
        if here {
            let path = store.blob_path(&blob.digest);
            self.upload(place, blob, &path, session)?;
        } else {
            let file = self.blob_aside(store, blob)?;
            self.upload(place, blob, file.path(), session)?;
        }
        Ok(Settled::Pushed)
    }

    /// Asks a registry to take a blob from another of its repositories. Refusals are no error: the blob can be sent.
    fn mount(&self, place: &Place, digest: &Digest, source: &str) -> Result<Mount> {
        let call = Call {
            source: Some(source),
            ..Call::new(place, Action::Push)
        };
        let fields = [("mount", digest.to_string()), ("from", source.to_owned())];
        let query = crate::http::encoding::encode(&fields);
        let url = place.url(&format!("blobs/uploads/?{query}"));
        let (response, url) = match self.call_to(&call, &Request::new("POST", url)) {
            Err(Error::Denied { .. } | Error::Status { .. }) => return Ok(Mount::Refused),
            other => other?,
        };
        Ok(match response.status {
            201 => Mount::Done,
            202 => Mount::Upload(Session::of(self, place, &url, &response)?),
            _ => Mount::Refused,
        })
    }
}

/// What a document names is where the document itself was.
fn remember_parts(store: &Store, document: &Descriptor, bytes: &[u8], origin: &str) -> Result<()> {
    let name = document.digest.to_string();
    let parts = if document.media_type.is_index() {
        ImageIndex::from_bytes(&name, bytes)?.manifests
    } else {
        let manifest = ImageManifest::from_bytes(&name, bytes)?;
        std::iter::once(manifest.config)
            .chain(manifest.layers)
            .collect()
    };
    for part in &parts {
        store.remember_origin(&part.digest, origin)?;
    }
    Ok(())
}

/// What came of asking to mount.
enum Mount {
    Done,
    /// The registry began an upload instead; it goes on there.
    Upload(Session),
    Refused,
}
