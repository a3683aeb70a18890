//! Caches that machines share: an OCI registry, a directory, or the record within an image.
//!
//! Whoever may write to such a cache chooses what a step's layer holds: it is trusted like a base image. What is
//! damaged, mixed up or foreign is not: a record counts only under the key that its own parts have, and a blob only
//! with its digest and diff ID. A cache that can't be reached is as good as none, and a line says so.

pub mod inline;
mod local;
mod record;
mod registry;
mod registry_target;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use local::LocalCache;
pub(crate) use local::LocalTarget;
pub use record::{Record, StepRecord};
pub use registry::RegistryCache;
pub(crate) use registry_target::RegistryTarget;

use super::Blob;
use super::key::Key;
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::Descriptor;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// Where steps are looked up that this machine has not executed: `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFrom {
    /// `type=registry,ref=…`: records beside a reference.
    Registry(Reference, Mounts),
    /// An image: the record in its config.
    Image(Reference),
    /// `type=local,src=…`: a directory.
    Local(PathBuf, Mounts),
}

/// Where a build's results go for other machines: `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTo {
    /// The place.
    pub target: CacheTarget,
    /// Which layers go along.
    pub mode: CacheMode,
    /// Which cache mounts go along.
    pub mounts: Mounts,
    /// Whether a failure is told only, and no error: `ignore-error=true`.
    pub ignore_error: bool,
    /// Whether a cache of another tool's at that place may be replaced: `ignore-existing=true`.
    pub ignore_existing: bool,
}

/// Which cache mounts travel with a shared cache: the field `mounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// None.
    #[default]
    None,
    /// All that a build uses: `mounts=true`.
    All,
    /// Those with these ids: `mounts=ID;ID`.
    Named(BTreeSet<String>),
}

impl Mounts {
    /// Whether the cache mount of an id travels.
    pub fn contains(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(ids) => ids.contains(id),
        }
    }

    /// Whether none does.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What a cache mount is known by, wherever it lies: its id, what else it begins as, and the platform of the machines that
/// fill it, because what compilers leave behind is of no use on another one.
pub fn mount_key(id: &str, beginning: &[(&'static str, String)]) -> Key {
    let mut key = Key::default();
    key.set("cache mount", id);
    key.set("platform", Platform::host().to_string());
    for (name, value) in beginning {
        key.set(*name, value);
    }
    key
}

/// The place of a [`CacheTo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheTarget {
    /// `type=registry,ref=…`.
    Registry(Reference),
    /// `type=local,dest=…`: a directory, which is made where it is missing.
    Local(PathBuf),
    /// `type=inline`: the image's own config.
    Inline,
}

/// Which layers are exported. The records of all steps always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those of the image.
    #[default]
    Min,
    /// Those of all stages.
    Max,
}

/// Where the bytes are of a record's blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `REGISTRY/REPOSITORY`.
    Repository(String),
    /// A directory that holds `blobs/sha256`.
    Directory(PathBuf),
}

/// A shared cache to read.
pub trait SharedCache: Sync + std::fmt::Debug {
    /// What it knows of a step; nothing where it can't be asked.
    fn step(&self, key: &Key) -> Option<StepRecord>;

    /// What it knows of a selection of files: the digest of their list.
    fn selection(&self, key: &Key) -> Option<Digest>;

    /// When an image was made, as its config says it.
    fn created(&self, key: &Key) -> Option<String>;

    /// What it holds of a cache mount, from the lowest layer to the top; none where it has no record of it.
    ///
    /// # Errors
    /// A place that can't be read, and a document there that makes no sense.
    fn mount(&self, key: &Key) -> Result<Option<Vec<Blob>>>;

    /// The keys of the steps that it knows, as far as one request tells: to say in what a step that it doesn't know
    /// differs.
    fn keys(&self) -> Vec<Key>;

    /// Where the blobs of its records are.
    fn origin(&self) -> Origin;
}

/// A shared cache to write.
pub trait SharedTarget: Sync {
    /// Writes a record, and before it the blobs that it names; gives whether that was needed. `anew` says that what is
    /// there is known to be spoilt.
    ///
    /// # Errors
    /// Those of the place.
    fn put(&self, store: &Store, record: &Record, anew: bool) -> Result<bool>;

    /// Ends the export.
    ///
    /// # Errors
    /// Those of the place.
    fn finish(&self) -> Result<()>;
}

/// The type of a layer's index as a blob: the file of the store, gzipped.
pub const INDEX_TYPE: &str = "application/vnd.rbuild.layer.index.v1+gzip";

/// The digests of the blobs that a record names.
fn blobs_of(record: &Record) -> Vec<Descriptor> {
    match record {
        Record::Step(step) => {
            let blobs = step.entry.blobs.iter();
            blobs.map(|blob| blob.descriptor.clone()).collect()
        }
        Record::Image { .. } | Record::Selection { .. } => Vec::new(),
        Record::Mount { layers, .. } => {
            let blobs = layers.iter();
            blobs.map(|blob| blob.descriptor.clone()).collect()
        }
    }
}

/// Reads the records of another machine, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz_records(value: &serde_json::Value) {
    let _ = record::parse_list(value);
}
