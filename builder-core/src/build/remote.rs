//! What comes from elsewhere or is taken apart: downloads, checkouts, archives.
//!
//! Everything lands in the store's folder for temporary files first, so that a checksum is known before anything is
//! used, and is gone when the build ends, however it ends.

use std::io::{self, Read, Seek};
use std::sync::Arc;

use crate::build::arrival::{self, Arrival, How, Origin};
use crate::build::checkout;
use crate::build::download::Download;
use crate::build::git::{self, GitSource};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventSink;
use crate::http::{Transport, without_user};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::archive::{ArchiveTree, Owners};
use crate::layer::detect_archive;
use crate::plan::step::{CopyStep, Spanned};
use crate::store::Store;
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
        // Where only the beginning was looked at, that it ends says nothing.
        let whole = head.len() as u64 >= size;
        match detect_archive(head.as_slice()) {
            Ok(None) => return Ok(None),
            Err(error) if !whole && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Ok(Some(_)) | Err(_) => {}
        }
        let whole = io::Cursor::new(head).chain(reader);
        let archive = ArchiveTree::read(self.store, name, whole, Owners::Kept)?;
        let node = archive.root();
        let archive = Arc::new(archive);
        Ok(Some(Arrival {
            tree: Box::new(Arc::clone(&archive)),
            node,
            how: How::Unpacked(archive, None),
            origin: Origin::Path,
        }))
    }

    /// What a download is to ADD: a file of mode 0600, owned by root, with the server's time or that of 1970.
    pub(crate) fn downloaded(
        &self,
        step: &CopyStep,
        url: &Spanned<String>,
        download: Download,
    ) -> Result<Arrival<'a>> {
        let shown = without_user(&url.value);
        let Download {
            mut file,
            digest,
            size,
            modified,
        } = download;
        let mtime = modified.unwrap_or_default();
        check(step, &shown, digest)?;
        if step.unpack == Some(true) {
            let rewound = file.rewind().and_then(|()| file.try_clone());
            let mut reader = rewound.map_err(|error| io_error(&shown, error))?;
            if let Some(unpacked) = self.unpack(&shown, size, &mut reader)? {
                let origin = Origin::Url;
                return Ok(Arrival { origin, ..unpacked });
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
            origin: Origin::Url,
        })
    }

    /// The repository that a source of ADD names.
    pub(crate) fn repository(step: &CopyStep, url: &Spanned<String>) -> Result<GitSource> {
        let checksum = step.checksum.as_ref().map(|sum| sum.value.as_str());
        GitSource::parse(&url.value, step.keep_git_dir, checksum)
    }

    /// Checks out a repository: files 0644 or 0755, owned by root, without what `--exclude` leaves out. With the
    /// commit's id.
    pub(crate) fn checked_out(
        &self,
        step: &CopyStep,
        source: &GitSource,
    ) -> Result<(Arrival<'a>, String)> {
        let place = self.store.temporary_directory()?;
        let checkout = checkout::make(source, place, self.git, self.interrupt)?;
        let commit = checkout.commit.clone();
        let tree = checkout::CheckedOut::open(checkout, source)?;
        let Some(node) = tree.look_up(&ImagePath::root())? else {
            return Err(Error::new(ErrorKind::Internal, "a checkout vanished"));
        };
        let exclude = arrival::exclusions(step)?;
        let arrival = Arrival {
            origin: Origin::Git,
            ..arrival::directory(tree, node, &exclude)
        };
        Ok((arrival, commit))
    }
}

pub(crate) fn io_error(shown: &str, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("the download of `{shown}` can't be kept"),
    )
    .with_source(error)
}

/// `--checksum=sha256:…`.
pub(crate) fn check(step: &CopyStep, shown: &str, found: Digest) -> Result<()> {
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
pub(crate) fn file_name(url: &str) -> Vec<u8> {
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
pub(crate) fn decode(text: &str) -> Vec<u8> {
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
