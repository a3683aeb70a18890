//! Blobs that the store lacks, from where it remembers them to be: for views, for outputs, and for pushes.
//!
//! What a repository is remembered for may be gone; the next one that is remembered is asked then.

use std::io::{self, Read, Write as _};

use super::Registry;
use super::blob_reader::{BlobReader, unwrap};
use super::error::{Error, Result};
use crate::oci::Descriptor;
use crate::reference::Reference;
use crate::store::{BlobSource, Store, TemporaryFile};

impl Registry<'_> {
    /// A temporary file with a blob that the store doesn't hold, verified.
    pub(crate) fn blob_aside(&self, store: &Store, blob: &Descriptor) -> Result<TemporaryFile> {
        let mut last = Error::NoOrigin {
            digest: blob.digest,
        };
        for reference in origins(store, blob)? {
            let fetched = self.first(&reference, |place| {
                let mut reader = BlobReader::open(self, place, blob, true)?;
                let mut file = store.temporary_file()?;
                let copied = io::copy(&mut reader, &mut file);
                copied.map_err(|error| unwrap(error, blob))?;
                file.flush().map_err(|error| unwrap(error, blob))?;
                Ok(file)
            });
            match fetched {
                Ok(file) => return Ok(file),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl BlobSource for Registry<'_> {
    fn open(&self, store: &Store, blob: &Descriptor) -> crate::Result<Box<dyn Read + Send + '_>> {
        let mut last = Error::NoOrigin {
            digest: blob.digest,
        };
        for reference in origins(store, blob)? {
            match self.first(&reference, |place| {
                BlobReader::open(self, place, blob, true)
            }) {
                Ok(reader) => return Ok(Box::new(Outward(reader))),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> crate::Result<()> {
        let fetched = self.each(blobs, |blob| {
            let mut last = Error::NoOrigin {
                digest: blob.digest,
            };
            for reference in origins(store, blob)? {
                match self.blob_into(store, &reference, blob) {
                    Ok(()) => return Ok(()),
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        Ok(fetched?)
    }
}

/// A blob for other rooms: a failure of the registry is an error of the library within the stream's.
struct Outward<'r>(BlobReader<'r>);

impl Read for Outward<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .read(buffer)
            .map_err(|error| match error.downcast::<Error>() {
                Ok(own) => io::Error::other(crate::Error::from(own)),
                Err(other) => other,
            })
    }
}

/// The repositories that a blob is known to be in, as references.
pub(crate) fn origins(store: &Store, blob: &Descriptor) -> Result<Vec<Reference>> {
    let lines = store.origins(&blob.digest)?;
    Ok(lines.iter().filter_map(|line| line.parse().ok()).collect())
}

/// `REGISTRY/REPOSITORY`, as the store remembers it.
pub(crate) fn origin_of(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}
