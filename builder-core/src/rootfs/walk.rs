//! Walks a root file system that steps change, and finds what the last step did.
//!
//! All names are read and all inodes asked, in the order of paths and in step with what the last walk remembers; only
//! what looks different is compared with the layers below.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};

use super::chain::{Dir, READING};
use super::compare;
use super::descent::Descent;
use super::findings::Findings;
use super::look::Looker;
use super::snapshot::{Records, Snapshot, SnapshotWriter, State};
use super::{ChangeSink, is_excluded, too_deep, trouble};
use crate::error::{Error, Result};
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::owners::{OwnerEncoding, SideTable};
use crate::store::Store;

/// Walks `root` and remembers what is there.
pub(super) fn remember(store: &Store, root: &Path) -> Result<Snapshot> {
    let mut walk = Walk::new(store, root)?;
    walk.run(None)?;
    walk.after.finish()
}

/// Tells `sink` what is different in `root` from `base`, the layers that it was when `before` was taken. Paths in
/// `excluded`, and what is below them, are not looked at. Gives what the next walk needs.
///
/// # Errors
/// A file that can't be read, a store that can't be written, a layer that can't be read, and the sink's own.
#[expect(
    clippy::too_many_arguments,
    reason = "what a walk depends on, and nothing that goes together"
)]
pub fn walk_changes(
    store: &Store,
    root: &Path,
    before: &Snapshot,
    encoding: OwnerEncoding,
    table: &SideTable,
    base: &View<'_>,
    excluded: &[ImagePath],
    sink: &mut dyn ChangeSink,
) -> Result<Snapshot> {
    let looker = Looker { encoding, table };
    let mut judge = Judge {
        records: before.records()?,
        certain: before.certain,
        looker,
        base,
        excluded,
        findings: Findings::new(store)?,
        root,
    };
    let mut walk = Walk::new(store, root)?;
    walk.run(Some(&mut judge))?;
    judge.findings.tell(root, looker, base, sink)?;
    walk.after.finish()
}

/// Compares what is there with what was there.
struct Judge<'a> {
    records: Records,
    /// What was changed before this time, in nanoseconds, was seen as it is.
    certain: i128,
    looker: Looker<'a>,
    base: &'a View<'a>,
    excluded: &'a [ImagePath],
    findings: Findings,
    root: &'a Path,
}

impl Judge<'_> {
    /// Passes the names that are gone: those before `name`, or all that are left in the directory.
    fn pass_gone(&mut self, depth: u32, name: Option<&[u8]>, above: &[u8]) -> Result<()> {
        while self.records.now.depth == depth
            && name.is_none_or(|name| self.records.now.name.as_slice() < name)
        {
            let mut path = above.to_vec();
            push_name(&mut path, &self.records.now.name);
            self.records.advance()?;
            self.records.skip_below(depth)?;
            if !is_excluded(self.excluded, &path) {
                self.gone(&ImagePath::clean(&path))?;
            }
        }
        Ok(())
    }

    fn gone(&mut self, path: &ImagePath) -> Result<()> {
        if compare::find(self.base, path)?.is_some() {
            self.findings.whiteout(path)?;
        }
        Ok(())
    }

    /// Looks at one file that is there.
    fn visit(
        &mut self,
        parent: BorrowedFd<'_>,
        (depth, name, path): (u32, &CStr, &[u8]),
        stat: &Stat,
    ) -> Result<()> {
        let state = State::of(stat);
        let records = &mut self.records;
        let known = records.now.depth == depth && records.now.name == name.to_bytes();
        let same = known && records.now.state == state;
        if known {
            records.advance()?;
        }
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            records.skip_below(depth)?;
        }
        if same && state.time() < self.certain {
            return Ok(());
        }
        let path = ImagePath::clean(path);
        let seen = self.looker.look(parent, name, &path, stat);
        match seen.map_err(trouble("read", self.root, &path))? {
            None => self.gone(&path),
            Some(mut seen) => {
                let changed = compare::is_changed(&mut seen, self.base, self.root)?;
                self.findings.present(&seen, changed)
            }
        }
    }
}

/// One walk.
struct Walk<'a> {
    root: &'a Path,
    after: SnapshotWriter,
    /// The path of the directory being listed.
    path: Vec<u8>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A directory being listed.
struct Level {
    names: Names,
    next: usize,
    /// Length of its path.
    path: usize,
}

impl<'a> Walk<'a> {
    fn new(store: &Store, root: &'a Path) -> Result<Self> {
        Ok(Self {
            root,
            after: SnapshotWriter::new(store)?,
            path: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); 32 * 1024],
        })
    }

    /// For `map_err`: a refusal at the path where the walk is.
    fn failed<E: Into<std::io::Error>>(&self, verb: &'static str) -> impl FnOnce(E) -> Error {
        move |error| trouble(verb, self.root, &ImagePath::clean(&self.path))(error)
    }

    fn run(&mut self, mut judge: Option<&mut Judge<'_>>) -> Result<()> {
        let root = Dir::open_root(self.root, READING).map_err(self.failed("open"))?;
        let mut levels = Descent::new(READING);
        let level = self.level(&root)?;
        levels.push(root, level).map_err(self.failed("open"))?;
        loop {
            // As deep as paths may be, which is not very deep.
            let depth = u32::try_from(levels.len()).unwrap_or(u32::MAX);
            let Some((directory, level)) = levels.last() else {
                return Ok(());
            };
            self.path.truncate(level.path);
            let Some(name) = level.names.get(level.next) else {
                if let Some(judge) = judge.as_deref_mut() {
                    judge.pass_gone(depth, None, &self.path)?;
                }
                levels.pop().map_err(self.failed("read"))?;
                continue;
            };
            level.next += 1;
            let stat = rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(self.failed("read"))?;
            if let Some(judge) = judge.as_deref_mut() {
                judge.pass_gone(depth, Some(name.to_bytes()), &self.path)?;
            }
            push_name(&mut self.path, name.to_bytes());
            match judge.as_deref_mut() {
                Some(judge) if is_excluded(judge.excluded, &self.path) => {
                    self.keep_known(&mut judge.records, depth, name.to_bytes())?;
                    continue;
                }
                Some(judge) => {
                    let place = (depth, name, self.path.as_slice());
                    judge.visit(directory.as_fd(), place, &stat)?;
                }
                None => {}
            }
            self.after.push(depth, name.to_bytes(), &State::of(&stat))?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                let here = ImagePath::clean(&self.path);
                if here.is_too_deep() {
                    return Err(too_deep(&here));
                }
                let below = Dir::open(directory.as_fd(), name, READING);
                let below = below.map_err(self.failed("open"))?;
                let level = self.level(&below)?;
                levels.push(below, level).map_err(self.failed("open"))?;
            }
        }
    }

    fn level(&mut self, directory: &Dir) -> Result<Level> {
        let names = Names::read(directory, &mut self.buffer);
        Ok(Level {
            names: names.map_err(self.failed("list"))?,
            next: 0,
            path: self.path.len(),
        })
    }

    /// Takes over what is known of a path that nobody looks at.
    fn keep_known(&mut self, records: &mut Records, depth: u32, name: &[u8]) -> Result<()> {
        if records.now.depth != depth || records.now.name != name {
            return Ok(());
        }
        loop {
            let record = &records.now;
            self.after.push(record.depth, &record.name, &record.state)?;
            records.advance()?;
            if records.now.depth <= depth {
                return Ok(());
            }
        }
    }
}

fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The names in a directory, in order, each with the zero byte that ends it.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Names {
    /// Lists an open directory. `buffer` is the memory for it.
    pub(super) fn read(
        directory: &Dir,
        buffer: &mut [MaybeUninit<u8>],
    ) -> rustix::io::Result<Self> {
        let mut names = Self::default();
        let mut entries = rustix::fs::RawDir::new(directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.starts.push(names.bytes.len() as u32);
                names.bytes.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let bytes = &names.bytes;
        names
            .starts
            .sort_unstable_by(|left, right| at(bytes, *left).cmp(&at(bytes, *right)));
        Ok(names)
    }

    /// The name at a place in the order.
    pub(super) fn get(&self, number: usize) -> Option<&CStr> {
        let start = *self.starts.get(number)?;
        at(&self.bytes, start)
    }
}

fn at(bytes: &[u8], start: u32) -> Option<&CStr> {
    CStr::from_bytes_until_nul(bytes.get(start as usize..)?).ok()
}
