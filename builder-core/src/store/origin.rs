//! Where blobs can be had that the store may not hold: `REGISTRY/REPOSITORY` lines beside the layers.
//!
//! A base's layers are not stored until something needs their bytes. What remembers where they are outlives the build,
//! so that a later push can mount them and a later output can fetch them.

use std::io::{self, Read, Write as _};

use super::error::{Error, Result};
use super::sidecar::Sidecar;
use super::{BlobWriter, Store};
use crate::digest::{DiffId, Digest};
use crate::oci::Descriptor;

/// Lines that are remembered of one blob.
const MAX_ORIGINS: usize = 8;

/// Fetches blobs from elsewhere. Answered by the registry room; a view and the outputs ask it.
pub trait BlobSource: Sync + std::fmt::Debug {
    /// Streams a blob without storing it. The reader gives at most the size that the descriptor says, and fails at the
    /// end if the digest is another one.
    ///
    /// # Errors
    /// Where nothing is known of the blob, or the registry refuses.
    fn open(&self, store: &Store, blob: &Descriptor) -> crate::Result<Box<dyn Read + Send + '_>>;

    /// Brings blobs into the store that are not in it.
    ///
    /// # Errors
    /// Where nothing is known of a blob, or the registry refuses, or the bytes are not what they should be.
    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> crate::Result<()>;

    /// Brings the index of a layer into the store, where somebody has it ready; gives whether it did.
    ///
    /// # Errors
    /// Those of the store.
    fn bring_index(
        &self,
        _store: &Store,
        _blob: &Descriptor,
        _diff_id: &DiffId,
    ) -> crate::Result<bool> {
        Ok(false)
    }
}

impl Store {
    /// Remembers that a blob is in `REGISTRY/REPOSITORY`; the newest comes first.
    pub fn remember_origin(&self, digest: &Digest, origin: &str) -> Result<()> {
        let mut lines = self.origins(digest)?;
        if lines.first().is_some_and(|first| first == origin) {
            return Ok(());
        }
        lines.retain(|line| line != origin);
        lines.insert(0, origin.to_owned());
        lines.truncate(MAX_ORIGINS);
        let mut file = self.temporary_file()?;
        let text = lines.join("\n") + "\n";
        let written = file.write_all(text.as_bytes());
        written.map_err(Error::io("write", file.path()))?;
        self.keep_sidecar(Sidecar::Origin(*digest), file)?;
        Ok(())
    }

    /// Where a blob is known to be, the newest first; empty where nothing is known.
    pub fn origins(&self, digest: &Digest) -> Result<Vec<String>> {
        let which = Sidecar::Origin(*digest);
        let Some(file) = self.open_sidecar(which)? else {
            return Ok(Vec::new());
        };
        let mut text = String::new();
        match file.take(64 * 1024).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                Err(Error::io("read", &self.sidecar_path(which))(error))
            }
            _ => Ok(text.lines().map(str::to_owned).collect()),
        }
    }

    /// The blobs of a list that the store doesn't hold, each once.
    pub fn missing<'d>(
        &self,
        blobs: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Result<Vec<Descriptor>> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for blob in blobs {
            let known = missing.iter().any(|one| one.digest == blob.digest);
            if !known && self.blob_size(&blob.digest)? != Some(blob.size) {
                missing.push(blob.clone());
            }
        }
        Ok(missing)
    }
}

/// Copies a stream into a blob, and stores it if it is the one announced.
pub(crate) fn store_stream(
    mut writer: BlobWriter,
    blob: &Descriptor,
    mut from: impl Read,
) -> io::Result<Result<()>> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let taken = match from.read(&mut buffer) {
            Ok(0) => return Ok(writer.finish_expecting(&blob.digest, blob.size)),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = writer.append(&buffer[..taken]) {
            return Ok(Err(error));
        }
    }
}
