//! The build cache: from a step's key to the layer that it made.
//!
//! ```text
//! cache/steps/<key>        the key's parts, the layer's identity, and its blobs; JSON, complete or absent
//! cache/steps/<key>.lock   held by who executes the step
//! cache/recent/<family>    the last keys of a step's place in a Dockerfile, the newest first: for `why`
//! cache/listings/<digest>  the files that a step read, a line each: for `why`
//! cache/contexts/<digest>  the digests of a directory's files, by what stat(2) says of them
//! cache/selections/<key>   the digest of what a COPY takes from a stage or an image, or an ADD from elsewhere
//! cache/urls/<digest>      what a URL of ADD had, and what its server calls that; JSON, complete or absent
//! cache/images/<key>       when an image was made, by what it is without its times
//! cache/shared-mounts/<key>  in a shared cache that is a directory: the layers of a cache mount
//! ```
//!
//! `shared` are the caches of other machines.
//!
//! A damaged file is as good as none: an entry is believed only if its parts have the digest that it is named by, and
//! a blob is verified by whoever reads it. Semantics: `docs/cache.md`.

pub mod fsck;
pub mod inventory;
pub mod key;
pub mod listing;
pub mod prune;
pub mod recent;
pub mod shared;
pub mod stat_index;
pub mod urls;

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::layer::Compression;
use crate::oci::Descriptor;
use crate::store::lock::Mode;
use crate::store::{Lock, Store, used_now};
use crate::timestamp::Timestamp;
pub use key::Key;

/// What is known of a step that was executed once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// What stands for the layer in the keys of later steps: the diff ID that it had when it was made first.
    pub identity: DiffId,
    /// Its blobs, one for each way of writing it.
    pub blobs: Vec<Blob>,
}

/// A layer as a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// How it was written: compression and epoch.
    pub form: String,
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The blob.
    pub descriptor: Descriptor,
}

/// Names a way of writing layers: what decides a blob's bytes beside the files.
pub fn form(compression: Compression, epoch: Option<Timestamp>) -> String {
    let epoch = epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.seconds.to_string());
    let compression = match compression {
        Compression::None => "none".to_owned(),
        Compression::Gzip(level) => format!("gzip {level}"),
        Compression::Zstd(level) => format!("zstd {level}"),
    };
    format!("{compression} epoch {epoch}")
}

const STEPS: &str = "steps";
const SELECTIONS: &str = "selections";
const IMAGES: &str = "images";

/// The cache of one store.
#[derive(Clone, Debug)]
pub struct Cache {
    store: Store,
}

impl Cache {
    /// The cache of a store.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
        }
    }

    /// What is known under a key. Anything that isn't right is as good as nothing.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        let entry = self.read(&key.digest())?;
        (entry.key == *key).then_some(entry)
    }

    /// What is known under a key's digest.
    pub fn read(&self, digest: &Digest) -> Option<Entry> {
        let text = std::fs::read(self.store.cache_path(STEPS, &digest.hex())).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        (entry.key.digest() == *digest).then_some(entry)
    }

    /// Keeps a blob of a step; what is known of its other blobs stays.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(&self, key: &Key, identity: DiffId, blob: Blob) -> Result<()> {
        let mut entry = self.get(key).unwrap_or_else(|| Entry {
            key: key.clone(),
            identity,
            blobs: Vec::new(),
        });
        if entry.identity != identity {
            // The step was executed again: what it made before is another result.
            entry.identity = identity;
            entry.blobs.clear();
        }
        entry.blobs.retain(|one| one.form != blob.form);
        entry.blobs.push(blob);
        self.write(
            STEPS,
            &key.digest(),
            &serde_json::to_vec(&entry).map_err(lost)?,
        )
    }

    /// Keeps what another cache knows of a step; a result of this machine's own gives way to another one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_entry(&self, entry: &Entry) -> Result<()> {
        for blob in &entry.blobs {
            self.put(&entry.key, entry.identity, blob.clone())?;
        }
        let known = self.get(&entry.key);
        if known.is_some_and(|known| known.identity == entry.identity) {
            return Ok(());
        }
        let text = serde_json::to_vec(entry).map_err(lost)?;
        self.write(STEPS, &entry.key.digest(), &text)
    }

    /// Says that an entry was useful: what wasn't for longest is deleted first.
    pub fn touch(&self, key: &Key) {
        used_now(&self.store.cache_path(STEPS, &key.digest().hex()));
    }

    /// Waits until nobody else executes the step, and keeps others from it. `waits` is called once, where somebody does.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lock(&self, key: &Key, interrupt: &Interrupt, waits: &mut dyn FnMut()) -> Result<Lock> {
        let path = self
            .store
            .cache_path(STEPS, &format!("{}.lock", key.digest().hex()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(lost)?;
        }
        match Lock::wait_until(&path, Mode::Exclusive, interrupt, waits)? {
            Some(lock) => Ok(lock),
            None => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        }
    }

    /// What a selection of files of some layers was found to hold: the digest of its list.
    pub fn selection(&self, key: &Key) -> Option<Digest> {
        let path = self.store.cache_path(SELECTIONS, &key.digest().hex());
        let text = std::fs::read_to_string(&path).ok()?;
        used_now(&path);
        text.trim().parse().ok()
    }

    /// Remembers what a selection holds.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_selection(&self, key: &Key, listing: &Digest) -> Result<()> {
        self.write(SELECTIONS, &key.digest(), listing.to_string().as_bytes())
    }

    /// When an image was made, as its config says it, by what it is without its times.
    pub fn created(&self, image: &Key) -> Option<String> {
        let path = self.store.cache_path(IMAGES, &image.digest().hex());
        let text = std::fs::read_to_string(&path).ok()?;
        used_now(&path);
        Some(text.trim().to_owned())
    }

    /// Remembers when an image was made.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_created(&self, image: &Key, created: &str) -> Result<()> {
        self.write(IMAGES, &image.digest(), created.as_bytes())
    }

    /// The text of a folder of shared records that stands under a key.
    fn shared_text(&self, folder: &str, key: &Key) -> Option<Vec<u8>> {
        std::fs::read(self.store.cache_path(folder, &key.digest().hex())).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the store.
    fn put_shared_text(&self, folder: &str, key: &Key, text: &[u8]) -> Result<()> {
        self.write(folder, &key.digest(), text)
    }

    fn write(&self, folder: &str, name: &Digest, text: &[u8]) -> Result<()> {
        let mut file = self.store.temporary_file()?;
        file.write_all(text).map_err(lost)?;
        Ok(self.store.keep_cache_file(file, folder, &name.hex())?)
    }
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Store, "cannot write to the build cache").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn blob(form: &str, text: &[u8]) -> Blob {
        let digest = Digest::of(text);
        Blob {
            form: form.to_owned(),
            diff_id: DiffId(digest),
            descriptor: Descriptor::new(MediaType::LayerGzip, digest, 1),
        }
    }

    #[test]
    fn the_forms_of_layers_have_names_that_stay() {
        let epoch = Some(Timestamp::from_seconds(5));
        for (compression, epoch, expected) in [
            (Compression::None, None, "none epoch none"),
            (Compression::Gzip(5), epoch, "gzip 5 epoch 5"),
            (Compression::Zstd(-3), None, "zstd -3 epoch none"),
        ] {
            assert_eq!(form(compression, epoch), expected);
        }
    }

    #[test]
    fn an_entry_that_is_not_right_is_none() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let cache = Cache::new(&store);
        let mut key = Key::default();
        key.set("command", "true");
        assert!(cache.get(&key).is_none());
        let identity = DiffId(Digest::of(b"one"));
        cache.put(&key, identity, blob("a", b"one")).unwrap();
        cache.put(&key, identity, blob("b", b"two")).unwrap();
        assert_eq!(cache.get(&key).unwrap().blobs.len(), 2);
        cache
            .put(&key, DiffId(Digest::of(b"x")), blob("b", b"x"))
            .unwrap();
        assert_eq!(cache.get(&key).unwrap().blobs.len(), 1);
        let mut other = Key::default();
        other.set("command", "false");
        let path = |key: &Key| store.cache_path(STEPS, &key.digest().hex());
        std::fs::copy(path(&key), path(&other)).unwrap();
        assert!(cache.get(&other).is_none());
        std::fs::write(path(&key), "{").unwrap();
        assert!(cache.get(&key).is_none());
    }
}
