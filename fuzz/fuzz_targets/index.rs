//! Files that the store keeps beside blobs, as a disk or a neighbour may have left them: an index, a map of blocks, an
//! unpacked layer.

#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use builder_core::digest::{DiffId, Digest};
use builder_core::layer::blocks::BlockMap;
use builder_core::layer::{DataRange, LayerData, LayerIndex};
use builder_core::oci::{Descriptor, MediaType};
use builder_core::store::{Sidecar, Store};
use libfuzzer_sys::fuzz_target;

static HOME: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a directory"));
static STORE: LazyLock<Store> =
    LazyLock::new(|| Store::open(&HOME.path().join("store")).expect("a store"));

fuzz_target!(|data: &[u8]| {
    let store = &*STORE;
    let diff_id = DiffId(Digest::of(b"layer"));
    let put = |which| std::fs::write(store.sidecar_path(which), data).expect("room");
    put(Sidecar::Index(diff_id));
    if let Ok(Some(index)) = LayerIndex::open(store, &diff_id) {
        for record in index.iter() {
            let Ok(record) = record else { break };
            let _ = index.get(&record.entry.path);
            let _ = index.children(&record.entry.path).map(Iterator::count);
        }
    }
    put(Sidecar::Blocks(diff_id.0));
    if let Ok(Some(map)) = BlockMap::open(store, &diff_id.0) {
        for offset in [0, 1, 4096, u64::MAX - 1, u64::MAX] {
            let _ = map.find(offset);
        }
    }
    put(Sidecar::Spool(diff_id));
    // There is no such blob, so that the spool is all that can be read.
    let blob = Descriptor::new(MediaType::LayerGzip, Digest::of(b"blob"), 4);
    if let Ok(mut layer) = LayerData::open(store, &blob, &diff_id) {
        for offset in [0, 1, 1 << 62, u64::MAX] {
            let mut reader = layer.reader(&DataRange { offset, len: 100 });
            let _ = reader.read_to_end(&mut Vec::new());
        }
    }
});
