//! Hard links of an archive say what their file becomes.

use std::collections::BTreeMap;

use super::record::Record;
use crate::entry::{Entry, EntryKind};
use crate::image_path::ImagePath;

/// The headers of an archive's hard links. Unpacking applies each of them to the file that all names share, so the
/// last one says what the file's mode, owner and time are. Only links are kept in memory.
#[derive(Debug, Default)]
pub(super) struct LinkHeaders {
    /// The first name behind each link's name.
    files: BTreeMap<ImagePath, ImagePath>,
    /// The last link's header by the file's first name.
    last: BTreeMap<ImagePath, Entry>,
}

impl LinkHeaders {
    /// Takes note of an entry, in the order of the tar.
    pub(super) fn note(&mut self, record: &Record) {
        let entry = &record.entry;
        match &entry.kind {
            EntryKind::HardLink { target } => {
                let file = self.files.get(target).unwrap_or(target).clone();
                self.files.insert(entry.path.clone(), file.clone());
                self.last.insert(file, entry.clone());
            }
            // A file that comes again is another file.
            _ => {
                self.last.remove(&entry.path);
            }
        }
    }

    /// Gives a file what its last link said.
    pub(super) fn apply(&self, record: &mut Record) {
        if let (EntryKind::File { .. }, Some(link)) =
            (&record.entry.kind, self.last.get(&record.entry.path))
        {
            let entry = &mut record.entry;
            (entry.mode, entry.uid, entry.gid, entry.mtime) =
                (link.mode, link.uid, link.gid, link.mtime);
        }
    }
}
