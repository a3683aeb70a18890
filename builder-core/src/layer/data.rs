//! A file's bytes out of the middle of a layer.
//!
//! A layer of rbuild's has a block map: only the blocks that hold the file are decompressed, each checked against its
//! CRC. Any other layer is unpacked once into a spool in the store, checked against digest and diff ID, and read there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use flate2::{Decompress, FlushDecompress};

use super::block;
use super::blocks::{BlockFormat, BlockMap};
use super::content::WHOLE;
use super::error::{Error, Result};
use super::record::DataRange;
use super::spool;
use crate::digest::{DiffId, Digest};
use crate::oci::Descriptor;
use crate::store::{self, Sidecar, Store};

/// An open layer whose bytes can be read at any place. It remembers its last block: who reads many files in path
/// order decompresses each block once.
#[derive(Debug)]
pub struct LayerData {
    file: File,
    path: PathBuf,
    /// What stands beside the blob and was believed: the spool, or the map of its blocks.
    sidecar: Option<(Store, PathBuf)>,
    map: Option<BlockMap>,
    last: Option<usize>,
    block: Vec<u8>,
    packed: Vec<u8>,
    /// Where the whole sparse files begin in a spool.
    wholes: Option<u64>,
}

/// Opens one file's bytes. For many files of one layer, open the layer once with [`LayerData::open`].
pub fn open_data(
    store: &Store,
    layer: &Descriptor,
    diff_id: &DiffId,
    range: &DataRange,
) -> Result<Box<dyn Read + Send>> {
    let data = LayerData::open(store, layer, diff_id)?;
    Ok(Box::new(DataReader {
        data,
        range: *range,
    }))
}

impl LayerData {
    /// Opens a layer. One that isn't rbuild's is unpacked into the store first, if it never was.
    pub fn open(store: &Store, layer: &Descriptor, diff_id: &DiffId) -> Result<Self> {
        let Some(map) = BlockMap::open(store, &layer.digest)? else {
            let spool = match spool::open(store, diff_id)? {
                Some(spool) => spool,
                None => spool::make(store, layer, diff_id)?,
            };
            let path = store.sidecar_path(Sidecar::Spool(*diff_id));
            let mut opened = Self::new(spool.file, path.clone(), Some(spool.map));
            opened.sidecar = Some((store.clone(), path));
            opened.wholes = Some(spool.wholes);
            return Ok(opened);
        };
        let path = store.blob_path(&layer.digest);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Store(store::Error::Missing {
                digest: layer.digest,
                root: store.root().to_owned(),
            }),
            _ => Error::io("open", &path)(source),
        })?;
        let mut opened = Self::new(file, path, Some(map));
        let map = store.sidecar_path(Sidecar::Blocks(layer.digest));
        opened.sidecar = Some((store.clone(), map));
        Ok(opened)
    }

    /// Whether a layer can be opened without unpacking it first.
    pub(super) fn is_at_hand(store: &Store, blob: &Digest, diff_id: &DiffId) -> Result<bool> {
        Ok(store.open_sidecar(Sidecar::Spool(*diff_id))?.is_some()
            || (store.contains(blob)? && BlockMap::open(store, blob)?.is_some()))
    }

    /// Reads from an uncompressed tar, such as an archive's spool.
    pub fn from_plain(file: File, path: PathBuf) -> Self {
        Self::new(file, path, None)
    }

    fn new(file: File, path: PathBuf, map: Option<BlockMap>) -> Self {
        Self {
            file,
            path,
            sidecar: None,
            map,
            last: None,
            block: Vec::new(),
            packed: Vec::new(),
            wholes: None,
        }
    }

    /// A reader of one file's bytes.
    pub fn reader(&mut self, range: &DataRange) -> DataReader<&mut Self> {
        DataReader {
            data: self,
            range: *range,
        }
    }

    /// Reads some bytes at `offset` of the tar; 0 only where the buffer is empty.
    fn read_some(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let whole = offset.checked_sub(WHOLE).zip(self.wholes);
        let whole = whole.map(|(offset, start)| start + offset);
        let (Some(map), None) = (&self.map, whole) else {
            let offset = whole.unwrap_or(offset);
            let taken = self
                .file
                .read_at(buffer, offset)
                .map_err(Error::io("read", &self.path))?;
            if taken == 0 && !buffer.is_empty() {
                return Err(self.damaged());
            }
            return Ok(taken);
        };
        let number = map.find(offset).ok_or_else(|| self.damaged())?;
        let start = map.blocks[number].tar.offset;
        if self.last != Some(number) {
            self.last = None;
            self.load(number)?;
            self.last = Some(number);
        }
        let rest = &self.block[(offset - start) as usize..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        Ok(taken)
    }

    /// The error for a spool, or a map of blocks, that is not as it was written. It is taken away: what it says can be
    /// had from the blob, whose digest is checked then.
    fn damaged(&self) -> Error {
        let Some((store, path)) = &self.sidecar else {
            let path = self.path.clone();
            return Error::Damaged { path };
        };
        store.give_up(path);
        Error::Damaged { path: path.clone() }
    }

    /// Reads and decompresses one block.
    fn load(&mut self, number: usize) -> Result<()> {
        let Some((map, block)) = self
            .map
            .as_ref()
            .and_then(|map| Some((map, *map.blocks.get(number)?)))
        else {
            return Err(self.damaged());
        };
        let limit = 2 * block::MAX as u64;
        if block.tar.len > block::MAX as u64 || block.blob.len > limit {
            return Err(self.damaged());
        }
        let format = map.format;
        self.packed.resize(block.blob.len as usize, 0);
        let read = self.file.read_exact_at(&mut self.packed, block.blob.offset);
        read.map_err(Error::io("read", &self.path))?;
        self.block.resize(block.tar.len as usize, 0);
        let filled = match format {
            BlockFormat::Plain => {
                std::mem::swap(&mut self.block, &mut self.packed);
                Some(self.block.len())
            }
            BlockFormat::Zstd => {
                zstd::bulk::decompress_to_buffer(&self.packed, &mut self.block).ok()
            }
            BlockFormat::Deflate => {
                let mut decoder = Decompress::new(false);
                let done = decoder.decompress(&self.packed, &mut self.block, FlushDecompress::Sync);
                done.ok().map(|_| decoder.total_out() as usize)
            }
        };
        if filled != Some(block.tar.len as usize) || crc32fast::hash(&self.block) != block.crc {
            return Err(self.damaged());
        }
        Ok(())
    }
}

/// Reads one file's bytes. `D` is a [`LayerData`], owned or borrowed.
#[derive(Debug)]
pub struct DataReader<D> {
    data: D,
    range: DataRange,
}

impl<D: std::borrow::BorrowMut<LayerData>> Read for DataReader<D> {
    /// A damaged block is an error whose inner error is [`Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer
            .len()
            .min(usize::try_from(self.range.len).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let read = self
            .data
            .borrow_mut()
            .read_some(&mut buffer[..room], self.range.offset);
        let taken = read.map_err(io::Error::other)?;
        self.range.offset += taken as u64;
        self.range.len -= taken as u64;
        Ok(taken)
    }
}
