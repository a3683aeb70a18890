//! From a registry into the store: manifest first, layers when something needs them.
//!
//! Follows the OCI distribution specification, "Pull", and the image index's choice by platform. Docker's manifest of
//! schema 1 and documents that are no image are refused by name.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::blob_reader::{BlobReader, unwrap};
use super::client::{Action, Call, MAX_DOCUMENT_BYTES};
use super::error::{Error, Result};
use super::place::Place;
use super::source::origin_of;
use super::{Pull, Registry};
use crate::digest::Digest;
use crate::event::{Event, Settled};
use crate::http::Response;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::origin::store_stream;

/// An index in an index in an index ends here.
const MAX_DEPTH: usize = 4;

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
        Ok(self.pull_image(store, reference, platform, what)?)
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

    fn pull_image(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        what: Pull,
    ) -> Result<Descriptor> {
        let (top, bytes) = self.first(reference, |place| self.top_at(place, reference))?;
        let origin = origin_of(reference);
        store.put(&bytes)?;
        store.remember_origin(&top.digest, &origin)?;
        let (mut here, mut bytes) = (top.clone(), bytes);
        for _ in 0..MAX_DEPTH {
            if !here.media_type.is_index() {
                break;
            }
            let index = ImageIndex::from_bytes(&reference.familiar(), &bytes)?;
            for manifest in &index.manifests {
                store.remember_origin(&manifest.digest, &origin)?;
            }
            here = choose(&index, reference, platform)?.clone();
            bytes = self.manifest_by_digest(reference, &here)?;
            store.put(&bytes)?;
            store.remember_origin(&here.digest, &origin)?;
        }
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
        let tag = reference.tag().map(str::to_owned);
        let tag = tag.unwrap_or_else(|| top.digest.to_string());
        store.tag(&reference.to_string(), &tag, &top)?;
        Ok(top)
    }

    /// Asks one server for what a reference names.
    pub(super) fn top_at(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let response =
            self.manifest_request(place, Action::Pull, "GET", &wanted_name(reference))?;
        let told = response.header("docker-content-digest").map(str::parse);
        let typed = response.header("content-type").map(MediaType::parse);
        let bytes = self.document(place, &reference.familiar(), response)?;
        let found = Digest::of(&bytes);
        let told = told.and_then(std::result::Result::ok);
        if let Some(expected) = reference.digest().or(told).filter(|one| *one != found) {
            return Err(Error::WrongDigest {
                registry: place.endpoint.registry.clone(),
                expected,
                found,
            });
        }
        let media_type = kind_of(reference, &bytes, typed)?;
        Ok((Descriptor::of(media_type, &bytes), bytes))
    }

    pub(crate) fn manifest_by_digest(
        &self,
        reference: &Reference,
        wanted: &Descriptor,
    ) -> Result<Vec<u8>> {
        self.first(reference, |place| {
            let name = wanted.digest.to_string();
            let response = self.manifest_request(place, Action::Pull, "GET", &name)?;
            let shown = format!("{}@{name}", origin_of(reference));
            let bytes = self.document(place, &shown, response)?;
            let registry = place.endpoint.registry.clone();
            if bytes.len() as u64 != wanted.size {
                return Err(Error::WrongSize {
                    registry,
                    digest: wanted.digest,
                    expected: wanted.size,
                    found: bytes.len() as u64,
                });
            }
            let found = Digest::of(&bytes);
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

    /// The body of a manifest's answer.
    fn document(&self, place: &Place, shown: &str, mut response: Response) -> Result<Vec<u8>> {
        let call = Call::new(place, Action::Pull);
        let verb = "the request for a manifest";
        if response.status == 404 {
            let detail = match self.refusal(&call, verb, response) {
                Error::Status { detail, .. } => detail,
                other => return Err(other),
            };
            return Err(Error::UnknownManifest {
                reference: shown.to_owned(),
                detail,
            });
        }
        if response.status != 200 {
            return Err(self.refusal(&call, verb, response));
        }
        let mut bytes = Vec::new();
        let limited = (&mut response.body).take(MAX_DOCUMENT_BYTES + 1);
        let nonsense = |problem| Error::Nonsense {
            registry: place.endpoint.registry.clone(),
            verb,
            problem,
        };
        let mut limited = limited;
        limited
            .read_to_end(&mut bytes)
            .map_err(|_| nonsense("with something that broke off"))?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(nonsense("with something far too large"));
        }
        Ok(bytes)
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
            let stored = store_stream(store.blob_writer()?, blob, reader);
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
                scope.spawn(run);
            }
            run();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}

/// The digest of a reference, which decides, or its tag.
fn wanted_name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// What a HEAD tells, where it tells all.
fn described(response: &Response, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = response.header("docker-content-digest")?.parse().ok()?;
    let size = response.header("content-length")?.parse().ok()?;
    let media_type = MediaType::parse(response.header("content-type")?);
    let known = media_type.is_manifest() || media_type.is_index();
    let fits = reference.digest().is_none_or(|wanted| wanted == digest);
    (response.status == 200 && known && fits && size > 0)
        .then(|| Descriptor::new(media_type, digest, size))
}

/// What a document is, by itself or by its header; refuses what is no image.
fn kind_of(reference: &Reference, bytes: &[u8], typed: Option<MediaType>) -> Result<MediaType> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        schema_version: u32,
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let head: Head = crate::oci::json::from_bytes(&reference.familiar(), bytes)?;
    if head.schema_version == 1 {
        return Err(Error::Schema1 {
            reference: reference.familiar(),
        });
    }
    let known = |one: &MediaType| one.is_manifest() || one.is_index();
    let typed = typed.filter(known);
    if let (Some(own), Some(typed)) = (&head.media_type, &typed)
        && known(own)
        && own.is_index() != typed.is_index()
    {
        return Err(Error::Contradiction {
            reference: reference.familiar(),
            own: own.to_string(),
            typed: typed.to_string(),
        });
    }
    let told = head.media_type.or(typed);
    let media_type = told.unwrap_or(match head.manifests {
        Some(_) => MediaType::Index,
        None => MediaType::Manifest,
    });
    if known(&media_type) {
        return Ok(media_type);
    }
    Err(Error::Foreign {
        reference: reference.familiar(),
        media_type: media_type.to_string(),
    })
}

/// Reads the manifest of an image; something else in a manifest's clothes is refused.
fn image_manifest(reference: &Reference, bytes: &[u8]) -> Result<ImageManifest> {
    let kind = kind_of(reference, bytes, None)?;
    let manifest = ImageManifest::from_bytes(&reference.familiar(), bytes)?;
    let config = &manifest.config.media_type;
    if kind.is_manifest() && config.to_oci() == MediaType::Config {
        return Ok(manifest);
    }
    Err(Error::Foreign {
        reference: reference.familiar(),
        media_type: manifest.artifact_type.unwrap_or_else(|| config.to_string()),
    })
}

fn choose<'i>(
    index: &'i ImageIndex,
    reference: &Reference,
    platform: &Platform,
) -> Result<&'i Descriptor> {
    index.choose(platform).ok_or_else(|| Error::NoPlatform {
        reference: reference.familiar(),
        platform: platform.to_string(),
        offered: index.platforms().iter().map(Platform::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_contradicts_the_document_is_refused() {
        let reference: Reference = "registry.example/a:1".parse().unwrap();
        let document = |kind: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{kind}"}}"#);
        let (manifest, index) = (MediaType::Manifest, MediaType::Index);
        for (own, typed, expected) in [
            (&manifest, Some(&manifest), true),
            (&manifest, Some(&index), false),
            (&index, Some(&manifest), false),
            (&index, Some(&index), true),
            (&index, None, true),
            (
                &MediaType::parse("application/vnd.docker.distribution.manifest.v2+json"),
                Some(&manifest),
                true,
            ),
            (&manifest, Some(&MediaType::parse("text/plain")), true),
        ] {
            let document = document(&own.to_string());
            let found = kind_of(&reference, document.as_bytes(), typed.cloned());
            assert_eq!(found.is_ok(), expected, "{own} {typed:?}: {found:?}");
        }
    }
}
