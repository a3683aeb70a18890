//! Entries to a layer: tar bytes, diff ID, compressed blob and index, in one pass.
//!
//! Follows the OCI image layer specification. The same entries give the same bytes, whatever the number of threads;
//! the golden digests of the tests hold them from one version to the next. Memory is a few blocks of 1 MiB a thread,
//! whatever the layer's size.

use std::io::Read;

use super::block;
use super::compress::Compression;
use super::error::{Error, Result};
use super::header;
use super::index_writer::{IndexWriter, Problem};
use super::pipeline::{Pipeline, Slot};
use super::previous::Previous;
use super::record::{DataRange, Mark, Record};
use super::whiteout;
use crate::digest::{DiffId, Hasher};
use crate::entry::{Entry, EntryKind};
use crate::image_path::ImagePath;
use crate::oci::Descriptor;
use crate::store::{Sidecar, Store};
use crate::timestamp::Timestamp;

/// How a layer is made.
#[derive(Clone, Copy, Debug)]
pub struct LayerOptions {
    /// How its tar is compressed.
    pub compression: Compression,
    /// No time in the tar is later. The index keeps the times as they came.
    pub epoch: Option<Timestamp>,
    /// Number of threads that compress, at least 1. It doesn't change a byte.
    pub threads: usize,
}

/// A layer in the store: blob, block map and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob, with OCI's media type.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Number of entries, whiteouts included.
    pub entries: u64,
    /// Length of the uncompressed tar in bytes.
    pub tar_size: u64,
}

/// A layer in the making. Dropped before [`LayerWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct LayerWriter {
    store: Store,
    options: LayerOptions,
    pipeline: Pipeline,
    slot: Option<Slot>,
    hasher: Hasher,
    /// Bytes of the tar, those in the slot included.
    bytes: u64,
    entries: u64,
    index: IndexWriter,
    last: Option<(ImagePath, Last)>,
    header: Vec<u8>,
}

/// What the last entry of a path was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Entry,
    Whiteout,
    Opaque,
}

impl LayerWriter {
    /// Starts a layer and its threads.
    pub fn new(store: &Store, options: &LayerOptions) -> Result<Self> {
        Self::with_previous(store, options, None)
    }

    /// The same, for a layer that is like an older one: compressed blocks of the older blob, where it is here, are taken
    /// as they are where their tar bytes are equal. It doesn't change a byte.
    pub fn with_previous(
        store: &Store,
        options: &LayerOptions,
        previous: Option<&Descriptor>,
    ) -> Result<Self> {
        let compression = options.compression;
        let previous = previous.and_then(|blob| Previous::open(store, blob, compression));
        Ok(Self {
            store: store.clone(),
            options: *options,
            pipeline: Pipeline::start(store, compression, options.threads, previous)?,
            slot: None,
            hasher: Hasher::new(),
            bytes: 0,
            entries: 0,
            index: IndexWriter::new(store)?,
            last: None,
            header: Vec::new(),
        })
    }

    /// Adds an entry. Entries come in the order of [`ImagePath`]; a hard link comes after its target. Of a regular
    /// file exactly its size is read from `content`; fewer or more bytes are an error that names the path. Sockets are
    /// left out, and of the attributes everything but `security.capability`.
    pub fn append(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        if matches!(entry.kind, EntryKind::Socket) {
            return Ok(());
        }
        self.check_order(&entry.path, Last::Entry)?;
        let mut kept = entry.clone();
        kept.mode &= 0o7777;
        kept.xattrs.retain(|name, _| name == header::CAPABILITY);
        for value in kept.xattrs.values_mut() {
            *value = header::capability(value).unwrap_or_default();
        }
        kept.xattrs.retain(|_, value| !value.is_empty());
        let offset = self.put_header(&kept)?;
        let data = matches!(kept.kind, EntryKind::File { .. }).then(|| DataRange {
            offset,
            len: kept.size(),
        });
        if entry.size() > 0 {
            self.put_content(entry, content)?;
        }
        self.add_record(Record::present(kept, data))
    }

    /// Hides a path of the layers below. It comes where the path itself would come; the path may follow, made anew.
    pub fn append_whiteout(&mut self, path: &ImagePath) -> Result<()> {
        let Some(marker) = whiteout::whiteout_of(path) else {
            return Err(self.out_of_order(path));
        };
        self.check_order(path, Last::Whiteout)?;
        self.put_header(&marker_entry(marker))?;
        self.add_record(Record::whiteout(path.clone()))
    }

    /// Hides what the layers below have in a directory. It comes right after the directory's entry, or in its place.
    pub fn append_opaque(&mut self, directory: &ImagePath) -> Result<()> {
        self.check_order(directory, Last::Opaque)?;
        self.put_header(&marker_entry(whiteout::opaque_of(directory)))?;
        let mut record = Record::implicit(directory.clone());
        record.opaque = true;
        self.add_record(record)
    }

    /// Bytes of the tar so far, without its end.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries so far, whiteouts included.
    pub fn files(&self) -> u64 {
        self.entries
    }

    /// Ends the tar, waits for the threads, and stores blob, block map and index.
    pub fn finish(mut self) -> Result<Layer> {
        self.send()?;
        self.put(&[0; header::END])?;
        self.send()?;
        let written = self.pipeline.finish()?;
        let diff_id = DiffId(self.hasher.finish());
        let index = self.index.finish(&self.store).map_err(own)?;
        self.store.keep_sidecar(Sidecar::Index(diff_id), index)?;
        let media_type = self.options.compression.media_type();
        Ok(Layer {
            descriptor: Descriptor::new(media_type, written.digest, written.size),
            diff_id,
            entries: self.entries,
            tar_size: self.bytes,
        })
    }

    fn out_of_order(&self, path: &ImagePath) -> Error {
        let after = self.last.as_ref().map(|(last, _)| last.clone());
        Error::Order {
            path: path.clone(),
            after: after.unwrap_or_default(),
        }
    }

    /// Refuses what would come before the last entry, or twice.
    fn check_order(&mut self, path: &ImagePath, what: Last) -> Result<()> {
        if let Some((last, was)) = &self.last {
            let allowed = matches!(
                (was, what),
                (Last::Whiteout, Last::Entry) | (Last::Entry, Last::Opaque)
            );
            if path < last || (path == last && !allowed) {
                return Err(self.out_of_order(path));
            }
        }
        self.last = Some((path.clone(), what));
        Ok(())
    }

    /// Writes an entry's header where the block rule wants it; gives the offset of what follows.
    fn put_header(&mut self, entry: &Entry) -> Result<u64> {
        let mut written = std::mem::take(&mut self.header);
        written.clear();
        if entry.mtime > entry.mtime.clamp_to(self.options.epoch) {
            let mut clamped = entry.clone();
            clamped.mtime = entry.mtime.clamp_to(self.options.epoch);
            header::write(&clamped, &mut written)?;
        } else {
            header::write(entry, &mut written)?;
        }
        let size = entry.size();
        let length = written.len() as u64 + size + header::padding(size) as u64;
        let filled = self.slot.as_ref().map_or(0, |slot| slot.filled);
        if block::starts_block(entry.path.as_relative(), length, filled) {
            self.send()?;
        }
        self.put(&written)?;
        self.header = written;
        self.entries += 1;
        Ok(self.bytes)
    }

    /// Reads a file's bytes straight into blocks.
    fn put_content(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let mut nothing = std::io::empty();
        let content = content.unwrap_or(&mut nothing);
        let wrong = |found, longer| Error::ContentSize {
            path: entry.path.clone(),
            expected: entry.size(),
            found,
            longer,
        };
        let mut left = entry.size();
        while left > 0 {
            let slot = self.slot_with_room()?;
            let room = (block::MAX - slot.filled).min(usize::try_from(left).unwrap_or(usize::MAX));
            let taken = read(content, &mut slot.raw[slot.filled..][..room], entry)?;
            if taken == 0 {
                return Err(wrong(entry.size() - left, false));
            }
            slot.filled += taken;
            left -= taken as u64;
            self.bytes += taken as u64;
        }
        if read(content, &mut [0], entry)? > 0 {
            return Err(wrong(entry.size(), true));
        }
        self.put(&[0; header::UNIT][..header::padding(entry.size())])
    }

    /// Appends bytes to the tar, over the end of a block if need be.
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let slot = self.slot_with_room()?;
            let taken = bytes.len().min(block::MAX - slot.filled);
            slot.raw[slot.filled..][..taken].copy_from_slice(&bytes[..taken]);
            slot.filled += taken;
            self.bytes += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The slot being filled; a full one is sent off first.
    fn slot_with_room(&mut self) -> Result<&mut Slot> {
        if self
            .slot
            .as_ref()
            .is_some_and(|slot| slot.filled == block::MAX)
        {
            self.send()?;
        }
        match &mut self.slot {
            Some(slot) => Ok(slot),
            none => Ok(none.insert(self.pipeline.slot()?)),
        }
    }

    /// Ends the block: hashes it while it is warm, and sends it off.
    fn send(&mut self) -> Result<()> {
        if let Some(slot) = self.slot.take() {
            self.hasher.update(slot.block());
            self.pipeline.send(slot)?;
        }
        Ok(())
    }

    fn add_record(&mut self, record: Record) -> Result<()> {
        debug_assert!(record.mark == Mark::Whiteout || record.data.is_none_or(|d| d.offset > 0));
        self.index.push(record, self.entries).map_err(own)
    }
}

/// The entry of a marker: an empty file without rights and without a time.
fn marker_entry(path: ImagePath) -> Entry {
    Entry::file(path, 0, 0, Timestamp::default())
}

fn read(content: &mut dyn Read, buffer: &mut [u8], entry: &Entry) -> Result<usize> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Content {
                    path: entry.path.clone(),
                    source,
                });
            }
            Ok(taken) => return Ok(taken),
        }
    }
}

/// A caller that hands in impossible entries: names them.
fn own(problem: Problem) -> Error {
    match problem {
        Problem::Other(error) => error,
        Problem::Tar(path, problem) => Error::Tar {
            archive: true,
            source_name: "the new layer".to_owned(),
            entry: Some(path.as_relative().to_vec()),
            problem,
        },
    }
}
