//! What rbuild keeps beside the blobs: data about layers in the folder `layers`, about files it wrote elsewhere in
//! `outputs`; each file complete or absent.
//!
//! What the files hold is the layer room's business; this one knows their names only. All can be made again from the
//! blobs, except that an index outlives its blob.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::Store;
use super::error::{Error, Result};
use super::temporary::TemporaryFile;
use crate::digest::{DiffId, Digest};

/// A file about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// The entries of a layer: `layers/<diff ID>.index`.
    Index(DiffId),
    /// The bytes of a few files of a layer: `layers/<diff ID>.kept`.
    Kept(DiffId),
    /// Where a blob's compressed blocks are: `layers/<digest>.blocks`.
    Blocks(Digest),
    /// The uncompressed tar of a layer that can't be read at random: `layers/<diff ID>.tar`.
    Spool(DiffId),
    /// Registries and repositories that have a blob: `layers/<digest>.origin`.
    Origin(Digest),
    /// What is known of an output of rbuild's: `outputs/<digest of its path>`.
    Output(Digest),
}

impl Sidecar {
    fn file_name(self) -> String {
        match self {
            Self::Index(diff_id) => format!("{}.index", diff_id.0.hex()),
            Self::Kept(diff_id) => format!("{}.kept", diff_id.0.hex()),
            Self::Blocks(digest) => format!("{}.blocks", digest.hex()),
            Self::Spool(diff_id) => format!("{}.tar", diff_id.0.hex()),
            Self::Origin(digest) => format!("{}.origin", digest.hex()),
            Self::Output(path) => path.hex(),
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Index(_) | Self::Kept(_) | Self::Blocks(_) | Self::Spool(_) | Self::Origin(_) => {
                "layers"
            }
            Self::Output(_) => "outputs",
        }
    }
}

impl Store {
    /// Where a sidecar lies, whether it exists or not.
    pub fn sidecar_path(&self, which: Sidecar) -> PathBuf {
        self.root().join(which.folder()).join(which.file_name())
    }

    /// Opens a sidecar for reading; none where it doesn't exist.
    pub fn open_sidecar(&self, which: Sidecar) -> Result<Option<File>> {
        let path = self.sidecar_path(which);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path)(error)),
        }
    }

    /// Gives a complete temporary file the name of a sidecar; an older one is replaced. Gives it back open.
    pub fn keep_sidecar(&self, which: Sidecar, file: TemporaryFile) -> Result<File> {
        file.rename(&self.sidecar_path(which))
    }

    /// Deletes a sidecar; one that doesn't exist is no error.
    pub fn remove_sidecar(&self, which: Sidecar) -> Result<()> {
        let path = self.sidecar_path(which);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("delete", &path)(error))
            }
            _ => Ok(()),
        }
    }
}
