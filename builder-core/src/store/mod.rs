//! The store: the one owner of bytes. Everything enters it (pull, import, layer) and everything leaves from it.
//!
//! It is an OCI image layout on disk that any OCI tool can read, with rbuild's own folders beside it:
//!
//! ```text
//! ROOT/
//!   oci-layout               {"imageLayoutVersion":"1.0.0"}
//!   index.json               one entry a tag; replaced by rename, under locks/index
//!   blobs/sha256/<digest>    manifests, configs, layers; complete or absent; never changed
//!   layers/<diff ID>.index   a layer's entries and where their bytes are
//!   layers/<digest>.blocks   where the compressed blocks of a layer of rbuild's are
//!   layers/<diff ID>.kept    the bytes of a few files of a layer that isn't stored
//!   layers/<digest>.origin   registries and repositories that have a blob
//!   layers/<diff ID>.tar     an uncompressed copy of a layer that can't be read at random
//!   roots/<encoding>/<key>/  a layer laid out as a directory: tree/, owners, and chain, which says of what
//!   failed/                  the root of the last RUN that failed and was kept, and what it had been asked
//!   cache/                   build cache, written by the cache room
//!   locks/use                shared: a build; exclusive: garbage collection
//!   locks/index              exclusive: a change of index.json
//!   tmp/                     files in the making, each locked by its process
//! ```
//!
//! Several processes may use one store at the same time, and each may be killed at any moment: files get their names
//! by rename when they are complete, locks end with their process, and what a killed process left in `tmp/` is
//! deleted by the next one that opens the store. Protection against power failure is deliberately not promised; a
//! blob that it damaged is found when it is read.
//!
//! The store doesn't know what a layer, an image or a cache key is.

pub mod blob;
pub mod error;
pub mod gc;
pub mod layout;
pub mod lock;
pub mod moved;
pub mod origin;
pub mod remove;
pub mod roots;
pub mod sidecar;
pub mod temporary;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use blob::{BlobWriter, VerifiedReader};
pub use error::{Error, Result};
pub use gc::{Collected, GcOptions, Marked, used_now};
pub use lock::Lock;
pub use origin::BlobSource;
pub use remove::{remove_at, remove_tree};
pub use roots::Root;
pub use sidecar::Sidecar;
pub use temporary::{TemporaryDirectory, TemporaryFile};

use crate::digest::Digest;
use crate::interrupt::Interrupt;
use crate::oci::Descriptor;
use lock::Mode;

/// A handle on a store. Clones are the same store; it may be used by many threads.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<PathBuf>,
    /// What was found damaged, until somebody tells of it.
    damage: Arc<Mutex<Vec<PathBuf>>>,
    /// What is damaged stays: somebody only looks.
    keeps_damage: bool,
}

/// The folders of a store.
const FOLDERS: &[&str] = &[
    "blobs/sha256",
    "blobs/sha512",
    "layers",
    "roots/native",
    "roots/recorded",
    "roots/complete",
    "cache",
    "locks",
    "outputs",
    "tmp",
];

impl Store {
    /// Opens the store in `root`, makes it where it is missing, and deletes what killed processes left. Fails where
    /// `root` can't be written, or holds a layout of another version.
    pub fn open(root: &Path) -> Result<Self> {
        for folder in FOLDERS {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let store = Self {
            root: Arc::new(root.to_owned()),
            damage: Arc::default(),
            keeps_damage: false,
        };
        temporary::clean(&root.join("tmp"))?;
        layout::prepare(&store)?;
        Ok(store)
    }

    /// The folder that it lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes away a file that is not as it was written and can be made anew. Whoever has done that meanwhile is right too.
    pub fn give_up(&self, path: &Path) {
        if self.keeps_damage || std::fs::remove_file(path).is_ok() {
            self.note_damage(path);
        }
    }

    /// The same store for who only looks: what is damaged is noted, in a list of its own, and stays.
    #[must_use]
    pub fn for_looking(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
            damage: Arc::default(),
            keeps_damage: true,
        }
    }

    fn note_damage(&self, path: &Path) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.push(path.to_owned());
    }

    /// The files that were found damaged since this was asked last: they are gone, and made anew where they are needed.
    pub fn take_damage(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.damage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a lock file lies.
    fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }

    /// The same, until somebody stops the work: none then. `waits` is called once, where a collection is to be waited for.
    pub fn lock_for_use_until(
        &self,
        interrupt: &Interrupt,
        waits: &mut dyn FnMut(),
    ) -> Result<Option<Lock>> {
        Lock::wait_until(&self.lock_path("use"), Mode::Shared, interrupt, waits)
    }

    /// Says that a build uses the store: nothing is collected while the lock lives. Waits for a collection to end.
    pub fn lock_for_use(&self) -> Result<Lock> {
        Lock::wait(&self.lock_path("use"), Mode::Shared)
    }

    /// Starts a blob. Nothing is visible before [`BlobWriter::finish`]; dropped earlier, nothing is left.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::new(self)
    }

    /// Starts a blob that others named: it is hashed as its digest wants it.
    pub fn blob_writer_for(&self, digest: &Digest) -> Result<BlobWriter> {
        BlobWriter::new_for(self, digest)
    }

    /// Stores a small blob under the name that others gave it; fails where it is not the blob of that name.
    pub fn put_as(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        if self.blob_size(digest)? != Some(size) {
            let mut writer = self.blob_writer_for(digest)?;
            writer.append(bytes)?;
            writer.finish_expecting(digest, size)?;
        }
        Ok(())
    }

    /// Stores a small blob and gives its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest)? != Some(bytes.len() as u64) {
            let mut writer = self.blob_writer()?;
            writer.append(bytes)?;
            writer.finish()?;
        }
        Ok(digest)
    }

    /// Gives a file of the store's `tmp/` that is complete and was hashed as it was written the name of a blob too.
    pub fn adopt(&self, path: &Path, digest: &Digest, size: u64) -> Result<()> {
        if self.blob_size(digest)? == Some(size) {
            return Ok(());
        }
        let to = self.blob_path(digest);
        match std::fs::hard_link(path, &to) {
            Ok(()) => Ok(()),
            // What is there is damaged, or the file system has no links.
            Err(_) => {
                let mut writer = self.blob_writer_for(digest)?;
                let mut from = std::fs::File::open(path).map_err(Error::io("open", path))?;
                std::io::copy(&mut from, &mut writer).map_err(Error::io("copy", path))?;
                writer.finish_expecting(digest, size)
            }
        }
    }

    /// Whether a blob is here. Its bytes are not looked at.
    pub fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// The length in bytes of a blob on disk; none where it isn't here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Where a blob lies, whether it is here or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.path())
    }

    /// Opens a blob for reading. Digest and size are checked when the reader comes to the end; a damaged blob is an
    /// error that names the file, both digests and the remedy, and never more bytes than `descriptor.size` are given.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifiedReader> {
        VerifiedReader::open(self, descriptor)
    }

    /// Reads a whole document of at most `limit` bytes, verified.
    pub fn read_document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(Error::TooLarge {
                digest: descriptor.digest,
                size: descriptor.size,
                limit,
            });
        }
        let mut reader = self.open_blob(descriptor)?;
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| match error.downcast::<Error>() {
                Ok(own) => own,
                Err(other) => Error::io("read", reader.path())(other),
            })?;
        Ok(bytes)
    }

    /// Gives `descriptor` a name; what had that name loses it. `tag` is the short form, the reference's tag.
    pub fn tag(&self, full_reference: &str, tag: &str, descriptor: &Descriptor) -> Result<()> {
        layout::change(self, |index| {
            index
                .manifests
                .retain(|one| layout::reference(one) != Some(full_reference));
            index
                .manifests
                .push(layout::entry(descriptor, full_reference, tag));
            Ok(())
        })
    }

    /// What has the name `full_reference`. The blob that it names may be missing.
    pub fn resolve(&self, full_reference: &str) -> Result<Option<Descriptor>> {
        let index = layout::read(self)?;
        Ok(index
            .manifests
            .into_iter()
            .rfind(|one| layout::reference(one) == Some(full_reference)))
    }

    /// All names, sorted, each with its descriptor. Entries of other tools that have no name are left out.
    pub fn tags(&self) -> Result<Vec<(String, Descriptor)>> {
        let index = layout::read(self)?;
        let mut named: Vec<(String, Descriptor)> = index
            .manifests
            .into_iter()
            .filter_map(|one| Some((layout::reference(&one)?.to_owned(), one)))
            .collect();
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(named)
    }

    /// Takes the name `full_reference` away; gives whether anything had it. The blobs stay until a collection.
    pub fn untag(&self, full_reference: &str) -> Result<bool> {
        let mut found = false;
        layout::change(self, |index| {
            index.manifests.retain(|one| {
                let same = layout::reference(one) == Some(full_reference);
                found |= same;
                !same
            });
            Ok(())
        })?;
        Ok(found)
    }

    /// Where a file of the build cache lies: `cache/FOLDER/NAME`.
    pub fn cache_path(&self, folder: &str, name: &str) -> PathBuf {
        self.root.join("cache").join(folder).join(name)
    }

    /// Gives a complete temporary file its name in the build cache; an older one is replaced.
    pub fn keep_cache_file(&self, file: TemporaryFile, folder: &str, name: &str) -> Result<()> {
        let path = self.cache_path(folder, name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        file.rename(&path).map(|_| ())
    }

    /// A file in the store's `tmp/`, on the same disk as the blobs; dropped, it is deleted.
    pub fn temporary_file(&self) -> Result<TemporaryFile> {
        TemporaryFile::new(&self.root.join("tmp"))
    }

    /// A directory in the store's `tmp/`; dropped, it is deleted with all that is in it.
    pub fn temporary_directory(&self) -> Result<TemporaryDirectory> {
        TemporaryDirectory::new(&self.root.join("tmp"))
    }
}
