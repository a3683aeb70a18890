//! What can go wrong in the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::oci::json;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was tried: "read", "write", "rename".
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// The root folder holds something that is not a layout.
    #[error("`{}` is not an OCI image layout of version 1", path.display())]
    NotALayout {
        /// The `oci-layout` file.
        path: PathBuf,
    },
    /// A blob that is not in the store.
    #[error("blob `{digest}` is not in the store `{}`", root.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// The store's folder.
        root: PathBuf,
    },
    /// A blob on disk whose bytes are not what its name says.
    #[error("blob `{}` is damaged: expected `{expected}`, found `{found}`", path.display())]
    Damaged {
        /// The blob's file.
        path: PathBuf,
        /// The digest that names it.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// A blob on disk that is shorter or longer than its descriptor says.
    #[error("blob `{}` is damaged: expected {expected} bytes, found {found}", path.display())]
    DamagedSize {
        /// The blob's file.
        path: PathBuf,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes on disk, or more than `expected` by one where reading stopped there.
        found: u64,
    },
    /// Incoming bytes that are not the ones announced.
    #[error("received a blob with digest `{found}`, expected `{expected}`")]
    Unexpected {
        /// The digest announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Incoming bytes of another number than announced.
    #[error("received {found} bytes for blob `{digest}`, expected {expected}")]
    UnexpectedSize {
        /// The blob announced.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A document beyond the limit of its reader.
    #[error("document `{digest}` has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// Its size by the descriptor.
        size: u64,
        /// The reader's limit.
        limit: u64,
    },
    /// A document of the store that can't be read.
    #[error(transparent)]
    Document(#[from] json::Error),
    /// Another process uses the store.
    #[error("the store `{}` is in use by another build", root.display())]
    InUse {
        /// The store's folder.
        root: PathBuf,
    },
}

/// The result of the store's methods.
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

    /// The remedy.
    fn help(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } => io_help(source.kind()),
            Self::NotALayout { .. } => {
                Some("choose an empty folder or a store of rbuild with `--root` or `RBUILD_ROOT`")
            }
            Self::Missing { .. } => Some("pull or build the image again"),
            Self::Damaged { .. } | Self::DamagedSize { .. } => {
                Some("delete this file, then pull or build the image again")
            }
            Self::Unexpected { .. } | Self::UnexpectedSize { .. } => {
                Some("try again; if it happens twice, the sender or a proxy changes the bytes")
            }
            Self::InUse { .. } => Some("wait until the other build ends, then try again"),
            Self::TooLarge { .. } | Self::Document(_) => None,
        }
    }
}

/// The remedy for the common refusals of the operating system.
fn io_help(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space with `rbuild prune`, or choose another disk with `--root`")
        }
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit on file sizes (`ulimit -f`), or choose another disk with `--root`",
        ),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            Some("choose a folder that you may write to with `--root` or `RBUILD_ROOT`")
        }
        _ => None,
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let help = error.help();
        let converted = match error {
            Error::Document(source) => Self::from(source),
            Error::Io { source, .. } => Self::new(ErrorKind::Store, message).with_source(source),
            _ => Self::new(ErrorKind::Store, message),
        };
        match help {
            Some(help) => converted.with_help(help),
            None => converted,
        }
    }
}
