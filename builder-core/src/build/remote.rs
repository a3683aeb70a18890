//! What comes from elsewhere or is taken apart: downloads, checkouts, archives.
//!
//! Everything lands in the store's folder for temporary files first, so that a checksum is known before anything is
//! used, and is gone when the build ends, however it ends.

use std::io::{Read, Seek, Write as _};

use std::sync::Arc;

use crate::build::arrival::{Arrival, How};
use crate::build::git;
use crate::digest::{Digest, Hasher};
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::http::{self, Request, Transport, without_user};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::archive::{ArchiveTree, Owners};
use crate::layer::detect_archive;
use crate::plan::step::{CopyStep, Spanned};
use crate::registry::auth::base64;
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::tree::Tree;
use crate::tree::files::{Content, Files};

/// The means to reach what is elsewhere.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// For temporary files.
    pub store: &'a Store,
    /// For downloads; none where there is no network.
    pub transport: Option<&'a dyn Transport>,
    /// How git is called.
    pub git: &'a git::GitOptions,
    /// Is told how far a download is.
    pub events: &'a dyn EventSink,
    /// Stops a download.
    pub interrupt: &'a Interrupt,
}

impl std::fmt::Debug for Remote<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// A file that was downloaded, whole.
pub(crate) struct Download {
    /// Without a name; its position is at the end.
    pub(crate) file: std::fs::File,
    digest: Digest,
    size: u64,
    mtime: Timestamp,
}

/// So often is a server asked that can't be reached.
const ATTEMPTS: u32 = 4;
/// So many bytes are moved between two events.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Enough of a file to tell what it is, in bytes: bzip2 gives nothing before a whole block of up to 900 kB.
const HEAD_BYTES: u64 = 2 << 20;

impl<'a> Remote<'a> {
    /// Takes a file apart if it is an archive: a tar, plain or compressed. None if it is anything else.
    pub(crate) fn unpack(
        &self,
        name: &str,
        size: u64,
        mut reader: &mut (dyn Read + Send),
    ) -> Result<Option<Arrival<'a>>> {
        let mut head = Vec::new();
        let unreadable = |error| {
            Error::new(ErrorKind::Context, format!("`{name}` can't be read")).with_source(error)
        };
        (&mut reader)
            .take(HEAD_BYTES.min(size))
            .read_to_end(&mut head)
            .map_err(unreadable)?;
        if detect_archive(head.as_slice()).is_none() {
            return Ok(None);
        }
        let whole = std::io::Cursor::new(head).chain(reader);
        let archive = ArchiveTree::read(self.store, name, whole, Owners::Kept)?;
        let node = archive.root();
        let archive = Arc::new(archive);
        Ok(Some(Arrival {
            tree: Box::new(Arc::clone(&archive)),
            node,
            how: How::Unpacked(archive, None),
        }))
    }

    /// Downloads a file: mode 0600, owned by root, with the server's time or that of 1970.
    pub(crate) fn url(&self, step: &CopyStep, url: &Spanned<String>) -> Result<Arrival<'a>> {
        let shown = without_user(&url.value);
        let Download {
            mut file,
            digest,
            size,
            mtime,
        } = self.fetch(&url.value, &shown)?;
        check(step, &shown, digest)?;
        if step.unpack == Some(true) {
            let rewound = file.rewind().and_then(|()| file.try_clone());
            let mut reader = rewound.map_err(|error| io_error(&shown, error))?;
            if let Some(unpacked) = self.unpack(&shown, size, &mut reader)? {
                return Ok(unpacked);
            }
        }
        let name = file_name(&url.value);
        if name.is_empty() && step.destination.directory {
            return Err(
                Error::new(ErrorKind::Dockerfile, format!("`{shown}` names no file"))
                    .with_help("write the file's name at the end of the destination"),
            );
        }
        let name = if name.is_empty() {
            b"download".to_vec()
        } else {
            name
        };
        let entry = Entry::file(ImagePath::root().child(&name), size, 0o600, mtime);
        let mut files = Files::default();
        files.add(entry.clone(), Content::Open(file));
        let node = crate::tree::Node::new(entry);
        Ok(Arrival {
            tree: Box::new(files),
            node,
            how: How::File(name),
        })
    }

    /// Downloads what `url` names; messages call it `shown`.
    pub(crate) fn fetch(&self, url: &str, shown: &str) -> Result<Download> {
        let Some(transport) = self.transport else {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{shown}` needs a network, and this build has none"),
            )
            .with_help("give the build a transport"));
        };
        // A server may have closed connections that were kept open for the next request: it is asked again.
        let mut response = http::follow(transport, &request(url));
        for _ in 1..ATTEMPTS {
            if self.interrupt.is_set() || !matches!(response, Err(http::Error::Unreachable { .. }))
            {
                break;
            }
            response = http::follow(transport, &request(url));
        }
        let response = response.map_err(|error| {
            let message = format!("`{shown}` can't be downloaded");
            let failed = Error::new(ErrorKind::Context, message).with_source(error);
            self.interrupt.check().err().unwrap_or(failed)
        })?;
        if response.status != 200 {
            let message = format!(
                "`{shown}` can't be downloaded: the server answered with status {}",
                response.status
            );
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("open the URL elsewhere and check that it is right"));
        }
        let mtime = response
            .header("last-modified")
            .and_then(http::date::parse)
            .unwrap_or_default();
        let announced = response
            .header("content-length")
            .and_then(|length| length.parse::<u64>().ok());
        let (file, digest, size) = self.download(shown, announced, response.body)?;
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
            mtime,
        })
    }

    fn download(
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

    /// Checks out a repository: files 0644 or 0755, owned by root.
    pub(crate) fn git(&self, step: &CopyStep, url: &Spanned<String>) -> Result<Arrival<'a>> {
        let place = self.store.temporary_directory()?;
        let source = git::GitSource::parse(
            &url.value,
            step.keep_git_dir,
            step.checksum.as_ref().map(|sum| sum.value.as_str()),
        )?;
        let checkout = git::checkout(&source, place, self.git, self.interrupt)?;
        let tree = git::CheckedOut::open(checkout, &source)?;
        let Some(node) = tree.look_up(&ImagePath::root())? else {
            return Err(Error::new(ErrorKind::Internal, "a checkout vanished"));
        };
        Ok(Arrival {
            tree: Box::new(tree),
            node,
            how: How::Contents,
        })
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

fn io_error(shown: &str, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("the download of `{shown}` can't be kept"),
    )
    .with_source(error)
}

/// `--checksum=sha256:…`.
fn check(step: &CopyStep, shown: &str, found: Digest) -> Result<()> {
    let Some(checksum) = &step.checksum else {
        return Ok(());
    };
    let expected: Digest =
        checksum
            .value
            .parse()
            .map_err(|error: crate::digest::ParseDigestError| {
                Error::new(ErrorKind::Dockerfile, error.to_string())
            })?;
    if expected == found {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Context,
        format!("`{shown}` is not what `--checksum` says"),
    )
    .with_note(format!("expected {expected}"))
    .with_note(format!("found    {found}"))
    .with_help("if the file was changed on purpose, put the new digest there"))
}

/// The last component of a URL's path, percent-decoded.
fn file_name(url: &str) -> Vec<u8> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or("");
    let Some((_, last)) = path
        .split_once('/')
        .map(|(_, path)| path.rsplit_once('/').unwrap_or(("", path)))
    else {
        return Vec::new();
    };
    let mut name = decode(last);
    name.retain(|byte| !matches!(byte, b'/' | 0));
    if name == b"." || name == b".." {
        Vec::new()
    } else {
        name
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex
            .filter(|_| *byte == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
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
    fn a_url_names_its_file() {
        for (url, expected) in [
            ("http://h/a/b.tar.gz", "b.tar.gz"),
            ("http://h/a/b%20c?x=/y#z", "b c"),
            ("http://h/a/", ""),
            ("http://h", ""),
            ("http://h/..", ""),
            ("http://h/x%2fy", "xy"),
            ("http://h/%zz", "%zz"),
        ] {
            assert_eq!(file_name(url), expected.as_bytes(), "{url}");
        }
    }
}
