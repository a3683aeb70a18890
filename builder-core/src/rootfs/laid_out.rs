//! Where a laid out layer lies, and what it is called.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::image::Layer;

/// A layer as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaidOut {
    /// The directory, to be a lower directory of an overlay mount with `userxattr`.
    pub tree: PathBuf,
    /// Its side table; a file that isn't there is an empty one.
    pub owners: PathBuf,
}

/// How many of some layers, from the bottom, are laid out as one directory: the kernel takes at most 500. The number stays
/// the same while layers are added, up to a bound, so that few such directories are made.
pub(super) fn merged_count(layers: usize) -> usize {
    const MOST: usize = 400;
    const STEP: usize = 256;
    if layers <= MOST {
        return 0;
    }
    (layers - 1) / STEP * STEP
}

/// What several layers in one directory are called.
pub(super) fn merged_key(layers: &[Layer]) -> Digest {
    Digest::of(format!("merged\n{}", chain_text(layers)).as_bytes())
}

/// The place of a laid out layer's parts.
pub(super) fn laid_out(path: &Path) -> LaidOut {
    LaidOut {
        tree: path.join("tree"),
        owners: path.join("owners"),
    }
}

/// The diff IDs from the bottom, a line each.
pub(super) fn chain_text(layers: &[Layer]) -> String {
    let mut text = String::new();
    for layer in layers {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", layer.diff_id.0);
    }
    text
}

/// What a layer is called that needs those below it to be laid out.
pub(super) fn chain_key(layers: &[Layer]) -> Digest {
    Digest::of(chain_text(layers).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_numbers_of_layers_are_merged() {
        let numbers = [1, 400, 401, 512, 513, 600, 5_000].map(merged_count);
        assert_eq!(numbers, [0, 0, 256, 256, 512, 512, 4_864]);
        assert!((1..10_000).all(|layers| layers - merged_count(layers) <= 400));
    }
}
