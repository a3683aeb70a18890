//! File trees that COPY and ADD read: a directory, a view of image layers, an unpacked archive.
//!
//! A tree is read through three questions: what is at a path, what is in a directory, and what bytes has a file.
//! No path in a question is followed through symbolic links; [`resolve`] does that, confined to the tree, for every
//! kind of tree alike.

pub mod directory;
pub mod files;
pub mod filter;
pub mod glob;
pub mod graft;
pub mod merge;
pub mod pattern;
pub mod resolve;
pub mod select;

use std::io::Read;

use crate::entry::Entry;
use crate::error::Result;
use crate::image_path::ImagePath;

/// The children of one directory, in the order of their names' bytes.
pub type Listing<'a> = Box<dyn Iterator<Item = Result<Node>> + 'a>;

/// One file of a tree, and what its tree must remember to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The file without its bytes; `entry.path` is its place in the tree. Never a
    /// [`HardLink`](crate::entry::EntryKind::HardLink): a file with several names is a file under each of them.
    pub entry: Entry,
    /// Equal for the names of one file; none for a file with one name.
    pub link: Option<FileId>,
    /// Where the bytes lie, in trees made of layers.
    pub place: Option<DataPlace>,
    /// What the host says of the file, in trees that are directories of the host.
    pub stamp: Option<Stamp>,
    /// Whether this is a directory that a tar names only by what is below it: its mode and owner are a guess.
    pub implied: bool,
    /// Whether this is a directory that patterns leave out, shown only because something below it is not.
    pub passage: bool,
}

/// What tells whether a file of the host is the same as before (stat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of its content, in nanoseconds since 1970.
    pub mtime: i64,
    /// Time of the last change of its inode, in nanoseconds since 1970.
    pub ctime: i64,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Type and permission bits.
    pub mode: u32,
}

/// Tells files of one tree apart, whatever their names: device and inode number, or layer and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64, pub u64);

/// Bytes in the uncompressed tar of a layer or an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPlace {
    /// Which layer of the tree, from the bottom, starting at 0.
    pub layer: usize,
    /// Offset in the layer's tar, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A read-only tree of files. Stages that are built side by side read one.
pub trait Tree: Send + Sync {
    /// What is at `path`, without following any symbolic link; none where nothing is.
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>>;

    /// What is directly in the directory `path`; empty where there is no such directory.
    fn list(&self, path: &ImagePath) -> Result<Listing<'_>>;

    /// Opens a regular file that this tree answered. Completes `node.entry` with what only an open file tells (its
    /// attributes, and size and time as they are now), so ask before the entry is used.
    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>>;

    /// Why nothing is at `path`, where the tree knows: the line of an ignore file that excludes it.
    fn explain_absence(&self, path: &ImagePath) -> Option<String> {
        let _ = path;
        None
    }

    /// How a message names this tree: "the build context", "stage `build`".
    fn describe(&self) -> String;
}

/// Lets a pointer to a tree stand for the tree.
macro_rules! forward_tree {
    ($pointer:ty) => {
        impl<T: Tree + ?Sized> Tree for $pointer {
            fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
                (**self).look_up(path)
            }

            fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
                (**self).list(path)
            }

            fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
                (**self).open(node)
            }

            fn explain_absence(&self, path: &ImagePath) -> Option<String> {
                (**self).explain_absence(path)
            }

            fn describe(&self) -> String {
                (**self).describe()
            }
        }
    };
}

forward_tree!(&T);
forward_tree!(std::sync::Arc<T>);

impl Node {
    /// A node of a tree that needs nothing but the path to open a file.
    pub fn new(entry: Entry) -> Self {
        Self {
            entry,
            link: None,
            place: None,
            stamp: None,
            implied: false,
            passage: false,
        }
    }
}
