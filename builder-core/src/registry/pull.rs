//! From a registry into the store: manifest first, layers when something needs them.
//!
//! Follows the OCI distribution specification, "Pull", and the image index's choice by platform. Docker's manifest of
//! schema 1 and documents that are no image are refused by name.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::blob_reader::{BlobReader, unwrap};
use super::client::{Action, Call, MAX_DOCUMENT_BYTES};
use super::document::decoded;
use super::error::{Error, Result};
use super::kind::{described, image_manifest, kind_of, wanted_name};
use super::place::Place;
use super::retry::backoff;
use super::source::origin_of;
use super::words::words;
use super::{Pull, Registry};
use crate::digest::Digest;
use crate::event::{Event, Settled};
use crate::http::{Response, is_html};
use crate::oci::choose::choose;
use crate::oci::{Descriptor, ImageIndex, MediaType};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::origin::store_stream;

/// For messages.
const MANIFEST_REQUEST: &str = "the request for a manifest";

impl Registry<'_> {
    /// What a reference names now, without fetching it where the registry tells all in a header.
    ///
    /// # Errors
    /// An unknown tag, a refusal, and something that is no image.
    pub fn resolve(&self, reference: &Reference) -> crate::Result<Descriptor> {
        let name = wanted_name(reference);
        let found = self.first(reference, |place| {
            let response = self.manifest_request(place, Action::Pull, "HEAD", &name)?;
            if let Some(descriptor) = described(&response, reference) {
                return Ok(descriptor);
            }
            Ok(self.top_at(place, reference)?.0)
        });
        Ok(found?)
    }

    /// The bytes of a manifest or index, checked against its descriptor.
    ///
    /// # Errors
    /// Those of asking, and a document that is not the one described.
    pub fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> crate::Result<Vec<u8>> {
        Ok(self.manifest_by_digest(reference, descriptor)?)
    }

    /// Pulls an image into the store and gives it its name there; the descriptor is that of the index where there is
    /// one. Layers that are not pulled are fetched when something needs them.
    ///
    /// # Errors
    /// See [`Error`]; nothing that is not what it should be is stored.
    pub fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        what: Pull,
    ) -> crate::Result<Descriptor> {
        let top = self.pull_image(store, reference, platform, what)?;
        let tag = reference.tag().map(str::to_owned);
        let tag = tag.unwrap_or_else(|| top.digest.to_string());
        store.tag(&reference.to_string(), &tag, &top)?;
        Ok(top)
    }

    /// Pulls one blob into the store.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pull_blob(
        &self,
        store: &Store,
        reference: &Reference,
        blob: &Descriptor,
    ) -> crate::Result<()> {
        Ok(self.blob_into(store, reference, blob)?)
    }

    /// Pulls an image, without giving it a name.
    pub(super) fn pull_image(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        what: Pull,
    ) -> Result<Descriptor> {
        let (top, bytes) = self.first(reference, |place| self.top_at(place, reference))?;
        let origin = origin_of(reference);
        store.put_as(&top.digest, &bytes)?;
        store.remember_origin(&top.digest, &origin)?;
        let (here, bytes) = if top.media_type.is_index() {
            self.pull_chosen(store, reference, platform, &bytes)?
        } else {
            (top.clone(), bytes)
        };
        store.put_as(&here.digest, &bytes)?;
        store.remember_origin(&here.digest, &origin)?;
        let manifest = image_manifest(reference, &bytes)?;
        let blobs = || std::iter::once(&manifest.config).chain(&manifest.layers);
        for blob in blobs() {
            store.remember_origin(&blob.digest, &origin)?;
        }
        if manifest.config.size > MAX_DOCUMENT_BYTES {
            return Err(crate::store::Error::TooLarge {
                digest: manifest.config.digest,
                size: manifest.config.size,
                limit: MAX_DOCUMENT_BYTES,
            }
            .into());
        }
        let wanted = match what {
            Pull::Documents => store.missing([&manifest.config])?,
            Pull::Everything => store.missing(blobs())?,
        };
        self.each(&wanted, |blob| self.blob_into(store, reference, blob))?;
        Ok(top)
    }

    /// The manifest below an index for a platform, and its bytes. Documents that were looked at on the way are kept:
    /// who reads the index in the store looks at them again.
    fn pull_chosen(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        bytes: &[u8],
    ) -> Result<(Descriptor, Vec<u8>)> {
        let index = ImageIndex::from_bytes(&reference.familiar(), bytes)?;
        let origin = origin_of(reference);
        for manifest in &index.manifests {
            store.remember_origin(&manifest.digest, &origin)?;
        }
        let mut fetch = |document: &Descriptor| -> Result<Option<Vec<u8>>> {
            if document.size > MAX_DOCUMENT_BYTES {
                return Ok(None);
            }
            let kind = &document.media_type;
            let bytes = if kind.is_manifest() || kind.is_index() {
                match self.manifest_by_digest(reference, document) {
                    Err(Error::UnknownManifest { .. }) => return Ok(None),
                    found => found?,
                }
            } else {
                self.blob_into(store, reference, document)?;
                store.read_document(document, MAX_DOCUMENT_BYTES)?
            };
            store.put_as(&document.digest, &bytes)?;
            store.remember_origin(&document.digest, &origin)?;
            Ok(Some(bytes))
        };
        let chosen = choose(&index, platform, &mut fetch)?;
        let chosen = chosen.ok_or_else(|| Error::NoPlatform {
            reference: reference.familiar(),
            platform: platform.to_string(),
            offered: index.platforms().iter().map(Platform::to_string).collect(),
        })?;
        let bytes = if store.contains(&chosen.digest)? {
            store.read_document(&chosen, MAX_DOCUMENT_BYTES)?
        } else {
            self.manifest_by_digest(reference, &chosen)?
        };
        Ok((chosen, bytes))
    }

    /// Asks one server for what a reference names.
    pub(super) fn top_at(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let name = wanted_name(reference);
        let (response, bytes) = self.document(place, &reference.familiar(), &name)?;
        let told = response.header("docker-content-digest").map(str::parse);
        let typed = response.header("content-type").map(MediaType::parse);
        let told = told.and_then(std::result::Result::ok);
        let wanted = reference.digest().or(told);
        let found = wanted.map_or_else(|| Digest::of(&bytes), |wanted| wanted.like(&bytes));
        if let Some(expected) = wanted.filter(|one| *one != found) {
            return Err(Error::WrongDigest {
                registry: place.endpoint.registry.clone(),
                expected,
                found,
            });
        }
        let media_type = kind_of(reference, &bytes, typed)?;
        let size = bytes.len() as u64;
        Ok((Descriptor::new(media_type, found, size), bytes))
    }

    pub(crate) fn manifest_by_digest(
        &self,
        reference: &Reference,
        wanted: &Descriptor,
    ) -> Result<Vec<u8>> {
        self.first(reference, |place| {
            let name = wanted.digest.to_string();
            let shown = format!("{}@{name}", origin_of(reference));
            let (_, bytes) = self.document(place, &shown, &name)?;
            let registry = place.endpoint.registry.clone();
            if bytes.len() as u64 != wanted.size {
                return Err(Error::WrongSize {
                    registry,
                    digest: wanted.digest,
                    expected: wanted.size,
                    found: bytes.len() as u64,
                });
            }
            let found = wanted.digest.like(&bytes);
            if found != wanted.digest {
                return Err(Error::WrongDigest {
                    registry,
                    expected: wanted.digest,
                    found,
                });
            }
            Ok(bytes)
        })
    }

    /// Fetches a manifest; one that breaks off on the way is asked for again. The head of its answer, and its bytes.
    fn document(&self, place: &Place, shown: &str, name: &str) -> Result<(Response, Vec<u8>)> {
        let mut attempt = 1;
        loop {
            let response = self.manifest_request(place, Action::Pull, "GET", name)?;
            if let Some(found) = self.whole(place, shown, response)? {
                return Ok(found);
            }
            if attempt >= place.endpoint.attempts() {
                return Err(Error::Nonsense {
                    registry: place.endpoint.registry.clone(),
                    verb: MANIFEST_REQUEST,
                    problem: "with something that broke off",
                });
            }
            self.link.wait(backoff(attempt))?;
            attempt += 1;
        }
    }

    /// The body of a manifest's answer; none where it broke off.
    fn whole(
        &self,
        place: &Place,
        shown: &str,
        mut response: Response,
    ) -> Result<Option<(Response, Vec<u8>)>> {
        let call = Call::new(place, Action::Pull);
        if response.status == 404 {
            let detail = match self.refusal(&call, MANIFEST_REQUEST, response) {
                Error::Status { detail, .. } => detail,
                other => return Err(other),
            };
            return Err(Error::UnknownManifest {
                reference: shown.to_owned(),
                detail,
            });
        }
        if response.status != 200 {
            return Err(self.refusal(&call, MANIFEST_REQUEST, response));
        }
        let mut bytes = Vec::new();
        let limited = (&mut response.body).take(MAX_DOCUMENT_BYTES + 1);
        let mut limited = limited;
        if limited.read_to_end(&mut bytes).is_err() {
            return Ok(None);
        }
        let bytes = decoded(&response, bytes);
        let registry = || place.endpoint.registry.clone();
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(Error::Nonsense {
                registry: registry(),
                verb: MANIFEST_REQUEST,
                problem: "with something far too large",
            });
        }
        if is_html(&response, &bytes) {
            return Err(Error::WebPage {
                registry: registry(),
                verb: MANIFEST_REQUEST,
                detail: words(&response, &bytes).1,
            });
        }
        Ok(Some((response, bytes)))
    }

    /// Streams one blob into the store.
    pub(crate) fn blob_into(
        &self,
        store: &Store,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<()> {
        if store.blob_size(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        self.first(reference, |place| {
            let reader = BlobReader::open(self, place, blob, false)?;
            let stored = store_stream(store.blob_writer_for(&blob.digest)?, blob, reader);
            Ok(stored.map_err(|error| unwrap(error, blob))??)
        })?;
        self.settled(blob, Settled::Pulled);
        Ok(())
    }

    pub(crate) fn settled(&self, blob: &Descriptor, how: Settled) {
        self.events.send(Event::BlobSettled {
            digest: blob.digest,
            bytes: blob.size,
            how,
        });
    }

    /// Does something with several blobs at once; the first failure ends it.
    pub(crate) fn each(
        &self,
        blobs: &[Descriptor],
        work: impl Fn(&Descriptor) -> Result<()> + Sync,
    ) -> Result<()> {
        let queue = Mutex::new(blobs.iter());
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let next = || {
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.is_some() {
                return None;
            }
            drop(failed);
            queue.lock().unwrap_or_else(PoisonError::into_inner).next()
        };
        let run = || {
            while let Some(blob) = next() {
                if let Err(error) = work(blob) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            }
        };
        let threads = self.options.parallel.clamp(1, blobs.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no more threads can be started, fewer blobs travel at once.
                let _ = std::thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}
