//! A directory of the host as a tree: one walk, one order.
//!
//! The host's owners don't get in, unless they are asked for: whatever a build context holds belongs to root. Its modes
//! and times do. Of the extended attributes only `security.capability` is read, because only it enters a layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};

use super::{FileId, Listing, Node, Stamp, Tree};
use crate::confined::{ConfinedDir, to_c};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::timestamp::Timestamp;

/// A directory of the host.
#[derive(Debug)]
pub struct Directory {
    root: ConfinedDir,
    description: String,
    owners: HostOwners,
}

/// Whose the files of a directory are in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostOwners {
    /// Root's, whatever the host says: a build context.
    #[default]
    Root,
    /// Those of the host: a root file system that is to be an image.
    Host,
    /// Those of the host, but this user and this group are root: who may own nothing else made it.
    HostBut(u32, u32),
}

impl HostOwners {
    fn of(self, stat: &Stat) -> (u32, u32) {
        let unless = |own: u32, id: u32| if own == id { 0 } else { id };
        match self {
            Self::Root => (0, 0),
            Self::Host => (stat.st_uid, stat.st_gid),
            Self::HostBut(uid, gid) => (unless(uid, stat.st_uid), unless(gid, stat.st_gid)),
        }
    }
}

impl Directory {
    /// Opens a directory; `description` is how messages name it.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] where it is missing, unreadable, or no directory.
    pub fn open(path: &Path, description: &str) -> Result<Self> {
        let root = ConfinedDir::open(path).map_err(|error| {
            let shown = path.display();
            let help = match error.kind() {
                io::ErrorKind::NotFound => {
                    "check the path: the last argument names the directory to build from"
                }
                io::ErrorKind::NotADirectory => {
                    "the build context is a directory; name the Dockerfile with `-f`"
                }
                _ => "check that you may read it",
            };
            Error::new(
                ErrorKind::Context,
                format!("{description} `{shown}` can't be opened"),
            )
            .with_help(help)
            .with_source(error)
        })?;
        Ok(Self {
            root,
            description: description.to_owned(),
            owners: HostOwners::Root,
        })
    }

    /// The same directory with other owners.
    #[must_use]
    pub fn with_owners(mut self, owners: HostOwners) -> Self {
        self.owners = owners;
        self
    }

    /// The directory's path on the host, for messages.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    fn problem(&self, verb: &str, path: &ImagePath, error: io::Error) -> Error {
        let shown = self.root.host_path(path);
        let problem = Error::new(
            ErrorKind::Context,
            format!("`{}` can't be {verb}", shown.display()),
        );
        let help = match error.kind() {
            io::ErrorKind::PermissionDenied => Some(
                "make it readable for the user who runs rbuild, or exclude it in the ignore file",
            ),
            io::ErrorKind::NotFound => Some("it vanished while the context was read; build again"),
            _ => None,
        };
        let problem = help.into_iter().fold(problem, Error::with_help);
        problem.with_source(error)
    }

    fn node(&self, path: ImagePath, stat: &Stat) -> Result<Node> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File {
                size: stat.st_size.unsigned_abs(),
            },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let target = self
                    .root
                    .read_link(&path)
                    .map_err(|error| self.problem("read", &path, error))?;
                EntryKind::Symlink { target }
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => {
                let (major, minor) = device(stat);
                EntryKind::CharDevice { major, minor }
            }
            FileType::BlockDevice => {
                let (major, minor) = device(stat);
                EntryKind::BlockDevice { major, minor }
            }
            FileType::Socket | FileType::Unknown => EntryKind::Socket,
        };
        let mode = if matches!(kind, EntryKind::Symlink { .. }) {
            0o777
        } else {
            stat.st_mode & 0o7777
        };
        let (uid, gid) = self.owners.of(stat);
        let several = stat.st_nlink > 1 && !matches!(kind, EntryKind::Directory);
        let entry = Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime: mtime(stat),
            xattrs: BTreeMap::new(),
        };
        let link = several.then_some(FileId(stat.st_dev, stat.st_ino));
        Ok(Node {
            entry,
            link,
            place: None,
            stamp: Some(stamp(stat)),
            implied: false,
            passage: false,
        })
    }
}

/// The time of the last change of the content.
fn mtime(stat: &Stat) -> Timestamp {
    Timestamp {
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

fn stamp(stat: &Stat) -> Stamp {
    // A time that 64 bits of nanoseconds don't hold is as good as any other far away.
    let nanos = |seconds: i64, nanos: u64| {
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add_unsigned(nanos)
    };
    Stamp {
        size: stat.st_size.unsigned_abs(),
        mtime: nanos(stat.st_mtime, stat.st_mtime_nsec),
        ctime: nanos(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
        device: stat.st_dev,
        mode: stat.st_mode,
    }
}

fn device(stat: &Stat) -> (u32, u32) {
    (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    )
}

impl Tree for Directory {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        let found = self
            .root
            .stat(path)
            .map_err(|error| self.problem("read", path, error))?;
        found.map(|stat| self.node(path.clone(), &stat)).transpose()
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        let directory = match self.root.open_directory(path) {
            Ok(directory) => directory,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Box::new(std::iter::empty()));
            }
            Err(error) => return Err(self.problem("listed", path, error)),
        };
        let names =
            sorted_names(&directory).map_err(|error| self.problem("listed", path, error))?;
        let (deep, path) = (path.components().count() > OPEN, path.clone());
        let children = names.into_iter().filter_map(move |name| {
            let child = path.child(&name);
            match stat_child(&directory, &name) {
                Ok(stat) => Some(self.node(child, &stat)),
                // It was there a moment ago: a build that runs while the context changes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(Err(self.problem("read", &child, error))),
            }
        });
        if deep {
            // A walk is in all directories above at once, and must not hold each open.
            let children: Vec<Result<Node>> = children.collect();
            return Ok(Box::new(children.into_iter()));
        }
        Ok(Box::new(children))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        let path = node.entry.path.clone();
        let file = self
            .root
            .open_file(&path)
            .map_err(|error| self.problem("opened", &path, error))?;
        let stat =
            rustix::fs::fstat(&file).map_err(|error| self.problem("read", &path, error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let error = io::Error::other("it is no regular file any more");
            return Err(self.problem("read", &path, error));
        }
        node.entry.kind = EntryKind::File {
            size: stat.st_size.unsigned_abs(),
        };
        node.entry.mode = stat.st_mode & 0o7777;
        node.entry.mtime = mtime(&stat);
        node.stamp = Some(stamp(&stat));
        if let Some(value) =
            capability(&file).map_err(|error| self.problem("read", &path, error))?
        {
            node.entry
                .xattrs
                .insert(CAPABILITY.to_bytes().to_vec(), value);
        }
        Ok(Box::new(File::from(file)))
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

const CAPABILITY: &std::ffi::CStr = c"security.capability";

/// The file's capabilities. They take 20 or 24 bytes; a file system without attributes has none.
fn capability(file: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    let mut value = [0_u8; 64];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// So many directories above one another are open while they are listed.
const OPEN: usize = 128;

fn stat_child(directory: &OwnedFd, name: &[u8]) -> io::Result<Stat> {
    Ok(rustix::fs::statat(
        directory,
        &to_c(name)?,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The names in a directory in the order of their bytes, without `.` and `..`.
fn sorted_names(directory: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
    let mut entries = rustix::fs::RawDir::new(directory, &mut buffer);
    let mut names: Vec<Box<[u8]>> = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_order_and_reads_what_is_there() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b", "a.x", "a"] {
            std::fs::write(home.path().join(name), name).unwrap();
        }
        std::fs::hard_link(home.path().join("a"), home.path().join("c")).unwrap();
        std::os::unix::fs::symlink("a", home.path().join("link")).unwrap();
        let tree = Directory::open(home.path(), "the build context").unwrap();
        let nodes: Vec<Node> = tree
            .list(&ImagePath::root())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let names: Vec<String> = nodes
            .iter()
            .map(|node| node.entry.path.to_string())
            .collect();
        assert_eq!(names, ["/a", "/a.x", "/b", "/c", "/link"]);
        assert_eq!(nodes[0].link, nodes[3].link);
        assert!(nodes[0].link.is_some() && nodes[1].link.is_none());
        let mut text = String::new();
        tree.open(&mut nodes[1].clone())
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "a.x");
        assert!(tree.open(&mut nodes[4].clone()).is_err());
    }

    #[test]
    fn a_missing_directory_says_what_to_check() {
        let error = Directory::open(Path::new("/nowhere/at/all"), "the build context").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Context);
        assert!(error.message().contains("`/nowhere/at/all`") && error.help().is_some());
    }
}
