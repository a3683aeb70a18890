//! An index in the making, of records in the order of a tar.

use std::collections::BTreeSet;

use super::error::Result;
use super::index_writer::IndexWriter;
use super::link_headers::LinkHeaders;
use super::read::What;
use super::record::Record;
use super::sort::Sorter;
use crate::entry::EntryKind;
use crate::image_path::ImagePath;
use crate::store::{Store, TemporaryFile};

/// Records that are sorted and then written.
#[derive(Debug)]
pub(super) struct Making {
    sorter: Sorter,
    links: LinkHeaders,
    /// What hard links lead to: the names of files with several names are the one thing that is kept in memory.
    targets: BTreeSet<ImagePath>,
}

impl Making {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            sorter: Sorter::new(store),
            links: LinkHeaders::default(),
            targets: BTreeSet::new(),
        }
    }

    /// Remembers what hard links of an archive say of themselves.
    pub(super) fn note_links(&mut self, record: &Record) {
        self.links.note(record);
    }

    /// Adds a record; `number` is its place in the tar.
    pub(super) fn push(&mut self, record: &Record, number: u64) -> Result<()> {
        if let EntryKind::HardLink { target } = &record.entry.kind {
            self.targets.insert(target.clone());
        }
        self.sorter.push(record, number)
    }

    /// Writes the index; what is wrong with the whole shows here.
    pub(super) fn finish(self, store: &Store, what: &What) -> Result<TemporaryFile> {
        let mut writer = IndexWriter::new(store)?.with_targets(self.targets, what.may_link_out());
        let links = self.links;
        let sorted = self.sorter.finish(|mut record, number| {
            links.apply(&mut record);
            writer.push(record, number)
        });
        sorted.map_err(|problem| what.problem(problem))?;
        writer
            .finish(store)
            .map_err(|problem| what.problem(problem))
    }
}
