//! What a layer has directly in a directory.

use super::{LayerIndex, Place};
use crate::image_path::{self, ImagePath};
use crate::layer::error::Result;
use crate::layer::record::Record;

/// The children of one directory. Ends after the first error.
#[derive(Debug)]
pub struct Children<'a> {
    index: &'a LayerIndex,
    directory: ImagePath,
    place: Option<Place>,
    last: Option<ImagePath>,
}

impl<'a> Children<'a> {
    /// Those from a place on.
    pub(super) fn from(index: &'a LayerIndex, directory: ImagePath, place: Place) -> Self {
        Self {
            index,
            directory,
            place: Some(place),
            last: None,
        }
    }
}

impl Children<'_> {
    fn advance(&mut self, mut place: Place) -> Result<Option<Record>> {
        if let Some(child) = self.last.take() {
            place = self.skip_below(&child, place)?;
        }
        let Some((record, _)) = self.index.step(&mut place)? else {
            return Ok(None);
        };
        if !record.entry.path.starts_with(&self.directory) {
            return Ok(None);
        }
        self.last = record.is_directory().then(|| record.entry.path.clone());
        self.place = Some(place);
        Ok(Some(record))
    }

    /// Moves on behind everything below `child`: within the page by steps, beyond it by a search.
    fn skip_below(&self, child: &ImagePath, mut place: Place) -> Result<Place> {
        let within = |found: &[u8]| {
            let child = child.as_relative();
            found.starts_with(child) && found.get(child.len()) == Some(&b'/')
        };
        let Some(page) = self.index.settle(&mut place)? else {
            return Ok(place);
        };
        while place.at < page.bytes.len() {
            if !within(self.index.path_at(&page, place.at)?) {
                return Ok(place);
            }
            place.at = self.index.next_in(&page, place.at)?;
        }
        let wanted = child.as_relative();
        self.index
            .first_not(&|found| image_path::compare(found, wanted).is_le() || within(found))
    }
}

impl Iterator for Children<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.place.take()?;
        self.advance(place).transpose()
    }
}
