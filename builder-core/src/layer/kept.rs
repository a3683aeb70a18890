//! The few files of a layer whose bytes are kept beside its index: who has which user and group ids.
//!
//! A layer that is not stored is read once, as it arrives. The names in `--chown` must be known later too, without the
//! layer: `/etc/passwd` and `/etc/group` are kept, each as the offset and the length of its bytes in the tar (16 bytes,
//! little-endian) followed by the bytes.

use std::io::{Read as _, Write as _};

use super::error::{Error, Result};
use super::record::DataRange;
use crate::digest::DiffId;
use crate::image_path::ImagePath;
use crate::store::{Sidecar, Store};

/// Files larger than this are not kept: 1 MiB.
const MAX_BYTES: u64 = 1 << 20;
/// No more is read of a sidecar: two files of that size, some versions of each.
const MAX_SIDECAR: u64 = 16 << 20;

/// What is kept of one layer while it is read.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<u8>);

impl Kept {
    /// Whether the bytes of a file are kept.
    pub(super) fn wants(path: &ImagePath, range: &DataRange) -> bool {
        let wanted = matches!(path.as_relative(), b"etc/passwd" | b"etc/group");
        wanted && range.len <= MAX_BYTES
    }

    /// Keeps the bytes of a file.
    pub(super) fn push(&mut self, range: &DataRange, bytes: &[u8]) {
        self.0.extend(range.offset.to_le_bytes());
        self.0.extend(range.len.to_le_bytes());
        self.0.extend(bytes);
    }

    /// Writes it beside the layer's index.
    pub(super) fn write(&self, store: &Store, diff_id: DiffId) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut file = store.temporary_file()?;
        let written = file.write_all(&self.0);
        written.map_err(Error::io("write", file.path()))?;
        store.keep_sidecar(Sidecar::Kept(diff_id), file)?;
        Ok(())
    }
}

/// The bytes of a file, if they were kept.
pub fn read_kept(store: &Store, diff_id: &DiffId, range: &DataRange) -> Result<Option<Vec<u8>>> {
    let which = Sidecar::Kept(*diff_id);
    let Some(file) = store.open_sidecar(which)? else {
        return Ok(None);
    };
    let mut all = Vec::new();
    let read = file.take(MAX_SIDECAR).read_to_end(&mut all);
    read.map_err(Error::io("read", &store.sidecar_path(which)))?;
    let mut rest = all.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<16>() {
        let (offset, length) = head.split_at(8);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let (offset, length) = (number(offset), number(length));
        let Some((bytes, next)) = usize::try_from(length)
            .ok()
            .and_then(|length| after.split_at_checked(length))
        else {
            break;
        };
        if (offset, length) == (range.offset, range.len) {
            return Ok(Some(bytes.to_vec()));
        }
        rest = next;
    }
    Ok(None)
}
