//! A shared cache in an OCI registry.
//!
//! ```text
//! REF                          an index with the records of the last builds: one request tells them all
//! REPOSITORY:<tag>-<key>       one record: a manifest whose layers are the step's layer and its index, or those of a
//!                              cache mount
//! ```
//!
//! Registries have no compare-and-swap: of two builds that write the summary at once, one loses. Nothing is lost with
//! it, because each record stands under its own tag, which follows from the key. Both documents carry the record as an
//! annotation; manifest and blobs follow the image specification's "Guidelines for Artifact Usage".

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::record::{Record, StepRecord};
use super::{Origin, SharedCache, inline};
use crate::cache::{Blob, Key};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::oci::config::ImageConfig;
use crate::oci::{Descriptor, ImageIndex, ImageManifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;

/// What these documents are.
pub(super) const ARTIFACT: &str = "application/vnd.rbuild.cache.v1+json";
/// The annotation with a record.
pub(super) const RECORD: &str = "rbuild.cache.record";
/// The config of what BuildKit keeps in registries.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";
/// So much of a reference's tag is part of the tags beside it: a tag has at most 128 characters.
const STEM: usize = 63;

/// A reference as a cache, for reading.
#[derive(Debug)]
pub struct RegistryCache<'a> {
    pub(super) registry: &'a Registry<'a>,
    pub(super) reference: Reference,
    platform: Platform,
    /// It was named as an image: no records lie beside it.
    plain: bool,
    summary: OnceLock<Summary>,
    /// Nothing more is said of it, and nothing asked that needs an answer.
    pub(super) silent: AtomicBool,
}

/// What a reference turned out to name.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) kind: Kind,
    pub(super) records: BTreeMap<Digest, Record>,
    /// The manifests of the records.
    pub(super) manifests: Vec<Descriptor>,
}

impl Summary {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// It can't be asked.
    #[default]
    Unreachable,
    /// Nothing.
    Absent,
    /// A summary of rbuild's.
    Summary,
    /// An image.
    Image,
    /// A cache of BuildKit's.
    Foreign,
}

impl<'a> RegistryCache<'a> {
    /// A cache to read; `plain` where the user named an image. Of an index of images the one for `platform` counts.
    pub fn new(
        registry: &'a Registry<'a>,
        reference: Reference,
        platform: Platform,
        plain: bool,
    ) -> Self {
        Self {
            registry,
            reference,
            platform,
            plain,
            summary: OnceLock::new(),
            silent: AtomicBool::new(false),
        }
    }

    pub(super) fn summary(&self) -> &Summary {
        self.summary.get_or_init(|| {
            let summary = self.load().unwrap_or_else(|error| {
                // A document that makes no sense may be replaced, and tells nothing of the records beside it.
                if error.kind() == ErrorKind::BaseImage {
                    return Summary::of(Kind::Summary);
                }
                self.trouble(&error);
                Summary::default()
            });
            self.tell_of(&summary);
            summary
        })
    }

    pub(super) fn load(&self) -> Result<Summary> {
        let Some((descriptor, bytes)) = self.registry.find_document(&self.reference)? else {
            return Ok(Summary::of(Kind::Absent));
        };
        let name = self.reference.familiar();
        if !descriptor.media_type.is_index() {
            return self.image(&ImageManifest::from_bytes(&name, &bytes)?);
        }
        let index = ImageIndex::from_bytes(&name, &bytes)?;
        if index.artifact_type.as_deref() == Some(ARTIFACT) {
            return Ok(summary_of(index));
        }
        let buildkit = |one: &Descriptor| one.media_type.as_str() == BUILDKIT;
        let Some(chosen) = index.choose(&self.platform) else {
            return Ok(Summary::of(if index.manifests.iter().any(buildkit) {
                Kind::Foreign
            } else if index.manifests.is_empty() {
                Kind::Summary
            } else {
                Kind::Image
            }));
        };
        let bytes = self.registry.manifest(&self.reference, chosen)?;
        self.image(&ImageManifest::from_bytes(&name, &bytes)?)
    }

    fn image(&self, manifest: &ImageManifest) -> Result<Summary> {
        if manifest.artifact_type.as_deref() == Some(ARTIFACT) {
            return Ok(Summary::of(Kind::Summary));
        }
        if manifest.config.media_type.as_str() == BUILDKIT {
            return Ok(Summary::of(Kind::Foreign));
        }
        let config = self
            .registry
            .small_blob(&self.reference, &manifest.config)?;
        let config = ImageConfig::from_bytes(&self.reference.familiar(), &config)?;
        Ok(Summary {
            kind: Kind::Image,
            records: inline::read(&config, manifest).unwrap_or_default(),
            manifests: Vec::new(),
        })
    }

    /// Says what a user who named this cache will want to know.
    fn tell_of(&self, summary: &Summary) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let name = self.reference.familiar();
        let message = match (summary.kind, summary.records.len()) {
            (Kind::Unreachable, _) => return,
            (Kind::Absent, _) => format!("the cache `{name}` is not there yet"),
            (Kind::Foreign, _) => {
                format!("`{name}` is a cache of BuildKit's, which rbuild can't read")
            }
            (Kind::Image, 0) => format!(
                "the image `{name}` has no cache record, so it is no cache; a build with `--cache-from` of an image, or with BUILDKIT_INLINE_CACHE=1, writes one"
            ),
            (_, records) => format!("the cache `{name}` knows {records} steps and selections"),
        };
        self.registry.tell(Event::Notice { message });
    }

    /// Says once that the cache is of no use.
    fn trouble(&self, error: &Error) {
        if !self.silent.swap(true, Ordering::Relaxed) {
            let name = self.reference.familiar();
            let message = format!("the cache `{name}` is not used: {}", error.message());
            self.registry.tell(Event::Notice { message });
        }
    }

    fn find(&self, key: &Key) -> Option<Record> {
        let digest = key.digest();
        let summary = self.summary();
        let known = summary.records.get(&digest);
        if let Some(record) = known.filter(|record| record.key() == key) {
            return Some(record.clone());
        }
        let alone = self.plain && summary.kind != Kind::Summary;
        if alone || summary.kind == Kind::Unreachable || self.silent.load(Ordering::Relaxed) {
            return None;
        }
        let found = self.beside(&digest).unwrap_or_else(|error| {
            self.trouble(&error);
            None
        });
        found.filter(|record| record.key() == key)
    }

    /// The record under a tag of its own.
    pub(super) fn beside(&self, key: &Digest) -> Result<Option<Record>> {
        let place = beside(&self.reference, key)?;
        let Some((descriptor, bytes)) = self.registry.find_document(&place)? else {
            return Ok(None);
        };
        if !descriptor.media_type.is_manifest() {
            return Ok(None);
        }
        let manifest = ImageManifest::from_bytes(&place.familiar(), &bytes)?;
        let text = manifest.annotations.as_ref();
        let text = text.and_then(|annotations| annotations.get(RECORD));
        Ok(text.and_then(|text| serde_json::from_str(text).ok()))
    }
}

impl SharedCache for RegistryCache<'_> {
    fn step(&self, key: &Key) -> Option<StepRecord> {
        match self.find(key)? {
            Record::Step(step) => Some(*step),
            _ => None,
        }
    }

    fn selection(&self, key: &Key) -> Option<Digest> {
        match self.find(key)? {
            Record::Selection { files, .. } => Some(files),
            _ => None,
        }
    }

    fn mount(&self, key: &Key) -> Result<Option<Vec<Blob>>> {
        // A registry that didn't answer is not waited for once more.
        if self.plain || self.summary().kind == Kind::Unreachable {
            return Ok(None);
        }
        match self.beside(&key.digest())? {
            Some(Record::Mount { key: found, layers }) if found == *key => Ok(Some(layers)),
            Some(_) => {
                let name = beside(&self.reference, &key.digest())?.familiar();
                let message = format!("`{name}` is no record of a cache mount");
                Err(Error::new(ErrorKind::Registry, message))
            }
            None => Ok(None),
        }
    }

    fn created(&self, key: &Key) -> Option<String> {
        match self.find(key)? {
            Record::Image { created, .. } => Some(created),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<Key> {
        let records = self.summary().records.values();
        let steps = records.filter(|record| matches!(record, Record::Step(_)));
        steps.map(|step| step.key().clone()).collect()
    }

    fn origin(&self) -> Origin {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        Origin::Repository(format!("{registry}/{repository}"))
    }
}

/// The records of a summary, each with the manifest that it was read from.
fn summary_of(index: ImageIndex) -> Summary {
    let mut summary = Summary::of(Kind::Summary);
    for manifest in index.manifests {
        let record = manifest.annotation(RECORD).map(serde_json::from_str);
        if let Some(Ok(record)) = record {
            let record: Record = record;
            summary.records.insert(record.key().digest(), record);
            summary.manifests.push(manifest);
        }
    }
    summary
}

/// The reference of one record: the same repository, a tag that follows from the cache's and the key.
pub(super) fn beside(reference: &Reference, key: &Digest) -> Result<Reference> {
    let tag = reference.tag().unwrap_or("latest");
    let stem = if tag.len() <= STEM {
        tag.to_owned()
    } else {
        // Long tags differ at their ends as often as at their beginnings.
        let short = Digest::of(tag.as_bytes()).short();
        format!("{}-{short}", &tag[..STEM - 1 - short.len()])
    };
    let (registry, repository) = (reference.registry(), reference.repository());
    let name = format!("{registry}/{repository}:{stem}-{}", key.hex());
    name.parse()
        .map_err(|error: crate::reference::ParseReferenceError| {
            let message = format!("`{}` can't name a cache", reference.familiar());
            Error::new(ErrorKind::Usage, message).with_source(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_tag_of_its_own() {
        let key = Digest::of(b"key");
        let long = "t".repeat(128);
        for (reference, start) in [
            ("localhost:5000/a/b", "latest-".to_owned()),
            ("localhost:5000/a/b:c", "c-".to_owned()),
            (&format!("localhost:5000/a/b:{long}"), "t".repeat(40)),
        ] {
            let reference: Reference = reference.parse().unwrap();
            let found = beside(&reference, &key).unwrap();
            let tag = found.tag().unwrap();
            assert_eq!(found.repository(), "a/b");
            assert!(
                tag.starts_with(&start) && tag.ends_with(&key.hex()),
                "{tag}"
            );
            assert!(tag.len() <= 128, "{tag}");
        }
    }
}
