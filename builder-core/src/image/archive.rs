//! An archive as a tree, for ADD: read once, indexed, and its bytes kept in a temporary file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::index::{LayerIndex, Record};
use crate::layer::read::index_archive;
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::tree::{DataPlace, FileId, Listing, Node, Tree};

/// The members of a tar, plain or compressed.
#[derive(Debug)]
pub struct ArchiveTree {
    name: String,
    index: LayerIndex,
    bytes: File,
}

impl ArchiveTree {
    /// Reads an archive to its end. `name` is what messages call it.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] for a broken or hostile archive.
    pub fn read(store: &Store, name: &str, archive: impl Read) -> Result<Self> {
        let (index, bytes) = index_archive(store, archive).map_err(|error| {
            let error = Error::from(error);
            let message = format!("the archive `{name}` can't be unpacked: {}", error.message());
            let help = error.help().map(str::to_owned);
            let shown = Error::new(ErrorKind::Context, message);
            help.into_iter().fold(shown, Error::with_help)
        })?;
        Ok(Self { name: name.to_owned(), index, bytes })
    }

    /// The directory that all members are in.
    pub fn root(&self) -> Node {
        Node::new(Entry::directory(ImagePath::root(), Timestamp::default()))
    }
}

fn node(record: Record) -> Node {
    let mut entry = record.entry;
    if let (EntryKind::HardLink { .. }, Some(range)) = (&entry.kind, &record.data) {
        entry.kind = EntryKind::File { size: range.len };
    }
    Node {
        entry,
        link: record.link_group.map(|group| FileId(0, group)),
        place: record.data.map(|range| DataPlace { layer: 0, offset: range.offset, length: range.len }),
        implied: record.implicit,
    }
}

impl Tree for ArchiveTree {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        Ok(self.index.get(path)?.map(node))
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        Ok(Box::new(self.index.children(path)?.map(|record| Ok(node(record?)))))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + '_>> {
        let place = node.place.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("`{}` has no bytes in `{}`", node.entry.path, self.name))
        })?;
        Ok(Box::new(Section { file: &self.bytes, offset: place.offset, left: place.length }))
    }

    fn describe(&self) -> String {
        format!("the archive `{}`", self.name)
    }
}

/// Bytes of a file from an offset on; reading does not move the file's own position.
#[derive(Debug)]
pub(crate) struct Section<'f> {
    /// The file.
    pub(crate) file: &'f File,
    /// Where the next byte is.
    pub(crate) offset: u64,
    /// How many are left.
    pub(crate) left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
