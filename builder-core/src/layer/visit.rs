//! Shows a layer's entries with their bytes, in the order in which its blob has them.
//!
//! One pass over the blob serves who unpacks it and, where the layer has none yet, makes its index.

use std::io::{self, Read};

use super::data::LayerData;
use super::error::Error;
use super::index::LayerIndex;
use super::making::Making;
use super::read::{self, What};
use super::record::{Mark, Record};
use crate::digest::DiffId;
use crate::oci::Descriptor;
use crate::store::{Sidecar, Store};

/// Takes a layer's entries, whiteouts included, and the bytes of its regular files. Bytes that it leaves are skipped.
/// What fails to read is the layer's fault, with [`io::ErrorKind::InvalidData`] or the error of the stream.
pub type Visitor<'v> = dyn FnMut(&Record, &mut dyn Read) -> crate::Result<()> + 'v;

/// Calls `visitor` for each entry of a layer that is in the store, and gives the layer's index. A layer of rbuild's is
/// shown in path order and with the times of its index; any other in the order of its tar, in which a path may come
/// twice and the index has yet to say whether the whole is sound: what was unpacked is worth something only when this
/// succeeds. The blob's digest, its size and the diff ID are checked in the second case, its blocks in the first.
///
/// # Errors
/// Those of the layer, and the visitor's.
pub fn visit_layer(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &DiffId,
    visitor: &mut Visitor<'_>,
) -> crate::Result<LayerIndex> {
    let known = LayerIndex::open(store, diff_id)?;
    if let Some(index) = known {
        let here = LayerData::is_at_hand(store, &descriptor.digest, diff_id)?;
        if here {
            visit_index(store, descriptor, diff_id, &index, visitor)?;
        } else {
            visit_tar(store, descriptor, diff_id, false, visitor)?;
        }
        return Ok(index);
    }
    visit_tar(store, descriptor, diff_id, true, visitor)?;
    let made = LayerIndex::open(store, diff_id)?;
    Ok(made.ok_or(Error::Pipeline)?)
}

/// Shows what an index holds, with bytes read at their places.
fn visit_index(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &DiffId,
    index: &LayerIndex,
    visitor: &mut Visitor<'_>,
) -> crate::Result<()> {
    let mut data = LayerData::open(store, descriptor, diff_id)?;
    for record in index {
        let record = record?;
        match &record.data {
            Some(range) => visitor(&record, &mut data.reader(range))?,
            None => visitor(&record, &mut io::empty())?,
        }
    }
    Ok(())
}

/// Shows a tar as it is unpacked, and makes its index if asked.
fn visit_tar(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &DiffId,
    indexed: bool,
    visitor: &mut Visitor<'_>,
) -> crate::Result<()> {
    let what = What::layer(descriptor);
    let mut refused = Ok(());
    let unpacked = read::unpack(store, descriptor, |tar| {
        let mut making = indexed.then(|| Making::new(store));
        read::each_record(tar, &what, |content, record, number| {
            if refused.is_ok() {
                refused = visitor(&record, content);
            }
            if is_interrupted(&refused) {
                return Err(Error::Pipeline);
            }
            match &mut making {
                Some(making) => making.push(&record, number),
                None => Ok(()),
            }
        })?;
        // Who failed to unpack what the tar does wrong would tell of it less well.
        let index = making.map(|making| making.finish(store, &what));
        index.transpose()
    });
    if is_interrupted(&refused) {
        return refused;
    }
    let (index, found) = unpacked?;
    read::check_diff_id(descriptor, Some(diff_id), found)?;
    refused?;
    if let Some(index) = index {
        store.keep_sidecar(Sidecar::Index(*diff_id), index)?;
    }
    Ok(())
}

/// Whether a visitor wants to stop at once; any other refusal waits for what is wrong with the tar itself.
fn is_interrupted(refused: &crate::Result<()>) -> bool {
    matches!(refused, Err(error) if error.kind() == crate::ErrorKind::Interrupted)
}

/// Whether a record says something that is to be made, and not only hidden or implied.
pub fn makes_something(record: &Record) -> bool {
    record.mark == Mark::Present && !record.implicit
}
