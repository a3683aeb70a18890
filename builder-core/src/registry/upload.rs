//! How a blob gets into a repository: in one request, and in pieces where one request is too large for what stands in
//! front of the registry.
//!
//! Follows the OCI distribution specification, "Pushing a blob monolithically" and "Pushing a blob in chunks".

use std::path::{Path, PathBuf};

use super::Registry;
use super::client::{Action, Call, Sent, location};
use super::error::{Error, Result};
use super::place::Place;
use super::retry::{ATTEMPTS, LONGEST_PAUSE, backoff};
use crate::event::Event;
use crate::http::{Body, Request, Response};
use crate::oci::Descriptor;

/// For messages.
const VERB: &str = "the upload of a blob";
/// The first piece is so large, in bytes. What limits bodies mostly allows more, and each request costs a round trip.
const FIRST_PIECE: u64 = 32 << 20;
/// A piece that is too large is tried as one so much smaller.
const SHRINK: u64 = 8;
/// No piece is smaller: below that everything is refused, whatever its size.
const LEAST_PIECE: u64 = 256 << 10;

/// An upload that was begun.
pub(super) struct Session {
    /// Where it goes on.
    pub(super) url: String,
    /// The smallest piece that the registry takes, in bytes, where it takes pieces and says so.
    pub(super) least: Option<u64>,
}

impl Session {
    /// What an answer of 202 begins.
    pub(super) fn of(
        registry: &Registry<'_>,
        place: &Place,
        url: &str,
        response: &Response,
    ) -> Result<Self> {
        let least = response.header("oci-chunk-min-length");
        Ok(Self {
            url: location(&registry.link, place, url, response)?,
            least: least.and_then(|least| least.trim().parse().ok()),
        })
    }
}

/// What came of one way to send a blob.
enum Outcome {
    Done,
    /// It may work with a new session, after a pause that the server may have named.
    Again(Error, Option<std::time::Duration>),
    /// The body is too large for who answered.
    TooLarge(Error),
}

impl Registry<'_> {
    /// Sends a blob in one request; begins anew where that breaks. What is too large for one request is sent in pieces,
    /// once; so is what a registry names a size of pieces for.
    pub(super) fn upload(
        &self,
        place: &Place,
        blob: &Descriptor,
        path: &Path,
        mut session: Option<Session>,
    ) -> Result<()> {
        let call = Call::new(place, Action::Push);
        let (mut attempt, mut in_pieces) = (1, false);
        loop {
            let begun = match session.take() {
                Some(begun) => begun,
                None => self.begin_upload(&call)?,
            };
            self.progress(blob, 0);
            in_pieces |= begun.least.is_some() && blob.size > FIRST_PIECE;
            let outcome = if in_pieces {
                self.send_pieces(&call, blob, path, &begun)?
            } else {
                self.send_whole(&call, blob, path, &begun.url)?
            };
            let (error, after) = match outcome {
                Outcome::Done => {
                    self.progress(blob, blob.size);
                    return Ok(());
                }
                Outcome::TooLarge(_) if !in_pieces && blob.size > LEAST_PIECE => {
                    in_pieces = true;
                    continue;
                }
                Outcome::TooLarge(error) => return Err(error),
                Outcome::Again(error, after) => (error, after),
            };
            if attempt >= ATTEMPTS || after.is_some_and(|after| after > LONGEST_PAUSE) {
                return Err(error);
            }
            self.link
                .wait(after.unwrap_or_default().max(backoff(attempt)))?;
            attempt += 1;
        }
    }

    pub(super) fn begin_upload(&self, call: &Call<'_>) -> Result<Session> {
        let url = call.place.url("blobs/uploads/");
        let (response, url) = self.call_to(call, &Request::new("POST", url))?;
        if response.status != 202 {
            return Err(self.refusal(call, "the beginning of an upload", response));
        }
        Session::of(self, call.place, &url, &response)
    }

    fn send_whole(
        &self,
        call: &Call<'_>,
        blob: &Descriptor,
        path: &Path,
        url: &str,
    ) -> Result<Outcome> {
        let request = Request::new("PUT", with_digest(url, blob))
            .with_header("Content-Type", "application/octet-stream")
            .with_body(piece(path, 0, blob.size));
        let sent = |bytes| self.progress(blob, bytes);
        match self.call_once(call, VERB, &request, &sent)? {
            Sent::Answered(response) if matches!(response.status, 200..=204) => Ok(Outcome::Done),
            Sent::Answered(response) => self.outcome(call, blob, response),
            Sent::Later(error, after) => Ok(Outcome::Again(error, after)),
        }
    }

    /// Sends a blob in pieces, the last one with the request that ends the upload. One that is too large never reached
    /// the registry: smaller ones take its place.
    fn send_pieces(
        &self,
        call: &Call<'_>,
        blob: &Descriptor,
        path: &Path,
        session: &Session,
    ) -> Result<Outcome> {
        let least = session.least.unwrap_or(0).max(LEAST_PIECE);
        let (mut url, mut done) = (session.url.clone(), 0);
        let mut size = FIRST_PIECE.min(blob.size.div_ceil(2)).max(least);
        loop {
            let left = blob.size - done;
            // Pieces of one length: a last one that is smaller than what the registry takes would be refused.
            let length = left.div_ceil((left / size).max(1));
            let is_last = length == left;
            let request = if is_last {
                Request::new("PUT", with_digest(&url, blob))
            } else {
                Request::new("PATCH", &url)
            };
            let request = request
                .with_header("Content-Type", "application/octet-stream")
                .with_header("Content-Range", format!("{done}-{}", done + length - 1))
                .with_body(piece(path, done, length));
            let sent = |bytes| self.progress(blob, done + bytes);
            let response = match self.call_once(call, VERB, &request, &sent)? {
                Sent::Answered(response) => response,
                Sent::Later(error, after) => return Ok(Outcome::Again(error, after)),
            };
            if response.status == 413 && size > least {
                size = (size / SHRINK).max(least);
                continue;
            }
            if !matches!(response.status, 200..=204) {
                return self.outcome(call, blob, response);
            }
            if is_last {
                return Ok(Outcome::Done);
            }
            if response.header("location").is_some() {
                url = location(&self.link, call.place, &url, &response)?;
            }
            done += length;
        }
    }

    /// What a failed answer means for the upload.
    fn outcome(&self, call: &Call<'_>, blob: &Descriptor, response: Response) -> Result<Outcome> {
        let status = response.status;
        let error = self.refusal(call, VERB, response);
        let (registry, detail) = match &error {
            Error::Denied {
                registry, detail, ..
            }
            | Error::Status {
                registry, detail, ..
            } => (registry.clone(), detail.clone()),
            _ => return Err(error),
        };
        let too_large = Error::TooLarge {
            registry,
            digest: blob.digest,
            size: blob.size,
            status,
            detail: detail.clone(),
        };
        match status {
            413 => Ok(Outcome::TooLarge(too_large)),
            // The session is gone, or the token was too old: both heal with a new session.
            401 | 404 => Ok(Outcome::Again(error, None)),
            _ if detail.is_some_and(|detail| speaks_of_size(&detail)) => Err(too_large),
            _ => Err(error),
        }
    }

    pub(super) fn progress(&self, blob: &Descriptor, done_bytes: u64) {
        self.events.send(Event::Transfer {
            what: format!("push {}", blob.digest.short()),
            digest: Some(blob.digest),
            done_bytes,
            total_bytes: Some(blob.size),
        });
    }
}

/// Whether a refusal is about how much there is. Registries have no code of their own for it.
fn speaks_of_size(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [
        "quota",
        "too large",
        "size limit",
        "storage limit",
        "exceeds",
    ]
    .iter()
    .any(|word| words.contains(word))
}

fn piece(path: &Path, offset: u64, length: u64) -> Body {
    Body::File {
        path: PathBuf::from(path),
        offset,
        length,
    }
}

fn with_digest(location: &str, blob: &Descriptor) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    let digest = crate::http::encoding::encode(&[("digest", blob.digest.to_string())]);
    format!("{location}{joint}{digest}")
}
