//! Laid out layers: directories in `roots`, each complete or absent, shared by all builds.
//!
//! What is in them is the room `rootfs`'s business; this one knows where they lie and when they may go. Beside the tree
//! lies the file `chain`: the diff IDs, from the bottom, of which it was made, a line each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::gc::{Collected, GcOptions};
use super::{Store, TemporaryDirectory};
use crate::digest::Digest;
use crate::owners::OwnerEncoding;

impl Store {
    /// Where a laid out layer lies, whether it is there or not. `encoding` is the name of an [`OwnerEncoding`].
    pub fn root_path(&self, encoding: &str, key: &Digest) -> PathBuf {
        self.root().join("roots").join(encoding).join(key.hex())
    }

    /// Gives a complete directory the name of a laid out layer. One that is there already stays.
    pub fn keep_root(
        &self,
        encoding: &str,
        key: &Digest,
        made: TemporaryDirectory,
    ) -> Result<PathBuf> {
        let path = self.root_path(encoding, key);
        made.rename(&path)?;
        Ok(path)
    }

    /// Deletes a directory of the store. It goes to the temporary files first: whoever is killed meanwhile leaves it whole
    /// under its name, or not there.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let grave = self.temporary_directory()?;
        match std::fs::rename(path, grave.path().join("gone")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("delete", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A laid out layer.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its folder.
    pub path: PathBuf,
    /// The diff ID of the layer.
    pub diff_id: Option<Digest>,
}

impl Root {
    /// Whether several layers were laid out in it, of which it is named: its name is neither the layer's nor that of the
    /// chain that it stands on.
    pub fn is_merged(&self) -> bool {
        let chain = std::fs::read(self.path.join("chain")).unwrap_or_default();
        let name = self.path.file_name().and_then(|name| name.to_str());
        let names = [self.diff_id, Some(Digest::of(&chain))];
        !names
            .iter()
            .flatten()
            .any(|digest| name == Some(&*digest.hex()))
    }
}

impl Store {
    /// All laid out layers.
    pub fn roots(&self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        for encoding in OwnerEncoding::ALL.map(OwnerEncoding::name) {
            let folder = self.root().join("roots").join(encoding);
            for found in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let path = found.map_err(Error::io("list", &folder))?.path();
                let diff_id = top_layer(&path);
                roots.push(Root { path, diff_id });
            }
        }
        Ok(roots)
    }
}

/// Deletes the laid out layers that no marked image has.
pub(super) fn sweep(
    store: &Store,
    marked: &BTreeSet<Digest>,
    options: &GcOptions,
    collected: &mut Collected,
) -> Result<()> {
    for encoding in OwnerEncoding::ALL.map(OwnerEncoding::name) {
        let folder = store.root().join("roots").join(encoding);
        for found in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = found.map_err(Error::io("list", &folder))?.path();
            if top_layer(&path).is_some_and(|diff_id| marked.contains(&diff_id)) {
                continue;
            }
            collected.roots += 1;
            collected.bytes += bytes_of(&path);
            if !options.dry_run {
                store.discard(&path)?;
            }
        }
    }
    Ok(())
}

/// The diff ID of the layer that a directory holds; none where nobody can tell.
fn top_layer(path: &Path) -> Option<Digest> {
    let chain = std::fs::read_to_string(path.join("chain")).ok()?;
    chain.lines().last()?.parse().ok()
}

/// The lengths of all files below `path`. What can't be listed counts nothing.
pub fn bytes_of(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else if metadata.is_file() {
                bytes += metadata.len();
            }
        }
    }
    bytes
}
