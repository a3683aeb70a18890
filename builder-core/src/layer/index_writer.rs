//! Writes a layer's index from records that come in path order.
//!
//! ```text
//! magic            8 bytes
//! records          one after another, sorted by path; see `record.rs`
//! pages            of at most 64 records: offset of the first, 8 bytes, and CRC-32 of all, 4 bytes
//! end of records   8 bytes, the offset where the pages begin
//! count            8 bytes, number of records
//! magic            8 bytes
//! ```
//!
//! Numbers are little-endian. The writer adds the directories that are only implied, merges what a tar says about one
//! path in several places, and at the end gives hard links what their targets have, in a second pass over the file.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::error::{Error, Result, TarProblem};
use super::links::Links;
use super::record::{self, Mark, Record};
use crate::entry::EntryKind;
use crate::image_path::ImagePath;
use crate::store::{self, Store, TemporaryFile};

/// The first and the last bytes of an index file; the last byte is the version.
pub(super) const MAGIC: &[u8; 8] = b"RBINDEX\x03";
/// Records of a page, at most.
pub(super) const PAGE: u64 = 64;
/// A page that has as many bytes is complete: names may be long.
const PAGE_BYTES: u64 = 32 * 1024;
/// Bytes gathered before a write.
const BUFFER: usize = 64 * 1024;

/// What is wrong with a record: the caller knows what to call the tar.
#[derive(Debug)]
pub(super) enum Problem {
    /// The tar says something impossible about a path.
    Tar(ImagePath, TarProblem),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::Other(error.into())
    }
}

/// An index in the making.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: TemporaryFile,
    buffer: Vec<u8>,
    flushed: u64,
    count: u64,
    pages: Vec<(u64, u32)>,
    /// Of the last page.
    sum: crc32fast::Hasher,
    pending: Option<(Record, u64)>,
    /// Records of the last page.
    in_page: u64,
    /// The path of the last record.
    here: Vec<u8>,
    /// It, and what stands above it: the length of each path, and whether it is a directory.
    above: Vec<(usize, bool)>,
    has_links: bool,
    links: Links,
}

impl IndexWriter {
    pub(super) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            file: store.temporary_file()?,
            buffer: MAGIC.to_vec(),
            flushed: 0,
            count: 0,
            pages: Vec::new(),
            sum: crc32fast::Hasher::new(),
            pending: Some((Record::implicit(ImagePath::root()), 0)),
            in_page: 0,
            here: Vec::new(),
            above: Vec::new(),
            has_links: false,
            links: Links::default(),
        })
    }

    /// This writer, which knows what hard links lead to. With `outwards`, a link may lead to what the tar doesn't hold.
    pub(super) fn with_targets(mut self, targets: BTreeSet<ImagePath>, outwards: bool) -> Self {
        self.links = Links::new(targets, outwards);
        self
    }

    /// Adds a record; its path is not before the last one's. `number` is its place in the tar.
    pub(super) fn push(&mut self, record: Record, number: u64) -> Result<(), Problem> {
        if let Some((last, last_number)) = self.pending.take() {
            if last.entry.path == record.entry.path {
                let number = if record.implicit || record.mark == Mark::Whiteout {
                    last_number
                } else {
                    number
                };
                self.links.note_replaced(&last, last_number, &record);
                self.pending = Some((merge(last, record), number));
                return Ok(());
            }
            if last.mark == Mark::Whiteout && record.entry.path.starts_with(&last.entry.path) {
                // What is below a hidden path was made again, and the path with it.
                let kept = if record.mark == Mark::Whiteout {
                    self.pending = Some((last, last_number));
                    return Ok(());
                } else {
                    merge(Record::implicit(last.entry.path.clone()), last)
                };
                self.emit(&kept, last_number)?;
            } else {
                self.emit(&last, last_number)?;
            }
        }
        self.pending = Some((record, number));
        Ok(())
    }

    /// Writes a record after the directories that it implies.
    fn emit(&mut self, record: &Record, number: u64) -> Result<(), Problem> {
        let path = record.entry.path.as_relative();
        while self
            .above
            .last()
            .is_some_and(|(end, _)| !is_at_or_above(&self.here[..*end], path))
        {
            self.above.pop();
        }
        let known = match self.above.last() {
            Some((end, false)) => {
                let above = ImagePath::clean(&self.here[..*end]);
                return Err(Problem::Tar(above, TarProblem::BelowFile));
            }
            Some((end, true)) => Some(*end),
            None => None,
        };
        let root = (known.is_none() && !path.is_empty()).then_some(0);
        // A name ends in front of each slash.
        let from = known.map_or(0, |end| end + usize::from(end > 0));
        let slashes = path.iter().enumerate().skip(from);
        let slashes = slashes.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in root.into_iter().chain(slashes) {
            let ancestor = ImagePath::clean(&path[..end]);
            self.write(&Record::implicit(ancestor), number)?;
            self.above.push((end, true));
        }
        self.write(record, number)?;
        self.above.push((path.len(), record.is_directory()));
        self.here.clear();
        self.here.extend_from_slice(path);
        Ok(())
    }

    fn write(&mut self, record: &Record, number: u64) -> Result<()> {
        let here = self.flushed + self.buffer.len() as u64;
        let full = self
            .pages
            .last()
            .is_none_or(|(start, _)| here - start >= PAGE_BYTES);
        if full || self.in_page == PAGE {
            self.end_page();
            self.pages.push((here, 0));
            self.in_page = 0;
        }
        self.in_page += 1;
        self.count += 1;
        self.has_links |= matches!(record.entry.kind, EntryKind::HardLink { .. });
        let start = self.buffer.len();
        record::encode(record, number, &mut self.buffer);
        self.sum.update(&self.buffer[start..]);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn end_page(&mut self) {
        let sum = std::mem::take(&mut self.sum);
        if let Some((_, last)) = self.pages.last_mut() {
            *last = sum.finalize();
        }
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        written.map_err(Error::io("write", self.file.path()))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Completes the file, hard links included.
    pub(super) fn finish(mut self, store: &Store) -> Result<TemporaryFile, Problem> {
        if let Some((last, number)) = self.pending.take() {
            self.emit(&last, number)?;
        }
        let (has_links, links) = (self.has_links, std::mem::take(&mut self.links));
        let file = self.close()?;
        if has_links {
            links.resolve(store, file)
        } else {
            Ok(file)
        }
    }

    /// Completes the file, whose hard links know their files already.
    pub(super) fn finish_resolved(mut self) -> Result<TemporaryFile, Problem> {
        if let Some((last, number)) = self.pending.take() {
            self.emit(&last, number)?;
        }
        Ok(self.close()?)
    }

    fn close(mut self) -> Result<TemporaryFile> {
        let end = self.flushed + self.buffer.len() as u64;
        self.end_page();
        for (start, sum) in std::mem::take(&mut self.pages) {
            self.buffer.extend_from_slice(&start.to_le_bytes());
            self.buffer.extend_from_slice(&sum.to_le_bytes());
        }
        self.buffer.extend_from_slice(&end.to_le_bytes());
        self.buffer.extend_from_slice(&self.count.to_le_bytes());
        self.buffer.extend_from_slice(MAGIC);
        self.flush()?;
        Ok(self.file)
    }
}

/// Whether a path is another one, or a directory above it.
fn is_at_or_above(above: &[u8], path: &[u8]) -> bool {
    above.is_empty()
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// What two records of one path, in the order of the tar, say together: the last entry wins, whatever hides the
/// layers below stays.
fn merge(earlier: Record, later: Record) -> Record {
    let hides = |record: &Record| record.opaque || record.mark == Mark::Whiteout;
    let opaque = hides(&earlier) || hides(&later);
    let weak = |record: &Record| record.implicit || record.mark == Mark::Whiteout;
    let mut kept = match (weak(&earlier), weak(&later)) {
        (_, false) => later,
        (false, true) => earlier,
        (true, true) if later.mark == Mark::Present => later,
        (true, true) => earlier,
    };
    kept.opaque = opaque && kept.mark == Mark::Present;
    kept
}
