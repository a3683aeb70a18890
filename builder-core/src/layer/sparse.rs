//! Sparse files of a tar: where the pieces that it holds are in the file.
//!
//! The forms are those of GNU tar's manual, "Storing Sparse Files": the old GNU one (type `S`), and in PAX 0.0, 0.1 and
//! 1.0, which bsdtar writes too. All say the same: pieces in their order, and how long the file is.

use std::collections::BTreeMap;
use std::io::Read;

use super::error::TarProblem;
use super::frame::{FrameError, Frames};
use super::header::UNIT;

/// The greatest number of pieces of one file.
const MAX_PIECES: usize = 100_000;

/// The greatest length of a sparse file in bytes, 16 TiB: what ext4 holds. A file without bytes may claim any.
const MAX_SIZE: u64 = 16 << 40;

/// What the records of an extended header say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The file is whole.
    No,
    /// Where the pieces are.
    Map(Sparse),
    /// The pieces' places stand before the content, of a file that is so many bytes long.
    InContent(u64),
}

/// A file of which only pieces are stored; what is between them is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Offset and length of each piece, in order.
    pub(super) pieces: Vec<(u64, u64)>,
    /// The length of the whole file.
    pub(super) size: u64,
}

impl Sparse {
    /// Adds a piece.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), TarProblem> {
        let end = offset.checked_add(length);
        let start = self
            .pieces
            .last()
            .map_or(0, |(offset, length)| offset + length);
        if self.pieces.len() == MAX_PIECES
            || offset < start
            || end.is_none_or(|end| end > self.size)
        {
            return Err(TarProblem::Sparse);
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// This file, whose pieces must be the `stored` bytes.
    pub(super) fn of(self, stored: u64) -> Result<Self, TarProblem> {
        let sum: u64 = self.pieces.iter().map(|(_, length)| length).sum();
        if sum == stored && self.size <= MAX_SIZE {
            Ok(self)
        } else {
            Err(TarProblem::Sparse)
        }
    }

    fn from_numbers(size: u64, numbers: &[u64]) -> Result<Self, TarProblem> {
        let mut sparse = Self {
            pieces: Vec::new(),
            size,
        };
        if !numbers.len().is_multiple_of(2) {
            return Err(TarProblem::Sparse);
        }
        numbers
            .chunks_exact(2)
            .try_for_each(|pair| sparse.push(pair[0], pair[1]))?;
        Ok(sparse)
    }
}

/// Whether a record is one of a sparse file that may come more than once (PAX 0.0): they are gathered under the key of
/// PAX 0.1.
pub(super) fn is_repeated(key: &[u8]) -> bool {
    matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes")
}

/// The key of the places, as numbers with commas between them.
pub(super) const MAP: &[u8] = b"GNU.sparse.map";

/// Takes what the records say of a sparse file, its name included.
pub(super) fn take(
    records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(Announced, Option<Vec<u8>>), TarProblem> {
    let mut one = |key: &[u8]| records.remove(key);
    let name = one(b"GNU.sparse.name");
    let major = one(b"GNU.sparse.major");
    one(b"GNU.sparse.minor");
    one(b"GNU.sparse.numblocks");
    let (size, map) = (one(b"GNU.sparse.size"), one(MAP));
    let real = one(b"GNU.sparse.realsize");
    let announced = match (major.as_deref(), size.or(real), map) {
        (Some(b"1"), Some(size), _) => Announced::InContent(number(&size)?),
        (None | Some(b"0"), Some(size), Some(map)) => {
            let numbers = map.split(|byte| *byte == b',').map(number);
            let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
            Announced::Map(Sparse::from_numbers(number(&size)?, &numbers)?)
        }
        (None, None, None) => Announced::No,
        _ => return Err(TarProblem::Sparse),
    };
    Ok((announced, name))
}

fn number(text: &[u8]) -> Result<u64, TarProblem> {
    let text = str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(TarProblem::Sparse)
}

/// Reads the places that stand before the content (PAX 1.0): a count and two numbers for each piece, a line each.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapReader {
    /// Reads one block; true when it was the last one.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<bool, TarProblem> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(TarProblem::Sparse);
                }
                continue;
            }
            self.numbers
                .push(number(&std::mem::take(&mut self.digits))?);
            let count = self.numbers[0];
            if count > MAX_PIECES as u64 {
                return Err(TarProblem::Sparse);
            }
            if self.numbers.len() as u64 == 1 + count * 2 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What was read.
    pub(super) fn finish(self, size: u64) -> Result<Sparse, TarProblem> {
        Sparse::from_numbers(size, self.numbers.get(1..).unwrap_or_default())
    }
}

impl<R: Read> Frames<R> {
    /// Where the pieces of a sparse file are; what stands of it before the content is taken off `size`.
    pub(super) fn sparse(
        &mut self,
        header: &tar::Header,
        announced: Announced,
        size: &mut u64,
    ) -> Result<Option<Sparse>, FrameError> {
        if header.as_bytes()[156] == b'S' {
            return Ok(Some(self.old_sparse(header)?.of(*size)?));
        }
        let real = match announced {
            Announced::No => return Ok(None),
            Announced::Map(sparse) => return Ok(Some(sparse.of(*size)?)),
            Announced::InContent(real) => real,
        };
        let mut map = MapReader::default();
        loop {
            let mut block = [0; UNIT];
            *size = size.checked_sub(UNIT as u64).ok_or(TarProblem::Sparse)?;
            if self.fill(&mut block)? < UNIT {
                return Err(TarProblem::Truncated.into());
            }
            if map.block(&block)? {
                return Ok(Some(map.finish(real)?.of(*size)?));
            }
        }
    }

    /// The old GNU form: four places in the header, more in blocks that follow.
    fn old_sparse(&mut self, header: &tar::Header) -> Result<Sparse, FrameError> {
        let wrong = |_| TarProblem::Sparse;
        let gnu = header.as_gnu().ok_or(TarProblem::Sparse)?;
        let mut sparse = Sparse {
            size: gnu.real_size().map_err(wrong)?,
            ..Sparse::default()
        };
        let mut push = |places: &[tar::GnuSparseHeader]| -> Result<(), TarProblem> {
            for place in places.iter().take_while(|place| !place.is_empty()) {
                sparse.push(
                    place.offset().map_err(wrong)?,
                    place.length().map_err(wrong)?,
                )?;
            }
            Ok(())
        };
        push(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if self.fill(block.as_mut_bytes())? < UNIT {
                return Err(TarProblem::Truncated.into());
            }
            push(block.sparse())?;
            more = block.is_extended();
        }
        Ok(sparse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_in_order_and_within_the_file() {
        for (map, size, expected) in [
            ("0,1,5,2", 7, Some(vec![(0, 1), (5, 2)])),
            ("7,0", 7, Some(vec![(7, 0)])),
            ("5,3", 7, None),
            ("5,1,0,1", 7, None),
            ("0,2,1,2", 7, None),
            ("1", 7, None),
            ("a,1", 7, None),
            ("18446744073709551615,2", 7, None),
        ] {
            let mut records = BTreeMap::from([
                (MAP.to_vec(), map.as_bytes().to_vec()),
                (b"GNU.sparse.size".to_vec(), size.to_string().into_bytes()),
            ]);
            let found = take(&mut records).ok().map(|(found, _)| found);
            let expected = expected.map(|pieces| Announced::Map(Sparse { pieces, size }));
            assert_eq!(found, expected, "{map}");
        }
    }

    #[test]
    fn a_map_may_stand_before_the_content() {
        let mut reader = MapReader::default();
        assert!(!reader.block(b"2\n0\n1").unwrap());
        assert!(reader.block(b"\n5\n2\n\0\0").unwrap());
        assert_eq!(reader.finish(7).unwrap().pieces, [(0, 1), (5, 2)]);
        assert!(MapReader::default().block(b"x\n").is_err());
        assert!(MapReader::default().block(&[b'1'; 600]).is_err());
        assert!(MapReader::default().block(b"99999999\n").is_err());
    }

    #[test]
    fn no_record_is_no_sparse_file() {
        let mut records = BTreeMap::from([(b"path".to_vec(), b"x".to_vec())]);
        assert_eq!(take(&mut records).unwrap(), (Announced::No, None));
        let mut records = BTreeMap::from([(b"GNU.sparse.major".to_vec(), b"2".to_vec())]);
        assert!(take(&mut records).is_err());
    }
}
