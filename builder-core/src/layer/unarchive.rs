//! Archive bytes to an index, for ADD and for contexts: the uncompressed tar is kept beside it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::data::LayerData;
use super::decompress::{self, Counted};
use super::error::{Error, Result, TarProblem};
use super::frame::Frames;
use super::index::LayerIndex;
use super::making::Making;
use super::read::{BUFFER, What, each_frame};
use super::record::DataRange;
use super::sparse::Sparse;
use crate::entry::EntryKind;
use crate::store::{Store, TemporaryFile};

/// Where the data ranges of sparse files begin: behind any tar, so that they are told apart from those of the others.
const WHOLE: u64 = 1 << 62;

/// An archive's index, and its uncompressed bytes to which the index' data ranges refer.
#[derive(Debug)]
pub struct Archive {
    /// What it holds. Nothing in it hides anything.
    pub index: LayerIndex,
    /// The uncompressed tar; deleted when dropped.
    pub spool: TemporaryFile,
    /// Sparse files as wholes, where there are any; deleted when dropped.
    whole: Option<TemporaryFile>,
}

impl Archive {
    /// The file that a data range of the index is in, and where.
    pub(super) fn place(&self, offset: u64) -> (&File, u64) {
        match (&self.whole, offset.checked_sub(WHOLE)) {
            (Some(whole), Some(offset)) => (whole.file(), offset),
            _ => (self.spool.file(), offset),
        }
    }

    /// Opens the archive's bytes, for the data ranges of its index.
    pub fn data(&self) -> Result<LayerData> {
        let path = self.spool.path();
        let file = self
            .spool
            .file()
            .try_clone()
            .map_err(Error::io("open", path))?;
        Ok(LayerData::from_plain(file, path.to_owned()))
    }
}

/// Reads a tar that is no layer, compressed or not: names that would be whiteouts are ordinary. `name` names the
/// archive in an error. With `outwards`, a hard link whose target the archive doesn't hold stays a link without data, for
/// who unpacks it over other files.
pub fn index_archive(
    store: &Store,
    name: &str,
    tar: impl Read + Send,
    outwards: bool,
) -> Result<Archive> {
    let count = Arc::new(AtomicU64::new(0));
    let what = What::archive(name, outwards, Arc::clone(&count));
    let counted = Counted::new(BufReader::with_capacity(BUFFER, tar), count);
    let opened = decompress::open(counted);
    let (_, mut opened) = opened.map_err(|source| what.stream(source))?;
    let mut tee = Tee {
        inner: &mut opened,
        spool: store.temporary_file()?,
        failed: None,
    };
    let mut buffered = BufReader::with_capacity(BUFFER, &mut tee);
    let mut whole = None;
    let indexed = make_archive_index(store, &mut buffered, &what, &mut whole);
    drop(buffered);
    if indexed.is_ok() && tee.failed.is_none() {
        // Only the end of a compressed stream tells whether all of it was right.
        io::copy(tee.inner, &mut io::sink()).map_err(|source| what.stream(source))?;
    }
    if let Some(failure) = tee.failed {
        return Err(Error::io("write", tee.spool.path())(failure));
    }
    let spool = tee.spool;
    Ok(Archive {
        index: LayerIndex::from_temporary(indexed?)?,
        spool,
        whole,
    })
}

/// Reads all entries and writes their index. Sparse files are laid out in `whole`, with holes where the archive has nothing.
fn make_archive_index(
    store: &Store,
    tar: &mut dyn Read,
    what: &What,
    whole: &mut Option<TemporaryFile>,
) -> Result<TemporaryFile> {
    let (mut making, mut length) = (Making::new(store), 0);
    each_frame(tar, what, |frames, frame, mut record, number| {
        if let Some(sparse) = &frame.sparse {
            let file = match &mut *whole {
                Some(file) => file,
                none => none.insert(store.temporary_file()?),
            };
            lay_out(frames, sparse, file, length, what)?;
            record.entry.kind = EntryKind::File { size: sparse.size };
            record.data = Some(DataRange {
                offset: WHOLE + length,
                len: sparse.size,
            });
            length += sparse.size;
        }
        making.note_links(&record);
        making.push(&record, number)
    })?;
    making.finish(store, what)
}

/// Writes the pieces of a sparse file where they belong in a file that begins at `start`.
fn lay_out(
    frames: &mut Frames<&mut dyn Read>,
    sparse: &Sparse,
    file: &TemporaryFile,
    start: u64,
    what: &What,
) -> Result<()> {
    let end = start.checked_add(sparse.size).filter(|end| *end < WHOLE);
    let end = end.ok_or_else(|| what.refuse(None, TarProblem::Sparse))?;
    let failed = Error::io("write", file.path());
    file.file().set_len(end).map_err(failed)?;
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
            let written = file
                .file()
                .write_all_at(&buffer[..taken], start + offset + done);
            written.map_err(Error::io("write", file.path()))?;
            done += taken as u64;
        }
    }
    Ok(())
}

/// Writes what goes through into a file.
struct Tee<R> {
    inner: R,
    spool: TemporaryFile,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        if let Err(error) = self.spool.write_all(&buffer[..taken]) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(taken)
    }
}
