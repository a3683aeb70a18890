//! What a layer hides of the layers below it.

use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::layer::{LayerIndex, Mark};

/// What is known of it from the last question, since the next one is mostly about something nearby.
#[derive(Debug, Default)]
pub(super) struct Hiding {
    /// A directory of which the layer hides nothing, nor of those above it; the root where no such directory is known.
    open: Mutex<ImagePath>,
}

impl Hiding {
    /// Whether a layer hides from the layers below it what they hold at `path`: a directory on the way is opaque,
    /// whited out, or something else than a directory.
    pub(super) fn hides(
        &self,
        index: &LayerIndex,
        path: &ImagePath,
        including_itself: bool,
    ) -> Result<bool> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *open);
        let known = Some(known).filter(|known| !known.is_root() && path.starts_with(known));
        if known.as_ref() == Some(path) {
            *open = path.clone();
            return Ok(false);
        }
        *open = known.clone().unwrap_or_default();
        let itself = including_itself.then(|| path.clone());
        for place in path.ancestors_below(known.as_ref()).chain(itself) {
            let Some(record) = index.get(&place)? else {
                // The root need not stand in a layer; anything else that is missing has nothing below it either.
                if place.is_root() {
                    continue;
                }
                return Ok(false);
            };
            if record.mark == Mark::Whiteout || record.opaque || !record.entry.is_directory() {
                return Ok(true);
            }
            *open = place;
        }
        Ok(false)
    }
}
