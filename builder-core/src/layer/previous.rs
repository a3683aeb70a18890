//! Blocks of an older blob: those with equal tar bytes are taken as they are.
//!
//! A compressed block is a function of its tar bytes and the compression alone, so that a blob made with old blocks is
//! the blob that would be made without. Equal bytes are known by their SHA-256; the old block itself by its CRC, which
//! finds what a disk has spoilt.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::blocks::{Block, BlockMap};
use super::compress::Compression;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::store::Store;

/// An older blob.
#[derive(Debug)]
pub(super) struct Previous {
    file: File,
    blocks: BTreeMap<Digest, Block>,
}

impl Previous {
    /// Opens a blob; none where it isn't here, has no map, or was compressed in another way.
    pub(super) fn open(store: &Store, blob: &Descriptor, compression: Compression) -> Option<Self> {
        let map = BlockMap::open(store, &blob.digest).ok()??;
        if !map.is_of(compression) {
            return None;
        }
        let blocks = map.blocks.into_iter();
        let blocks = blocks.filter_map(|block| Some((block.content?, block)));
        Some(Self {
            file: File::open(store.blob_path(&blob.digest)).ok()?,
            blocks: blocks.collect(),
        })
    }

    /// Puts the compressed form of the bytes with this digest and length into `out`; false where there is none.
    pub(super) fn take(&self, content: &Digest, length: usize, out: &mut Vec<u8>) -> bool {
        let Some(block) = self.blocks.get(content) else {
            return false;
        };
        if block.tar.len != length as u64 {
            return false;
        }
        out.resize(block.blob.len as usize, 0);
        let read = self.file.read_exact_at(out, block.blob.offset);
        read.is_ok() && crc32fast::hash(out) == block.packed_crc
    }
}
