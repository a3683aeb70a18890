//! What can go wrong with an output, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::oci::descriptor::Descriptor;

/// What can go wrong with an output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
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
    /// Writing failed.
    #[error("cannot write the output")]
    Write {
        /// The answer.
        source: io::Error,
    },
    /// A blob could not be copied; the cause says whether reading or writing failed.
    #[error("cannot copy blob `{digest}`")]
    Copy {
        /// Which.
        digest: Digest,
        /// The answer.
        source: io::Error,
    },
}

impl Problem {
    pub(super) fn writing(source: io::Error) -> Self {
        Self::Write { source }
    }

    /// The error of a copy: the store's own where a blob turned out to be damaged.
    pub(super) fn copying(source: io::Error, blob: &Descriptor) -> Error {
        match source.downcast::<crate::store::Error>() {
            Ok(damaged) => damaged.into(),
            Err(source) => Self::Copy {
                digest: blob.digest,
                source,
            }
            .into(),
        }
    }

    pub(super) fn at<'a>(
        verb: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let (Problem::Io { source, .. } | Problem::Write { source } | Problem::Copy { source, .. }) =
            &problem;
        let help = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room on the disk, or write elsewhere with `dest=`"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a `dest=` that you may write to"
            }
            io::ErrorKind::BrokenPipe => "the reader of standard output went away",
            io::ErrorKind::InvalidData => {
                "the store is damaged: build the image again, or pull its base again"
            }
            _ => "check the path of the output",
        };
        let message = problem.to_string();
        let (Problem::Io { source, .. } | Problem::Write { source } | Problem::Copy { source, .. }) =
            problem;
        Self::new(ErrorKind::Output, message)
            .with_help(help)
            .with_source(source)
    }
}
