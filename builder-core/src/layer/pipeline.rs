//! Threads that compress blocks: the caller fills, workers compress, one writer puts in order, hashes and writes.
//!
//! Memory is bounded by the number of slots, each with one block and its compressed form; a slot goes round and round.
//! Which thread compresses a block never decides its bytes. Every thread ends when its channel closes, so an error
//! anywhere ends all of them: the writer's answer is the error, and the caller meets it at its next block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::block;
use super::blocks::{Block, BlockMap};
use super::compress::{self, Compression};
use super::error::{Error, Result};
use super::previous::Previous;
use super::record::DataRange;
use crate::digest::Digest;
use crate::store::{BlobWriter, Store};

/// One block on its way.
#[derive(Debug)]
pub(super) struct Slot {
    /// The tar bytes; always [`block::MAX`] long.
    pub(super) raw: Vec<u8>,
    /// How many of them belong to the block.
    pub(super) filled: usize,
    out: Vec<u8>,
    as_it_is: bool,
    crc: u32,
    packed_crc: u32,
    content: Option<Digest>,
}

impl Slot {
    fn new() -> Self {
        Self {
            raw: vec![0; block::MAX],
            filled: 0,
            out: Vec::new(),
            as_it_is: false,
            crc: 0,
            packed_crc: 0,
            content: None,
        }
    }

    /// The bytes of the block.
    pub(super) fn block(&self) -> &[u8] {
        &self.raw[..self.filled]
    }
}

/// A blob that is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

type Job = (u64, Slot);
type Done = (u64, Result<Slot>);

/// The running threads.
#[derive(Debug)]
pub(super) struct Pipeline {
    jobs: Option<Sender<Job>>,
    free: Receiver<Slot>,
    workers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<Result<Written>>>,
    /// Told when all blocks were sent; closed without a word, the blob is given up.
    complete: Option<Sender<u64>>,
    next: u64,
    made: usize,
    slots: usize,
}

impl Pipeline {
    /// Starts `threads` workers, at least one, and a writer into a new blob of `store`. Blocks that `previous` has are
    /// taken from there.
    pub(super) fn start(
        store: &Store,
        compression: Compression,
        threads: usize,
        previous: Option<Previous>,
    ) -> Result<Self> {
        let previous = previous.map(Arc::new);
        let threads = threads.clamp(1, 256);
        let slots = 2 * threads + 2;
        let (jobs, jobs_out) = bounded::<Job>(slots);
        let (done_in, done) = bounded::<Done>(slots);
        let (free_in, free) = bounded::<Slot>(slots);
        let (complete, completed) = bounded::<u64>(1);
        let blob = store.blob_writer()?;
        let worker = |_| {
            let (jobs, done) = (jobs_out.clone(), done_in.clone());
            let previous = previous.clone();
            let run = move || work(compression, previous.as_deref(), &jobs, &done);
            std::thread::Builder::new().spawn(run)
        };
        // Where no more threads can be started, fewer compress; one must.
        let started = (0..threads).map(worker).take_while(Result::is_ok);
        let workers: Vec<JoinHandle<()>> = started.flatten().collect();
        if workers.is_empty() {
            return Err(Error::Threads {
                source: std::io::Error::last_os_error(),
            });
        }
        let output = Output {
            store: store.clone(),
            compression,
            blob,
            crc: crc32fast::Hasher::new(),
            tar_length: 0,
            blocks: Vec::new(),
        };
        let writer =
            std::thread::Builder::new().spawn(move || output.run(&done, &free_in, &completed));
        let writer = writer.map_err(|source| Error::Threads { source })?;
        Ok(Self {
            jobs: Some(jobs),
            free,
            workers,
            writer: Some(writer),
            complete: Some(complete),
            next: 0,
            made: 0,
            slots,
        })
    }

    /// An empty slot, waiting for one if need be.
    pub(super) fn slot(&mut self) -> Result<Slot> {
        if let Ok(slot) = self.free.try_recv() {
            return Ok(slot);
        }
        if self.made < self.slots {
            self.made += 1;
            return Ok(Slot::new());
        }
        match self.free.recv() {
            Ok(slot) => Ok(slot),
            Err(_) => Err(self.failure()),
        }
    }

    /// Sends a block off.
    pub(super) fn send(&mut self, slot: Slot) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let sent = self.jobs.as_ref().map(|jobs| jobs.send((number, slot)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Waits until every block is written.
    pub(super) fn finish(mut self) -> Result<Written> {
        if let Some(complete) = self.complete.take() {
            // A writer that is gone has an error to tell; it comes with the join.
            complete.send(self.next).ok();
        }
        self.join()
    }

    /// The error that ended the threads.
    fn failure(&mut self) -> Error {
        self.complete = None;
        self.join().err().unwrap_or(Error::Pipeline)
    }

    fn join(&mut self) -> Result<Written> {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| Error::Pipeline)?;
        }
        let writer = self.writer.take().ok_or(Error::Pipeline)?;
        writer.join().map_err(|_| Error::Pipeline)?
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.complete = None;
        if self.writer.is_some() {
            self.join().ok();
        }
    }
}

/// A worker: compresses what comes until nothing comes any more, or nobody wants it.
fn work(
    compression: Compression,
    previous: Option<&Previous>,
    jobs: &Receiver<Job>,
    done: &Sender<Done>,
) {
    for (number, mut slot) in jobs {
        let result = pack(compression, previous, &mut slot).map(|()| slot);
        if done.send((number, result)).is_err() {
            return;
        }
    }
}

/// Gives a block its compressed form.
fn pack(compression: Compression, previous: Option<&Previous>, slot: &mut Slot) -> Result<()> {
    slot.crc = crc32fast::hash(slot.block());
    slot.as_it_is = compression.keeps(slot.block());
    slot.content = None;
    if slot.as_it_is {
        return Ok(());
    }
    let content = Digest::of(slot.block());
    slot.content = Some(content);
    let mut out = std::mem::take(&mut slot.out);
    let length = slot.block().len();
    let result = if previous.is_some_and(|previous| previous.take(&content, length, &mut out)) {
        Ok(())
    } else {
        compression.compress(slot.block(), &mut out)
    };
    slot.packed_crc = crc32fast::hash(&out);
    slot.out = out;
    result
}

/// The writer's state.
struct Output {
    store: Store,
    compression: Compression,
    blob: BlobWriter,
    crc: crc32fast::Hasher,
    tar_length: u64,
    blocks: Vec<Block>,
}

impl Output {
    fn run(
        mut self,
        done: &Receiver<Done>,
        free: &Sender<Slot>,
        completed: &Receiver<u64>,
    ) -> Result<Written> {
        self.blob.append(self.compression.prologue())?;
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (number, result) in done {
            waiting.insert(number, result?);
            while let Some(mut slot) = waiting.remove(&next) {
                self.write(&slot)?;
                slot.filled = 0;
                next += 1;
                // The caller may be gone already; then nobody needs the slot.
                free.send(slot).ok();
            }
        }
        if completed.recv() != Ok(next) {
            return Err(Error::Pipeline);
        }
        self.finish()
    }

    fn write(&mut self, slot: &Slot) -> Result<()> {
        let start = self.blob.written();
        let raw = slot.block();
        if !slot.as_it_is {
            self.blob.append(&slot.out)?;
        } else if matches!(self.compression, Compression::Gzip(_)) {
            for piece in raw.chunks(compress::STORED) {
                self.blob.append(&compress::stored_header(piece.len()))?;
                self.blob.append(piece)?;
            }
        } else {
            self.blob.append(raw)?;
        }
        let length = raw.len() as u64;
        self.crc
            .combine(&crc32fast::Hasher::new_with_initial_len(slot.crc, length));
        self.blocks.push(Block {
            tar: DataRange {
                offset: self.tar_length,
                len: length,
            },
            blob: DataRange {
                offset: start,
                len: self.blob.written() - start,
            },
            crc: slot.crc,
            packed_crc: slot.packed_crc,
            content: slot.content,
        });
        self.tar_length += length;
        Ok(())
    }

    fn finish(mut self) -> Result<Written> {
        let end = self
            .compression
            .epilogue(self.crc.finalize(), self.tar_length);
        self.blob.append(&end)?;
        let (digest, size) = self.blob.finish()?;
        let map = BlockMap::new(self.compression, self.blocks);
        map.keep(&self.store, &digest)?;
        Ok(Written { digest, size })
    }
}
