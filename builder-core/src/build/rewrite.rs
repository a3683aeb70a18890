//! A layer written anew with another compression or epoch: the same files, other bytes.
//!
//! The index keeps the times as they were before any epoch clamped them, so that the blob is the one that the step
//! itself would have made.

use crate::build::stage::Shared;
use crate::entry::EntryKind;
use crate::error::Result;
use crate::image::Layer;
use crate::layer::{Layer as NewLayer, LayerData, LayerWriter, Mark, index_layer};

/// Writes the layer as this build writes layers.
///
/// # Errors
/// A blob that is damaged, and those of the store.
pub(crate) fn layer(shared: &Shared<'_>, layer: &Layer) -> Result<NewLayer> {
    let store = shared.store;
    let (_, index) = index_layer(store, &layer.descriptor, Some(&layer.diff_id))?;
    let mut data = LayerData::open(store, &layer.descriptor, &layer.diff_id)?;
    let mut writer = LayerWriter::new(store, &shared.options)?;
    for record in &index {
        shared.interrupt.check()?;
        let record = record?;
        let path = &record.entry.path;
        if record.mark == Mark::Whiteout {
            writer.append_whiteout(path)?;
            continue;
        }
        if !record.implicit {
            match (&record.entry.kind, &record.data) {
                (EntryKind::File { .. }, Some(range)) => {
                    writer.append(&record.entry, Some(&mut data.reader(range)))?;
                }
                _ => writer.append(&record.entry, None)?,
            }
        }
        if record.opaque {
            writer.append_opaque(path)?;
        }
    }
    Ok(writer.finish()?)
}
