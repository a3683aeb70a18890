//! Archive bytes to an index, for ADD and for contexts: the uncompressed tar is kept beside it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::content::{LaidOut, WHOLE, Wholes};
use super::data::LayerData;
use super::decompress::{self, Counted};
use super::error::{Error, Result};
use super::index::LayerIndex;
use super::making::Making;
use super::read::{BUFFER, What, each_frame};
use crate::store::{Store, TemporaryFile};

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
        whole: whole.map(|whole| whole.file),
    })
}

/// Reads all entries and writes their index. Sparse files are laid out in `whole`, with holes where the archive has nothing.
fn make_archive_index(
    store: &Store,
    tar: &mut dyn Read,
    what: &What,
    whole: &mut Option<LaidOut>,
) -> Result<TemporaryFile> {
    let (mut making, mut wholes) = (Making::new(store), Wholes::default());
    each_frame(tar, what, |frames, frame, mut record, number| {
        if let Some(sparse) = &frame.sparse {
            let file = match &mut *whole {
                Some(file) => file,
                none => none.insert(LaidOut::new(store)?),
            };
            file.push(frames, sparse, what)?;
            let placed = wholes.place(sparse, &mut record);
            placed.map_err(|problem| what.refuse(Some(frame.name.clone()), problem))?;
        }
        making.note_links(&record);
        making.push(&record, number)
    })?;
    making.finish(store, what)
}

/// Writes what goes through into a file.
pub(super) struct Tee<R> {
    pub(super) inner: R,
    pub(super) spool: TemporaryFile,
    /// Why the file could not be written.
    pub(super) failed: Option<io::Error>,
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
