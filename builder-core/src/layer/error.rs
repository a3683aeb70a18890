//! What can go wrong with layers and archives, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{DiffId, Digest};
use crate::error::ErrorKind;
use crate::image_path::{EscapeAsciiLossy as _, ImagePath};
use crate::store;

/// A name for messages, of a long one its beginning.
fn shown(name: &[u8]) -> String {
    const SHOWN: usize = 300;
    let end = if name.len() > SHOWN { "…" } else { "" };
    name[..name.len().min(SHOWN)].escape_ascii_lossy() + end
}

/// An error of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The operating system refused.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// The index of a layer was made by a version whose form is another.
    #[error("`{}` has the form of another version", path.display())]
    Outdated {
        /// The index.
        path: PathBuf,
    },
    /// The bytes of a file that should enter a layer can't be read.
    #[error("cannot read the content of `{path}`")]
    Content {
        /// The file, as the layer names it.
        path: ImagePath,
        /// The answer.
        source: io::Error,
    },
    /// A file ended early, or went on, while it was read.
    #[error("`{path}` changed while it was read: expected {expected} bytes, found {}{found}", if *longer { "more than " } else { "" })]
    ContentSize {
        /// The file, as the layer names it.
        path: ImagePath,
        /// The size of its entry in bytes.
        expected: u64,
        /// Bytes found.
        found: u64,
        /// Whether there were more.
        longer: bool,
    },
    /// An entry out of order, or a hard link before its file: a bug of the caller.
    #[error("`{path}` cannot be added to the layer after `{after}`")]
    Order {
        /// The entry.
        path: ImagePath,
        /// The one before it.
        after: ImagePath,
    },
    /// A value that a tar can't hold.
    #[error("`{path}` cannot be stored in a tar: {what}")]
    Unwritable {
        /// The entry.
        path: ImagePath,
        /// Which value.
        what: &'static str,
    },
    /// A tar that is refused.
    #[error("{source_name} is refused: {problem}{}", entry.as_ref().map(|name| format!(" at `{}`", shown(name))).unwrap_or_default())]
    Tar {
        /// Whether the tar is a layer of an image, or an archive to add.
        archive: bool,
        /// The layer or the archive, in words.
        source_name: String,
        /// The name of the entry, as the tar holds it.
        entry: Option<Vec<u8>>,
        /// Why.
        problem: TarProblem,
    },
    /// A compressed stream, or the tar in it, can't be read to its end.
    #[error("{source_name} {}{}", fault(source), at.map(|at| format!(" at byte {at}")).unwrap_or_default())]
    Stream {
        /// Whether it is an archive.
        archive: bool,
        /// The layer or the archive, in words.
        source_name: String,
        /// The bytes of the stream that were read by then, where they were counted.
        at: Option<u64>,
        /// The decompressor's answer.
        source: io::Error,
    },
    /// A layer whose tar is not the one that its image's config names.
    #[error("layer `{layer}` has diff ID `{found}`, but its image names `{expected}`")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// The config's diff ID.
        expected: DiffId,
        /// The diff ID of its bytes.
        found: DiffId,
    },
    /// A file of the store about a layer that makes no sense.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The compressor refused: a bug, or no memory.
    #[error("cannot compress a block")]
    Compress {
        /// Its answer.
        source: io::Error,
    },
    /// No thread could be started where one is needed.
    #[error("no thread can be started to make a layer")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
    /// A thread of the pipeline is gone without a word: a bug.
    #[error("a thread that makes the layer ended early")]
    Pipeline,
}

/// Why a tar is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarProblem {
    /// A name with `..` that leads out.
    #[error("a name leads out of the root")]
    Climbs,
    /// A name with a NUL byte, or none at all where one is needed.
    #[error("a name is empty or has a zero byte")]
    BadName,
    /// A name of more bytes than the system can open.
    #[error("a name has more than {0} bytes")]
    LongName(usize),
    /// A name that leads through more directories than an image has.
    #[error("a name leads through more than {0} directories")]
    DeepName(usize),
    /// The checksum or a number of a header is wrong.
    #[error("a header is damaged ({0})")]
    Header(&'static str),
    /// An extended header is malformed.
    #[error("an extended header is malformed")]
    Extension,
    /// A name or an extended header beyond the limit.
    #[error("an extended header is longer than {0} bytes")]
    ExtensionTooLong(u64),
    /// The tar ends in the middle of an entry.
    #[error("it ends early")]
    Truncated,
    /// A hard link whose target isn't in this tar before it.
    #[error("a hard link leads to nothing")]
    DanglingLink,
    /// A type of entry that rbuild doesn't know.
    #[error("an entry has the unknown type `{0}`")]
    UnknownType(char),
    /// Something below a path that is no directory.
    #[error("an entry lies below something that is no directory")]
    BelowFile,
    /// A sparse file whose pieces don't fit.
    #[error("a sparse file is malformed")]
    Sparse,
    /// An owner beyond 32 bits.
    #[error("an owner's number is too large")]
    Owner,
}

/// What to do where no thread can be started.
const MORE_THREADS: &str = "allow the user more processes (`ulimit -u`), or the container or pod more of them (its pid limit)";

/// What is wrong with a stream, from what its decompressor says.
fn fault(source: &io::Error) -> &'static str {
    let said = source.to_string().to_ascii_lowercase();
    match source.kind() {
        io::ErrorKind::UnexpectedEof => "ends early",
        _ if said.contains("checksum") || said.contains("crc") => "has a wrong checksum",
        // zstd and bzip2 give their complaints no kind.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            "is damaged"
        }
        _ => "cannot be read",
    }
}

/// The result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: names the verb and the file.
    pub fn io<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Content { .. } | Self::ContentSize { .. } | Self::Unwritable { .. } => {
                ErrorKind::Context
            }
            Self::Tar { archive: true, .. } | Self::Stream { archive: true, .. } => {
                ErrorKind::Context
            }
            Self::Tar { .. } | Self::Stream { .. } | Self::DiffId { .. } => ErrorKind::BaseImage,
            Self::Store(_)
            | Self::Io { .. }
            | Self::Damaged { .. }
            | Self::Outdated { .. }
            | Self::Threads { .. } => ErrorKind::Store,
            Self::Order { .. } | Self::Compress { .. } | Self::Pipeline => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<&'static str> {
        match self {
            Self::ContentSize { .. } => {
                Some("build again when nothing writes to this file, or exclude it")
            }
            Self::Threads { .. } => Some(MORE_THREADS),
            Self::Damaged { .. } => Some("it is taken away: build again"),
            Self::DiffId { .. } => Some("the image is inconsistent; ask whoever made it"),
            Self::Stream { archive: true, .. } => Some(
                "fetch or pack it again: a download may have broken off; `--unpack=false` copies the file as it is",
            ),
            _ => None,
        }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let (kind, message, help) = (error.kind(), error.to_string(), error.help());
        let converted = match error {
            Error::Store(source) => return Self::from(source),
            Error::Io { source, .. }
            | Error::Content { source, .. }
            | Error::Stream { source, .. }
            | Error::Threads { source }
            | Error::Compress { source } => Self::new(kind, message).with_source(source),
            _ => Self::new(kind, message),
        };
        match help {
            Some(help) => converted.with_help(help),
            None => converted,
        }
    }
}
