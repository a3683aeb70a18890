//! The entries of a tar, one after another: headers, extended headers, long names.
//!
//! Reads ustar, PAX, GNU and the old form; the tar crate reads the fields of a header, the rest is here, because every
//! length must be bounded before memory is taken, and every doubt must be a refusal. The size of a link, a directory or
//! a device is not believed: such an entry has no bytes. Multi-volume archives are refused.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::error::TarProblem;
use super::header::{UNIT, is_header, padding};
use super::pax::{decimal, parse_records, time};
use super::sparse::{self, Sparse};
use crate::timestamp::Timestamp;

/// The greatest length of an extended header, and of a long name, in bytes.
pub(super) const EXTENSION_LIMIT: u64 = 1024 * 1024;

/// The greatest length that a file can have, in bytes: `off_t` has a sign.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Why reading ends early.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The stream under the tar failed.
    Stream(io::Error),
    /// The tar is refused; with the entry's name where it is known.
    Refused(Option<Vec<u8>>, TarProblem),
}

impl From<TarProblem> for FrameError {
    fn from(problem: TarProblem) -> Self {
        Self::Refused(None, problem)
    }
}

/// One entry's headers, put together.
#[derive(Debug)]
pub(super) struct Frame {
    /// The name as written.
    pub(super) name: Vec<u8>,
    /// The link's target as written.
    pub(super) link: Vec<u8>,
    /// The type: `0` for a regular file, `5` for a directory, and so on.
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) device: (u32, u32),
    /// Bytes of content; 0 for everything but a regular file.
    pub(super) size: u64,
    /// Where the content begins in the tar.
    pub(super) offset: u64,
    /// Where the content belongs in the file, if it is not the whole file.
    pub(super) sparse: Option<Sparse>,
}

/// What extended headers say about the next entry.
#[derive(Debug, Default)]
struct Extended {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// Reads the frames of a tar.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    position: u64,
    /// Bytes of content and padding before the next header.
    left: u64,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            position: 0,
            left: 0,
        }
    }

    /// The next entry; none at the end of the tar. Content that nobody read is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        self.skip()?;
        let mut extended = Extended::default();
        let mut pending = false;
        loop {
            let Some(unit) = self.unit()? else {
                if pending {
                    return Err(TarProblem::Truncated.into());
                }
                return Ok(None);
            };
            let header = tar::Header::from_byte_slice(&unit);
            match unit[156] {
                // The last one of several holds, as with Go's archive/tar, which most others use.
                b'x' => extended.records = Some(parse_records(&self.extension(header)?)?),
                b'g' => {
                    self.extension(header)?;
                    continue;
                }
                b'L' => extended.long_name = Some(self.long(header)?),
                b'K' => extended.long_link = Some(self.long(header)?),
                _ => return self.frame(header, extended).map(Some),
            }
            pending = true;
        }
    }

    /// Reads some of the content of the entry that `next` gave last; the caller knows where it ends.
    pub(super) fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.reader.read(buffer)?;
        self.position += taken as u64;
        self.left -= taken as u64;
        Ok(taken)
    }

    /// Skips what is left of the last entry.
    fn skip(&mut self) -> Result<(), FrameError> {
        let skipped = io::copy(&mut (&mut self.reader).take(self.left), &mut io::sink());
        let skipped = skipped.map_err(FrameError::Stream)?;
        self.position += skipped;
        if skipped < self.left {
            return Err(TarProblem::Truncated.into());
        }
        self.left = 0;
        Ok(())
    }

    /// One header that isn't zeros; none at the end.
    fn unit(&mut self) -> Result<Option<[u8; UNIT]>, FrameError> {
        let mut unit = [0; UNIT];
        let filled = self.fill(&mut unit)?;
        if filled == 0 {
            return Ok(None);
        }
        if filled < UNIT {
            return Err(TarProblem::Truncated.into());
        }
        if unit.iter().all(|byte| *byte == 0) {
            let mut second = [0; UNIT];
            self.fill(&mut second)?;
            if second.iter().any(|byte| *byte != 0) {
                return Err(TarProblem::Header("one unit of zeros, then more").into());
            }
            return Ok(None);
        }
        if !is_header(&unit) {
            return Err(TarProblem::Header("checksum").into());
        }
        Ok(Some(unit))
    }

    /// Reads until the buffer is full or the stream ends.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FrameError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FrameError::Stream(error)),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// The body of an extended header, without its padding.
    fn extension(&mut self, header: &tar::Header) -> Result<Vec<u8>, FrameError> {
        let size = header_size(header).ok_or(TarProblem::Header("size"))?;
        if size > EXTENSION_LIMIT {
            return Err(TarProblem::ExtensionTooLong(EXTENSION_LIMIT).into());
        }
        let mut body = vec![0; size as usize + padding(size)];
        if self.fill(&mut body)? < body.len() {
            return Err(TarProblem::Truncated.into());
        }
        body.truncate(size as usize);
        Ok(body)
    }

    /// The body of a GNU long name, up to its zero byte.
    fn long(&mut self, header: &tar::Header) -> Result<Vec<u8>, FrameError> {
        let mut name = self.extension(header)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// Puts an entry together.
    fn frame(&mut self, header: &tar::Header, extended: Extended) -> Result<Frame, FrameError> {
        let mut records = extended.records.unwrap_or_default();
        let (announced, sparse_name) = sparse::take(&mut records)?;
        let mut take = |key: &[u8]| records.remove(key).filter(|value| !value.is_empty());
        // Who has both is read as by Go's archive/tar: GNU's name wins, and that of a sparse file over all.
        let long = |name: Option<Vec<u8>>| name.filter(|name| !name.is_empty());
        let path = long(extended.long_name).or_else(|| take(b"path"));
        let name = long(sparse_name).or(path);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = long(extended.long_link).or_else(|| take(b"linkpath"));
        let link =
            link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let fields = Fields {
            size: take(b"size"),
            uid: take(b"uid"),
            gid: take(b"gid"),
            mtime: take(b"mtime"),
        };
        let named = |problem| FrameError::Refused(Some(name.clone()), problem);
        let mut frame = fields.read(header).map_err(named)?;
        frame.kind = kind(header.as_bytes()[156], &name, frame.size).map_err(named)?;
        if frame.kind != b'0' {
            frame.size = 0;
        }
        let pieces = self.sparse(header, announced, &mut frame.size);
        frame.sparse = pieces.map_err(|error| match error {
            FrameError::Refused(_, problem) => named(problem),
            stream @ FrameError::Stream(_) => stream,
        })?;
        let padded = frame.size.checked_add(padding(frame.size) as u64);
        self.left = padded.ok_or_else(|| named(TarProblem::Header("size")))?;
        frame.offset = self.position;
        frame.xattrs = records
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value)))
            .collect();
        (frame.name, frame.link) = (name, link);
        Ok(frame)
    }
}

/// The type of an entry, with the old spellings made one.
fn kind(letter: u8, name: &[u8], size: u64) -> Result<u8, TarProblem> {
    match letter {
        b'0' | 0 | b'7' if name.ends_with(b"/") => {
            if size == 0 {
                Ok(b'5')
            } else {
                Err(TarProblem::Header("a directory with content"))
            }
        }
        b'0' | 0 | b'7' | b'S' => Ok(b'0'),
        b'1'..=b'6' => Ok(letter),
        other => Err(TarProblem::UnknownType(char::from(other))),
    }
}

/// Numbers that an extended header gives in place of the header's own.
struct Fields {
    size: Option<Vec<u8>>,
    uid: Option<Vec<u8>>,
    gid: Option<Vec<u8>>,
    mtime: Option<Vec<u8>>,
}

impl Fields {
    fn read(&self, header: &tar::Header) -> Result<Frame, TarProblem> {
        let empty = |field: std::ops::Range<usize>| {
            let mut bytes = header.as_bytes()[field].iter();
            bytes.all(|byte| matches!(byte, 0 | b' '))
        };
        let size = match &self.size {
            Some(text) => decimal(text)
                .filter(|size| *size <= MAX_SIZE)
                .ok_or(TarProblem::Extension)?,
            None => header_size(header).ok_or(TarProblem::Header("size"))?,
        };
        // Some tools leave fields empty that mean nothing to them.
        let id = |own: &Option<Vec<u8>>, field, value: io::Result<u64>| match own {
            Some(text) => decimal(text).ok_or(TarProblem::Extension),
            None if empty(field) => Ok(0),
            None => value.map_err(|_| TarProblem::Header("owner")),
        };
        let uid = id(&self.uid, 108..116, header.uid())?;
        let gid = id(&self.gid, 116..124, header.gid())?;
        let mode = if empty(100..108) {
            Ok(0)
        } else {
            header.mode()
        };
        let mtime = match &self.mtime {
            Some(text) => time(text).ok_or(TarProblem::Extension)?,
            None => Timestamp::from_seconds(header_time(header).ok_or(TarProblem::Header("time"))?),
        };
        let device = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or_default();
        Ok(Frame {
            name: Vec::new(),
            link: Vec::new(),
            kind: 0,
            mode: mode.map_err(|_| TarProblem::Header("mode"))? & 0o7777,
            uid: uid.try_into().map_err(|_| TarProblem::Owner)?,
            gid: gid.try_into().map_err(|_| TarProblem::Owner)?,
            mtime,
            xattrs: BTreeMap::new(),
            device: (device(header.device_major()), device(header.device_minor())),
            size,
            offset: 0,
            sparse: None,
        })
    }
}

/// The time of a header: octal, or GNU's binary form, which may be negative.
fn header_time(header: &tar::Header) -> Option<i64> {
    let field = &header.as_bytes()[136..148];
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Some(0);
    }
    if field[0] & 0x80 == 0 {
        return header.mtime().ok()?.try_into().ok();
    }
    binary(field).try_into().ok()
}

/// The size of a header: octal, or GNU's binary form. None where no file can have it.
fn header_size(header: &tar::Header) -> Option<u64> {
    let field = &header.as_bytes()[124..136];
    let size = if field[0] & 0x80 == 0 {
        header.entry_size().ok()
    } else {
        binary(field).try_into().ok()
    };
    size.filter(|size| *size <= MAX_SIZE)
}

/// A number in GNU's binary form: two's complement behind the first bit.
fn binary(field: &[u8]) -> i128 {
    let first = if field[0] & 0x40 == 0 { 0 } else { -1_i128 };
    let start = first << 6 | i128::from(field[0] & 0x3f);
    field[1..]
        .iter()
        .fold(start, |sum, byte| sum << 8 | i128::from(*byte))
}
