//! Where the compressed blocks of a layer's blob are: what makes a gzip blob readable at random.
//!
//! ```text
//! magic         8 bytes; the last one is the version
//! compression   1 byte: 0 gzip, 1 zstd, 2 none; and its level in 4
//! blocks        64 bytes each: tar offset 8, blob offset 8, tar length 4, blob length 4, CRC-32 of the tar bytes 4,
//!               CRC-32 of the compressed bytes 4, SHA-256 of the tar bytes 32, zeros where nobody computed it
//! ```
//!
//! Numbers are little-endian. The tar ranges follow each other without a gap.

use std::io::{Read as _, Write as _};

use super::compress::Compression;
use super::error::{Error, Result};
use super::record::DataRange;
use crate::digest::Digest;
use crate::store::{Sidecar, Store};

const MAGIC: &[u8; 8] = b"RBBLOCK\x02";
const SIZE: usize = 64;

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where its bytes are in the tar.
    pub tar: DataRange,
    /// Where its compressed bytes are in the blob.
    pub blob: DataRange,
    /// CRC-32 of its tar bytes.
    pub crc: u32,
    /// CRC-32 of its compressed bytes.
    pub packed_crc: u32,
    /// SHA-256 of its tar bytes; none where it is stored as it is.
    pub content: Option<Digest>,
}

/// How the blocks of a blob are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// Raw deflate.
    Deflate,
    /// A zstd frame.
    Zstd,
    /// As they are.
    Plain,
}

/// The level of a compression, as a map holds it.
fn level(compression: Compression) -> i32 {
    match compression {
        Compression::Gzip(level) => level.min(9).cast_signed(),
        Compression::Zstd(level) => level,
        Compression::None => 0,
    }
}

impl From<Compression> for BlockFormat {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip(_) => Self::Deflate,
            Compression::Zstd(_) => Self::Zstd,
            Compression::None => Self::Plain,
        }
    }
}

/// Whether blocks are the whole of a tar and parts of a blob, as they were written: one behind the other.
fn is_in_order(blocks: &[Block]) -> bool {
    let mut ends = (0, 0);
    blocks.iter().all(|block| {
        let follows = block.tar.offset == ends.0 && block.blob.offset >= ends.1;
        let end = |range: &DataRange| range.offset.checked_add(range.len);
        let (Some(tar), Some(blob)) = (end(&block.tar), end(&block.blob)) else {
            return false;
        };
        ends = (tar, blob);
        follows
    })
}

/// All blocks of a blob: 96 bytes of memory for about 512 KiB of tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMap {
    /// How they are compressed.
    pub format: BlockFormat,
    /// With which level.
    level: i32,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
}

impl BlockMap {
    /// The map of a blob that was just written.
    pub(super) fn new(compression: Compression, blocks: Vec<Block>) -> Self {
        Self {
            format: compression.into(),
            level: level(compression),
            blocks,
        }
    }

    /// The map of bytes that are as they are.
    pub(super) fn of_plain(blocks: Vec<Block>) -> Self {
        Self {
            format: BlockFormat::Plain,
            level: 0,
            blocks,
        }
    }

    /// Whether blocks were compressed as `compression` does: then equal bytes gave equal blocks.
    pub(super) fn is_of(&self, compression: Compression) -> bool {
        self.format == compression.into() && self.level == level(compression)
    }

    /// Reads the map of a blob; none where it has none, or one of another version: the blob can be read without.
    pub fn open(store: &Store, blob: &Digest) -> Result<Option<Self>> {
        let which = Sidecar::Blocks(*blob);
        let Some(mut file) = store.open_sidecar(which)? else {
            return Ok(None);
        };
        let path = store.sidecar_path(which);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        let map = Self::parse(&bytes);
        if map.is_none() {
            store.give_up(&path);
        }
        Ok(map)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.strip_prefix(MAGIC)?.split_first()?;
        let (level, blocks) = rest.split_first_chunk::<4>()?;
        let format = match format {
            0 => BlockFormat::Deflate,
            1 => BlockFormat::Zstd,
            2 => BlockFormat::Plain,
            _ => return None,
        };
        if !blocks.len().is_multiple_of(SIZE) {
            return None;
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let blocks = blocks.chunks_exact(SIZE).map(|block| Block {
            tar: DataRange {
                offset: number(&block[..8]),
                len: number(&block[16..20]),
            },
            blob: DataRange {
                offset: number(&block[8..16]),
                len: number(&block[20..24]),
            },
            crc: number(&block[24..28]) as u32,
            packed_crc: number(&block[28..32]) as u32,
            content: block
                .last_chunk::<32>()
                .and_then(|content| (*content != [0; 32]).then(|| Digest::from_bytes(*content))),
        });
        let blocks: Vec<Block> = blocks.collect();
        is_in_order(&blocks).then(|| Self {
            format,
            level: i32::from_le_bytes(*level),
            blocks,
        })
    }

    /// Keeps the map beside its blob.
    pub(super) fn keep(&self, store: &Store, blob: &Digest) -> Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(self.format as u8);
        bytes.extend_from_slice(&self.level.to_le_bytes());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.tar.offset.to_le_bytes());
            bytes.extend_from_slice(&block.blob.offset.to_le_bytes());
            bytes.extend_from_slice(&(block.tar.len as u32).to_le_bytes());
            bytes.extend_from_slice(&(block.blob.len as u32).to_le_bytes());
            bytes.extend_from_slice(&block.crc.to_le_bytes());
            bytes.extend_from_slice(&block.packed_crc.to_le_bytes());
            let content = block.content.as_ref();
            let content = content.and_then(|content| content.as_bytes().try_into().ok());
            let content: [u8; 32] = content.unwrap_or_default();
            bytes.extend_from_slice(&content);
        }
        let mut file = store.temporary_file()?;
        file.write_all(&bytes)
            .map_err(Error::io("write", file.path()))?;
        store.keep_sidecar(Sidecar::Blocks(*blob), file)?;
        Ok(())
    }

    /// The number of the block that holds the byte `offset` of the tar.
    pub fn find(&self, offset: u64) -> Option<usize> {
        let after = self
            .blocks
            .partition_point(|block| block.tar.offset <= offset);
        let number = after.checked_sub(1)?;
        let block = self.blocks[number];
        (offset - block.tar.offset < block.tar.len).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A damaged map is as good as none: the blob can be read without.
    #[test]
    fn a_map_that_makes_no_sense_is_none() {
        let block = |tar: u64, blob: u64, len: u32| {
            let mut bytes = Vec::new();
            bytes.extend(tar.to_le_bytes());
            bytes.extend(blob.to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend([0; SIZE - 24]);
            bytes
        };
        for (blocks, whole) in [
            (vec![], true),
            (vec![block(0, 10, 5), block(5, 20, 5)], true),
            (vec![block(1, 10, 5)], false),
            (vec![block(0, 10, 5), block(6, 20, 5)], false),
            (vec![block(0, 10, 5), block(5, 12, 5)], false),
            (vec![block(0, u64::MAX, 5)], false),
            (vec![block(u64::MAX, 0, 10)], false),
        ] {
            let mut bytes = MAGIC.to_vec();
            bytes.extend([0, 0, 0, 0, 0]);
            bytes.extend(blocks.concat());
            let map = BlockMap::parse(&bytes);
            assert_eq!(map.is_some(), whole, "{blocks:?}");
            let Some(map) = map else { continue };
            let length = map.blocks.len() as u64 * 5;
            for offset in [0, 4, 5, 9, 10, u64::MAX] {
                let number = (offset < length).then_some(offset as usize / 5);
                assert_eq!(map.find(offset), number, "{offset}");
            }
            bytes.pop();
            assert!(BlockMap::parse(&bytes).is_none() || blocks.is_empty());
        }
    }
}
