//! Where the bytes of an index are: in a file of the store, in one without a name, or, where they are few, in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::store::TemporaryFile;

/// Files of no more bytes are read at once and closed: an image of thousands of layers would need as many open files.
const SMALL: u64 = 16 * 1024;

/// The bytes of an index.
#[derive(Debug)]
pub(super) enum Backing {
    /// An open file of the store.
    Kept(File),
    /// All of a small one.
    Small(Vec<u8>),
    /// A file that is gone with the value.
    Temporary(TemporaryFile),
}

impl Backing {
    /// Of a file of the store, wherever it was read before.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length > SMALL {
            return Ok(Self::Kept(file));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self::Small(bytes))
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Kept(file) => Ok(file.metadata()?.len()),
            Self::Temporary(file) => Ok(file.file().metadata()?.len()),
            Self::Small(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Fills a buffer with the bytes from `at` on; fails where there are not so many.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = match self {
            Self::Kept(file) => return file.read_exact_at(buffer, at),
            Self::Temporary(file) => return file.file().read_exact_at(buffer, at),
            Self::Small(bytes) => bytes,
        };
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
        match rest.and_then(|rest| rest.get(..buffer.len())) {
            Some(taken) => buffer.copy_from_slice(taken),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}
