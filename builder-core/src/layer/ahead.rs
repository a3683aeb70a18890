//! Reads a stream ahead in a thread of its own, so that decompressing goes on while what came out is used.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes handed over at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks in flight.
const CHUNKS: usize = 8;

/// Calls `visit` with a reader of `inner`'s bytes, which a thread reads ahead. What `visit` leaves is not read.
pub(super) fn read<T>(inner: &mut (dyn Read + Send), visit: impl FnOnce(&mut dyn Read) -> T) -> T {
    let (full, incoming) = bounded(CHUNKS);
    let (empty, spare) = bounded(CHUNKS);
    let inner = Mutex::new(Some(inner));
    let take = || inner.lock().unwrap_or_else(PoisonError::into_inner).take();
    std::thread::scope(|scope| {
        let run = move || {
            if let Some(inner) = take() {
                produce(inner, &full, &spare);
            }
        };
        let started = std::thread::Builder::new().spawn_scoped(scope, run);
        if started.is_err()
            && let Some(inner) = take()
        {
            // Where no more threads can be started, nothing is read ahead.
            return visit(inner);
        }
        visit(&mut Ahead {
            incoming,
            empty,
            chunk: Vec::new(),
            at: 0,
        })
    })
}

/// Reads chunks until the end, an error, or nobody wants more.
fn produce(
    inner: &mut (dyn Read + Send),
    full: &Sender<io::Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) {
    loop {
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        let failed = loop {
            match inner.read(&mut chunk[filled..]) {
                Ok(0) => break None,
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        chunk.truncate(filled);
        let last = filled < CHUNK;
        if full.send(Ok(chunk)).is_err() {
            return;
        }
        if let Some(error) = failed {
            // Nobody there to hear it is no problem of this thread's.
            let _ = full.send(Err(error));
            return;
        }
        if last {
            return;
        }
    }
}

/// The reading end.
struct Ahead {
    incoming: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            let Ok(next) = self.incoming.recv() else {
                return Ok(0);
            };
            // A full channel has spare chunks enough.
            let _ = self
                .empty
                .try_send(std::mem::replace(&mut self.chunk, next?));
            self.at = 0;
        }
        let taken = buffer.len().min(self.chunk.len() - self.at);
        buffer[..taken].copy_from_slice(&self.chunk[self.at..][..taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_all_bytes_and_the_error_at_its_place() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let bytes: Vec<u8> = (0..3 * CHUNK + 5).map(|at| (at % 251) as u8).collect();
        let mut inner = bytes.as_slice().chain(Failing);
        read(&mut inner, |ahead| {
            let mut found = vec![0; bytes.len()];
            ahead.read_exact(&mut found).unwrap();
            assert!(found == bytes);
            assert_eq!(ahead.read(&mut [0]).unwrap_err().to_string(), "torn");
        });
        let mut endless = io::repeat(1);
        read(&mut endless, |ahead| ahead.read_exact(&mut [0; 9]).unwrap());
    }
}
