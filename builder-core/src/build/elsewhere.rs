//! Contexts that are elsewhere: a tar or a Dockerfile behind a URL, or a git repository.
//!
//! Follows Docker's reference, "docker buildx build", "Build context". What came is not filtered by any ignore file,
//! and its files belong to root.

use std::io::{Read, Seek as _};

use crate::build::checkout::{self, CheckedOut};
use crate::build::download::Download;
use crate::build::git::GitSource;
use crate::build::remote::Remote;
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::http::for_message;
use crate::image_path::ImagePath;
use crate::layer::archive::{ArchiveTree, Owners};
use crate::layer::decompress::sniff;
use crate::layer::{Packing, detect_archive};
use crate::plan::lower::{SourceKind, source_kind};
use crate::timestamp::Timestamp;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Listing, Node, Tree};

/// Larger than this is no Dockerfile.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// Enough to tell what a file is.
const HEAD_BYTES: u64 = 2 << 20;

/// What a context that is elsewhere turned out to be.
#[derive(Debug)]
pub enum Fetched {
    /// Files.
    Files(Box<FetchedTree>),
    /// A Dockerfile alone.
    Dockerfile {
        /// Its text.
        bytes: Vec<u8>,
        /// When it was last modified, where the server says so.
        modified: Option<Timestamp>,
    },
}

/// The files of a context that was fetched. They are gone when it is dropped.
#[derive(Debug)]
pub struct FetchedTree {
    kind: Kind,
    /// When it was last modified, where a server or a commit says so.
    modified: Option<Timestamp>,
}

#[derive(Debug)]
enum Kind {
    Archive(ArchiveTree),
    Repository(CheckedOut),
}

/// Whether a context is named by a URL or as a git repository. A directory may have such a name too.
pub fn is_elsewhere(context: &str) -> bool {
    context.starts_with("github.com/") || source_kind(context) != SourceKind::Path
}

/// Downloads or checks out the context that `url` names. User name and password of a URL go to its host alone.
/// `keep_git_dir` says whether `.git` of a repository is in it; the URL's own query comes before it.
///
/// # Errors
/// [`ErrorKind::Context`] where it can't be had or is damaged, [`ErrorKind::Usage`] for a URL without a transport.
pub fn fetch(remote: &Remote<'_>, url: &str, keep_git_dir: Option<bool>) -> Result<Fetched> {
    if url.starts_with("github.com/") {
        return check_out(remote, &format!("https://{url}"), keep_git_dir);
    }
    match source_kind(url) {
        SourceKind::Url => download(remote, url),
        SourceKind::Git | SourceKind::Path => check_out(remote, url, keep_git_dir),
    }
}

fn check_out(remote: &Remote<'_>, url: &str, keep_git_dir: Option<bool>) -> Result<Fetched> {
    let place = remote.store.temporary_directory()?;
    let source = GitSource::parse(url, keep_git_dir, None)
        .map_err(|error| Error::new(ErrorKind::Usage, error.message()))?;
    let checkout = checkout::make(&source, place, remote.git, remote.interrupt)?;
    let tree = CheckedOut::open(checkout, &source)?;
    let modified = Some(tree.time());
    let kind = Kind::Repository(tree);
    Ok(Fetched::Files(Box::new(FetchedTree { kind, modified })))
}

fn download(remote: &Remote<'_>, url: &str) -> Result<Fetched> {
    let shown = for_message(url);
    let Download {
        mut file, modified, ..
    } = remote.fetch(url, &shown)?;
    let unreadable = |error| {
        Error::new(
            ErrorKind::Store,
            format!("the download of `{shown}` can't be read back"),
        )
        .with_source(error)
    };
    file.rewind().map_err(unreadable)?;
    let mut head = Vec::new();
    (&file)
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    // What begins as an archive and can't be read as one is told by who reads it all: at which byte.
    if !matches!(detect_archive(head.as_slice()), Ok(None)) {
        file.rewind().map_err(unreadable)?;
        let archive = ArchiveTree::read(remote.store, &shown, file, Owners::Root)?;
        let kind = Kind::Archive(archive);
        return Ok(Fetched::Files(Box::new(FetchedTree { kind, modified })));
    }
    let neither = |what: &str| {
        Error::new(ErrorKind::Context, format!("`{shown}` is {what}"))
            .with_help("a context is a tar, plain or compressed, or a Dockerfile")
    };
    if sniff(&head) != Packing::Plain {
        return Err(neither("compressed, and holds no tar that can be read"));
    }
    (&file)
        .take(MAX_DOCKERFILE)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    if head.contains(&0) || std::str::from_utf8(&head).is_err() {
        return Err(neither("neither a tar nor a Dockerfile"));
    }
    if head.len() as u64 > MAX_DOCKERFILE {
        return Err(neither("no tar, and too large for a Dockerfile"));
    }
    Ok(Fetched::Dockerfile {
        bytes: head,
        modified,
    })
}

impl FetchedTree {
    /// The bytes of a small file, such as the Dockerfile; none where it isn't there or is no regular file. Links are
    /// followed inside the tree.
    ///
    /// # Errors
    /// A file of more than 16 MiB, and those of reading the tree.
    pub fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let found = resolve(self, &ImagePath::clean(name), true)?;
        let Resolved::Found(mut node) = found else {
            return Ok(None);
        };
        if !matches!(node.entry.kind, EntryKind::File { .. }) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.open(&mut node)?
            .take(MAX_DOCKERFILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| {
                let message = format!("`{name}` in {} can't be read", self.describe());
                Error::new(ErrorKind::Context, message).with_source(error)
            })?;
        if bytes.len() as u64 > MAX_DOCKERFILE {
            let message = format!(
                "`{name}` in {} has more than {MAX_DOCKERFILE} bytes",
                self.describe()
            );
            return Err(Error::new(ErrorKind::Context, message));
        }
        Ok(Some(bytes))
    }

    /// How old it is: a commit's time, a server's, or else that of an archive's newest file.
    ///
    /// # Errors
    /// Those of reading an archive's index back.
    pub fn time(&self) -> Result<Option<Timestamp>> {
        match &self.kind {
            Kind::Archive(archive) => archive_time(self.modified, archive),
            Kind::Repository(_) => Ok(self.modified),
        }
    }

    fn tree(&self) -> &dyn Tree {
        match &self.kind {
            Kind::Archive(archive) => archive,
            Kind::Repository(checkout) => checkout,
        }
    }
}

/// The server's time of an archive, or else that of its newest file.
pub(super) fn archive_time(
    modified: Option<Timestamp>,
    archive: &ArchiveTree,
) -> Result<Option<Timestamp>> {
    modified.map_or_else(|| archive.newest(), |time| Ok(Some(time)))
}

impl Tree for FetchedTree {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        self.tree().look_up(path)
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        self.tree().list(path)
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        self.tree().open(node)
    }

    fn explain_absence(&self, path: &ImagePath) -> Option<String> {
        self.tree().explain_absence(path)
    }

    fn describe(&self) -> String {
        self.tree().describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_elsewhere() {
        for (context, expected) in [
            ("https://h/x.tar", true),
            ("http://h/r.git#main:sub", true),
            ("git://h/r", true),
            ("git@h:o/r", true),
            ("github.com/o/r", true),
            ("./github.com/o/r", false),
            (".", false),
            ("-", false),
        ] {
            assert_eq!(is_elsewhere(context), expected, "{context}");
        }
    }
}
