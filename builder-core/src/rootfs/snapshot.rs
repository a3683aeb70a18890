//! What a walk remembers of a root file system: one short record a file, in a file of the store.
//!
//! Records stand in the order of the walk, each with its depth, so that the next walk meets them in step. A file is
//! told by inode number, time of the last change of the inode, size, mode and owner: no program can set the time of the
//! last change.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, Stat};

use super::walk;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Store, TemporaryFile};

/// The kernel's clock for files may stand still for so long, in nanoseconds: what is changed twice within may look as
/// if it was changed once.
const TICK: i128 = 10_000_000;
/// The clock never stands still for less: 1000 steps a second is the most that a kernel is made for.
const SHORTEST: i128 = 1_000_000;
/// No longer is waited for a tick, in nanoseconds.
const LONGEST: u64 = 20_000_000;
/// It is waited for so often: the clock goes on in steps, and one wait may end before a step.
const WAITS: u32 = 4;

/// The state of a root file system when it was walked.
#[derive(Debug)]
pub struct Snapshot {
    file: TemporaryFile,
    /// What was changed before this time, in nanoseconds since 1970, was seen as it is.
    pub(super) certain: i128,
    entries: u64,
}

impl Snapshot {
    /// Walks `root` and remembers what is there. Waits for one tick of the file system's clock, if something was
    /// changed within the last.
    ///
    /// # Errors
    /// A directory that can't be read, or a store that can't be written.
    pub fn take(store: &Store, root: &Path) -> Result<Self> {
        walk::remember(store, root)
    }

    /// Number of files, directories and links.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The records from the first.
    pub(super) fn records(&self) -> Result<Records> {
        let mut file = self.file.file().try_clone().map_err(lost)?;
        file.rewind().map_err(lost)?;
        let mut records = Records {
            reader: BufReader::with_capacity(128 * 1024, file),
            now: Record::default(),
            left: self.entries,
            bytes: vec![0; FIXED + 255],
        };
        records.advance()?;
        Ok(records)
    }

    /// The sizes of the regular files in bytes, of each name for itself.
    ///
    /// # Errors
    /// A store that can't be read.
    pub fn file_bytes(&self) -> Result<u64> {
        let mut records = self.records()?;
        let mut sum = 0_u64;
        while records.now.depth > 0 {
            let state = &records.now.state;
            if FileType::from_raw_mode(state.mode).is_file() {
                sum = sum.saturating_add(state.size);
            }
            records.advance()?;
        }
        Ok(sum)
    }

    /// Writes all of it, for [`Snapshot::load`].
    ///
    /// # Errors
    /// `out` can't be written, or the store can't be read.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.certain.to_le_bytes())?;
        out.write_all(&self.entries.to_le_bytes())?;
        let mut file = self.file.file().try_clone()?;
        file.rewind()?;
        io::copy(&mut file, out)?;
        Ok(())
    }

    /// Reads what [`Snapshot::save`] wrote, in this process or an earlier one. The caller knows that it is whole.
    ///
    /// # Errors
    /// `input` can't be read, or the store can't be written.
    pub fn load(store: &Store, input: &mut dyn Read) -> Result<Self> {
        let mut file = store.temporary_file()?;
        let (mut certain, mut entries) = ([0; 16], [0; 8]);
        let read = input
            .read_exact(&mut certain)
            .and_then(|()| input.read_exact(&mut entries))
            .and_then(|()| io::copy(input, &mut file));
        read.map_err(lost)?;
        Ok(Self {
            file,
            certain: i128::from_le_bytes(certain),
            entries: u64::from_le_bytes(entries),
        })
    }

    /// A snapshot of nothing: all that is there is new.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn nothing(store: &Store) -> Result<Self> {
        Ok(Self {
            file: store.temporary_file()?,
            certain: i128::MIN,
            entries: 0,
        })
    }

    /// As if the walk had ended at another time, by a clock that goes on in steps.
    #[cfg(test)]
    pub(super) fn ended(mut self, end: i128) -> Self {
        self.certain = end - TICK;
        self
    }
}

/// What tells whether a file is another than it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    inode: u64,
    changed: i64,
    changed_nanos: u32,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl State {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            changed: stat.st_ctime,
            changed_nanos: stat.st_ctime_nsec as u32,
            size: stat.st_size.unsigned_abs(),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// When the inode was changed last, in nanoseconds since 1970.
    pub(super) fn time(&self) -> i128 {
        i128::from(self.changed) * 1_000_000_000 + i128::from(self.changed_nanos)
    }

    fn put(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.inode.to_le_bytes());
        out[8..16].copy_from_slice(&self.changed.to_le_bytes());
        out[16..24].copy_from_slice(&self.size.to_le_bytes());
        out[24..28].copy_from_slice(&self.changed_nanos.to_le_bytes());
        out[28..32].copy_from_slice(&self.mode.to_le_bytes());
        out[32..36].copy_from_slice(&self.uid.to_le_bytes());
        out[36..40].copy_from_slice(&self.gid.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Self {
        let number = |at: usize, length: usize| {
            let bytes = bytes[at..at + length].iter().rev();
            bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Self {
            inode: number(0, 8),
            changed: number(8, 8).cast_signed(),
            size: number(16, 8),
            changed_nanos: number(24, 4) as u32,
            mode: number(28, 4) as u32,
            uid: number(32, 4) as u32,
            gid: number(36, 4) as u32,
        }
    }
}

/// Bytes of a record before its name: state, depth, length of the name.
const FIXED: usize = 40 + 4 + 1;

/// One file of a snapshot. A depth of 0 stands behind the last one.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) depth: u32,
    pub(super) name: Vec<u8>,
    pub(super) state: State,
}

/// Reads a snapshot's records.
#[derive(Debug)]
pub(super) struct Records {
    reader: BufReader<File>,
    pub(super) now: Record,
    left: u64,
    bytes: Vec<u8>,
}

impl Records {
    /// Goes to the next record.
    pub(super) fn advance(&mut self) -> Result<()> {
        if self.left == 0 {
            self.now.depth = 0;
            return Ok(());
        }
        self.left -= 1;
        let (fixed, rest) = self.bytes.split_at_mut(FIXED);
        self.reader.read_exact(fixed).map_err(lost)?;
        let name = &mut rest[..usize::from(fixed[44])];
        self.reader.read_exact(name).map_err(lost)?;
        self.now.state = State::take(fixed);
        self.now.depth = u32::from_le_bytes([fixed[40], fixed[41], fixed[42], fixed[43]]);
        self.now.name.clear();
        self.now.name.extend_from_slice(name);
        Ok(())
    }

    /// Goes behind what is below a record of this depth.
    pub(super) fn skip_below(&mut self, depth: u32) -> Result<()> {
        while self.now.depth > depth {
            self.advance()?;
        }
        Ok(())
    }
}

/// A snapshot in the making.
#[derive(Debug)]
pub(super) struct SnapshotWriter {
    out: BufWriter<TemporaryFile>,
    entries: u64,
    newest: i128,
}

impl SnapshotWriter {
    pub(super) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(128 * 1024, store.temporary_file()?),
            entries: 0,
            newest: i128::MIN,
        })
    }

    pub(super) fn push(&mut self, depth: u32, name: &[u8], state: &State) -> Result<()> {
        let mut fixed = [0; FIXED];
        state.put(&mut fixed);
        fixed[40..44].copy_from_slice(&depth.to_le_bytes());
        // No file system of Linux has longer names.
        fixed[44] = u8::try_from(name.len())
            .map_err(|_| lost(io::Error::other("a name has more than 255 bytes")))?;
        self.entries += 1;
        self.newest = self.newest.max(state.time());
        let written = self
            .out
            .write_all(&fixed)
            .and_then(|()| self.out.write_all(name));
        written.map_err(lost)
    }

    /// Ends it, when what was changed last is older than a tick, where the clock has ticks.
    pub(super) fn finish(self) -> Result<Snapshot> {
        let file = self
            .out
            .into_inner()
            .map_err(|error| lost(error.into_error()))?;
        let (entries, newest) = (self.entries, self.newest);
        let certain = settle(file.file(), newest).map_err(|error| lost(error.into()))?;
        Ok(Snapshot {
            file,
            certain,
            entries,
        })
    }
}

/// Waits until later changes have another time than what was changed at `newest`; gives the time before which a
/// change was seen as it is. `file` is on the same disk.
fn settle(file: &File, newest: i128) -> rustix::io::Result<i128> {
    if is_exact(file)? {
        return Ok(i128::MAX);
    }
    let mut end = stamp(file)?;
    for _ in 0..WAITS {
        // What is later than that is no matter of ticks: somebody set the clock back.
        let early = u64::try_from((newest + TICK).saturating_sub(end)).ok();
        let Some(early) = early.filter(|early| *early < LONGEST) else {
            break;
        };
        // Cheaper than to read all of what was changed just now.
        std::thread::sleep(Duration::from_nanos(early + 1_000_000));
        end = stamp(file)?;
    }
    Ok(end - TICK)
}

/// Whether a change always has another time than one that was seen before, as with Linux 6.13 on most file systems:
/// then three changes in a row, each seen, have three times within one tick. A tick ends between two of them at most.
fn is_exact(file: &File) -> rustix::io::Result<bool> {
    let (first, second, third) = (stamp(file)?, stamp(file)?, stamp(file)?);
    Ok(first < second && second < third && third - first < SHORTEST)
}

/// The time that a change of `file` has now.
fn stamp(file: &File) -> rustix::io::Result<i128> {
    rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
    Ok(State::of(&rustix::fs::fstat(file)?).time())
}

/// The store's temporary file could not be written or read.
fn lost(error: io::Error) -> Error {
    let message = "cannot keep the state of the root file system";
    Error::new(ErrorKind::Store, message).with_source(error)
}
