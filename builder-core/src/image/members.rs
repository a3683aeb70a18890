//! The files of an image that is not in the store: of a directory, of a tarball, or of one that came compressed or
//! through a pipe.
//!
//! A tarball on disk is read where it lies. What is compressed, or can be read only once, is laid aside in the store's
//! `tmp/`, hashed on the way; a blob that is wanted gets its name there by a rename, and what the store has already is
//! not written at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::image::base::MAX_DOCUMENT_BYTES;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::archive::Section;
use crate::layer::decompress::{self, Packing};
use crate::oci::Descriptor;
use crate::store::blob::copy;
use crate::store::{Store, TemporaryDirectory};

/// The files, by name.
#[derive(Debug)]
pub struct Members {
    /// What messages call it.
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    /// The tarball, and where each file lies in it.
    Tarball(File, BTreeMap<Vec<u8>, Member>),
    /// Files laid aside.
    Aside(TemporaryDirectory, BTreeMap<Vec<u8>, Member>),
}

#[derive(Clone, Debug)]
enum Member {
    /// Offset and size in the tarball.
    Within(u64, u64),
    /// A file of that number, its digest and size.
    File(u64, Digest, u64),
    /// A blob that the store has.
    Known(Digest, u64),
    /// Another member, by its path in the archive.
    Link(Vec<u8>),
}

/// A link to a link to a link ends here.
const MAX_LINKS: u32 = 16;
/// Bytes that are copied at once.
const CHUNK: usize = 256 * 1024;

impl Members {
    /// Opens a directory or a tarball, plain or compressed.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where it is missing or can't be read; those of writing to the store.
    pub fn open(store: &Store, path: &Path, interrupt: &Interrupt) -> Result<Self> {
        let name = path.display().to_string();
        let problem = |error: io::Error| unreadable(&name, error);
        let place = if std::fs::metadata(path).map_err(problem)?.is_dir() {
            Place::Directory(path.to_owned())
        } else {
            let file = open_file(path).map_err(problem)?;
            let mut start = [0; 6];
            let taken = rustix::io::pread(&file, &mut start, 0);
            let taken = taken.map_err(|error| problem(error.into()))?;
            if decompress::sniff(&start[..taken]) != Packing::Plain {
                return Self::aside(store, &name, file, interrupt);
            }
            let members = within(&file).map_err(|error| no_archive(&name, error))?;
            Place::Tarball(file, members)
        };
        Ok(Self { name, place })
    }

    /// Reads a tarball, plain or compressed, to its end. `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn aside(
        store: &Store,
        name: &str,
        stream: impl Read + Send,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        Self::all_aside(store, name, stream, interrupt).or_else(|error| {
            // A stream that broke off because the program is to end is no broken archive.
            interrupt.check()?;
            Err(error)
        })
    }

    fn all_aside(
        store: &Store,
        name: &str,
        stream: impl Read + Send,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let opened = decompress::open(BufReader::with_capacity(CHUNK, stream));
        let (_, mut tar) = opened.map_err(|error| no_archive(name, error))?;
        let folder = store.temporary_directory()?;
        let mut members = BTreeMap::new();
        let mut archive = tar::Archive::new(&mut tar);
        let entries = archive.entries().map_err(|error| no_archive(name, error))?;
        for (number, entry) in (0_u64..).zip(entries) {
            interrupt.check()?;
            let mut entry = entry.map_err(|error| no_archive(name, error))?;
            let path = member_name(&entry.path_bytes());
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_contiguous() {
                let path_here = folder.path().join(number.to_string());
                let member = lay_aside(
                    store, name, &path, &mut entry, &path_here, number, interrupt,
                )?;
                members.insert(path, member);
            } else if let Some(target) = link(&entry, &path) {
                members.insert(path, Member::Link(target));
            }
        }
        // A stream that is cut off behind its last member, or has a wrong checksum at its end, says so only there.
        io::copy(&mut tar, &mut io::sink()).map_err(|error| no_archive(name, error))?;
        Ok(Self {
            name: name.to_owned(),
            place: Place::Aside(folder, members),
        })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }

    /// The names of an archive's members; none of a directory's.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let members = match &self.place {
            Place::Directory(_) => None,
            Place::Tarball(_, members) | Place::Aside(_, members) => Some(members),
        };
        members
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_slice())
    }

    /// Whether a file is there.
    pub fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Directory(path) => path.join(name).is_file(),
            Place::Tarball(_, members) | Place::Aside(_, members) => find(members, name).is_some(),
        }
    }

    /// A document of at most 16 MiB.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where it is missing, too large, or can't be read.
    pub fn read(&self, store: &Store, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reader = self.open_member(store, name)?;
        let read = reader.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(&self.name, error))?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            let message = format!(
                "`{name}` of `{}` has more than {MAX_DOCUMENT_BYTES} bytes",
                self.name
            );
            return Err(Error::new(ErrorKind::BaseImage, message));
        }
        Ok(bytes)
    }

    /// Brings a blob of an image layout into the store, unless it is there.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where it is missing, [`ErrorKind::Store`] where it isn't what its digest says.
    pub fn copy_blob(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        if store.contains(&blob.digest)? {
            return Ok(());
        }
        let name = blob.digest.path();
        if let Some(Member::File(number, digest, size)) = self.aside_member(&name)
            && (*digest, *size) == (blob.digest, blob.size)
        {
            return self.adopt(store, *number, digest, *size);
        }
        let from = self.open_member(store, &name)?;
        // One byte too many is enough to see that it is not what it should be.
        let mut from = from.take(blob.size.saturating_add(1));
        let mut to = store.blob_writer_for(&blob.digest)?;
        copy(&mut from, &mut to).map_err(|error| {
            let message = format!(
                "blob `{}` of `{}` can't be copied into the store",
                blob.digest, self.name
            );
            Error::new(ErrorKind::Store, message).with_source(error)
        })?;
        Ok(to.finish_expecting(&blob.digest, blob.size)?)
    }

    /// Brings any member into the store as a blob; gives its digest and size.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where it is missing; those of the store.
    pub fn take(&self, store: &Store, name: &str) -> Result<(Digest, u64)> {
        match self.aside_member(name) {
            Some(Member::File(number, digest, size)) => {
                if store.blob_size(digest)? != Some(*size) {
                    self.adopt(store, *number, digest, *size)?;
                }
                return Ok((*digest, *size));
            }
            Some(Member::Known(digest, size)) => return Ok((*digest, *size)),
            _ => {}
        }
        let mut from = self.open_member(store, name)?;
        let mut to = store.blob_writer()?;
        copy(&mut from, &mut to).map_err(|error| {
            let message = format!("`{name}` of `{}` can't be copied into the store", self.name);
            Error::new(ErrorKind::Store, message).with_source(error)
        })?;
        Ok(to.finish()?)
    }

    fn aside_member(&self, name: &str) -> Option<&Member> {
        match &self.place {
            Place::Aside(_, members) => find(members, name),
            _ => None,
        }
    }

    /// Gives a file that was laid aside the name of a blob. It may be wanted again under another name: it stays as a link.
    fn adopt(&self, store: &Store, number: u64, digest: &Digest, size: u64) -> Result<()> {
        let Place::Aside(folder, _) = &self.place else {
            return Ok(());
        };
        Ok(store.adopt(&folder.path().join(number.to_string()), digest, size)?)
    }

    fn open_member(&self, store: &Store, name: &str) -> Result<Box<dyn Read + '_>> {
        let open = |path: &Path| -> Result<Box<dyn Read + '_>> {
            let file =
                open_file(path).map_err(|error| unreadable(&path.display().to_string(), error))?;
            Ok(Box::new(file))
        };
        match &self.place {
            Place::Directory(path) => open(&path.join(name)),
            Place::Tarball(file, members) => match find(members, name) {
                Some(Member::Within(offset, size)) => Ok(Box::new(Section {
                    file,
                    offset: *offset,
                    left: *size,
                })),
                _ => Err(self.lacks(name)),
            },
            Place::Aside(folder, members) => match find(members, name) {
                Some(Member::File(number, ..)) => open(&folder.path().join(number.to_string())),
                Some(Member::Known(digest, _)) => open(&store.blob_path(digest)),
                _ => Err(self.lacks(name)),
            },
        }
    }

    fn lacks(&self, name: &str) -> Error {
        let message = format!("`{}` lacks `{name}`", self.name);
        Error::new(ErrorKind::BaseImage, message)
            .with_help("the archive is incomplete; make it again")
    }
}

/// Writes one member into a file of its own, hashed on the way. One that the name of a blob promises to be in the store
/// is passed over.
fn lay_aside(
    store: &Store,
    archive: &str,
    member: &[u8],
    entry: &mut impl Read,
    path: &Path,
    number: u64,
    interrupt: &Interrupt,
) -> Result<Member> {
    let promised = std::str::from_utf8(member).ok().and_then(|name| {
        let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
        format!("{algorithm}:{hex}").parse::<Digest>().ok()
    });
    if let Some(digest) = promised
        && let Some(size) = store.blob_size(&digest)?
    {
        // The bytes are passed over by the reader of the next member.
        return Ok(Member::Known(digest, size));
    }
    let broken = |error| no_archive(archive, error);
    let mut file = File::create(path).map_err(crate::store::Error::io("create", path))?;
    let mut hasher = promised.as_ref().map_or_else(Hasher::new, Hasher::like);
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        interrupt.check()?;
        let taken = entry.read(&mut buffer).map_err(broken)?;
        if taken == 0 {
            break;
        }
        hasher.update(&buffer[..taken]);
        let written = file.write_all(&buffer[..taken]);
        written.map_err(crate::store::Error::io("write", path))?;
        size += taken as u64;
    }
    Ok(Member::File(number, hasher.finish(), size))
}

/// What a name leads to, links followed.
fn find<'m>(members: &'m BTreeMap<Vec<u8>, Member>, name: &str) -> Option<&'m Member> {
    let mut found = members.get(&member_name(name.as_bytes()))?;
    for _ in 0..MAX_LINKS {
        match found {
            Member::Link(target) => found = members.get(target)?,
            other => return Some(other),
        }
    }
    None
}

/// A member's name without what doesn't count in it: `./a//b` is `a/b`.
fn member_name(name: &[u8]) -> Vec<u8> {
    ImagePath::clean(name).as_relative().to_vec()
}

/// Where a link leads, as a name of the archive: a symbolic link from its own directory, another from the top.
fn link<R: Read>(entry: &tar::Entry<'_, R>, path: &[u8]) -> Option<Vec<u8>> {
    let target = entry.link_name_bytes()?;
    let kind = entry.header().entry_type();
    if kind.is_hard_link() {
        return Some(member_name(&target));
    }
    if !kind.is_symlink() {
        return None;
    }
    let from = ImagePath::clean(path).parent().unwrap_or_default();
    Some(from.join(&target).as_relative().to_vec())
}

/// Opens a regular file, or what a link to one leads to. A pipe would be waited for, and a device may have no end.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let message = "it is no regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Where the regular files of a tarball lie. Only its headers are read.
fn within(file: &File) -> io::Result<BTreeMap<Vec<u8>, Member>> {
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = member_name(&entry.path_bytes());
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_contiguous() {
            members.insert(
                path,
                Member::Within(entry.raw_file_position(), entry.size()),
            );
        } else if let Some(target) = link(&entry, &path) {
            members.insert(path, Member::Link(target));
        }
    }
    Ok(members)
}

fn unreadable(name: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::BaseImage, format!("`{name}` can't be read"))
        .with_help(
            "check the path: it is the directory of an image layout, or an archive of images",
        )
        .with_source(error)
}

fn no_archive(name: &str, error: io::Error) -> Error {
    let message = format!("`{name}` can't be read as an archive of images");
    Error::new(ErrorKind::BaseImage, message)
        .with_help("it is a tar, plain or compressed by gzip, zstd, xz or bzip2, and whole")
        .with_source(error)
}
