//! Tar headers: what comes before the bytes of a file in a layer of rbuild's.
//!
//! Follows POSIX.1-2017 "pax": ustar where everything fits, otherwise one extended header before it, with its records
//! sorted. User and group names stay empty, names have no leading `./` (the root alone is `./`), directories end with
//! `/`, times are whole seconds. Names that are not ASCII go into the extended header byte by byte, whatever their
//! encoding, as all readers of layers expect. GNU's extensions are not written.

use std::collections::BTreeMap;

use super::error::{Error, Result};
use crate::entry::{Entry, EntryKind};

/// A tar's unit in bytes.
pub const UNIT: usize = 512;

/// The two zero units at the end of a tar, in bytes.
pub const END: usize = 2 * UNIT;

/// The largest number of eleven octal digits.
const MAX_ELEVEN: u64 = 0o777_7777_7777;
/// The largest number of seven octal digits.
const MAX_SEVEN: u32 = 0o777_7777;

/// The only attribute that enters a layer.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Bytes from `length` to the next whole unit.
pub fn padding(length: u64) -> usize {
    let rest = (length % UNIT as u64) as usize;
    (UNIT - rest) % UNIT
}

/// Whether 512 bytes are the header of an entry: its checksum is right.
pub(super) fn is_header(unit: &[u8; UNIT]) -> bool {
    let field = &unit[148..156];
    let digits = field.trim_ascii_start();
    let stored = digits
        .iter()
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .fold(0_u32, |sum, digit| sum << 3 | u32::from(digit - b'0'));
    let sum = |byte: &u8| u32::from(*byte);
    let rest: u32 = unit[..148].iter().chain(&unit[156..]).map(sum).sum();
    stored == rest + 8 * 32
}

/// A capability attribute as it enters a layer: version 2, without the user namespace's root that version 3 names.
/// None where it is something else.
pub fn capability(value: &[u8]) -> Option<Vec<u8>> {
    let (version, length) = match (value.get(3)?, value.len()) {
        (2, 20) | (3, 24) => (2, 20),
        _ => return None,
    };
    let mut plain = value[..length].to_vec();
    plain[3] = version;
    Some(plain)
}

/// Appends the header of `entry` to `out`, with its extended header where one is needed. The entry's mtime is written
/// as it is; the caller clamps it. Fails for what no tar can hold.
pub fn write(entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
    let mut header = Header::new(entry)?;
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let number = |value: u64| value.to_string().into_bytes();

    if !header.put_name(&name(entry)) {
        records.insert(b"path".to_vec(), name(entry));
    }
    if let Some(target) = link_name(entry)
        && !header.put_link_name(&target)
    {
        records.insert(b"linkpath".to_vec(), target);
    }
    if !header.put_eleven(124, entry.size()) {
        records.insert(b"size".to_vec(), number(entry.size()));
    }
    if !header.put_seven(108, entry.uid) {
        records.insert(b"uid".to_vec(), number(entry.uid.into()));
    }
    if !header.put_seven(116, entry.gid) {
        records.insert(b"gid".to_vec(), number(entry.gid.into()));
    }
    let seconds = entry.mtime.seconds;
    if !u64::try_from(seconds).is_ok_and(|seconds| header.put_eleven(136, seconds)) {
        records.insert(b"mtime".to_vec(), seconds.to_string().into_bytes());
    }
    if let Some(value) = entry
        .xattrs
        .get(CAPABILITY)
        .and_then(|value| capability(value))
    {
        records.insert([b"SCHILY.xattr.", CAPABILITY].concat(), value);
    }
    if !records.is_empty() {
        write_extended(&records, out);
    }
    out.extend_from_slice(&header.finish());
    Ok(())
}

/// The name as the tar holds it.
fn name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.as_relative().to_vec();
    if entry.path.is_root() {
        name.push(b'.');
    }
    if entry.is_directory() {
        name.push(b'/');
    }
    name
}

/// The link's target as the tar holds it.
fn link_name(entry: &Entry) -> Option<Vec<u8>> {
    match &entry.kind {
        EntryKind::Symlink { target } => Some(target.clone()),
        EntryKind::HardLink { target } => Some(target.as_relative().to_vec()),
        _ => None,
    }
}

/// Writes an extended header with its records and their padding.
fn write_extended(records: &BTreeMap<Vec<u8>, Vec<u8>>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for (key, value) in records {
        write_record(key, value, &mut body);
    }
    let mut header = Header([0; UNIT]);
    header.0[..9].copy_from_slice(b"PaxHeader");
    header.0[156] = b'x';
    header.put_seven(100, 0o644);
    header.put_seven(108, 0);
    header.put_seven(116, 0);
    header.put_eleven(124, body.len() as u64);
    header.put_eleven(136, 0);
    out.extend_from_slice(&header.finish());
    out.extend_from_slice(&body);
    out.resize(out.len() + padding(body.len() as u64), 0);
}

/// Writes one record, `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn write_record(key: &[u8], value: &[u8], body: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

/// One unit of a header, being filled.
struct Header([u8; UNIT]);

impl Header {
    /// A header with type, mode and device numbers.
    fn new(entry: &Entry) -> Result<Self> {
        let mut header = Self([0; UNIT]);
        let (kind, device) = match entry.kind {
            EntryKind::File { .. } => (b'0', None),
            EntryKind::HardLink { .. } => (b'1', None),
            EntryKind::Symlink { .. } => (b'2', None),
            EntryKind::CharDevice { major, minor } => (b'3', Some((major, minor))),
            EntryKind::BlockDevice { major, minor } => (b'4', Some((major, minor))),
            EntryKind::Directory => (b'5', None),
            EntryKind::Fifo => (b'6', None),
            EntryKind::Socket => {
                return Err(Error::Unwritable {
                    path: entry.path.clone(),
                    what: "it is a socket",
                });
            }
        };
        header.0[156] = kind;
        header.put_seven(100, entry.mode & 0o7777);
        let (major, minor) = device.unwrap_or_default();
        if !(header.put_seven(329, major) && header.put_seven(337, minor)) {
            return Err(Error::Unwritable {
                path: entry.path.clone(),
                what: "its device number is too large",
            });
        }
        Ok(header)
    }

    /// Writes seven octal digits; zeros and false where the value doesn't fit.
    fn put_seven(&mut self, at: usize, value: u32) -> bool {
        let fits = value <= MAX_SEVEN;
        self.put_octal(at, 7, if fits { value.into() } else { 0 });
        fits
    }

    /// Writes eleven octal digits; zeros and false where the value doesn't fit.
    fn put_eleven(&mut self, at: usize, value: u64) -> bool {
        let fits = value <= MAX_ELEVEN;
        self.put_octal(at, 11, if fits { value } else { 0 });
        fits
    }

    fn put_octal(&mut self, at: usize, digits: usize, mut value: u64) {
        for position in (at..at + digits).rev() {
            self.0[position] = b'0' + (value & 7) as u8;
            value >>= 3;
        }
    }

    /// Writes the name, split in two where it is long; false where it needs an extended header.
    fn put_name(&mut self, name: &[u8]) -> bool {
        if name.len() <= 100 {
            self.0[..name.len()].copy_from_slice(name);
            return name.is_ascii();
        }
        self.0[..100].copy_from_slice(&name[..100]);
        if !name.is_ascii() || name.len() > 256 {
            return false;
        }
        // The earliest slash that leaves a second part of at most 100 bytes; the part must not be empty.
        let earliest = name.len().saturating_sub(101);
        let found = name[earliest..name.len() - 1]
            .iter()
            .position(|byte| *byte == b'/')
            .map(|position| earliest + position)
            .filter(|split| (1..=155).contains(split));
        let Some(split) = found else {
            return false;
        };
        let rest = &name[split + 1..];
        self.0[..100].fill(0);
        self.0[..rest.len()].copy_from_slice(rest);
        self.0[345..345 + split].copy_from_slice(&name[..split]);
        true
    }

    /// Writes the link's target; false where it needs an extended header.
    fn put_link_name(&mut self, target: &[u8]) -> bool {
        let taken = target.len().min(100);
        self.0[157..157 + taken].copy_from_slice(&target[..taken]);
        target.len() <= 100 && target.is_ascii()
    }

    /// Adds magic and checksum.
    fn finish(mut self) -> [u8; UNIT] {
        self.0[257..265].copy_from_slice(b"ustar\x0000");
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.put_octal(148, 6, sum);
        self.0[154] = 0;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in [1, 85, 90, 91, 92, 93, 94, 990, 993, 994, 995, 9990] {
            let mut body = Vec::new();
            write_record(b"path", &vec![b'x'; length], &mut body);
            let digits = body.split(|byte| *byte == b' ').next().unwrap();
            let written: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert_eq!(written, body.len(), "{length}");
        }
    }

    #[test]
    fn only_plain_capabilities_enter() {
        let mut three = vec![1, 0, 0, 3];
        three.resize(24, 7);
        let two = capability(&three).unwrap();
        assert_eq!((two.len(), &two[..4]), (20, &[1, 0, 0, 2][..]));
        assert_eq!(capability(&two), Some(two.clone()));
        assert_eq!(capability(b""), None);
        assert_eq!(capability(&three[..20]), None);
    }
}
