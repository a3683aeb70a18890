//! The form in which a cache mount travels, as its folder in the store remembers it: the layers that were exported or
//! imported last, and what the directory looked like then. The next export makes a layer of what changed since.
//!
//! ```text
//! shared        the layers, and the digest of the other file; JSON
//! shared.files  the snapshot
//! ```
//!
//! Anything that isn't right is as good as nothing: then all is packed anew.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cache::Blob;
use crate::cache::key::VERSION;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::rootfs::Snapshot;
use crate::store::{Store, TemporaryFile};

const LAYERS: &str = "shared";
const FILES: &str = "shared.files";

/// What a cache mount was when it travelled last.
#[derive(Debug)]
pub(super) struct History {
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Blob>,
    /// The directory as it was.
    pub(super) snapshot: Snapshot,
}

/// The first file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// The version of what follows, that of the records of shared caches: they name layers as these are named.
    version: u32,
    layers: Vec<Blob>,
    files: Digest,
}

impl History {
    /// Reads what the folder of a cache mount remembers; none where that isn't whole, or where a layer isn't here any
    /// more.
    pub(super) fn load(store: &Store, folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(LAYERS)).ok()?;
        let written: Written = serde_json::from_slice(&text).ok()?;
        if written.version != VERSION {
            return None;
        }
        let mut layers = written.layers.iter().map(|blob| &blob.descriptor);
        let here = |digest: &Digest| store.blob_size(digest).ok().flatten();
        if !layers.all(|blob| here(&blob.digest) == Some(blob.size)) {
            return None;
        }
        let mut file = Hashing::new(BufReader::new(File::open(folder.join(FILES)).ok()?));
        let snapshot = Snapshot::load(store, &mut file).ok()?;
        (file.hasher.finish() == written.files).then_some(Self {
            layers: written.layers,
            snapshot,
        })
    }

    /// Writes it to the folder of a cache mount. A reader finds the old one, the new one, or nothing whole.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn save(&self, store: &Store, folder: &Path) -> Result<()> {
        let mut out = Hashing::new(BufWriter::new(store.temporary_file()?));
        self.snapshot.save(&mut out).map_err(lost)?;
        let files = out.hasher.finish();
        let file = out.inner.into_inner();
        let file = file.map_err(|error| lost(error.into_error()))?;
        let layers = self.layers.clone();
        let version = VERSION;
        let written = Written {
            version,
            layers,
            files,
        };
        let text = crate::oci::json::to_bytes("the layers of a cache mount", &written)?;
        let mut head: TemporaryFile = store.temporary_file()?;
        head.write_all(&text).map_err(lost)?;
        file.rename(&folder.join(FILES))?;
        head.rename(&folder.join(LAYERS))?;
        Ok(())
    }

    /// Forgets what a folder remembers.
    pub(super) fn forget(folder: &Path) {
        for name in [LAYERS, FILES] {
            // What stays is still true of its own layers and snapshot; one file without the other is nothing.
            let _ = std::fs::remove_file(folder.join(name));
        }
    }
}

fn lost(error: io::Error) -> Error {
    let message = "cannot remember the layers of a cache mount";
    Error::new(ErrorKind::Store, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DiffId;
    use crate::oci::{Descriptor, MediaType};

    /// A store, a folder in which one layer is remembered, and the layer's digest.
    fn remembered(root: &Path) -> (Store, std::path::PathBuf, Digest) {
        let store = Store::open(&root.join("store")).unwrap();
        let folder = root.join("mount");
        std::fs::create_dir_all(folder.join("data/sub")).unwrap();
        std::fs::write(folder.join("data/sub/file"), "12345").unwrap();
        let digest = store.put(b"a layer").unwrap();
        let layers = vec![Blob {
            form: "f".to_owned(),
            diff_id: DiffId(digest),
            descriptor: Descriptor::of(MediaType::LayerTar, b"a layer"),
        }];
        let snapshot = Snapshot::take(&store, &folder.join("data")).unwrap();
        let history = History { layers, snapshot };
        history.save(&store, &folder).unwrap();
        (store, folder, digest)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let (store, folder, digest) = remembered(root.path());
        let history = History::load(&store, &folder).unwrap();
        assert_eq!(history.layers[0].descriptor.digest, digest);
        assert_eq!(history.snapshot.len(), 2);
        assert_eq!(history.snapshot.file_bytes().unwrap(), 5);
        History::forget(&folder);
        assert!(History::load(&store, &folder).is_none());
    }

    #[test]
    fn what_is_not_whole_is_nothing() {
        type Damage = fn(&Store, &Path, &Digest);
        let damages: [(&str, Damage); 4] = [
            ("no snapshot", |_, folder, _| {
                std::fs::remove_file(folder.join(FILES)).unwrap();
            }),
            ("half a snapshot", |_, folder, _| {
                let bytes = std::fs::read(folder.join(FILES)).unwrap();
                std::fs::write(folder.join(FILES), &bytes[..bytes.len() - 1]).unwrap();
            }),
            ("no JSON", |_, folder, _| {
                std::fs::write(folder.join(LAYERS), "{").unwrap();
            }),
            ("no layer", |store, _, digest| {
                std::fs::remove_file(store.blob_path(digest)).unwrap();
            }),
        ];
        for (name, damage) in damages {
            let root = tempfile::tempdir().unwrap();
            let (store, folder, digest) = remembered(root.path());
            damage(&store, &folder, &digest);
            assert!(History::load(&store, &folder).is_none(), "{name}");
        }
    }
}
