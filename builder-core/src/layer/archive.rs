//! An archive as a tree, for ADD and for contexts: read once, indexed, and its bytes kept in a temporary file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::{Archive, Record, index_archive};
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::tree::{DataPlace, FileId, Listing, Node, Tree};

/// The members of a tar, plain or compressed.
#[derive(Debug)]
pub struct ArchiveTree {
    name: String,
    archive: Archive,
    owners: Owners,
}

/// Whose the members of an archive are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Those that the archive says: ADD.
    Kept,
    /// Root, as everything in a build context is.
    Root,
}

impl ArchiveTree {
    /// Reads an archive to its end. `name` is what messages call it.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] for a broken or hostile archive.
    pub fn read(
        store: &Store,
        name: &str,
        archive: impl Read + Send,
        owners: Owners,
    ) -> Result<Self> {
        let outwards = owners == Owners::Kept;
        let archive = index_archive(store, name, archive, outwards).map_err(|error| {
            let error = Error::from(error);
            let said = error.message();
            let fault = said.strip_prefix(&format!("archive `{name}` "));
            let message = match fault {
                Some(fault) => format!("`{name}` can't be unpacked: it {fault}"),
                None => format!("`{name}` can't be unpacked: {said}"),
            };
            let help = error.help().map(str::to_owned);
            let shown = Error::new(ErrorKind::Context, message);
            help.into_iter().fold(shown, Error::with_help)
        })?;
        Ok(Self {
            name: name.to_owned(),
            archive,
            owners,
        })
    }

    /// The bytes of a small file, such as the Dockerfile; none where it isn't there or is no regular file.
    ///
    /// # Errors
    /// A file of more than 16 MiB, and those of reading the archive.
    pub fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        const LIMIT: u64 = 16 << 20;
        let Some(mut node) = self.look_up(&ImagePath::clean(name))? else {
            return Ok(None);
        };
        if !matches!(node.entry.kind, EntryKind::File { .. }) {
            return Ok(None);
        }
        if node.entry.size() > LIMIT {
            let message = format!("`{name}` in `{}` has more than {LIMIT} bytes", self.name);
            return Err(Error::new(ErrorKind::Context, message));
        }
        let mut bytes = Vec::new();
        self.open(&mut node)?
            .read_to_end(&mut bytes)
            .map_err(|error| {
                Error::new(
                    ErrorKind::Context,
                    format!("`{name}` in `{}` can't be read", self.name),
                )
                .with_source(error)
            })?;
        Ok(Some(bytes))
    }

    /// The time of the newest regular file; none without one.
    ///
    /// # Errors
    /// Those of reading the index back.
    pub fn newest(&self) -> Result<Option<Timestamp>> {
        let mut newest = None;
        for record in &self.archive.index {
            let entry = record?.entry;
            if matches!(entry.kind, EntryKind::File { .. }) {
                newest = newest.max(Some(entry.mtime));
            }
        }
        Ok(newest)
    }

    fn node(&self, record: Record) -> Node {
        let mut node = node(record);
        if self.owners == Owners::Root {
            (node.entry.uid, node.entry.gid) = (0, 0);
        }
        node
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
        place: record.data.map(|range| DataPlace {
            layer: 0,
            offset: range.offset,
            length: range.len,
        }),
        stamp: None,
        implied: record.implicit,
        passage: false,
    }
}

impl Tree for ArchiveTree {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        Ok(self
            .archive
            .index
            .get(path)?
            .map(|record| self.node(record)))
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        Ok(Box::new(
            self.archive
                .index
                .children(path)?
                .map(|record| Ok(self.node(record?))),
        ))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        let place = node.place.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("`{}` has no bytes in `{}`", node.entry.path, self.name),
            )
        })?;
        let (file, offset) = self.archive.place(place.offset);
        Ok(Box::new(Section {
            file,
            offset,
            left: place.length,
        }))
    }

    fn describe(&self) -> String {
        format!("`{}`", self.name)
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
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
