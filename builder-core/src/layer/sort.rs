//! Sorts records by path and number with bounded memory: runs on disk, merged at the end.

use std::collections::BinaryHeap;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use super::error::{Error, Result};
use super::record::{self, Cursor, Record};
use crate::image_path;
use crate::store::{Store, TemporaryFile};

/// Memory for records before a run is written, in bytes.
const MEMORY: usize = 16 * 1024 * 1024;
/// Memory for one run while runs are merged, in bytes.
const WINDOW: usize = 64 * 1024;

/// Takes records in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    store: Store,
    memory: usize,
    bytes: Vec<u8>,
    starts: Vec<usize>,
    spilled: Option<TemporaryFile>,
    length: u64,
    runs: Vec<(u64, u64)>,
}

impl Sorter {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            memory: MEMORY,
            bytes: Vec::new(),
            starts: Vec::new(),
            spilled: None,
            length: 0,
            runs: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_memory(mut self, memory: usize) -> Self {
        self.memory = memory;
        self
    }

    /// Adds a record; `number` is its place in the tar.
    pub(super) fn push(&mut self, record: &Record, number: u64) -> Result<()> {
        self.starts.push(self.bytes.len());
        record::encode(record, number, &mut self.bytes);
        if self.bytes.len() + self.starts.len() * 8 >= self.memory {
            self.spill()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |start: usize| Cursor(&bytes[start..]).body().and_then(record::key);
        self.starts
            .sort_by(|left, right| compare(key(*left), key(*right)));
    }

    /// Writes what is in memory as a sorted run.
    fn spill(&mut self) -> Result<()> {
        self.sort();
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(self.store.temporary_file()?),
        };
        let mut sorted = Vec::with_capacity(self.bytes.len());
        for start in &self.starts {
            if let Some(body) = Cursor(&self.bytes[*start..]).body() {
                sorted.extend_from_slice(&self.bytes[*start..*start + 4 + body.len()]);
            }
        }
        let written = file.write_all(&sorted);
        written.map_err(Error::io("write", file.path()))?;
        self.runs
            .push((self.length, self.length + sorted.len() as u64));
        self.length += sorted.len() as u64;
        self.bytes.clear();
        self.starts.clear();
        Ok(())
    }

    /// Hands out all records in order.
    pub(super) fn finish<E: From<Error>>(
        mut self,
        mut visit: impl FnMut(Record, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.runs.is_empty() {
            self.sort();
            for start in &self.starts {
                let decoded = Cursor(&self.bytes[*start..])
                    .body()
                    .and_then(record::decode);
                if let Some((record, number)) = decoded {
                    visit(record, number)?;
                }
            }
            return Ok(());
        }
        self.spill()?;
        self.bytes = Vec::new();
        self.merge(visit)
    }

    /// Hands out the records of all runs in order.
    fn merge<E: From<Error>>(
        self,
        mut visit: impl FnMut(Record, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(file) = &self.spilled else {
            return Ok(());
        };
        let mut heap = BinaryHeap::new();
        for (at, end) in self.runs {
            let mut run = Run {
                file,
                at,
                end,
                window: Vec::new(),
                start: 0,
                body: 0..0,
            };
            if run.advance()? {
                heap.push(run);
            }
        }
        while let Some(mut run) = heap.pop() {
            if let Some((record, number)) = record::decode(run.current()) {
                visit(record, number)?;
            }
            if run.advance()? {
                heap.push(run);
            }
        }
        Ok(())
    }
}

type Key<'a> = Option<(&'a [u8], u64)>;

fn compare(left: Key<'_>, right: Key<'_>) -> std::cmp::Ordering {
    let ((left, first), (right, second)) = (left.unwrap_or_default(), right.unwrap_or_default());
    image_path::compare(left, right).then(first.cmp(&second))
}

/// A sorted run on disk, at one of its records.
struct Run<'a> {
    file: &'a TemporaryFile,
    /// Where the next window begins.
    at: u64,
    end: u64,
    window: Vec<u8>,
    /// Where the next record begins in the window.
    start: usize,
    body: std::ops::Range<usize>,
}

impl Run<'_> {
    fn current(&self) -> &[u8] {
        &self.window[self.body.clone()]
    }

    /// Moves to the next record; false at the end.
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(body) = Cursor(&self.window[self.start..]).body() {
                self.body = self.start + 4..self.start + 4 + body.len();
                self.start = self.body.end;
                return Ok(true);
            }
            if self.at == self.end {
                return Ok(false);
            }
            self.window.drain(..self.start);
            self.start = 0;
            let kept = self.window.len();
            let more = (WINDOW as u64).min(self.end - self.at) as usize;
            self.window.resize(kept + more, 0);
            let read = self
                .file
                .file()
                .read_exact_at(&mut self.window[kept..], self.at);
            read.map_err(Error::io("read", self.file.path()))?;
            self.at += more as u64;
        }
    }
}

impl Ord for Run<'_> {
    /// The least record comes first out of a heap, which gives the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(record::key(other.current()), record::key(self.current()))
    }
}

impl PartialOrd for Run<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_path::ImagePath;

    #[test]
    fn sorts_the_same_with_and_without_runs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let sorted = |memory| {
            let mut sorter = Sorter::new(&store).with_memory(memory);
            for number in 0..2000_u64 {
                let path = format!("/d{}/f{}", number * 7 % 13, number * 31 % 101);
                sorter
                    .push(&Record::whiteout(ImagePath::clean(path)), number)
                    .unwrap();
            }
            let mut found = Vec::new();
            let collect = |record: Record, number| -> Result<()> {
                found.push((record.entry.path, number));
                Ok(())
            };
            sorter.finish(collect).unwrap();
            found
        };
        let whole = sorted(MEMORY);
        assert_eq!(whole.len(), 2000);
        assert!(whole.is_sorted());
        assert_eq!(sorted(3000), whole);
    }
}
