//! A layer of others, unpacked into the store: its tar, behind it its sparse files as wholes, and sums of what was written,
//! by which a reader knows that it is still that.
//!
//! ```text
//! tar              what the index' data ranges count in
//! wholes           sparse files, one after another; may be missing
//! sums             CRC-32 of each 128 KiB of the tar, 4 bytes each
//! footer           length of the tar, start of the wholes, CRC-32 of sums and of these: 8 bytes each; magic, 8 bytes
//! ```
//!
//! Numbers are little-endian. The sparse files have no sums: a hole may be longer than any disk.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use super::blocks::{Block, BlockMap};
use super::content::LaidOut;
use super::error::{Error, Result};
use super::read;
use super::record::DataRange;
use super::unarchive::Tee;
use crate::digest::DiffId;
use crate::oci::Descriptor;
use crate::store::{Sidecar, Store};

const MAGIC: &[u8; 8] = b"RBSPOOL\x01";
/// Length of the footer in bytes.
const FOOTER: usize = 32;
/// Bytes of the tar that have a sum.
const CHUNK: u64 = 128 * 1024;

/// What the end of a spool says.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) file: File,
    /// The tar as plain blocks.
    pub(super) map: BlockMap,
    /// Where the sparse files begin.
    pub(super) wholes: u64,
}

/// Opens a layer's spool; none where there is none, or one that is not as it was written, which is taken away.
pub(super) fn open(store: &Store, diff_id: &DiffId) -> Result<Option<Spool>> {
    let which = Sidecar::Spool(*diff_id);
    let Some(file) = store.open_sidecar(which)? else {
        return Ok(None);
    };
    let path = store.sidecar_path(which);
    let read = read_end(&file).map_err(Error::io("read", &path))?;
    if read.is_none() {
        store.give_up(&path);
    }
    Ok(read.map(|(map, wholes)| Spool { file, map, wholes }))
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn read_end(file: &File) -> io::Result<Option<(BlockMap, u64)>> {
    let length = file.metadata()?.len();
    let mut footer = [0; FOOTER];
    let Some(at) = length.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut footer, at)?;
    let (tar, wholes) = (number(&footer[..8]), number(&footer[8..16]));
    if footer[24..] != MAGIC[..] || tar > length {
        return Ok(None);
    }
    let count = tar.div_ceil(CHUNK);
    let start = at.checked_sub(count * 4).filter(|start| *start >= tar);
    let Some(start) = start else {
        return Ok(None);
    };
    let mut sums = vec![0; (count * 4) as usize];
    file.read_exact_at(&mut sums, start)?;
    if sum_of(&sums, &footer[..16]) != number(&footer[16..24]) {
        return Ok(None);
    }
    let blocks = sums.chunks_exact(4).zip(0..).map(|(sum, place)| {
        let range = DataRange {
            offset: place * CHUNK,
            len: CHUNK.min(tar - place * CHUNK),
        };
        Block {
            tar: range,
            blob: range,
            crc: number(sum) as u32,
            packed_crc: 0,
            content: None,
        }
    });
    let map = BlockMap::of_plain(blocks.collect());
    Ok(Some((map, wholes)))
}

fn sum_of(sums: &[u8], rest: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(sums);
    hasher.update(rest);
    hasher.finalize().into()
}

/// Unpacks a layer into the store.
pub(super) fn make(store: &Store, layer: &Descriptor, diff_id: &DiffId) -> Result<Spool> {
    let what = read::What::layer(layer);
    let mut wholes = None;
    let ((mut file, (length, mut end)), found) = read::unpack(store, layer, |tar| {
        let mut tee = Tee {
            inner: Summing::new(tar),
            spool: store.temporary_file()?,
            failed: None,
        };
        let mut buffered = BufReader::with_capacity(read::BUFFER, &mut tee);
        let read = read::each_frame(&mut buffered, &what, |frames, frame, _, _| {
            let Some(sparse) = &frame.sparse else {
                return Ok(());
            };
            let file = match &mut wholes {
                Some(file) => file,
                none => none.insert(LaidOut::new(store)?),
            };
            file.push(frames, sparse, &what)
        });
        drop(buffered);
        if let Some(failure) = tee.failed.take() {
            return Err(Error::io("write", tee.spool.path())(failure));
        }
        read.map(|()| (tee.spool, tee.inner.finish()))
    })?;
    read::check_diff_id(layer, Some(diff_id), found)?;
    let start = match wholes {
        Some(wholes) => wholes.append_to(&mut file)?,
        None => length,
    };
    let mut footer = [length.to_le_bytes(), start.to_le_bytes()].concat();
    footer.extend(sum_of(&end, &footer).to_le_bytes());
    end.extend(footer);
    end.extend(MAGIC);
    let path = file.path();
    let at = file.file().metadata().map_err(Error::io("read", path))?;
    let written = file.file().write_all_at(&end, at.len());
    written.map_err(Error::io("write", path))?;
    store.keep_sidecar(Sidecar::Spool(*diff_id), file)?;
    open(store, diff_id)?.ok_or_else(|| Error::Damaged {
        path: store.sidecar_path(Sidecar::Spool(*diff_id)),
    })
}

/// Sums the chunks of what is read.
struct Summing<R> {
    inner: R,
    length: u64,
    now: crc32fast::Hasher,
    sums: Vec<u8>,
}

impl<R> Summing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            length: 0,
            now: crc32fast::Hasher::new(),
            sums: Vec::new(),
        }
    }

    fn close(&mut self) {
        let sum = std::mem::take(&mut self.now).finalize();
        self.sums.extend(sum.to_le_bytes());
    }

    /// How many bytes were read, and the sums.
    fn finish(mut self) -> (u64, Vec<u8>) {
        if !self.length.is_multiple_of(CHUNK) {
            self.close();
        }
        (self.length, self.sums)
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // No read crosses the end of a chunk.
        let room = (CHUNK - self.length % CHUNK).min(buffer.len() as u64) as usize;
        let taken = self.inner.read(&mut buffer[..room])?;
        self.now.update(&buffer[..taken]);
        self.length += taken as u64;
        if taken > 0 && self.length.is_multiple_of(CHUNK) {
            self.close();
        }
        Ok(taken)
    }
}
