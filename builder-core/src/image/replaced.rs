//! What layers put a directory in the place of without naming it: unpackers disagree about such layers, so they are told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::digest::Digest;
use crate::image_path::ImagePath;

/// A layer that has files below a path at which a lower layer has no directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replaced {
    /// The layer's blob.
    pub layer: Digest,
    /// The path, which is a directory from that layer on.
    pub path: ImagePath,
    /// Whether it is a symbolic link below that layer, and not a file.
    pub symlink: bool,
}

/// All that was met in a build. Many threads may note and take.
#[derive(Debug, Default)]
pub struct Replacements {
    /// Each with whether it was taken.
    met: Mutex<BTreeMap<Replaced, bool>>,
}

impl Replacements {
    /// Remembers one.
    pub(super) fn note(&self, replaced: Replaced) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.entry(replaced).or_insert(false);
    }

    /// Those that were not taken before.
    pub fn take(&self) -> Vec<Replaced> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let new = met.iter_mut().filter(|(_, taken)| !**taken);
        new.map(|(replaced, taken)| {
            *taken = true;
            replaced.clone()
        })
        .collect()
    }
}
