//! Ownership that the host can't hold: what an ordinary user's files stand for.
//!
//! Where one user id must stand for all, the owner that real root would have given a file is recorded beside it: in a
//! user attribute of a regular file or directory, which follows it through rename, hard link and copy-up; in a side
//! table for everything that takes no user attributes (symbolic links, pipes, sockets). A device that can't be made
//! is an empty regular file with a record. Written by the supervisor and by whoever lays out a layer, read by whoever
//! looks at a file.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The extended attribute that holds a record.
pub const ATTRIBUTE: &CStr = c"user.rbuild.owner";
/// The one that holds file capabilities, where nobody may set the real one: the value of `security.capability`.
pub const CAPABILITIES: &CStr = c"user.rbuild.capability";

/// How a laid out root file system says who owns what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerEncoding {
    /// All files belong to the one user that there is; owners are recorded.
    Recorded,
    /// Files have their owners. A record tells of devices alone.
    Native,
    /// As [`OwnerEncoding::Recorded`], and nothing is asked of the host but that its user may read and write all files:
    /// modes that would forbid it ([`disk_mode`]) and file capabilities are recorded too.
    Complete,
}

impl OwnerEncoding {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Native, Self::Recorded, Self::Complete];

    /// The name of the encoding's folders in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Native => "native",
            Self::Complete => "complete",
        }
    }
}

/// The permission bits that a file has on the disk, where those that were meant are recorded: its owner may always do
/// everything, and no program of a root file system gives rights to who executes it outside.
pub fn disk_mode(is_directory: bool, mode: u32) -> u32 {
    mode & 0o777 | if is_directory { 0o700 } else { 0o600 }
}

/// Who owns a file, and which device it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerRecord {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
    /// The device that an empty regular file stands for; its permission bits are the file's.
    pub device: Option<Device>,
    /// The permission bits, set-user-ID and the like among them, where the file on the disk has others.
    pub mode: Option<u32>,
}

/// A device that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// A block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl OwnerRecord {
    /// The record of an owner.
    pub fn owner(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            gid,
            ..Self::default()
        }
    }

    /// Whether it says no more than no record would: root's file, no device.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The record as text: `UID:GID`; then of a device `:c:MAJOR:MINOR`, with `b` for a block device; then
    /// `:m:MODE`, octal, of a file with another mode.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}:{}", self.uid, self.gid);
        if let Some(device) = self.device {
            let letter = if device.block { 'b' } else { 'c' };
            // Writing to a string can't fail.
            let _ = write!(text, ":{letter}:{}:{}", device.major, device.minor);
        }
        if let Some(mode) = self.mode {
            let _ = write!(text, ":m:{mode:o}");
        }
        text
    }

    /// Reads the text; none where it is no record.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let mut fields = text.split(':');
        let mut record = Self::owner(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let mut next = fields.next();
        if let Some(letter @ ("b" | "c")) = next {
            record.device = Some(Device {
                block: letter == "b",
                major: fields.next()?.parse().ok()?,
                minor: fields.next()?.parse().ok()?,
            });
            next = fields.next();
        }
        if next == Some("m") {
            let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
            record.mode = Some(mode).filter(|mode| *mode <= 0o7777);
            next = fields.next();
        }
        next.is_none().then_some(record)
    }
}

/// Names a file that takes no attributes: inode number and time of birth, which makes the reuse of a number harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey {
    /// Inode number.
    pub inode: u64,
    /// Time of birth in nanoseconds since 1970; 0 where the file system doesn't tell.
    pub born: i64,
}

/// Records of files that take no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideTable(BTreeMap<FileKey, OwnerRecord>);

impl SideTable {
    /// The record of a file.
    pub fn get(&self, key: FileKey) -> Option<OwnerRecord> {
        self.0.get(&key).copied()
    }

    /// Sets the record of a file.
    pub fn insert(&mut self, key: FileKey, record: OwnerRecord) {
        self.0.insert(key, record);
    }

    /// Takes over all records of another table; its word counts where both have one.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The table as text: a line a file, `INODE BORN RECORD`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (key, record) in &self.0 {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{} {} {}", key.inode, key.born, record.to_text());
        }
        text
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where a line is none of [`SideTable::to_text`].
    pub fn parse(text: &str) -> io::Result<Self> {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let key = FileKey {
                inode: words.next()?.parse().ok()?,
                born: words.next()?.parse().ok()?,
            };
            let record = OwnerRecord::parse(words.next()?.as_bytes())?;
            words.next().is_none().then_some((key, record))
        };
        let table: Option<BTreeMap<FileKey, OwnerRecord>> = text.lines().map(line).collect();
        table
            .map(Self)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged table of owners"))
    }

    /// Reads a table; a file that isn't there is an empty one.
    ///
    /// # Errors
    /// Those of reading, and of [`SideTable::parse`].
    pub fn load(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let device = |block| Device {
            block,
            major: 1,
            minor: 3,
        };
        for (record, text) in [
            (OwnerRecord::owner(0, 0), "0:0"),
            (OwnerRecord::owner(33, 4_000_000_000), "33:4000000000"),
            (
                OwnerRecord {
                    device: Some(device(false)),
                    ..OwnerRecord::default()
                },
                "0:0:c:1:3",
            ),
            (
                OwnerRecord {
                    uid: 5,
                    gid: 6,
                    device: Some(device(true)),
                    mode: None,
                },
                "5:6:b:1:3",
            ),
            (
                OwnerRecord {
                    mode: Some(0o4755),
                    ..OwnerRecord::default()
                },
                "0:0:m:4755",
            ),
            (
                OwnerRecord {
                    uid: 1,
                    gid: 2,
                    device: Some(device(false)),
                    mode: Some(0),
                },
                "1:2:c:1:3:m:0",
            ),
        ] {
            assert_eq!(record.to_text(), text);
            assert_eq!(OwnerRecord::parse(text.as_bytes()), Some(record));
        }
        for text in [
            "",
            "1",
            "1:2:3",
            "1:x",
            "1:2:d:1:1",
            "1:2:c:1",
            "-1:2",
            "1:2:m",
            "1:2:m:8",
            "1:2:m:0:c:1:3",
        ] {
            assert_eq!(OwnerRecord::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_table_comes_back_as_it_was_written() {
        let mut table = SideTable::default();
        let key = |inode| FileKey { inode, born: -7 };
        table.insert(key(9), OwnerRecord::owner(1, 2));
        table.insert(key(3), OwnerRecord::owner(0, 2));
        assert_eq!(table.to_text(), "3 -7 0:2\n9 -7 1:2\n");
        assert_eq!(SideTable::parse(&table.to_text()).unwrap(), table);
        assert!(SideTable::parse("3 4\n").is_err());
    }
}
