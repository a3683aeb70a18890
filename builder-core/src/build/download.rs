//! Downloads of files behind URLs, whole or not at all, and only where the server doesn't say that they are as before.
//!
//! Follows RFC 9110, section 13: what was downloaded once is asked for under the condition that it has changed.

use std::io::{Read, Write as _};

use crate::build::remote::{Remote, decode, io_error};
use crate::cache::Cache;
use crate::cache::urls::{UrlMemo, Validator};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::http::{self, Request, Response, without_user};
use crate::registry::base64;
use crate::timestamp::Timestamp;

/// A file that was downloaded, whole.
pub(crate) struct Download {
    /// Without a name; its position is at the end.
    pub(crate) file: std::fs::File,
    /// Of its bytes.
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was last modified, where the server says so.
    pub(crate) modified: Option<Timestamp>,
}

/// What became of a visit to a URL.
pub(crate) enum Visit {
    /// The server has the bytes of this digest, as it had before; they are not here.
    Unchanged(Digest),
    /// The server sent what it has.
    Downloaded(Download),
}

/// So often is a server asked that can't be reached.
const ATTEMPTS: u32 = 4;
/// So many bytes are moved between two events.
const PROGRESS_BYTES: u64 = 4 << 20;
/// The status of an answer without a body, because nothing has changed.
const NOT_MODIFIED: u16 = 304;

impl Remote<'_> {
    /// Downloads what `url` names; messages call it `shown`.
    pub(crate) fn fetch(&self, url: &str, shown: &str) -> Result<Download> {
        let (response, _) = self.ask(&request(url), shown)?;
        self.receive(response, shown)
    }

    /// Downloads what `url` names, and remembers what the server calls it. Where something is remembered and
    /// `conditional` is set, the server may say instead that nothing has changed.
    pub(crate) fn visit(&self, url: &str, conditional: bool) -> Result<Visit> {
        let (shown, request) = (without_user(url), request(url));
        let (cache, name) = (Cache::new(self.store), name_of(&request));
        let mut answer = None;
        if let Some(memo) = cache.url(&name).filter(|_| conditional) {
            let (header, value) = memo.validator.condition();
            let under_condition = request.clone().with_header(header, value);
            let (response, place) = self.ask(&under_condition, &shown)?;
            if response.status != NOT_MODIFIED {
                answer = Some((response, place));
            } else if memo.is_meant(&response, &place) {
                return Ok(Visit::Unchanged(memo.body));
            }
        }
        let (response, place) = answer.map_or_else(|| self.ask(&request, &shown), Ok)?;
        let validator = Validator::of(&response);
        let download = self.receive(response, &shown)?;
        if let Some(validator) = validator {
            let place = validator.place(&place);
            let memo = UrlMemo {
                name,
                validator,
                place,
                body: download.digest,
            };
            cache.put_url(&memo)?;
        }
        Ok(Visit::Downloaded(download))
    }

    /// Sends a request, several times where the server can't be reached. The answer, and the URL that gave it.
    fn ask(&self, request: &Request, shown: &str) -> Result<(Response, String)> {
        let Some(transport) = self.transport else {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{shown}` needs a network, and this build has none"),
            )
            .with_help("give the build a transport"));
        };
        let ask = || http::follow_to(transport, request, &|_| ());
        // A server may have closed connections that were kept open for the next request: it is asked again.
        let mut answer = ask();
        for _ in 1..ATTEMPTS {
            if self.interrupt.is_set() || !matches!(answer, Err(http::Error::Unreachable { .. })) {
                break;
            }
            answer = ask();
        }
        answer.map_err(|error| {
            let message = format!("`{shown}` can't be downloaded");
            let failed = Error::new(ErrorKind::Context, message).with_source(error);
            self.interrupt.check().err().unwrap_or(failed)
        })
    }

    /// Reads an answer to its end.
    fn receive(&self, response: Response, shown: &str) -> Result<Download> {
        if response.status != 200 {
            let message = format!(
                "`{shown}` can't be downloaded: the server answered with status {}",
                response.status
            );
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("open the URL elsewhere and check that it is right"));
        }
        let modified = response.header("last-modified").and_then(http::date::parse);
        let announced = response
            .header("content-length")
            .and_then(|length| length.parse::<u64>().ok());
        let (file, digest, size) = self.read(shown, announced, response.body)?;
        if announced.is_some_and(|announced| announced != size) {
            let message = format!(
                "the download of `{shown}` ended after {size} bytes, {} were announced",
                announced.unwrap_or(0)
            );
            return Err(Error::new(ErrorKind::Context, message).with_help("try again"));
        }
        Ok(Download {
            file,
            digest,
            size,
            modified,
        })
    }

    fn read(
        &self,
        shown: &str,
        announced: Option<u64>,
        mut body: Box<dyn Read + Send>,
    ) -> Result<(std::fs::File, Digest, u64)> {
        // Without a name from the beginning: it is gone when the build ends, however it ends.
        let mut file = self
            .store
            .temporary_file()?
            .file()
            .try_clone()
            .map_err(|error| io_error(shown, error))?;
        let (mut hasher, mut size, mut told) = (Hasher::new(), 0_u64, 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            self.interrupt.check()?;
            let read = body.read(&mut buffer).map_err(|error| {
                let message = format!("the download of `{shown}` broke off after {size} bytes");
                let broken = Error::new(ErrorKind::Context, message).with_help("try again");
                let stopped = self.interrupt.check().err();
                stopped.unwrap_or_else(|| broken.with_source(error))
            })?;
            if size - told >= PROGRESS_BYTES || (read == 0 && told > 0) {
                told = size;
                self.events.send(Event::Transfer {
                    what: shown.to_owned(),
                    digest: None,
                    done_bytes: size,
                    total_bytes: announced,
                });
            }
            if read == 0 {
                self.interrupt.check()?;
                return Ok((file, hasher.finish(), size));
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])
                .map_err(|error| io_error(shown, error))?;
            size += read as u64;
        }
    }
}

/// Asks for a URL. User name and password in it become a header, which stays with the host.
fn request(url: &str) -> Request {
    let plain = without_user(url);
    let user = url.strip_suffix(plain.split_once("://").map_or("", |(_, rest)| rest));
    let user = user.and_then(|start| start.split_once("://")?.1.strip_suffix('@'));
    let request = Request::new("GET", plain.as_str());
    match user {
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = [decode(name), decode(password)].join(&b':');
            request.with_header("Authorization", format!("Basic {}", base64(&pair)))
        }
        None => request,
    }
}

/// What a memo of a request is called: the digest of all that decides the answer. A password is in it, and not to be
/// read from it.
fn name_of(request: &Request) -> Digest {
    let headers = request.headers.iter();
    let headers: Vec<String> = headers
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    Digest::of(format!("{}\n{}", request.url, headers.join("\n")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_a_url_becomes_a_header() {
        let asked = request("http://me:s%40crt@h:1/a@b?c");
        assert_eq!(asked.url, "http://h:1/a@b?c");
        let header = ("Authorization".to_owned(), "Basic bWU6c0BjcnQ=".to_owned());
        assert_eq!(asked.headers, [header]);
        assert!(request("http://h/a@b").headers.is_empty());
    }

    #[test]
    fn who_asks_is_part_of_a_memo_s_name() {
        let names = [
            "http://h/a",
            "http://h/b",
            "http://me@h/a",
            "http://me:x@h/a",
        ];
        let names = names.map(|url| name_of(&request(url)));
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{at}");
        }
    }
}
