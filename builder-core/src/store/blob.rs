//! Blobs: hashed while they are written, verified while they are read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Store;
use super::error::{Error, Result};
use super::temporary::TemporaryFile;
use crate::digest::{Digest, Hasher};
use crate::oci::Descriptor;

/// A blob in the making. Dropped before `finish`, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: TemporaryFile,
    hasher: Hasher,
    written: u64,
}

impl BlobWriter {
    pub(super) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            store: store.clone(),
            file: store.temporary_file()?,
            hasher: Hasher::new(),
            written: 0,
        })
    }

    pub(super) fn new_for(store: &Store, digest: &Digest) -> Result<Self> {
        Ok(Self {
            hasher: Hasher::like(digest),
            ..Self::new(store)?
        })
    }

    /// Appends `bytes`; like `write_all`, but its error names the file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .file()
            .write_all(bytes)
            .map_err(Error::io("write", self.file.path()))?;
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Stores the blob under its digest; gives the digest and the size in bytes.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        place(&self.store, self.file, &digest, self.written)?;
        Ok((digest, self.written))
    }

    /// Stores the blob if it is the one announced; otherwise fails with both digests and leaves nothing.
    pub fn finish_expecting(self, digest: &Digest, size: u64) -> Result<()> {
        if self.written != size {
            return Err(Error::UnexpectedSize {
                digest: *digest,
                expected: size,
                found: self.written,
            });
        }
        let found = self.hasher.finish();
        if found != *digest {
            return Err(Error::Unexpected {
                expected: *digest,
                found,
            });
        }
        place(&self.store, self.file, digest, size)
    }
}

/// Renames a complete file to its digest. A file of that name and size stays: it is the same bytes.
fn place(store: &Store, file: TemporaryFile, digest: &Digest, size: u64) -> Result<()> {
    if store.blob_size(digest)? == Some(size) {
        return Ok(());
    }
    file.rename(&store.blob_path(digest))?;
    Ok(())
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.count(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that are copied at once: large enough that calls to the system cost little beside the bytes.
const CHUNK: usize = 256 * 1024;

/// Copies a stream to its end, in large pieces; gives the number of bytes.
///
/// # Errors
/// Those of reading and of writing.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let taken = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..taken])?;
        copied += taken as u64;
    }
}

/// Reads a blob and checks its digest and size. The check comes with the end of the stream: only who has read to the
/// end knows that the bytes were right.
#[derive(Debug)]
pub struct VerifiedReader {
    file: File,
    path: PathBuf,
    hasher: Option<Hasher>,
    expected: Digest,
    size: u64,
    read: u64,
}

impl VerifiedReader {
    pub(super) fn open(store: &Store, descriptor: &Descriptor) -> Result<Self> {
        let path = store.blob_path(&descriptor.digest);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                digest: descriptor.digest,
                root: store.root().to_owned(),
            },
            _ => Error::io("open", &path)(source),
        })?;
        let found = file.metadata().map_err(Error::io("read", &path))?.len();
        if found != descriptor.size {
            return Err(Error::DamagedSize {
                path,
                expected: descriptor.size,
                found,
            });
        }
        Ok(Self {
            file,
            path,
            hasher: Some(Hasher::like(&descriptor.digest)),
            expected: descriptor.digest,
            size: descriptor.size,
            read: 0,
        })
    }

    /// The blob's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is left and checks it; for a reader that stopped before the end, as a tar reader does.
    pub fn verify_rest(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.step(&mut buffer)? > 0 {}
        Ok(())
    }

    /// One read with the store's own error.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let taken = loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(Error::io("read", &self.path))?,
            }
        };
        self.read += taken as u64;
        if self.read > self.size || (taken == 0 && !buffer.is_empty() && self.read < self.size) {
            return Err(Error::DamagedSize {
                path: self.path.clone(),
                expected: self.size,
                found: self.read,
            });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..taken]);
        }
        if taken == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.expected {
                return Err(Error::Damaged {
                    path: self.path.clone(),
                    expected: self.expected,
                    found,
                });
            }
        }
        Ok(taken)
    }
}

impl Read for VerifiedReader {
    /// A damaged blob is an error of kind `InvalidData` whose inner error is [`Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
