//! What a step reads of a tree, as a list: a line a file, with everything that counts and no time.
//!
//! Its digest is a part of the step's key, and covers what the sources are beside their files: a directory's content and
//! a file alone may be equal lists. The list itself is kept, so that a later build can say which file differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};

use crate::digest::{Digest, Hasher};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::event::FileChange;
use crate::image_path::{EscapeAsciiLossy as _, ImagePath};
use crate::store::{Store, TemporaryFile, used_now};

/// A list in the making.
#[derive(Debug)]
pub struct ListingWriter {
    hasher: Hasher,
    file: TemporaryFile,
    buffer: Vec<u8>,
}

/// So many bytes are written at once.
const BUFFER: usize = 64 * 1024;

impl ListingWriter {
    /// Starts a list.
    ///
    /// # Errors
    /// Those of the store.
    pub fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            hasher: Hasher::new(),
            file: store.temporary_file()?,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Says what a source is, in a word of the key's, and the name that it brings along. All are told before any file,
    /// and with them how many there are.
    pub fn source(&mut self, kind: &str, name: &[u8]) {
        self.bytes(b"source");
        self.bytes(kind.as_bytes());
        self.bytes(name);
    }

    /// Adds a file; `shown` is its path for people. `content` is the digest of a regular file's bytes, and the path of
    /// its first name for another name of one that was listed before.
    ///
    /// # Errors
    /// Those of the store.
    pub fn push(&mut self, entry: &Entry, shown: &ImagePath, content: &str) -> Result<()> {
        let mut path = shown.as_relative().escape_ascii_lossy();
        if path.is_empty() {
            path.push('.');
        }
        let kind = match &entry.kind {
            EntryKind::File { .. } | EntryKind::HardLink { .. } => "file".to_owned(),
            EntryKind::Directory => "dir".to_owned(),
            EntryKind::Symlink { target } => format!("link {}", target.escape_ascii_lossy()),
            EntryKind::Fifo => "fifo".to_owned(),
            EntryKind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            EntryKind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            EntryKind::Socket => "socket".to_owned(),
        };
        let mut line = format!(
            "{path}\t{kind}\t{:o}\t{}:{}\t{content}",
            entry.mode, entry.uid, entry.gid
        );
        for (name, value) in &entry.xattrs {
            let name = name.escape_ascii_lossy();
            // Writing to a string can't fail.
            let _ = write!(line, "\t{name}={}", Digest::of(value).short());
        }
        line.push('\n');
        // The text shows odd bytes in a way that other names may have too: the digest is over the bytes themselves.
        // The line says what follows it.
        self.bytes(b"file");
        self.bytes(entry.path.as_relative());
        self.bytes(line.as_bytes());
        match &entry.kind {
            EntryKind::Symlink { target } => self.bytes(target),
            EntryKind::HardLink { target } => self.bytes(target.as_relative()),
            _ => {}
        }
        for (name, value) in &entry.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        self.buffer.extend_from_slice(line.as_bytes());
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| {
            Error::new(ErrorKind::Store, "cannot write a list of files").with_source(error)
        })
    }

    /// Ends the list and keeps it; its digest.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self, store: &Store) -> Result<Digest> {
        self.flush()?;
        let digest = self.hasher.finish();
        let path = store.cache_path("listings", &digest.hex());
        if used_now(&path) {
            return Ok(digest);
        }
        store.keep_cache_file(self.file, "listings", &digest.hex())?;
        Ok(digest)
    }
}

/// The files in which two lists differ, at most `limit` of them; none where a list is not there any more.
pub fn compare(
    store: &Store,
    old: &Digest,
    new: &Digest,
    limit: usize,
) -> Option<Vec<(String, FileChange)>> {
    let (old, new) = (read(store, old)?, read(store, new)?);
    let mut changes = Vec::new();
    for (path, line) in &new {
        match old.get(path) {
            None => changes.push((path.clone(), FileChange::Added)),
            Some(before) if before != line => changes.push((path.clone(), kind(before, line))),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|path| !new.contains_key(*path));
    changes.extend(gone.map(|path| (path.clone(), FileChange::Removed)));
    changes.sort();
    changes.truncate(limit);
    Some(changes)
}

/// The lines of a list by path, without the path.
fn read(store: &Store, digest: &Digest) -> Option<BTreeMap<String, String>> {
    let file = std::fs::File::open(store.cache_path("listings", &digest.hex())).ok()?;
    let mut lines = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.ok()?;
        let (path, rest) = line.split_once('\t')?;
        lines.insert(path.to_owned(), rest.to_owned());
    }
    Some(lines)
}

fn kind(old: &str, new: &str) -> FileChange {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\t').collect(), new.split('\t').collect());
    let differs = |at: usize| old.get(at) != new.get(at);
    if differs(3) {
        FileChange::Content
    } else if differs(1) && !differs(0) {
        FileChange::Mode
    } else if differs(0) && old[0].starts_with("link") && new[0].starts_with("link") {
        FileChange::Content
    } else {
        FileChange::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    fn list(store: &Store, files: &[(&str, u32, &str)]) -> Digest {
        let mut writer = ListingWriter::new(store).unwrap();
        for (path, mode, content) in files {
            let entry = Entry::file(ImagePath::clean(path), 1, *mode, Timestamp::default());
            writer.push(&entry, &entry.path, content).unwrap();
        }
        writer.finish(store).unwrap()
    }

    #[test]
    fn the_files_that_differ_are_named() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let old = list(
            &store,
            &[("a", 0o644, "1"), ("b", 0o644, "2"), ("c", 0o644, "3")],
        );
        let new = list(
            &store,
            &[("a", 0o755, "1"), ("b", 0o644, "x"), ("d", 0o644, "3")],
        );
        let changes = compare(&store, &old, &new, 9).unwrap();
        let named: Vec<(&str, FileChange)> = changes
            .iter()
            .map(|(path, change)| (path.as_str(), *change))
            .collect();
        assert_eq!(
            named,
            [
                ("a", FileChange::Mode),
                ("b", FileChange::Content),
                ("c", FileChange::Removed),
                ("d", FileChange::Added)
            ]
        );
        assert_eq!(compare(&store, &old, &new, 1).unwrap().len(), 1);
        assert!(compare(&store, &old, &Digest::of(b"gone"), 1).is_none());
    }

    #[test]
    fn the_digest_of_a_list_is_about_all_that_it_tells() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let digest = |sources: &[(&str, &str)], kind: EntryKind, xattrs: &[(&str, &str)]| {
            let mut writer = ListingWriter::new(&store).unwrap();
            for (kind, name) in sources {
                writer.source(kind, name.as_bytes());
            }
            let path = ImagePath::clean("a");
            let mut entry = Entry::file(path.clone(), 1, 0o644, Timestamp::default());
            entry.kind = kind;
            for (name, value) in xattrs {
                entry.xattrs.insert((*name).into(), (*value).into());
            }
            writer.push(&entry, &path, "x").unwrap();
            writer.finish(&store).unwrap()
        };
        let (file, link) = (EntryKind::File { size: 1 }, |target: &[u8]| {
            let target = target.to_vec();
            EntryKind::Symlink { target }
        });
        let hard = |target: &[u8]| EntryKind::HardLink {
            target: ImagePath::clean(target),
        };
        let one = &[("file", "a")][..];
        let all = [
            digest(one, file.clone(), &[]),
            digest(&[], file.clone(), &[]),
            digest(&[("file", "b")], file.clone(), &[]),
            digest(&[("contents", "a")], file.clone(), &[]),
            digest(&[("file", "a"), ("contents", "")], file.clone(), &[]),
            digest(one, link(b"\xff"), &[]),
            digest(one, link(b"\\xff"), &[]),
            digest(one, hard(b"\xff"), &[]),
            digest(one, hard(b"\\xff"), &[]),
            digest(one, EntryKind::Socket, &[]),
            digest(one, EntryKind::Fifo, &[]),
            digest(one, file.clone(), &[("security.capability", "1")]),
            digest(one, file.clone(), &[("security.capability", "2")]),
            digest(one, file, &[("user.x", "1")]),
        ];
        let different: std::collections::BTreeSet<&Digest> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        // What stands in shared caches: it changes with the version of the keys only.
        assert_eq!(
            all[0].to_string(),
            "sha256:5fae72d3aa65365c575065b9bdd31dce60c7faf9f9c3fc31f23478f67ba1fa27"
        );
    }

    #[test]
    fn a_list_does_not_know_the_time() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let digest = |seconds| {
            let mut writer = ListingWriter::new(&store).unwrap();
            let time = Timestamp::from_seconds(seconds);
            let entry = Entry::file(ImagePath::clean("a"), 1, 0o644, time);
            writer.push(&entry, &entry.path, "x").unwrap();
            writer.finish(&store).unwrap()
        };
        assert_eq!(digest(1), digest(2));
    }
}
