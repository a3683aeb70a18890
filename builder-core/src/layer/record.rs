//! One record of a layer's index, and its bytes on disk.
//!
//! A record is its length (four bytes, little-endian), its path, and the rest, with numbers as LEB128. The path comes
//! first so that a search compares without decoding.

use std::collections::BTreeMap;

use crate::entry::{Entry, EntryKind};
use crate::image_path::ImagePath;
use crate::timestamp::Timestamp;

/// Whether a path is there or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The layer holds the path.
    Present,
    /// The layer hides the path in the layers below; its entry says nothing.
    Whiteout,
}

/// Where a file's bytes are in the uncompressed tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRange {
    /// The first byte, counted from the tar's start.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// What a layer says about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The file. Times are those of the source, not clamped. A hard link has its target's mode, owner, time and
    /// attributes; its kind stays [`EntryKind::HardLink`], with the first name of the file as the target.
    pub entry: Entry,
    /// Present, or hidden.
    pub mark: Mark,
    /// The layers below have nothing here, whatever they hold: for a directory its content, for others themselves.
    pub opaque: bool,
    /// A directory that the tar doesn't name, only implies. Its entry's other fields say nothing.
    pub implicit: bool,
    /// The bytes of a regular file, or of a hard link's target.
    pub data: Option<DataRange>,
    /// Paths with the same number are the same file. None where a file has one name.
    pub link_group: Option<u64>,
}

impl Record {
    /// A record of something that the layer names.
    pub fn present(entry: Entry, data: Option<DataRange>) -> Self {
        Self {
            entry,
            mark: Mark::Present,
            opaque: false,
            implicit: false,
            data,
            link_group: None,
        }
    }

    /// A record of a path that the layer hides.
    pub fn whiteout(path: ImagePath) -> Self {
        Self {
            mark: Mark::Whiteout,
            ..Self::present(Entry::file(path, 0, 0, Timestamp::default()), None)
        }
    }

    /// A record of a directory that the layer only implies.
    pub fn implicit(path: ImagePath) -> Self {
        Self {
            implicit: true,
            ..Self::present(Entry::directory(path, Timestamp::default()), None)
        }
    }

    /// Whether it is a directory of this layer.
    pub fn is_directory(&self) -> bool {
        self.mark == Mark::Present && self.entry.is_directory()
    }
}

const WHITEOUT: u8 = 1;
const OPAQUE: u8 = 2;
const IMPLICIT: u8 = 4;
const DATA: u8 = 8;
const GROUP: u8 = 16;

/// Appends the bytes of `record`. `number` is its place in the tar.
pub(super) fn encode(record: &Record, number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let entry = &record.entry;
    put_bytes(out, entry.path.as_relative());
    put(out, number);
    let flags = [
        (record.mark == Mark::Whiteout, WHITEOUT),
        (record.opaque, OPAQUE),
        (record.implicit, IMPLICIT),
        (record.data.is_some(), DATA),
        (record.link_group.is_some(), GROUP),
    ];
    out.push(
        flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, bit)| bit)
            .sum(),
    );
    put_kind(out, &entry.kind);
    put(out, entry.mode.into());
    put(out, entry.uid.into());
    put(out, entry.gid.into());
    let seconds = entry.mtime.seconds;
    put(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    put(out, entry.mtime.nanos.into());
    put_xattrs(out, &entry.xattrs);
    if let Some(data) = record.data {
        put(out, data.offset);
        put(out, data.len);
    }
    if let Some(group) = record.link_group {
        put(out, group);
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_xattrs(out: &mut Vec<u8>, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) {
    put(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn put_kind(out: &mut Vec<u8>, kind: &EntryKind) {
    match kind {
        EntryKind::File { size } => {
            out.push(0);
            put(out, *size);
        }
        EntryKind::Directory => out.push(1),
        EntryKind::Symlink { target } => {
            out.push(2);
            put_bytes(out, target);
        }
        EntryKind::HardLink { target } => {
            out.push(3);
            put_bytes(out, target.as_relative());
        }
        EntryKind::Fifo => out.push(4),
        EntryKind::CharDevice { major, minor } => {
            out.push(5);
            put(out, (*major).into());
            put(out, (*minor).into());
        }
        EntryKind::BlockDevice { major, minor } => {
            out.push(6);
            put(out, (*major).into());
            put(out, (*minor).into());
        }
        EntryKind::Socket => out.push(7),
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads bytes from the front of a slice; none where they are malformed.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes one record's body off the front.
    pub(super) fn body(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(body)
    }
}

/// The path and the number of a record's body, without decoding the rest.
pub(super) fn key(body: &[u8]) -> Option<(&[u8], u64)> {
    let mut cursor = Cursor(body);
    Some((cursor.bytes()?, cursor.number()?))
}

/// Decodes a record's body; none where it is malformed.
pub(super) fn decode(body: &[u8]) -> Option<(Record, u64)> {
    let mut cursor = Cursor(body);
    let path = ImagePath::clean(cursor.bytes()?);
    let number = cursor.number()?;
    let flags = cursor.byte()?;
    let kind = take_kind(&mut cursor)?;
    let (mode, uid, gid) = (cursor.small()?, cursor.small()?, cursor.small()?);
    let zigzag = cursor.number()?;
    let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let nanos = cursor.small()?;
    let xattrs = take_xattrs(&mut cursor)?;
    let data = if flags & DATA == 0 {
        None
    } else {
        Some(DataRange {
            offset: cursor.number()?,
            len: cursor.number()?,
        })
    };
    let link_group = if flags & GROUP == 0 {
        None
    } else {
        Some(cursor.number()?)
    };
    let record = Record {
        entry: Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime: Timestamp { seconds, nanos },
            xattrs,
        },
        mark: if flags & WHITEOUT == 0 {
            Mark::Present
        } else {
            Mark::Whiteout
        },
        opaque: flags & OPAQUE != 0,
        implicit: flags & IMPLICIT != 0,
        data,
        link_group,
    };
    Some((record, number))
}

fn take_xattrs(cursor: &mut Cursor<'_>) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    for _ in 0..cursor.number()? {
        xattrs.insert(cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec());
    }
    Some(xattrs)
}

fn take_kind(cursor: &mut Cursor<'_>) -> Option<EntryKind> {
    Some(match cursor.byte()? {
        0 => EntryKind::File {
            size: cursor.number()?,
        },
        1 => EntryKind::Directory,
        2 => EntryKind::Symlink {
            target: cursor.bytes()?.to_vec(),
        },
        3 => EntryKind::HardLink {
            target: ImagePath::clean(cursor.bytes()?),
        },
        4 => EntryKind::Fifo,
        5 => EntryKind::CharDevice {
            major: cursor.small()?,
            minor: cursor.small()?,
        },
        6 => EntryKind::BlockDevice {
            major: cursor.small()?,
            minor: cursor.small()?,
        },
        7 => EntryKind::Socket,
        _ => return None,
    })
}
