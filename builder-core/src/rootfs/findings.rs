//! What a walk found, kept in a file until all of it is known, and then told to the sink.
//!
//! A file with several names is changed if one of its names is, and the first name of it carries the bytes: so nothing
//! can be told before the last name was seen. Only such files are kept in memory.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::AtFlags;

use super::chain::{Chain, READING};
use super::compare;
use super::look::{Looker, Seen};
use super::{ChangeSink, trouble};
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::store::{Store, TemporaryFile};

/// Changes in path order, in the making.
#[derive(Debug)]
pub(super) struct Findings {
    out: BufWriter<TemporaryFile>,
    /// By device and inode number: whether a name of the file is changed.
    groups: BTreeMap<(u64, u64), bool>,
}

const WHITEOUT: u8 = 0;
const CHANGED: u8 = 1;
const LINKED: u8 = 2;

impl Findings {
    pub(super) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(64 * 1024, store.temporary_file()?),
            groups: BTreeMap::new(),
        })
    }

    /// A path that is gone.
    pub(super) fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        self.push(WHITEOUT, path, (0, 0))
    }

    /// A path that was looked at, with whether it is changed.
    pub(super) fn present(&mut self, seen: &Seen, changed: bool) -> Result<()> {
        match seen.link {
            Some(link) => {
                *self.groups.entry(link).or_default() |= changed;
                self.push(LINKED, &seen.entry.path, link)
            }
            None if changed => self.push(CHANGED, &seen.entry.path, (0, 0)),
            None => Ok(()),
        }
    }

    fn push(&mut self, what: u8, path: &ImagePath, link: (u64, u64)) -> Result<()> {
        let path = path.as_relative();
        let mut head = [0; 21];
        head[0] = what;
        head[1..9].copy_from_slice(&link.0.to_le_bytes());
        head[9..17].copy_from_slice(&link.1.to_le_bytes());
        head[17..].copy_from_slice(&(path.len() as u32).to_le_bytes());
        let written = self
            .out
            .write_all(&head)
            .and_then(|()| self.out.write_all(path));
        written.map_err(lost)
    }

    /// Tells all of it, each change below its directories.
    pub(super) fn tell(
        self,
        root: &Path,
        looker: Looker<'_>,
        base: &View<'_>,
        sink: &mut dyn ChangeSink,
    ) -> Result<()> {
        let file = self
            .out
            .into_inner()
            .map_err(|error| lost(error.into_error()))?;
        let mut input = BufReader::new(file.file());
        input.rewind().map_err(lost)?;
        let chain = Chain::new(root, READING);
        let mut teller = Teller {
            chain: chain.map_err(trouble("open", root, &ImagePath::root()))?,
            looker,
            sink,
            above: Vec::new(),
            first_names: BTreeMap::new(),
        };
        teller.root(base)?;
        while let Some(Finding { what, path, link }) = read(&mut input).map_err(lost)? {
            match what {
                WHITEOUT => {
                    teller.above(&path)?;
                    teller.sink.whiteout(&path)?;
                }
                LINKED if !self.groups.get(&link).copied().unwrap_or(false) => {}
                _ => {
                    teller.above(&path)?;
                    teller.put(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// One finding.
struct Finding {
    what: u8,
    path: ImagePath,
    /// Device and inode number of a file with several names.
    link: (u64, u64),
}

fn read(input: &mut BufReader<&File>) -> io::Result<Option<Finding>> {
    let mut head = [0; 21];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let number = |at: usize, length: usize| {
        let bytes = head[at..at + length].iter().rev();
        bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let mut path = vec![0; number(17, 4) as usize];
    input.read_exact(&mut path)?;
    Ok(Some(Finding {
        what: head[0],
        path: ImagePath::clean(&path),
        link: (number(1, 8), number(9, 8)),
    }))
}

/// The store's temporary file could not be written or read.
fn lost(error: io::Error) -> Error {
    Error::new(ErrorKind::Store, "cannot keep the list of changes").with_source(error)
}

/// Tells findings to a sink.
struct Teller<'a> {
    chain: Chain,
    looker: Looker<'a>,
    sink: &'a mut dyn ChangeSink,
    /// The directories above the last change: they are told already.
    above: Vec<ImagePath>,
    first_names: BTreeMap<(u64, u64), ImagePath>,
}

impl Teller<'_> {
    /// The root stands in a layer only for its own mode and owner.
    fn root(&mut self, base: &View<'_>) -> Result<()> {
        let path = ImagePath::root();
        let seen = self.see(&path)?;
        let then = compare::find(base, &path)?;
        let is =
            |node: &crate::tree::Node| compare::owner(&node.entry) == compare::owner(&seen.entry);
        if then.as_ref().is_some_and(is) {
            return Ok(());
        }
        self.sink.put(&seen.entry, None)
    }

    fn see(&mut self, path: &ImagePath) -> Result<Seen> {
        let looker = self.looker;
        let seen = self.chain.enter_parent(path).and_then(|(parent, name)| {
            let name: CString = name;
            let stat = rustix::fs::statat(&*parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            looker.look(parent.as_fd(), &name, path, &stat)
        });
        let seen = seen.and_then(|seen| seen.ok_or_else(|| io::ErrorKind::NotFound.into()));
        seen.map_err(trouble("read", self.chain.root(), path))
    }

    /// Tells the directories above a path that were not told yet.
    fn above(&mut self, path: &ImagePath) -> Result<()> {
        while self
            .above
            .last()
            .is_some_and(|last| !path.starts_with(last) || last == path)
        {
            self.above.pop();
        }
        // The root is told of elsewhere.
        let known = self.above.last().cloned().unwrap_or_default();
        for directory in path.ancestors_below(Some(&known)) {
            let seen = self.see(&directory)?;
            self.sink.put(&seen.entry, None)?;
            self.above.push(directory);
        }
        Ok(())
    }

    fn put(&mut self, path: &ImagePath) -> Result<()> {
        let mut seen = self.see(path)?;
        if let Some(link) = seen.link {
            if let Some(first) = self.first_names.get(&link) {
                let target = first.clone();
                seen.entry.kind = EntryKind::HardLink { target };
                return self.sink.put(&seen.entry, None);
            }
            self.first_names.insert(link, path.clone());
        }
        if seen.entry.is_directory() {
            self.above.push(path.clone());
        }
        match &mut seen.content {
            Some(content) => self.sink.put(&seen.entry, Some(content)),
            None => self.sink.put(&seen.entry, None),
        }
    }
}
