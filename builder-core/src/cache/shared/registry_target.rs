//! Writing a shared cache to an OCI registry; `registry.rs` describes its form.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use flate2::{Compression, GzBuilder};

use super::record::Record;
use super::registry::{ARTIFACT, Kind, RECORD, RegistryCache, Summary, beside};
use super::{INDEX_TYPE, SharedTarget, blobs_of};
use crate::cache::Blob;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::layer::pack_index;
use crate::oci::config::ImageConfig;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{MAX_DOCUMENT_BYTES, Registry};
use crate::store::Store;

/// A summary holds no more records than this, and no more bytes: registries refuse documents above 4 MiB.
const SUMMARY_RECORDS: usize = 1000;
const SUMMARY_BYTES: usize = 3 << 20;
/// A record that is larger is kept on this machine only.
const RECORD_BYTES: usize = 1 << 20;

/// A reference as a cache, for writing.
pub(crate) struct RegistryTarget<'a> {
    cache: RegistryCache<'a>,
    ignore_existing: bool,
    empty: OnceLock<Descriptor>,
    /// The registry refused an artifact, and took an image.
    images_only: AtomicBool,
    /// It was said that records without layers are refused.
    told_of_empty: AtomicBool,
    /// What this build wrote: the manifests by the digests of their keys, and the records.
    written: Mutex<BTreeMap<Digest, (Descriptor, Record)>>,
}

impl<'a> RegistryTarget<'a> {
    /// Opens a reference, and asks what is there.
    ///
    /// # Errors
    /// A reference that names an image, or a cache of BuildKit's that may not be replaced: it would be lost.
    pub(crate) fn open(
        registry: &'a Registry<'a>,
        reference: &Reference,
        ignore_existing: bool,
    ) -> Result<Self> {
        let cache = RegistryCache::new(registry, reference.clone(), Platform::host(), false);
        // What is there is of interest to who reads it.
        cache.silent.store(true, Ordering::Relaxed);
        refuse(reference, cache.summary().kind, ignore_existing)?;
        Ok(Self {
            cache,
            ignore_existing,
            empty: OnceLock::new(),
            images_only: AtomicBool::new(false),
            told_of_empty: AtomicBool::new(false),
            written: Mutex::default(),
        })
    }

    fn tell(&self, message: String) {
        self.cache.registry.tell(Event::Notice { message });
    }

    /// OCI's empty document, which stands where a manifest must name something.
    fn empty(&self, store: &Store) -> Result<Descriptor> {
        if let Some(known) = self.empty.get() {
            return Ok(known.clone());
        }
        let (registry, reference) = (self.cache.registry, &self.cache.reference);
        let sent = registry.send_bytes(store, reference, MediaType::Empty, b"{}")?;
        Ok(self.empty.get_or_init(|| sent).clone())
    }

    /// What is there under a key: what this build wrote, what the summary tells, or what stands under the key's own tag.
    fn known(&self, key: &Digest, is_mount: bool) -> Option<Record> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, record)) = written.get(key) {
            return Some(record.clone());
        }
        drop(written);
        // The summary is about steps.
        let told = self.cache.summary().records.get(key).filter(|_| !is_mount);
        // What can't be read is written anew.
        told.cloned()
            .or_else(|| self.cache.beside(key).ok().flatten())
    }

    /// Sends the blobs of a record; gives what its manifest lists as layers.
    fn send(&self, store: &Store, record: &mut Record) -> Result<Vec<Descriptor>> {
        let (registry, reference) = (self.cache.registry, &self.cache.reference);
        let mut layers = blobs_of(record);
        for blob in &layers {
            registry.send_blob(store, reference, blob)?;
        }
        if let (Record::Step(step), false) = (record, layers.is_empty())
            && let Some(blob) = step.entry.blobs.first()
            && let Some(packed) = pack_index(store, &blob.diff_id)?
            && packed.len() as u64 <= MAX_DOCUMENT_BYTES
        {
            let media_type = MediaType::Other(INDEX_TYPE.to_owned());
            let index = registry.send_bytes(store, reference, media_type, &packed)?;
            layers.push(index.clone());
            step.index = Some(index);
        }
        if layers.is_empty() {
            layers.push(self.empty(store)?);
        }
        Ok(layers)
    }

    /// Sends the manifest of a record: as the artifact that it is, or, to a registry that knows images only, as one.
    fn send_manifest(
        &self,
        store: &Store,
        place: &Reference,
        mut record: Record,
        layers: Vec<Descriptor>,
    ) -> Result<Descriptor> {
        let mut refused = None;
        if !self.images_only.load(Ordering::Relaxed) {
            let mut manifest = ImageManifest::new(self.empty(store)?, layers);
            manifest.artifact_type = Some(ARTIFACT.to_owned());
            match self.send_with(place, manifest, &record) {
                Err(error) if error.kind() == ErrorKind::Registry => refused = Some(error),
                sent => return sent,
            }
        }
        if let Record::Step(step) = &mut record {
            step.index = None;
        }
        let image = self.as_image(store, &record);
        let sent = image.and_then(|image| self.send_with(place, image, &record));
        if sent.is_ok() {
            self.images_only.store(true, Ordering::Relaxed);
        }
        // What an image fails of too is no matter of types.
        sent.map_err(|error| refused.unwrap_or(error))
    }

    /// Sends a manifest with its record, and describes it with the record.
    fn send_with(
        &self,
        place: &Reference,
        mut manifest: ImageManifest,
        record: &Record,
    ) -> Result<Descriptor> {
        let text = text_of(record)?;
        manifest.annotations = Some(BTreeMap::from([(RECORD.to_owned(), text.clone())]));
        let bytes = manifest.to_bytes()?;
        let registry = self.cache.registry;
        registry.send_document(place, &MediaType::Manifest, &bytes)?;
        Ok(Descriptor::of(MediaType::Manifest, &bytes).with_annotation(RECORD, &text))
    }

    /// A record's layers in the clothes of an image, whose config nobody needs.
    fn as_image(&self, store: &Store, record: &Record) -> Result<ImageManifest> {
        let blobs: &[Blob] = match record {
            Record::Step(step) => &step.entry.blobs,
            Record::Mount { layers, .. } => layers,
            Record::Image { .. } | Record::Selection { .. } => &[],
        };
        let mut config = ImageConfig {
            architecture: "unknown".to_owned(),
            os: "unknown".to_owned(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = blobs.iter().map(|blob| blob.diff_id).collect();
        let (registry, reference) = (self.cache.registry, &self.cache.reference);
        let mut layers: Vec<Descriptor> =
            blobs.iter().map(|blob| blob.descriptor.clone()).collect();
        if layers.is_empty() {
            let (diff_id, packed) = nothing();
            config.rootfs.diff_ids.push(diff_id);
            layers.push(registry.send_bytes(store, reference, MediaType::LayerGzip, &packed)?);
        }
        let bytes = config.to_bytes()?;
        let config = registry.send_bytes(store, reference, MediaType::Config, &bytes)?;
        Ok(ImageManifest::new(config, layers))
    }

    fn write_summary(&self, manifests: Vec<Descriptor>) -> Result<()> {
        let mut index = ImageIndex::new(manifests);
        index.artifact_type = Some(ARTIFACT.to_owned());
        let (registry, reference) = (self.cache.registry, &self.cache.reference);
        registry.send_document(reference, &MediaType::Index, &index.to_bytes()?)?;
        Ok(())
    }
}

impl SharedTarget for RegistryTarget<'_> {
    fn put(&self, store: &Store, record: &Record, anew: bool) -> Result<bool> {
        let key = record.key().digest();
        let is_mount = matches!(record, Record::Mount { .. });
        let known = self.known(&key, is_mount).filter(|_| !anew);
        if known
            .as_ref()
            .is_some_and(|known| record.is_covered_by(known))
        {
            return Ok(false);
        }
        if text_of(record)?.len() > RECORD_BYTES {
            return Ok(false);
        }
        let mut merged = record.clone();
        if let Some(known) = &known {
            merged.add_blobs_of(known);
        }
        // What another job left there may be gone: then this build's own is all there is.
        let (record, layers) = match self.send(store, &mut merged) {
            Ok(layers) => (merged, layers),
            Err(_) if blobs_of(&merged).len() > blobs_of(record).len() => {
                let mut own = record.clone();
                let layers = self.send(store, &mut own)?;
                (own, layers)
            }
            Err(error) => return Err(error),
        };
        let place = beside(&self.cache.reference, &key)?;
        let has_layers = !blobs_of(&record).is_empty();
        let manifest = match self.send_manifest(store, &place, record.clone(), layers) {
            // What stands for no layer is cheap to find again: no job fails over it.
            Err(error) if error.kind() == ErrorKind::Registry && !has_layers => {
                if !self.told_of_empty.swap(true, Ordering::Relaxed) {
                    let name = self.cache.reference.familiar();
                    self.tell(format!(
                        "the registry takes no records without layers in the cache `{name}` ({})",
                        error.message()
                    ));
                }
                return Ok(false);
            }
            sent => sent?,
        };
        if !is_mount {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(key, (manifest, record));
        }
        Ok(true)
    }

    fn finish(&self) -> Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_empty() {
            return Ok(());
        }
        let new = std::mem::take(&mut *written);
        // Others may have written since this build began; somebody may have put an image there.
        let current = match self.cache.load() {
            Ok(current) => {
                refuse(&self.cache.reference, current.kind, self.ignore_existing)?;
                current
            }
            Err(error) if error.kind() == ErrorKind::BaseImage => Summary::default(),
            Err(error) => return Err(error),
        };
        let kept = current.manifests.into_iter().filter(|manifest| {
            let record = manifest
                .annotation(RECORD)
                .map(serde_json::from_str::<Record>);
            let ours = |one: Record| new.contains_key(&one.key().digest());
            record.is_some_and(|record| record.is_ok_and(|one| !ours(one)))
        });
        let own: Vec<Descriptor> = new.values().map(|(manifest, _)| manifest.clone()).collect();
        let all = bounded(own.iter().cloned().chain(kept));
        // A manifest that was deleted there can't be listed any more.
        let written = self
            .write_summary(all)
            .or_else(|_| self.write_summary(bounded(own)));
        match written {
            // The records are there, and are found by their keys: only who wants to know why a step missed lacks it.
            Err(error) if error.kind() == ErrorKind::Registry => {
                let name = self.cache.reference.familiar();
                self.tell(format!(
                    "the registry takes no summary of the cache `{name}`; its records are found without one ({})",
                    error.message()
                ));
                Ok(())
            }
            written => written,
        }
    }
}

/// A layer with nothing in it, for registries that take no image without layers: its tar, packed.
fn nothing() -> (DiffId, Vec<u8>) {
    let tar = [0; 1024];
    let mut packed = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::default());
    // Writing to memory doesn't fail.
    let _ = packed.write_all(&tar);
    (
        DiffId(Digest::of(&tar)),
        packed.finish().unwrap_or_default(),
    )
}

fn refuse(reference: &Reference, kind: Kind, ignore_existing: bool) -> Result<()> {
    match kind {
        Kind::Image => Err(names_an_image(reference)),
        Kind::Foreign if !ignore_existing => {
            let name = reference.familiar();
            let tag = reference.tag().unwrap_or("latest");
            let message =
                format!("`{name}` is a cache of BuildKit's, which rbuild's would replace");
            Err(Error::new(ErrorKind::Usage, message).with_help(format!(
                "give rbuild's another tag, such as `{tag}-rbuild`, or replace it with `ignore-existing=true`"
            )))
        }
        _ => Ok(()),
    }
}

fn names_an_image(reference: &Reference) -> Error {
    let name = reference.familiar();
    let message = format!("`{name}` names an image, which a cache would replace");
    Error::new(ErrorKind::Usage, message)
        .with_help("give the cache a reference of its own, or use `--cache-to type=inline`")
}

/// A record as the text of an annotation.
fn text_of(record: &Record) -> Result<String> {
    let bytes = crate::oci::json::to_bytes("a record of the cache", record)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first manifests, as many as a summary may hold.
fn bounded(manifests: impl IntoIterator<Item = Descriptor>) -> Vec<Descriptor> {
    let mut bytes = 0;
    let fits = manifests
        .into_iter()
        .take(SUMMARY_RECORDS)
        .take_while(|one| {
            // Quotes in the record are escaped once more.
            bytes += 512 + 5 * one.annotation(RECORD).map_or(0, str::len) / 4;
            bytes <= SUMMARY_BYTES
        });
    fits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_bounded() {
        let text = "x".repeat(100_000);
        let one = Descriptor::of(MediaType::Manifest, b"m").with_annotation(RECORD, &text);
        let kept = bounded(std::iter::repeat_n(one, 100)).len();
        assert!((10..40).contains(&kept), "{kept}");
        let small = Descriptor::of(MediaType::Manifest, b"m").with_annotation(RECORD, "{}");
        assert_eq!(
            bounded(std::iter::repeat_n(small, 2000)).len(),
            SUMMARY_RECORDS
        );
    }
}
