//! Compression of one block, and the frame around all blocks.
//!
//! gzip follows RFC 1952 and RFC 1951: one member; each block is a run of deflate blocks that refers to nothing before
//! it and ends at a byte's border (a sync flush). zstd follows RFC 8878: each block is a frame. Every block gets a
//! fresh compressor: one that was reset may give other bytes, depending on what it did before.

use std::io;

use flate2::{Compress, FlushCompress, Status};

use super::block;
use super::error::{Error, Result};
use crate::oci::MediaType;

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// gzip with a level from 0 (stored) to 9 (smallest); more than 9 is taken as 9.
    Gzip(u32),
    /// zstd with a level, as the zstd library counts them.
    Zstd(i32),
    /// A plain tar.
    None,
}

impl Compression {
    /// What a build uses unless told otherwise. Measured on two cores against `tar -c | pigz -6 -p2`, 114 MiB of source
    /// text in 20,000 files: level 4 takes 0.52 of its time for a blob 4.0 % larger, level 5 0.55 for 1.7 %, level 6
    /// 0.62 for 1.4 %. Of 512 MiB in large files, half of it noise: 0.23, 0.25 and 0.56 of its time.
    pub const DEFAULT: Self = Self::Gzip(5);

    /// The media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Gzip(_) => MediaType::LayerGzip,
            Self::Zstd(_) => MediaType::LayerZstd,
            Self::None => MediaType::LayerTar,
        }
    }

    /// The bytes before the first block.
    pub(super) fn prologue(self) -> &'static [u8] {
        match self {
            // Deflate; no flags, no time, no hint about the level, unknown system.
            Self::Gzip(_) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff],
            Self::Zstd(_) | Self::None => &[],
        }
    }

    /// The bytes after the last block, given the tar's CRC-32 and length.
    pub(super) fn epilogue(self, crc: u32, length: u64) -> Vec<u8> {
        match self {
            Self::Gzip(_) => {
                // An empty last block, then the trailer.
                let mut end = vec![0x03, 0x00];
                end.extend_from_slice(&crc.to_le_bytes());
                end.extend_from_slice(&(length as u32).to_le_bytes());
                end
            }
            Self::Zstd(_) | Self::None => Vec::new(),
        }
    }

    /// Whether a block's own bytes are written in place of a compressed form, framed by [`stored_header`] where it is
    /// gzip.
    pub(super) fn keeps(self, raw: &[u8]) -> bool {
        match self {
            Self::None | Self::Gzip(0) => true,
            Self::Gzip(_) => block::looks_random(raw),
            Self::Zstd(_) => false,
        }
    }

    /// Compresses one block, which [`Compression::keeps`] doesn't keep, into `out`, which is cleared first.
    pub(super) fn compress(self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self {
            Self::None => Ok(()),
            Self::Gzip(level) => deflate(raw, level.min(9), out),
            Self::Zstd(level) => zstd_frame(raw, level, out),
        }
        .map_err(|source| Error::Compress { source })
    }
}

/// The greatest length of a stored block of deflate, in bytes.
pub(super) const STORED: usize = 65535;

/// The header of a stored block of deflate with `length` bytes, at most [`STORED`].
pub(super) fn stored_header(length: usize) -> [u8; 5] {
    let [low, high] = (length as u16).to_le_bytes();
    [0, low, high, !low, !high]
}

fn deflate(raw: &[u8], level: u32, out: &mut Vec<u8>) -> io::Result<()> {
    out.reserve(raw.len() + raw.len() / 512 + 128);
    let mut compressor = Compress::new(flate2::Compression::new(level), false);
    loop {
        let taken = compressor.total_in() as usize;
        let status = compressor.compress_vec(&raw[taken..], out, FlushCompress::Sync)?;
        let done = compressor.total_in() as usize == raw.len() && out.len() < out.capacity();
        match status {
            _ if done => return Ok(()),
            Status::Ok => out.reserve(64 * 1024),
            Status::BufError | Status::StreamEnd => {
                return Err(io::Error::other("the compressor makes no progress"));
            }
        }
    }
}

fn zstd_frame(raw: &[u8], level: i32, out: &mut Vec<u8>) -> io::Result<()> {
    out.resize(zstd::zstd_safe::compress_bound(raw.len()), 0);
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    let length = compressor.compress_to_buffer(raw, out.as_mut_slice())?;
    out.truncate(length);
    Ok(())
}
