//! A blob as it arrives: verified, and resumed where the connection breaks.
//!
//! Follows RFC 9110, section 14 (ranges). A server that ignores the range sends all again, and what we have is skipped.
//! What the registry doesn't have and the descriptor says where to get, as for layers that may not be handed on, is
//! fetched from there.

use std::io::{self, Read};

use super::Registry;
use super::document::is_packed;
use super::error::{Error, Result};
use super::place::Place;
use super::retry::{ATTEMPTS, backoff};
use crate::digest::Hasher;
use crate::event::Event;
use crate::http::Response;
use crate::oci::Descriptor;
use crate::store;

/// Progress is told once for so many bytes.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Reads a blob; never more bytes than its descriptor says.
pub(crate) struct BlobReader<'r> {
    registry: &'r Registry<'r>,
    place: Place,
    blob: Descriptor,
    body: Option<Box<dyn Read + Send>>,
    /// None where somebody else checks the digest.
    hasher: Option<Hasher>,
    done: u64,
    told: u64,
    /// Breaks since a byte came.
    breaks: u32,
    ended: bool,
    /// Where else it is read from, instead of the registry.
    elsewhere: Option<String>,
    /// Whether it comes packed on the way: then no range of what it unpacks to can be asked for.
    packed: bool,
}

impl<'r> BlobReader<'r> {
    /// Asks for the blob. With `check` the end of the stream fails if the digest is another one.
    pub(crate) fn open(
        registry: &'r Registry<'r>,
        place: &Place,
        blob: &Descriptor,
        check: bool,
    ) -> Result<Self> {
        let mut reader = Self {
            registry,
            place: place.clone(),
            blob: blob.clone(),
            body: None,
            hasher: check.then(|| Hasher::like(&blob.digest)),
            done: 0,
            told: 0,
            breaks: 0,
            ended: false,
            elsewhere: None,
            packed: false,
        };
        let mut found = reader.connect();
        for url in blob.urls.iter().flatten() {
            if !matches!(found, Err(Error::UnknownBlob { .. })) {
                break;
            }
            reader.elsewhere = Some(url.clone());
            if reader.connect().is_ok() {
                found = Ok(());
            }
        }
        found.map(|()| reader)
    }

    fn ask(&self) -> Result<Response> {
        let from = if self.packed { 0 } else { self.done };
        let (place, digest) = (&self.place, &self.blob.digest);
        match &self.elsewhere {
            Some(url) => self.registry.get_elsewhere(place, url, digest, from),
            None => self.registry.get_blob(place, digest, from),
        }
    }

    fn connect(&mut self) -> Result<()> {
        let response = self.ask()?;
        let start = match response.status {
            206 => range_start(&response).unwrap_or(self.done),
            _ => 0,
        };
        let length = response
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let whole: Option<u64> = length.map(|length: u64| start.saturating_add(length));
        // Some label what is packed anyway: a blob whose length is the body's is the body.
        self.packed = is_packed(&response) && whole != Some(self.blob.size);
        let whole = whole.filter(|_| !self.packed);
        if let Some(found) = whole.filter(|whole| *whole > self.blob.size) {
            return Err(self.wrong_size(found));
        }
        if start > self.done {
            return Err(Error::Nonsense {
                registry: self.place.endpoint.registry.clone(),
                verb: "the download of a blob",
                problem: "with another range than the one asked for",
            });
        }
        let mut body = response.body;
        if self.packed {
            body = Box::new(flate2::read::MultiGzDecoder::new(body));
        }
        let skip = self.done - start;
        if skip > 0 {
            // What breaks here breaks again at the next read.
            let _ = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        }
        self.body = Some(body);
        Ok(())
    }

    fn wrong_size(&self, found: u64) -> Error {
        store::Error::UnexpectedSize {
            digest: self.blob.digest,
            expected: self.blob.size,
            found,
        }
        .into()
    }

    /// One read; connects again where the body broke off.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            self.registry.link.check()?;
            if self.done == self.blob.size {
                self.finish()?;
                return Ok(0);
            }
            let limit = usize::try_from(self.blob.size - self.done).unwrap_or(usize::MAX);
            let limit = limit.min(buffer.len());
            let read = match &mut self.body {
                Some(body) => body.read(&mut buffer[..limit]),
                None => Ok(0),
            };
            match read {
                Ok(taken) if taken > 0 || limit == 0 => {
                    self.count(&buffer[..taken]);
                    return Ok(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.resume()?,
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.done += bytes.len() as u64;
        self.breaks = 0;
        if self.done - self.told >= PROGRESS_BYTES || self.done == self.blob.size {
            self.told = self.done;
            self.registry.events.send(Event::Transfer {
                what: format!("pull {}", self.blob.digest.short()),
                digest: Some(self.blob.digest),
                done_bytes: self.done,
                total_bytes: Some(self.blob.size),
            });
        }
    }

    fn resume(&mut self) -> Result<()> {
        self.body = None;
        self.breaks += 1;
        if self.breaks >= ATTEMPTS {
            return Err(Error::Broken {
                registry: self.place.endpoint.registry.clone(),
                digest: self.blob.digest,
                done: self.done,
                size: self.blob.size,
            });
        }
        self.registry.link.wait(backoff(self.breaks))?;
        self.connect()
    }

    /// Checks that nothing follows, and the digest.
    fn finish(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        if let Some(body) = &mut self.body
            && matches!(body.read(&mut [0]), Ok(1))
        {
            return Err(self.wrong_size(self.blob.size + 1));
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.blob.digest => Err(store::Error::Unexpected {
                expected: self.blob.digest,
                found,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

impl Read for BlobReader<'_> {
    /// The inner error is [`store::Error`] where the bytes are wrong, and [`Error`] otherwise.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(buffer).map_err(|error| match error {
            Error::Store(inner) => io::Error::new(io::ErrorKind::InvalidData, inner),
            other => io::Error::other(other),
        })
    }
}

/// Takes the error of a [`BlobReader`] out of its wrapping.
pub(crate) fn unwrap(error: io::Error, blob: &Descriptor) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => match error.downcast::<store::Error>() {
            Ok(own) => own.into(),
            Err(source) => Error::Io {
                verb: "copy",
                path: blob.digest.to_string().into(),
                source,
            },
        },
    }
}

/// Where a partial answer begins: `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let range = response.header("content-range")?.strip_prefix("bytes")?;
    range.trim_start().split('-').next()?.trim().parse().ok()
}
