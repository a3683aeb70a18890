//! A handful of files that stand in no directory: heredocs, and files that were downloaded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::{Listing, Node, Tree};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;

/// Files in one flat directory.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<ImagePath, (Entry, Content)>,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Text(Vec<u8>),
    /// In an open file of the host, from its beginning.
    Open(File),
}

impl Files {
    /// Adds a file; its path has one component.
    pub fn add(&mut self, entry: Entry, content: Content) {
        self.files.insert(entry.path.clone(), (entry, content));
    }
}

impl Tree for Files {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        if path.is_root() {
            let root = Entry::directory(ImagePath::root(), crate::timestamp::Timestamp::default());
            return Ok(Some(Node::new(root)));
        }
        Ok(self
            .files
            .get(path)
            .map(|(entry, _)| Node::new(entry.clone())))
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        let all = self
            .files
            .values()
            .map(|(entry, _)| Ok(Node::new(entry.clone())));
        if path.is_root() {
            Ok(Box::new(all))
        } else {
            Ok(Box::new(std::iter::empty()))
        }
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        match self.files.get(&node.entry.path) {
            Some((_, Content::Text(bytes))) => Ok(Box::new(bytes.as_slice())),
            Some((entry, Content::Open(file))) => {
                node.entry.kind = EntryKind::File { size: entry.size() };
                Ok(Box::new(FromStart { file, offset: 0 }))
            }
            None => Err(Error::new(
                ErrorKind::Internal,
                format!("`{}` is no file of this list", node.entry.path),
            )),
        }
    }

    fn describe(&self) -> String {
        "the instruction itself".to_owned()
    }
}

/// Reads a file from its beginning, whatever its own position is.
struct FromStart<'f> {
    file: &'f File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
