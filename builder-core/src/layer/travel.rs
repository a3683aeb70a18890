//! Layers and their indexes on the way from another store: packed, unpacked, checked.
//!
//! An index travels as the bytes of its layer's diff ID and the file that it is, gzipped: who has it need not fetch the
//! layer to know what is in it.

use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::error::{Error, Result};
use super::index::LayerIndex;
use super::read::{check_diff_id, index_layer, make_index_of};
use crate::digest::DiffId;
use crate::oci::Descriptor;
use crate::store::{Sidecar, Store};
use crate::timestamp::Timestamp;

/// No index of more bytes travels: it is that of about ten million files.
const LIMIT: u64 = 1 << 30;

/// The index of a layer, packed; none where the store has none, or a very large one.
///
/// # Errors
/// Those of reading it.
pub fn pack_index(store: &Store, diff_id: &DiffId) -> Result<Option<Vec<u8>>> {
    let which = Sidecar::Index(*diff_id);
    let path = store.sidecar_path(which);
    let Some(mut file) = store.open_sidecar(which)? else {
        return Ok(None);
    };
    let length = file.metadata().map_err(Error::io("read", &path))?.len();
    if length > LIMIT {
        return Ok(None);
    }
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let copied = packed
        .write_all(diff_id.0.as_bytes())
        .and_then(|()| std::io::copy(&mut file, &mut packed))
        .and_then(|_| packed.finish());
    copied.map(Some).map_err(Error::io("read", &path))
}

/// Keeps an index that was packed by [`pack_index`]. One that can't be an index is not kept.
///
/// # Errors
/// [`Error::Damaged`], and those of the store.
pub fn unpack_index(store: &Store, diff_id: &DiffId, packed: &[u8]) -> Result<()> {
    let which = Sidecar::Index(*diff_id);
    let path = store.sidecar_path(which);
    let mut file = store.temporary_file()?;
    let mut unpacked = GzDecoder::new(packed).take(LIMIT);
    let mut layer = [0; 32];
    let copied = unpacked
        .read_exact(&mut layer)
        .and_then(|()| std::io::copy(&mut unpacked, &mut file))
        .and_then(|_| file.flush());
    if copied.is_err() || layer != *diff_id.0.as_bytes() {
        return Err(Error::Damaged { path });
    }
    let checked = LayerIndex::from_temporary(file)?;
    if let Some(file) = checked.into_temporary() {
        store.keep_sidecar(which, file)?;
    }
    Ok(())
}

/// Checks that a blob of the store is the layer that it is said to be, and that its index, which may have come from
/// elsewhere, tells of this layer: one that doesn't is replaced.
///
/// # Errors
/// A damaged blob, and one that is another layer.
pub fn verify_layer(store: &Store, descriptor: &Descriptor, diff_id: &DiffId) -> Result<()> {
    let Some(known) = LayerIndex::open(store, diff_id)? else {
        return index_layer(store, descriptor, Some(diff_id)).map(|_| ());
    };
    let (fresh, found) = make_index_of(store, descriptor)?;
    check_diff_id(descriptor, Some(diff_id), found)?;
    let fresh = LayerIndex::from_temporary(fresh)?;
    if !tells_the_same(&known, &fresh)
        && let Some(file) = fresh.into_temporary()
    {
        store.keep_sidecar(Sidecar::Index(*diff_id), file)?;
    }
    Ok(())
}

/// Whether two indexes tell of the same files and the same places. Times may differ: those of the source are in one, those
/// of an epoch in the other.
fn tells_the_same(one: &LayerIndex, other: &LayerIndex) -> bool {
    let (mut left, mut right) = (one.iter(), other.iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(Ok(mut left)), Some(Ok(mut right))) => {
                for record in [&mut left, &mut right] {
                    record.entry.mtime = Timestamp::default();
                    record.link_group = None;
                }
                if left != right {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::image_path::ImagePath;
    use crate::layer::{Compression, LayerOptions, LayerWriter};

    #[test]
    fn an_index_is_believed_of_its_own_layer_only() {
        let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (
            Store::open(home.path()).unwrap(),
            Store::open(away.path()).unwrap(),
        );
        let options = LayerOptions {
            compression: Compression::DEFAULT,
            epoch: None,
            threads: 1,
        };
        let mut writer = LayerWriter::new(&here, &options).unwrap();
        let entry = Entry::directory(ImagePath::clean("a/b"), Timestamp::default());
        writer.append(&entry, None).unwrap();
        let layer = writer.finish().unwrap();
        let packed = pack_index(&here, &layer.diff_id).unwrap().unwrap();
        let other = DiffId(crate::digest::Digest::of(b"other"));
        assert!(pack_index(&here, &other).unwrap().is_none());
        assert!(unpack_index(&there, &other, &packed).is_err());
        for length in [0, 10, packed.len() / 2] {
            assert!(unpack_index(&there, &layer.diff_id, &packed[..length]).is_err());
        }
        assert!(LayerIndex::open(&there, &layer.diff_id).unwrap().is_none());
        unpack_index(&there, &layer.diff_id, &packed).unwrap();
        let index = LayerIndex::open(&there, &layer.diff_id).unwrap().unwrap();
        assert!(index.get(&ImagePath::clean("a/b")).unwrap().is_some());
        verify_layer(&here, &layer.descriptor, &layer.diff_id).unwrap();
        assert!(verify_layer(&here, &layer.descriptor, &other).is_err());
    }
}
