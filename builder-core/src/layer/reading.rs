//! Reads what is kept about layers to its end, as a check of a store does.

use super::blocks::BlockMap;
use super::error::{Error, Result};
use super::index::LayerIndex;
use super::spool;
use crate::digest::DiffId;
use crate::store::{Sidecar, Store};

/// Reads a file about a layer. What is not as it was written is given up, as wherever it is met.
///
/// # Errors
/// Those of the system.
pub fn read_through(store: &Store, which: Sidecar) -> Result<()> {
    let read = match which {
        Sidecar::Index(layer) => read_index(store, &layer),
        Sidecar::Blocks(blob) => BlockMap::open(store, &blob).map(|_| ()),
        Sidecar::Spool(layer) => spool::open(store, &layer).map(|_| ()),
        Sidecar::Kept(_) | Sidecar::Origin(_) | Sidecar::Output(_) => Ok(()),
    };
    match read {
        Err(Error::Damaged { .. }) => Ok(()),
        read => read,
    }
}

fn read_index(store: &Store, layer: &DiffId) -> Result<()> {
    if let Some(index) = LayerIndex::open(store, layer)? {
        for record in &index {
            record?;
        }
    }
    Ok(())
}
