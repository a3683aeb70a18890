//! A shared cache in a directory. It is a store of its own: the same folders, the same locks, the same care.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Origin, Record, SharedCache, SharedTarget, StepRecord, blobs_of};
use crate::cache::{Blob, Cache, Entry, Key};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Descriptor;
use crate::store::{BlobSource, Lock, Store, used_now};

/// The folder of the records of cache mounts.
const MOUNTS: &str = "shared-mounts";

/// A directory with `cache/` and `blobs/`.
#[derive(Debug)]
pub struct LocalCache {
    root: PathBuf,
    /// The keys of its steps, once someone asked for them.
    keys: OnceLock<Vec<Key>>,
}

impl LocalCache {
    /// A directory to read; none where there is no cache in it.
    pub fn open(root: &Path) -> Option<Self> {
        root.join("cache").is_dir().then(|| Self {
            root: root.to_owned(),
            keys: OnceLock::new(),
        })
    }

    fn read(&self, folder: &str, key: &Key) -> Option<Vec<u8>> {
        let path = self.root.join("cache").join(folder);
        std::fs::read(path.join(key.digest().hex())).ok()
    }
}

/// So many keys are looked at to explain a miss.
const KEYS: usize = 2000;

impl SharedCache for LocalCache {
    fn step(&self, key: &Key) -> Option<StepRecord> {
        let text = self.read("steps", key)?;
        let mut entry: Entry = serde_json::from_slice(&text).ok()?;
        let here = |blob: &Descriptor| {
            let path = self.root.join(blob.digest.path());
            std::fs::metadata(path).is_ok_and(|found| found.len() == blob.size)
        };
        entry.blobs.retain(|blob| here(&blob.descriptor));
        (entry.key == *key).then_some(StepRecord { entry, index: None })
    }

    fn selection(&self, key: &Key) -> Option<Digest> {
        let text = self.read("selections", key)?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    fn mount(&self, key: &Key) -> Result<Option<Vec<Blob>>> {
        let path = self.root.join("cache").join(MOUNTS);
        let path = path.join(key.digest().hex());
        let damaged = || {
            let message = format!("`{}` is no record of a cache mount", path.display());
            Error::new(ErrorKind::Store, message)
        };
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(Record::Mount { key: found, layers }) if found == *key => Ok(Some(layers)),
                Ok(_) => Err(damaged()),
                Err(error) => Err(damaged().with_source(error)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let message = format!("cannot read `{}`", path.display());
                Err(Error::new(ErrorKind::Store, message).with_source(error))
            }
        }
    }

    fn created(&self, key: &Key) -> Option<String> {
        let text = self.read("images", key)?;
        Some(String::from_utf8(text).ok()?.trim().to_owned())
    }

    fn keys(&self) -> Vec<Key> {
        let read = || {
            let folder = std::fs::read_dir(self.root.join("cache/steps"));
            let found = folder.into_iter().flatten().flatten().take(KEYS);
            let text = found.filter_map(|found| std::fs::read(found.path()).ok());
            let entry = text.filter_map(|text| serde_json::from_slice::<Entry>(&text).ok());
            entry.map(|entry| entry.key).collect()
        };
        self.keys.get_or_init(read).clone()
    }

    fn origin(&self) -> Origin {
        Origin::Directory(self.root.clone())
    }
}

/// A directory to write.
pub(crate) struct LocalTarget<'a> {
    store: Store,
    source: &'a dyn BlobSource,
    _in_use: Lock,
}

impl<'a> LocalTarget<'a> {
    /// Opens the directory, and makes it where it is missing. `source` has the blobs that the build's store lacks.
    ///
    /// # Errors
    /// One that can't be written.
    pub(crate) fn open(root: &Path, source: &'a dyn BlobSource) -> Result<Self> {
        let trouble = |error: crate::store::Error| {
            let message = format!("cannot write a cache to `{}`", root.display());
            Error::new(ErrorKind::Output, message).with_source(error)
        };
        let store = Store::open(root).map_err(trouble)?;
        Ok(Self {
            _in_use: store.lock_for_use().map_err(trouble)?,
            store,
            source,
        })
    }

    fn has(&self, blob: &Descriptor) -> bool {
        let size = self.store.blob_size(&blob.digest);
        size.is_ok_and(|size| size == Some(blob.size))
    }

    fn copy(&self, from: &Store, blob: &Descriptor) -> Result<()> {
        if self.store.blob_size(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        if from.blob_size(&blob.digest)? != Some(blob.size) {
            self.source.fetch(from, std::slice::from_ref(blob))?;
        }
        let writer = self.store.blob_writer_for(&blob.digest)?;
        let copied = crate::store::origin::store_stream(writer, blob, from.open_blob(blob)?);
        copied.map_err(|error| {
            let message = format!("cannot copy {} to the cache", blob.digest);
            Error::new(ErrorKind::Output, message).with_source(error)
        })??;
        Ok(())
    }
}

impl SharedTarget for LocalTarget<'_> {
    fn put(&self, store: &Store, record: &Record, anew: bool) -> Result<bool> {
        let cache = Cache::new(&self.store);
        if let Record::Mount { key, .. } = record
            && let Some(text) = cache.shared_text(MOUNTS, key)
            && serde_json::from_slice(&text).is_ok_and(|known| record.is_covered_by(&known))
            && blobs_of(record).iter().all(|blob| self.has(blob))
            && !anew
        {
            used_now(&self.store.cache_path(MOUNTS, &key.digest().hex()));
            return Ok(false);
        }
        for blob in blobs_of(record) {
            self.copy(store, &blob)?;
        }
        match record {
            Record::Step(step) => cache.put_entry(&step.entry)?,
            Record::Selection { key, files } => cache.put_selection(key, files)?,
            Record::Image { key, created } => cache.put_created(key, created)?,
            Record::Mount { key, .. } => {
                let text = crate::oci::json::to_bytes("a record of the cache", record)?;
                cache.put_shared_text(MOUNTS, key, &text)?;
            }
        }
        Ok(true)
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
