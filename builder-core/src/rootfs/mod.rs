//! Root file systems on disk: layers laid out as directories, and what a step changed in one.
//!
//! A RUN needs files. Either each layer is a directory of its own, shared by all builds, and an overlay mount puts them
//! on top of each other; then what a step did is the upper directory ([`overlay_changes`]). Or all layers are applied
//! to one directory that steps change, and a walk finds what a step did ([`walk_changes`]). Both tell changes by one
//! rule, `compare.rs`, so that the layers are equal.
//!
//! A path is changed if the layers below don't have it, or have it with another type, mode, owner, size, time, target,
//! device or capability, or, where all of these are equal, with other bytes. The time of a directory doesn't count. The
//! directories above a change stand in the layer with it.

mod chain;
mod compare;
mod descent;
mod findings;
mod laid_out;
mod layouts;
mod look;
mod metadata;
mod overlay;
mod snapshot;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod walk;

use std::io::Read;
use std::path::Path;

pub use laid_out::LaidOut;
pub use layouts::{Capabilities, Layouts};
pub use overlay::{overlay_changes, prepare_upper};
pub use snapshot::Snapshot;
pub use tree::{lay_out_empty, lay_out_tree};
pub use walk::walk_changes;

use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::{DEEPEST, ImagePath, LONGEST};

/// Takes what a step did, in the order of [`ImagePath`].
pub trait ChangeSink {
    /// A file that the step made or changed, or a directory above such a file. A regular file comes with its bytes.
    /// A hard link comes after its target.
    ///
    /// # Errors
    /// The sink's own; they end the walk.
    fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()>;

    /// A path of the layers below that the step deleted, with all that was below it.
    ///
    /// # Errors
    /// The sink's own; they end the walk.
    fn whiteout(&mut self, path: &ImagePath) -> Result<()>;
}

/// For `map_err`: the system's refusal to do something with a file of a root file system.
fn trouble<'a, E: Into<std::io::Error>>(
    verb: &'static str,
    root: &'a Path,
    path: &'a ImagePath,
) -> impl FnOnce(E) -> Error + use<'a, E> {
    move |error| {
        let (shown, path) = (root.display(), path.shortened());
        let message = format!("cannot {verb} `{path}` in the root file system `{shown}`");
        Error::new(ErrorKind::Store, message).with_source(error.into())
    }
}

/// The error for directories of a command that are nested more deeply than an image's.
fn too_deep(path: &ImagePath) -> Error {
    let message = format!(
        "the command left `{}`, which leads through more than {DEEPEST} directories or has more than {LONGEST} bytes",
        path.shortened()
    );
    Error::new(ErrorKind::Run, message).with_help("remove it in the same RUN")
}

/// Whether a path is one of `excluded`, or below one.
fn is_excluded(excluded: &[ImagePath], path: &[u8]) -> bool {
    excluded.iter().any(|one| {
        path.strip_prefix(one.as_relative())
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || one.is_root())
    })
}
