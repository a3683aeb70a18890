//! One file of a file system, without its bytes: what a tar header, a directory walk and a layer's index all speak.
//!
//! The fields follow the OCI image layer specification, "File Attributes". Owners and times are those that the image
//! should have; the host's own never get here unless a rule says so.

use std::collections::BTreeMap;

use crate::image_path::ImagePath;
use crate::timestamp::Timestamp;

/// One file, directory, link or special file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, below the root of its tree.
    pub path: ImagePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-user-ID, set-group-ID and sticky: 0 to 0o7777. 0o777 for symbolic links.
    pub mode: u32,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
    /// Time of the last change of its content, in nanoseconds; a layer holds whole seconds.
    pub mtime: Timestamp,
    /// Extended attributes by name. In a layer of rbuild's only `security.capability` is left.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The type of a file, with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of `size` bytes.
    File {
        /// Length of the content in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target as it is written in the link, not resolved.
        target: Vec<u8>,
    },
    /// Another name of a file that came earlier in the same tree.
    HardLink {
        /// The first name of the file.
        target: ImagePath,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A Unix socket. A tar has no such type: it never enters a layer.
    Socket,
}

impl Entry {
    /// A directory as the builder makes one: mode 0755, owned by root.
    pub fn directory(path: ImagePath, mtime: Timestamp) -> Self {
        Self {
            path,
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }

    /// A regular file owned by root, without attributes.
    pub fn file(path: ImagePath, size: u64, mode: u32, mtime: Timestamp) -> Self {
        Self {
            path,
            kind: EntryKind::File { size },
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        matches!(self.kind, EntryKind::Symlink { .. })
    }

    /// Bytes of content: the size of a regular file, 0 for everything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}
