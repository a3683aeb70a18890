//! A layer's index: its entries in path order and where their bytes are, looked up on disk.
//!
//! The file's form is described in `index_writer.rs`. Nothing of it is held in memory but the last pages read: a layer
//! of a million files costs as much as one of ten. Pages are read by position; the file is not mapped, because a
//! mapped file that shrinks kills the process.

mod children;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use children::Children;

use super::backing::Backing;
use super::error::{Error, Result};
use super::index_writer::{MAGIC, PAGE};
use super::record::{self, Cursor, Record};
use crate::digest::DiffId;
use crate::image_path::{self, ImagePath};
use crate::store::{Sidecar, Store, TemporaryFile};

/// Length of an entry of the table of pages.
const ENTRY: u64 = 12;
/// Length of the end of the file: end of records, count, magic.
const FOOTER: u64 = 24;
/// No page is larger: 64 records with names and attributes of the greatest length that a reader lets in.
const PAGE_LIMIT: u64 = 256 * 1024 * 1024;

/// An open index. It may be read by many threads.
#[derive(Debug)]
pub struct LayerIndex {
    file: Backing,
    path: PathBuf,
    /// The store that keeps it.
    store: Option<Store>,
    end: u64,
    count: u64,
    pages: u64,
    /// The last pages read, the last one first.
    last: Mutex<Vec<Arc<Page>>>,
}

/// So many pages are kept: as a search looks at, so that the next one nearby reads none.
const KEPT: usize = 16;

/// Some records.
#[derive(Debug)]
struct Page {
    number: u64,
    bytes: Vec<u8>,
}

/// A place in the index: a page, and a byte in it.
#[derive(Clone, Debug)]
struct Place {
    page: u64,
    at: usize,
}

impl LayerIndex {
    /// Opens the index of a layer; none where it was never made, is damaged, or was made by a version whose form is
    /// another: it can be made again. What is damaged is taken away.
    pub fn open(store: &Store, diff_id: &DiffId) -> Result<Option<Self>> {
        let which = Sidecar::Index(*diff_id);
        let path = store.sidecar_path(which);
        let file = store.open_sidecar(which)?;
        let Some(file) = file else { return Ok(None) };
        let opened = Self::from_file(file, path.clone()).and_then(Self::checked);
        match opened {
            Err(Error::Outdated { .. }) => Ok(None),
            Err(Error::Damaged { .. }) => {
                store.give_up(&path);
                Ok(None)
            }
            opened => opened.map(|mut index| {
                index.store = Some(store.clone());
                Some(index)
            }),
        }
    }

    pub(super) fn from_file(file: File, path: PathBuf) -> Result<Self> {
        let backing = Backing::of(file).map_err(Error::io("read", &path))?;
        Self::new(backing, path)
    }

    /// This index, of which all that is in memory is known to be as it was written.
    fn checked(self) -> Result<Self> {
        if matches!(self.file, Backing::Small(_)) {
            (0..self.page_count()).try_for_each(|number| self.page(number).map(|_| ()))?;
        }
        Ok(self)
    }

    pub(super) fn from_temporary(file: TemporaryFile) -> Result<Self> {
        let path = file.path().to_owned();
        Self::new(Backing::Temporary(file), path)
    }

    /// The file of an index that has no name yet.
    pub(super) fn into_temporary(self) -> Option<TemporaryFile> {
        match self.file {
            Backing::Temporary(file) => Some(file),
            Backing::Kept(_) | Backing::Small(_) => None,
        }
    }

    fn new(file: Backing, path: PathBuf) -> Result<Self> {
        let mut index = Self {
            file,
            path,
            store: None,
            end: 0,
            count: 0,
            pages: 0,
            last: Mutex::default(),
        };
        let length = index.file.len().map_err(Error::io("read", &index.path))?;
        let mut footer = [0; FOOTER as usize];
        let at = length.checked_sub(FOOTER).ok_or_else(|| index.damaged())?;
        index.read_at(&mut footer, at)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&footer[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        (index.end, index.count) = (number(0), number(8));
        let (name, version) = footer[16..].split_at(MAGIC.len() - 1);
        if name == &MAGIC[..MAGIC.len() - 1] && version != &MAGIC[MAGIC.len() - 1..] {
            let path = index.path.clone();
            return Err(Error::Outdated { path });
        }
        let table = at.checked_sub(index.end).ok_or_else(|| index.damaged())?;
        index.pages = table / ENTRY;
        let few = index.count.div_ceil(PAGE)..=index.count;
        if table % ENTRY != 0 || !few.contains(&index.pages) || footer[16..] != MAGIC[..] {
            return Err(index.damaged());
        }
        Ok(index)
    }

    fn damaged(&self) -> Error {
        Error::Damaged {
            path: self.path.clone(),
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let read = self.file.read_at(buffer, at);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => Error::io("read", &self.path)(error),
        })
    }

    fn page_count(&self) -> u64 {
        self.pages
    }

    /// Where the file lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of records, implied directories and whiteouts included. At least 1: the root.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether the layer says nothing but that there is a root.
    pub fn is_empty(&self) -> bool {
        self.count <= 1
    }

    /// What the layer says about one path; none where it says nothing.
    pub fn get(&self, path: &ImagePath) -> Result<Option<Record>> {
        Ok(self.get_numbered(path)?.map(|(record, _)| record))
    }

    pub(super) fn get_numbered(&self, path: &ImagePath) -> Result<Option<(Record, u64)>> {
        let wanted = path.as_relative();
        let before = |found: &[u8]| image_path::compare(found, wanted).is_lt();
        let mut place = self.first_not(&before)?;
        let Some((record, number)) = self.step(&mut place)? else {
            return Ok(None);
        };
        Ok((record.entry.path == *path).then_some((record, number)))
    }

    /// The direct children of a directory, in order. Whiteouts are among them. What is below a child is skipped
    /// without being read.
    pub fn children(&self, directory: &ImagePath) -> Result<Children<'_>> {
        let wanted = directory.as_relative();
        let place = self.first_not(&|found: &[u8]| image_path::compare(found, wanted).is_le())?;
        Ok(Children::from(self, directory.clone(), place))
    }

    /// All records in path order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.numbered())
    }

    pub(super) fn numbered(&self) -> Numbered<'_> {
        Numbered {
            index: self,
            place: Some(Place { page: 0, at: 0 }),
        }
    }

    /// The place of the first record that is not `before`; the records that are come first.
    fn first_not(&self, before: &dyn Fn(&[u8]) -> bool) -> Result<Place> {
        let (mut low, mut high) = (0, self.page_count());
        // Pages below `low` begin before; pages from `high` on don't.
        while low < high {
            let middle = low + (high - low) / 2;
            let page = self.page(middle)?;
            if before(self.path_at(&page, 0)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(number) = low.checked_sub(1) else {
            return Ok(Place { page: 0, at: 0 });
        };
        let page = self.page(number)?;
        let mut at = 0;
        while at < page.bytes.len() && before(self.path_at(&page, at)?) {
            at = self.next_in(&page, at)?;
        }
        Ok(Place { page: number, at })
    }

    fn path_at<'p>(&self, page: &'p Page, at: usize) -> Result<&'p [u8]> {
        let body = page.bytes.get(at..).and_then(|bytes| Cursor(bytes).body());
        let key = body.and_then(record::key).ok_or_else(|| self.damaged())?;
        Ok(key.0)
    }

    fn next_in(&self, page: &Page, at: usize) -> Result<usize> {
        let mut cursor = Cursor(page.bytes.get(at..).unwrap_or_default());
        cursor.body().ok_or_else(|| self.damaged())?;
        Ok(page.bytes.len() - cursor.0.len())
    }

    /// The record at a place, which moves on; none at the end.
    fn step(&self, place: &mut Place) -> Result<Option<(Record, u64)>> {
        let Some(page) = self.settle(place)? else {
            return Ok(None);
        };
        let body = page
            .bytes
            .get(place.at..)
            .and_then(|bytes| Cursor(bytes).body());
        let decoded = body
            .and_then(record::decode)
            .ok_or_else(|| self.damaged())?;
        place.at = self.next_in(&page, place.at)?;
        Ok(Some(decoded))
    }

    /// The page of a place, which moves to the next page where it is at the end of one; none at the end of all.
    fn settle(&self, place: &mut Place) -> Result<Option<Arc<Page>>> {
        while place.page < self.page_count() {
            let page = self.page(place.page)?;
            if place.at < page.bytes.len() {
                return Ok(Some(page));
            }
            *place = Place {
                page: place.page + 1,
                at: 0,
            };
        }
        Ok(None)
    }

    /// Reads a page, or takes it from the memory of the last ones.
    fn page(&self, number: u64) -> Result<Arc<Page>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = last.iter().position(|page| page.number == number) {
            last[..=at].rotate_right(1);
            return Ok(Arc::clone(&last[0]));
        }
        let mut table = [0; 2 * ENTRY as usize];
        let is_last = number + 1 >= self.page_count();
        let wanted = if is_last { ENTRY } else { 2 * ENTRY } as usize;
        self.read_at(&mut table[..wanted], self.end + number * ENTRY)?;
        let (first, second) = table.split_at(ENTRY as usize);
        let number_of = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let start = number_of(&first[..8]);
        let end = if is_last {
            self.end
        } else {
            number_of(&second[..8])
        };
        let length = end
            .checked_sub(start)
            .filter(|length| *length <= PAGE_LIMIT && end <= self.end);
        let length = length.ok_or_else(|| self.damaged())?;
        let mut bytes = vec![0; length as usize];
        self.read_at(&mut bytes, start)?;
        if u64::from(crc32fast::hash(&bytes)) != number_of(&first[8..]) {
            // It can be made again, and must not be met again.
            if let Some(store) = &self.store {
                store.give_up(&self.path);
            }
            return Err(self.damaged());
        }
        let page = Arc::new(Page { number, bytes });
        last.truncate(KEPT - 1);
        last.insert(0, Arc::clone(&page));
        Ok(page)
    }
}

impl<'a> IntoIterator for &'a LayerIndex {
    type Item = Result<Record>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// All records with their numbers. Ends after the first error.
#[derive(Debug)]
pub(super) struct Numbered<'a> {
    index: &'a LayerIndex,
    place: Option<Place>,
}

impl Iterator for Numbered<'_> {
    type Item = Result<(Record, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut place = self.place.take()?;
        let found = self.index.step(&mut place).transpose()?;
        if found.is_ok() {
            self.place = Some(place);
        }
        Some(found)
    }
}

/// All records in path order. Ends after the first error.
#[derive(Debug)]
pub struct Iter<'a>(Numbered<'a>);

impl Iterator for Iter<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|found| found.map(|(record, _)| record))
    }
}
