//! What steps read, as digests of lists: every arrival of a COPY or ADD, and what a mount shows.

use std::path::PathBuf;

use crate::build::arrival::{Arrival, How, Origin as Whence};
use crate::build::stage::Shared;
use crate::cache::listing::ListingWriter;
use crate::cache::stat_index::Known;
use crate::digest::{Digest, Hasher};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::timestamp::Timestamp;
use crate::tree::graft::{Graft, Origin};
use crate::tree::merge::merge;
use crate::tree::{Node, Tree};

/// Reads digests of files: from the index of their directory where it vouches for them.
pub(crate) struct Reader<'f, 'a> {
    /// The build.
    pub(crate) shared: &'f Shared<'a>,
    /// The directory of the host behind the tree, where there is one.
    pub(crate) directory: Option<PathBuf>,
}

impl Reader<'_, '_> {
    /// The digest of a regular file's bytes, and the attributes that only an open file tells.
    fn known(&self, tree: &dyn Tree, mut node: Node) -> Result<Known> {
        let shared = self.shared;
        let index = match (&self.directory, &node.stamp) {
            (Some(directory), Some(_)) => Some(shared.caching.index(shared.store, directory)?),
            _ => None,
        };
        let path = node.entry.path.clone();
        if let (Some(index), Some(stamp)) = (&index, &node.stamp)
            && let Some(known) = index.get(&path, stamp)
        {
            return Ok(known);
        }
        shared.interrupt.check()?;
        let mut content = tree.open(&mut node)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(taken) => hasher.update(&buffer[..taken]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let message = format!("cannot read `{path}` in {}", tree.describe());
                    return Err(Error::new(ErrorKind::Context, message).with_source(error));
                }
            }
        }
        drop(content);
        let known = Known {
            digest: hasher.finish(),
            xattrs: node.entry.xattrs,
        };
        if let (Some(index), Some(stamp)) = (index, node.stamp) {
            index.put(&path, stamp, known.clone(), false)?;
        }
        Ok(known)
    }

    /// The digest of the list of everything that arrives: what each source is, and all of its files.
    pub(crate) fn arrivals(&self, arrivals: &[Arrival<'_>]) -> Result<Digest> {
        let mut list = ListingWriter::new(self.shared.store)?;
        let mut graft = Graft::default();
        for (number, arrival) in arrivals.iter().enumerate() {
            let Arrival {
                tree,
                node,
                how,
                origin,
            } = arrival;
            let (tree, node): (&dyn Tree, Node) = (&**tree, node.clone());
            let place = ImagePath::root().child(number.to_string().as_bytes());
            let (word, name) = described(how, &node.entry);
            list.source(&format!("{} {word}", whence(*origin)), name);
            match how {
                How::File(name) | How::Unopened(name) => {
                    graft.at(&place.child(name)).put(number, tree, node);
                }
                How::Contents => graft.at(&place).put_contents(number, tree, node),
                How::Unpacked(..) => graft.at(&place).put_unpacked(number, tree, node),
            }
        }
        self.list(list, &graft, &|path| shown(arrivals, path))
    }

    /// The digest of the list of what a mount shows: a directory itself and all that is in it, or a file.
    pub(crate) fn mounted(&self, tree: &dyn Tree, node: Node) -> Result<Digest> {
        let mut list = ListingWriter::new(self.shared.store)?;
        let top = node.entry.path.clone();
        let mut graft = Graft::default();
        let directory = node.entry.is_directory();
        if directory {
            list.source("mounted directory", b"");
            let entry = Entry {
                path: ImagePath::root(),
                ..node.entry.clone()
            };
            list.push(&entry, &top, "")?;
            graft.put_contents(0, tree, node);
        } else {
            list.source("mounted file", b"");
            graft.at(&ImagePath::root().child(b"0")).put(0, tree, node);
        }
        let shown = |path: &ImagePath| {
            if directory {
                top.append(path)
            } else {
                top.clone()
            }
        };
        self.list(list, &graft, &shown)
    }

    fn list(
        &self,
        mut list: ListingWriter,
        graft: &Graft<'_>,
        shown: &dyn Fn(&ImagePath) -> ImagePath,
    ) -> Result<Digest> {
        let made = Entry::directory(ImagePath::root(), Timestamp::default());
        let conflict = |_| Error::new(ErrorKind::Internal, "a single source is in its own way");
        merge(graft, None, &made, &conflict, &mut |merged| {
            if merged.origin == Origin::Made {
                return Ok(());
            }
            let mut entry = merged.entry;
            let content = match (merged.content, &entry.kind) {
                // What it becomes depends on what the stage has there.
                (None, _) if merged.origin == Origin::Passed => "passage".to_owned(),
                (Some((tree, node)), _) => {
                    let known = self.known(tree, node)?;
                    entry.xattrs = known.xattrs;
                    known.digest.to_string()
                }
                (None, EntryKind::HardLink { target }) => format!("= {target}"),
                (None, _) => String::new(),
            };
            list.push(&entry, &shown(&entry.path), &content)
        })?;
        list.finish(self.shared.store)
    }
}

/// The word of an arrival, and the name that it brings along.
fn described<'h>(how: &'h How, entry: &Entry) -> (&'static str, &'h [u8]) {
    match how {
        How::File(name) => ("file", name),
        How::Unopened(name) => ("file or archive", name),
        // The top of layers has no time that what it becomes could take over.
        How::Contents if entry.mtime == Timestamp::default() => ("timeless contents", b""),
        How::Contents => ("contents", b""),
        How::Unpacked(_, elsewhere) => {
            let elsewhere = elsewhere.as_ref().map(ImagePath::as_relative);
            ("unpacked", elsewhere.unwrap_or_default())
        }
    }
}

/// The word of a kind of source.
fn whence(origin: Whence) -> &'static str {
    match origin {
        Whence::Path => "path",
        Whence::Heredoc => "heredoc",
        Whence::Url => "url",
        Whence::Git => "git",
    }
}

/// The path that a listed file has in its source: the one for people.
fn shown(arrivals: &[Arrival<'_>], path: &ImagePath) -> ImagePath {
    let mut names = path.components();
    let number = names
        .next()
        .and_then(|name| str::from_utf8(name).ok()?.parse().ok());
    let arrival = number.and_then(|number: usize| arrivals.get(number));
    match arrival {
        Some(arrival) if matches!(arrival.how, How::Contents) => names
            .fold(arrival.node.entry.path.clone(), |path, name| {
                path.child(name)
            }),
        Some(arrival) => arrival.node.entry.path.clone(),
        None => path.clone(),
    }
}
