//! Garbage collection: marks what the tags reach, deletes the rest.
//!
//! It holds the store's lock alone, so that no build can be using what no tag reaches yet. Blobs that no tag reaches
//! but someone else wants, such as the cache, are handed in. A layer's index stays after its blob unless asked.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, Result};
use super::lock::{Lock, Mode};
use super::{Store, layout, roots};
use crate::digest::Digest;
use crate::oci::{Descriptor, ImageIndex, ImageManifest};

/// What to collect, and how.
#[derive(Clone, Debug, Default)]
pub struct GcOptions {
    /// Wait until no build uses the store; otherwise fail with [`Error::InUse`].
    pub wait: bool,
    /// Blobs to keep beside those that the tags reach.
    pub keep: Vec<Digest>,
    /// Delete the indexes of layers that no image has, too.
    pub indexes: bool,
    /// Count only, delete nothing.
    pub dry_run: bool,
}

/// What a collection deleted, or would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Number of blobs.
    pub blobs: u64,
    /// Number of files about layers.
    pub sidecars: u64,
    /// Number of laid out layers.
    pub roots: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Documents larger than this are not walked: 16 MiB, far above any manifest.
const DOCUMENT_LIMIT: u64 = 16 * 1024 * 1024;
/// Where the blobs are.
const BLOB_FOLDERS: [&str; 2] = ["blobs/sha256", "blobs/sha512"];
/// An index in an index in an index … ends here.
const DEPTH: u32 = 8;

/// Gives a file the time of now, because what is used least is deleted first; gives whether that worked. In a store that
/// can't be written to, nothing is deleted either.
pub fn used_now(path: &Path) -> bool {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).is_ok()
}

/// What is reachable.
#[derive(Clone, Debug, Default)]
pub struct Marked {
    /// Blobs: manifests, configs, layers.
    pub blobs: BTreeSet<Digest>,
    /// Diff IDs of layers.
    pub diff_ids: BTreeSet<Digest>,
}

impl Store {
    /// Says that nobody else may use the store while the lock lives. Waits for builds to end, or fails with
    /// [`Error::InUse`].
    pub fn lock_alone(&self, wait: bool) -> Result<Lock> {
        let path = self.lock_path("use");
        if wait {
            return Lock::wait(&path, Mode::Exclusive);
        }
        Lock::try_now(&path, Mode::Exclusive)?.ok_or_else(|| Error::InUse {
            root: self.root().to_owned(),
        })
    }

    /// What the tags reach.
    pub fn tagged(&self) -> Result<Marked> {
        let mut marked = Marked::default();
        for entry in layout::read(self)?.manifests {
            mark(self, &entry, DEPTH, &mut marked);
        }
        Ok(marked)
    }

    /// Adds what a document reaches to what is marked.
    pub fn reach(&self, document: &Descriptor, marked: &mut Marked) {
        mark(self, document, DEPTH, marked);
    }

    /// All blobs, each with its size in bytes, in the order of their digests.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for folder in BLOB_FOLDERS {
            for_each_file(&self.root().join(folder), |name, _, size| {
                blobs.extend(Digest::from_hex(name).map(|digest| (digest, size)));
                Ok(())
            })?;
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Deletes a blob, for who holds the store alone; gives its bytes, none where it wasn't there.
    pub fn remove_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(size) = self.blob_size(digest)? else {
            return Ok(None);
        };
        let path = self.blob_path(digest);
        std::fs::remove_file(&path).map_err(Error::io("delete", &path))?;
        Ok(Some(size))
    }

    /// Deletes the blobs that no tag reaches, and the files about layers that are gone.
    pub fn collect(&self, options: &GcOptions) -> Result<Collected> {
        let _alone = self.lock_alone(options.wait)?;
        let mut marked = self.tagged()?;
        marked.blobs.extend(&options.keep);
        let mut collected = Collected::default();
        sweep_blobs(self, &marked, options, &mut collected)?;
        sweep_sidecars(self, &marked, options, &mut collected)?;
        roots::sweep(self, &marked.diff_ids, options, &mut collected)?;
        Ok(collected)
    }
}

/// Marks a blob and what it names. A document that is missing or damaged names nothing: collection must work on the
/// stores that need it most.
fn mark(store: &Store, descriptor: &Descriptor, depth: u32, marked: &mut Marked) {
    if !marked.blobs.insert(descriptor.digest) || depth == 0 {
        return;
    }
    let document = || {
        store
            .read_document(descriptor, DOCUMENT_LIMIT)
            .unwrap_or_default()
    };
    if descriptor.media_type.is_index() {
        if let Ok(index) = ImageIndex::from_bytes("an index", &document()) {
            for manifest in &index.manifests {
                mark(store, manifest, depth - 1, marked);
            }
        }
    } else if descriptor.media_type.is_manifest()
        && let Ok(manifest) = ImageManifest::from_bytes("a manifest", &document())
    {
        marked
            .blobs
            .extend(manifest.layers.iter().map(|layer| layer.digest));
        marked.blobs.insert(manifest.config.digest);
        mark_diff_ids(store, &manifest.config, marked);
    }
}

/// Marks the diff IDs that a config names.
fn mark_diff_ids(store: &Store, config: &Descriptor, marked: &mut Marked) {
    let bytes = store
        .read_document(config, DOCUMENT_LIMIT)
        .unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let ids = document["rootfs"]["diff_ids"].as_array();
    for id in ids
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str)
    {
        marked.diff_ids.extend(id.parse::<Digest>());
    }
}

fn sweep_blobs(
    store: &Store,
    marked: &Marked,
    options: &GcOptions,
    collected: &mut Collected,
) -> Result<()> {
    for folder in BLOB_FOLDERS {
        for_each_file(&store.root().join(folder), |name, path, size| {
            let Some(digest) = Digest::from_hex(name) else {
                return Ok(());
            };
            if !marked.blobs.contains(&digest) {
                delete(path, options)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn sweep_sidecars(
    store: &Store,
    marked: &Marked,
    options: &GcOptions,
    collected: &mut Collected,
) -> Result<()> {
    for_each_file(&store.root().join("layers"), |name, path, size| {
        let Some((hex, kind)) = name.split_once('.') else {
            return Ok(());
        };
        let Some(digest) = Digest::from_hex(hex) else {
            return Ok(());
        };
        let wanted = match kind {
            "blocks" | "origin" => marked.blobs.contains(&digest),
            "tar" => marked.diff_ids.contains(&digest),
            "index" | "kept" => !options.indexes || marked.diff_ids.contains(&digest),
            _ => true,
        };
        if !wanted {
            delete(path, options)?;
            collected.sidecars += 1;
            collected.bytes += size;
        }
        Ok(())
    })
}

fn delete(path: &Path, options: &GcOptions) -> Result<()> {
    if options.dry_run {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(Error::io("delete", path))
}

/// Calls `visit` with the name, path and length in bytes of every file in `folder`.
fn for_each_file(
    folder: &Path,
    mut visit: impl FnMut(&str, &Path, u64) -> Result<()>,
) -> Result<()> {
    for found in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let found = found.map_err(Error::io("list", folder))?;
        let path = found.path();
        let size = found.metadata().map_err(Error::io("read", &path))?.len();
        if let Some(name) = found.file_name().to_str() {
            visit(name, &path, size)?;
        }
    }
    Ok(())
}
