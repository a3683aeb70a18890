//! The digests of a directory's files, by what stat(2) says of them: a file that looks as before is not read again.
//!
//! The rule is git's: a file is trusted only if it was changed at least one tick of the clock before the index was
//! begun, because a later change within the same tick looks the same. A file system that keeps whole seconds has a
//! longer tick. A file is known by length, mode, both times, inode and device, so that neither an old time
//! (`touch -r`) nor a replacement of equal length deceives. What only an open file tells, its attributes, is remembered
//! with its digest: setting or removing one changes the file's change time.
//!
//! The index is a sorted file that is read forward once for each pass over the tree; what is new is merged into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::{self, ImagePath};
use crate::store::{Store, TemporaryFile, used_now};
use crate::tree::Stamp;

/// The coarsest clock of a local file system that Linux has today, in nanoseconds: 10 ms.
const TICK: i64 = 10_000_000;
/// The tick of a file whose change time is a whole second: its file system may not have finer ones (ext3, FAT, many a
/// network's). On others, one file in a billion is read once more than it must be.
const COARSE_TICK: i64 = 2_000_000_000;
/// So many new records are held in memory before they are merged into the file.
const HELD: usize = 50_000;
/// The folder of the cache.
const FOLDER: &str = "contexts";
/// Begins each index file.
const MAGIC: &[u8; 8] = b"rbstat3\n";
/// Bytes of a record without what varies: sizes and times, inode, device, mode, digest, lengths of the path and of the
/// attributes.
const FIXED: usize = 8 + 8 + 8 + 8 + 8 + 4 + 32 + 4 + 4;
/// No attributes of a file have more bytes.
const LONGEST: usize = 4096;

/// The index of one directory. It may be used by many threads.
#[derive(Debug)]
pub struct StatIndex {
    store: Store,
    name: String,
    /// When it was begun, by the clock that stamps files.
    begun: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cursor: Option<Cursor>,
    new: BTreeMap<ImagePath, Record>,
    /// What was read in this build and is too young to be remembered.
    young: BTreeMap<ImagePath, Known>,
    /// Whether a file had other bytes at a second reading.
    unsteady: bool,
    /// What was merged, where something was.
    merged: Option<TemporaryFile>,
    changed: bool,
}

/// What is known of a file without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its extended attributes, as [`Entry`](crate::entry::Entry) has them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    stamp: Stamp,
    known: Known,
}

impl Record {
    /// What is known of the file, if it still looks as it did.
    fn of(&self, stamp: &Stamp) -> Option<Known> {
        (self.stamp == *stamp).then(|| self.known.clone())
    }
}

/// A place in the sorted file.
#[derive(Debug)]
struct Cursor {
    reader: BufReader<File>,
    next: Option<(ImagePath, Record)>,
    /// What was asked for last: what lies between it and `next` is not in the file.
    asked: ImagePath,
}

impl StatIndex {
    /// Opens the index of the directory whose path has the digest `name`; one that isn't there, or isn't readable, is
    /// empty.
    ///
    /// # Errors
    /// Those of the store's temporary files.
    pub fn open(store: &Store, name: &Digest) -> Result<Self> {
        used_now(&store.cache_path(FOLDER, &name.hex()));
        let clock = store.temporary_file()?;
        let stat = rustix::fs::fstat(clock.file()).map_err(|error| lost(error.into()))?;
        let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
        Ok(Self {
            store: store.clone(),
            name: name.hex(),
            begun: stat.st_ctime * 1_000_000_000 + nanos,
            state: Mutex::default(),
        })
    }

    /// Whether nothing was ever recorded.
    pub fn is_new(&self) -> bool {
        !self.store.cache_path(FOLDER, &self.name).exists()
    }

    /// What is in a file, if it is known and the file looks as it did then.
    pub fn get(&self, path: &ImagePath, stamp: &Stamp) -> Option<Known> {
        let mut state = self.lock();
        if let Some(record) = state.new.get(path) {
            return record.of(stamp);
        }
        // A damaged index knows nothing.
        self.find(&mut state, path).unwrap_or_default()?.of(stamp)
    }

    /// Remembers a file that was read between two looks that gave this stamp. One that was changed a moment ago is not
    /// remembered: it may change again within the same tick. `keyed` says that a key was
    /// made of the file before.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(&self, path: &ImagePath, stamp: Stamp, known: Known, keyed: bool) -> Result<()> {
        let mut state = self.lock();
        let mut before = state.new.get(path).map(|record| record.known.clone());
        before = before.or_else(|| state.young.get(path).cloned());
        if before.is_none() {
            let record = self.find(&mut state, path).unwrap_or_default();
            before = record.map(|record| record.known);
        }
        let reread = state.new.contains_key(path) || state.young.contains_key(path) || keyed;
        state.unsteady |= reread && before.is_some_and(|before| before != known);
        if self.is_young(&stamp) {
            state.young.insert(path.clone(), known);
            return Ok(());
        }
        state.changed = true;
        state.new.insert(path.clone(), Record { stamp, known });
        if state.new.len() >= HELD {
            self.merge(&mut state).map_err(lost)?;
        }
        Ok(())
    }

    /// Whether a file may change without looking other than it does.
    fn is_young(&self, stamp: &Stamp) -> bool {
        let coarse = stamp.ctime % 1_000_000_000 == 0;
        let tick = if coarse { COARSE_TICK } else { TICK };
        stamp.mtime.max(stamp.ctime) >= self.begun - tick
    }

    /// Whether a file was changed while the build read the directory: then a layer may not be what its key says.
    pub fn is_unsteady(&self) -> bool {
        self.lock().unsteady
    }

    /// Keeps what is new for later builds.
    ///
    /// # Errors
    /// Those of the store.
    pub fn save(&self) -> Result<()> {
        let mut state = self.lock();
        if !state.changed {
            return Ok(());
        }
        self.merge(&mut state).map_err(lost)?;
        state.changed = false;
        if let Some(file) = state.merged.take() {
            state.cursor = None;
            self.store.keep_cache_file(file, FOLDER, &self.name)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_file(&self, state: &State) -> io::Result<Option<Cursor>> {
        let file = match &state.merged {
            Some(merged) => merged.file().try_clone(),
            None => File::open(self.store.cache_path(FOLDER, &self.name)),
        };
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        file.rewind()?;
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Ok(None);
        }
        let mut cursor = Cursor {
            reader,
            next: None,
            asked: ImagePath::root(),
        };
        cursor.advance()?;
        Ok(Some(cursor))
    }

    /// The record of a path. Paths are asked for in order, but for a new pass that begins again.
    fn find(&self, state: &mut State, path: &ImagePath) -> io::Result<Option<Record>> {
        let passed = state.cursor.as_ref().is_none_or(|cursor| {
            let after = cursor.next.as_ref().is_none_or(|(next, _)| next > path);
            after && *path < cursor.asked
        });
        if passed {
            state.cursor = self.open_file(state)?;
        }
        let Some(cursor) = &mut state.cursor else {
            return Ok(None);
        };
        cursor.asked.clone_from(path);
        while cursor.next.as_ref().is_some_and(|(next, _)| next < path) {
            cursor.advance()?;
        }
        let found = cursor.next.as_ref().filter(|(next, _)| next == path);
        Ok(found.map(|(_, record)| record.clone()))
    }

    /// Merges what is new into the sorted file.
    fn merge(&self, state: &mut State) -> io::Result<()> {
        let mut old = self.open_file(state).unwrap_or_default();
        let target = self.store.temporary_file().map_err(io::Error::other)?;
        let mut out = BufWriter::with_capacity(128 * 1024, target);
        out.write_all(MAGIC)?;
        let new = std::mem::take(&mut state.new);
        for (path, record) in &new {
            while let Some((next, known)) = old.as_ref().and_then(|old| old.next.as_ref()) {
                if next >= path {
                    break;
                }
                write(&mut out, next, known)?;
                advance(&mut old)?;
            }
            if old
                .as_ref()
                .and_then(|old| old.next.as_ref())
                .is_some_and(|(next, _)| next == path)
            {
                advance(&mut old)?;
            }
            write(&mut out, path, record)?;
        }
        while let Some((next, known)) = old.as_ref().and_then(|old| old.next.as_ref()) {
            write(&mut out, next, known)?;
            advance(&mut old)?;
        }
        state.merged = Some(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        state.cursor = None;
        Ok(())
    }
}

fn advance(cursor: &mut Option<Cursor>) -> io::Result<()> {
    cursor.as_mut().map_or(Ok(()), Cursor::advance)
}

impl Cursor {
    fn advance(&mut self) -> io::Result<()> {
        self.next = None;
        let mut fixed = [0; FIXED];
        match self.reader.read_exact(&mut fixed) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let mut rest = &fixed[..];
        let stamp = Stamp {
            size: u64::from_le_bytes(take(&mut rest)),
            mtime: i64::from_le_bytes(take(&mut rest)),
            ctime: i64::from_le_bytes(take(&mut rest)),
            inode: u64::from_le_bytes(take(&mut rest)),
            device: u64::from_le_bytes(take(&mut rest)),
            mode: u32::from_le_bytes(take(&mut rest)),
        };
        let digest = Digest::from_bytes(take(&mut rest));
        let path_length = u32::from_le_bytes(take(&mut rest)) as usize;
        let xattrs_length = u32::from_le_bytes(take(&mut rest)) as usize;
        let path = self.bytes(path_length, image_path::LONGEST)?;
        let xattrs = self.bytes(xattrs_length, LONGEST)?;
        let xattrs = read_xattrs(&xattrs).ok_or(io::ErrorKind::InvalidData)?;
        let known = Known { digest, xattrs };
        self.next = Some((ImagePath::clean(path), Record { stamp, known }));
        Ok(())
    }

    fn bytes(&mut self, length: usize, longest: usize) -> io::Result<Vec<u8>> {
        if length > longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Attributes as bytes: names and values by turns, each behind its length.
fn write_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    }
    out
}

/// The same back; none for what is damaged.
fn read_xattrs(mut rest: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    fn text(rest: &mut &[u8]) -> Option<Vec<u8>> {
        let (length, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *rest = after;
        Some(text.to_vec())
    }
    let mut xattrs = BTreeMap::new();
    while !rest.is_empty() {
        xattrs.insert(text(&mut rest)?, text(&mut rest)?);
    }
    Some(xattrs)
}

/// Takes the first bytes of a slice that is long enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let (first, after) = rest.split_at(N.min(rest.len()));
    bytes[..first.len()].copy_from_slice(first);
    *rest = after;
    bytes
}

fn write(out: &mut impl io::Write, path: &ImagePath, record: &Record) -> io::Result<()> {
    let stamp = &record.stamp;
    let path = path.as_relative();
    let xattrs = write_xattrs(&record.known.xattrs);
    if xattrs.len() > LONGEST {
        // Nobody can read that back: it is as if the file had never been seen.
        return Ok(());
    }
    out.write_all(&stamp.size.to_le_bytes())?;
    out.write_all(&stamp.mtime.to_le_bytes())?;
    out.write_all(&stamp.ctime.to_le_bytes())?;
    out.write_all(&stamp.inode.to_le_bytes())?;
    out.write_all(&stamp.device.to_le_bytes())?;
    out.write_all(&stamp.mode.to_le_bytes())?;
    out.write_all(record.known.digest.as_bytes())?;
    out.write_all(&(path.len() as u32).to_le_bytes())?;
    out.write_all(&(xattrs.len() as u32).to_le_bytes())?;
    out.write_all(path)?;
    out.write_all(&xattrs)
}

fn lost(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        "cannot keep the index of the build context",
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            size: 1,
            mtime: 5,
            ctime: 6,
            inode,
            device: 7,
            mode: 0o100_644,
        }
    }

    fn known(text: &[u8]) -> Known {
        Known {
            digest: Digest::of(text),
            xattrs: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_kept_is_found_in_any_order() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let name = Digest::of(b"/context");
        let path = |text: &str| ImagePath::clean(text);
        let open = || StatIndex::open(&store, &name).unwrap();
        let index = open();
        assert!(index.is_new());
        for (number, text) in ["b", "a/x", "c", "a"].into_iter().enumerate() {
            index
                .put(
                    &path(text),
                    stamp(number as u64),
                    known(text.as_bytes()),
                    false,
                )
                .unwrap();
        }
        index.save().unwrap();
        let index = open();
        for (number, text) in [(3, "a"), (1, "a/x"), (0, "b"), (2, "c"), (3, "a"), (2, "c")] {
            let found = index.get(&path(text), &stamp(number));
            assert_eq!(found, Some(known(text.as_bytes())), "{text}");
        }
        assert_eq!(index.get(&path("a"), &stamp(9)), None);
        assert_eq!(index.get(&path("a/y"), &stamp(1)), None);
        index
            .put(&path("a"), stamp(8), known(b"new"), false)
            .unwrap();
        index.put(&path("d"), stamp(4), known(b"d"), false).unwrap();
        assert_eq!(index.get(&path("a"), &stamp(8)), Some(known(b"new")));
        index.save().unwrap();
        let index = open();
        assert_eq!(index.get(&path("a"), &stamp(8)), Some(known(b"new")));
        assert_eq!(index.get(&path("c"), &stamp(2)), Some(known(b"c")));
        assert_eq!(index.get(&path("d"), &stamp(4)), Some(known(b"d")));
    }

    #[test]
    fn attributes_are_kept_with_the_digest() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let open = || StatIndex::open(&store, &Digest::of(b"/context")).unwrap();
        let path = |number: u64| ImagePath::clean(number.to_string());
        let capable = |value: &[u8]| Known {
            xattrs: BTreeMap::from([(b"security.capability".to_vec(), value.to_vec())]),
            ..known(b"a")
        };
        let all = [known(b"a"), capable(b"1"), capable(b""), capable(&[7; 64])];
        let index = open();
        for (number, known) in (0..).zip(&all) {
            index
                .put(&path(number), stamp(number), known.clone(), false)
                .unwrap();
        }
        index.save().unwrap();
        let index = open();
        for (number, known) in (0..).zip(&all) {
            assert_eq!(
                index.get(&path(number), &stamp(number)).as_ref(),
                Some(known)
            );
        }
        // One that comes or goes while the build reads is a change like any other.
        index.put(&path(1), stamp(9), known(b"a"), true).unwrap();
        assert!(index.is_unsteady());
        // What nobody could read back is not written.
        let index = open();
        index
            .put(&path(1), stamp(1), capable(&[7; 5000]), false)
            .unwrap();
        index.save().unwrap();
        let index = open();
        assert_eq!(index.get(&path(1), &stamp(1)), None);
        assert_eq!(index.get(&path(2), &stamp(2)), Some(capable(b"")));
        assert_eq!(read_xattrs(&[1, 0, 0, 0]), None);
    }

    #[test]
    fn every_change_that_stat_tells_counts() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let index = StatIndex::open(&store, &Digest::of(b"/context")).unwrap();
        let path = ImagePath::clean("a");
        let one = stamp(1);
        index.put(&path, one, known(b"a"), false).unwrap();
        assert_eq!(index.get(&path, &one), Some(known(b"a")));
        let Stamp {
            size,
            mtime,
            ctime,
            inode,
            device,
            mode,
        } = one;
        for other in [
            Stamp {
                size: size + 1,
                ..one
            },
            Stamp {
                mtime: mtime + 1,
                ..one
            },
            Stamp {
                ctime: ctime + 1,
                ..one
            },
            Stamp {
                inode: inode + 1,
                ..one
            },
            Stamp {
                device: device + 1,
                ..one
            },
            Stamp {
                mode: mode ^ 0o100,
                ..one
            },
            Stamp {
                mode: 0o060_644,
                ..one
            },
        ] {
            assert_eq!(index.get(&path, &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_changed_a_moment_ago_is_not_trusted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let index = StatIndex::open(&store, &Digest::of(b"/context")).unwrap();
        let mut fresh = stamp(1);
        let second = 1_000_000_000;
        let whole = index.begun / second * second;
        for (ctime, trusted) in [
            (index.begun - TICK / 2, false),
            (index.begun - 2 * TICK, true),
            (whole, false),
            (whole - second, false),
            (whole - 3 * second, true),
            (whole - second + 1, true),
        ] {
            fresh.ctime = ctime;
            index
                .put(&ImagePath::clean("a"), fresh, known(b"a"), false)
                .unwrap();
            let found = index.get(&ImagePath::clean("a"), &fresh);
            assert_eq!(found.is_some(), trusted, "{}", index.begun - ctime);
        }
    }

    #[test]
    fn a_damaged_index_knows_nothing() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let name = Digest::of(b"/context");
        let index = StatIndex::open(&store, &name).unwrap();
        index
            .put(&ImagePath::clean("a"), stamp(1), known(b"a"), false)
            .unwrap();
        index.save().unwrap();
        let file = store.cache_path(FOLDER, &name.hex());
        for text in [
            &b""[..],
            b"x",
            b"rbstat3\n",
            b"rbstat2\nxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            std::fs::write(&file, text).unwrap();
            let index = StatIndex::open(&store, &name).unwrap();
            assert_eq!(index.get(&ImagePath::clean("a"), &stamp(1)), None);
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let open = || StatIndex::open(&store, &Digest::of(b"/context")).unwrap();
        let path = ImagePath::clean("a");
        let young = |index: &StatIndex| Stamp {
            ctime: index.begun,
            ..stamp(1)
        };
        for old in [true, false] {
            let index = open();
            let look = if old { stamp(1) } else { young(&index) };
            index.put(&path, look, known(b"one"), false).unwrap();
            index.put(&path, look, known(b"one"), true).unwrap();
            assert!(!index.is_unsteady());
            index
                .put(&path, young(&index), known(b"two"), true)
                .unwrap();
            assert!(index.is_unsteady(), "{old}");
        }
        let index = open();
        index.put(&path, stamp(1), known(b"one"), false).unwrap();
        index.save().unwrap();
        // A key vouched for what an earlier build knew; then the file was another one.
        let index = open();
        index.put(&path, stamp(2), known(b"two"), true).unwrap();
        assert!(index.is_unsteady());
        // Without a key, it was only changed since that build.
        let index = open();
        index.put(&path, stamp(2), known(b"two"), false).unwrap();
        assert!(!index.is_unsteady());
    }
}
