//! The bytes of one file of a tar, sparse files as the wholes that they are.
//!
//! An index says where a file's bytes are. Those of a sparse file are nowhere in the tar as it is: its range begins
//! behind any tar, and means a place among the tar's sparse files, laid out one after the other.

use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use super::error::{Error, Result, TarProblem};
use super::frame::{Frame, FrameError, Frames};
use super::read::{BUFFER, What};
use super::record::{DataRange, Record};
use super::sparse::Sparse;
use crate::entry::EntryKind;
use crate::store::{Store, TemporaryFile};

/// Where the data ranges of sparse files begin.
pub(super) const WHOLE: u64 = 1 << 62;

/// Numbers the bytes of the sparse files of a tar.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    /// The sum of their lengths so far.
    pub(super) length: u64,
}

impl Wholes {
    /// Makes the record of a sparse file that of the whole.
    pub(super) fn place(&mut self, sparse: &Sparse, record: &mut Record) -> Result<(), TarProblem> {
        let end = self.length.checked_add(sparse.size);
        let end = end.filter(|end| *end < WHOLE).ok_or(TarProblem::Sparse)?;
        record.entry.kind = EntryKind::File { size: sparse.size };
        record.data = Some(DataRange {
            offset: WHOLE + self.length,
            len: sparse.size,
        });
        self.length = end;
        Ok(())
    }
}

/// The sparse files of a tar in a file, with holes where the tar has nothing.
#[derive(Debug)]
pub(super) struct LaidOut {
    pub(super) file: TemporaryFile,
    length: u64,
    /// Offset and length of what was written, in order.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl LaidOut {
    pub(super) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            file: store.temporary_file()?,
            length: 0,
            pieces: Vec::new(),
        })
    }

    /// Appends a sparse file whose content comes next in the tar.
    pub(super) fn push<R: Read>(
        &mut self,
        frames: &mut Frames<R>,
        sparse: &Sparse,
        what: &What,
    ) -> Result<()> {
        let start = self.length;
        let end = start.checked_add(sparse.size).filter(|end| *end < WHOLE);
        self.length = end.ok_or_else(|| what.refuse(None, TarProblem::Sparse))?;
        let (file, path) = (self.file.file(), self.file.path());
        file.set_len(self.length)
            .map_err(Error::io("write", path))?;
        let mut buffer = vec![0; BUFFER];
        for (offset, length) in &sparse.pieces {
            let mut done = 0;
            while done < *length {
                let wanted = (length - done).min(BUFFER as u64) as usize;
                let taken = frames.read_content(&mut buffer[..wanted]);
                let taken = taken.map_err(|source| what.stream(source))?;
                if taken == 0 {
                    return Err(what.refuse(None, TarProblem::Truncated));
                }
                let written = file.write_all_at(&buffer[..taken], start + offset + done);
                written.map_err(Error::io("write", path))?;
                done += taken as u64;
            }
            self.pieces.push((start + offset, *length));
        }
        Ok(())
    }

    /// Appends the files to another, with holes; gives where they begin.
    pub(super) fn append_to(&self, spool: &mut TemporaryFile) -> Result<u64> {
        let end = spool.file().metadata();
        let start = end.map_err(Error::io("read", spool.path()))?.len();
        let mut buffer = vec![0; BUFFER];
        let (file, path) = (spool.file(), spool.path());
        for (offset, length) in &self.pieces {
            let mut done = 0;
            while done < *length {
                let wanted = (length - done).min(BUFFER as u64) as usize;
                let (own, part) = (self.file.file(), &mut buffer[..wanted]);
                let read = own.read_exact_at(part, offset + done);
                read.map_err(Error::io("read", self.file.path()))?;
                let written = file.write_all_at(part, start + offset + done);
                written.map_err(Error::io("write", path))?;
                done += wanted as u64;
            }
        }
        let grown = file.set_len(start + self.length);
        grown.map_err(Error::io("write", path))?;
        Ok(start)
    }
}

/// The bytes of the entry that was read last.
#[derive(Debug)]
pub(super) struct Content<'f, R> {
    frames: &'f mut Frames<R>,
    /// Offset and length of what the tar has of the file, the next piece last.
    pieces: Vec<(u64, u64)>,
    /// Where the next byte is in the file.
    at: u64,
    size: u64,
}

impl<'f, R: Read> Content<'f, R> {
    /// The content that `frame` announced; `frames` stands at its first byte.
    pub(super) fn new(frames: &'f mut Frames<R>, frame: &Frame) -> Self {
        let (mut pieces, size) = match &frame.sparse {
            Some(sparse) => (sparse.pieces.clone(), sparse.size),
            None => (vec![(0, frame.size)], frame.size),
        };
        pieces.reverse();
        Self {
            frames,
            pieces,
            at: 0,
            size,
        }
    }

    /// All of it, of a file that is known to be small.
    pub(super) fn all(&mut self) -> Result<Vec<u8>, FrameError> {
        let mut all = vec![0; (self.size - self.at) as usize];
        let mut filled = 0;
        while filled < all.len() {
            match self.read(&mut all[filled..]) {
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(TarProblem::Truncated.into());
                }
                Err(error) => return Err(FrameError::Stream(error)),
            }
        }
        Ok(all)
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, length)) = self.pieces.last()
            && self.at >= offset + length
        {
            self.pieces.pop();
        }
        let room = buffer.len() as u64;
        let (hole_end, piece_end) = match self.pieces.last() {
            Some((offset, length)) => (*offset, offset + length),
            None => (self.size, self.size),
        };
        if self.at < hole_end {
            let zeros = room.min(hole_end - self.at) as usize;
            buffer[..zeros].fill(0);
            self.at += zeros as u64;
            return Ok(zeros);
        }
        let wanted = room.min(piece_end - self.at) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let taken = self.frames.read_content(&mut buffer[..wanted])?;
        if taken == 0 {
            let early = TarProblem::Truncated.to_string();
            return Err(io::Error::new(io::ErrorKind::InvalidData, early));
        }
        self.at += taken as u64;
        Ok(taken)
    }
}
