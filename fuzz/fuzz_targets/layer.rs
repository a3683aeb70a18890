//! Bytes as an archive and as a layer: indexed, looked up, visited, and unpacked below a root that nothing leaves.

#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use builder_core::image::Layer;
use builder_core::interrupt::Interrupt;
use builder_core::layer::{index_archive, index_layer, visit_layer};
use builder_core::oci::{Descriptor, MediaType};
use builder_core::owners::{OwnerEncoding, SideTable};
use builder_core::rootfs::Layouts;
use builder_core::store::{Sidecar, Store};
use libfuzzer_sys::fuzz_target;

static HOME: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a directory"));
static STORE: LazyLock<Store> =
    LazyLock::new(|| Store::open(&HOME.path().join("store")).expect("a store"));

fuzz_target!(|data: &[u8]| {
    if data.len() > 64 * 1024 {
        return;
    }
    let store = &*STORE;
    if let Ok(archive) = index_archive(store, "x", data, true) {
        for record in archive.index.iter() {
            let path = record.expect("a whole index").entry.path;
            assert!(archive.index.get(&path).expect("a whole index").is_some());
            archive
                .index
                .children(&path)
                .expect("a whole index")
                .for_each(|child| {
                    child.expect("a whole index");
                });
        }
    }
    let digest = store.put(data).expect("room");
    let blob = Descriptor::new(MediaType::LayerGzip, digest, data.len() as u64);
    if let Ok((diff_id, index)) = index_layer(store, &blob, None) {
        let paths = index
            .iter()
            .map(|record| record.expect("a whole index").entry.path);
        assert!(paths.is_sorted());
        store
            .remove_sidecar(Sidecar::Index(diff_id))
            .expect("a store");
        let mut visitor = |_: &_, content: &mut dyn Read| {
            // A sparse file may be longer than any patience.
            let _ = std::io::copy(&mut content.take(1 << 20), &mut std::io::sink());
            Ok(())
        };
        let _ = visit_layer(store, &blob, &diff_id, &mut visitor);
        unpack(store, Layer::made(blob, diff_id));
        store
            .remove_sidecar(Sidecar::Index(diff_id))
            .expect("a store");
    }
    let _ = std::fs::remove_file(store.blob_path(&digest));
});

/// Unpacks a layer of little content, and sees that nothing came beside the root.
fn unpack(store: &Store, layer: Layer) {
    let (_, index) = match index_layer(store, &layer.descriptor, Some(&layer.diff_id)) {
        Ok(indexed) => indexed,
        Err(_) => return,
    };
    let sizes = index
        .iter()
        .map(|record| record.expect("a whole index").entry.size());
    if sizes.fold(0_u64, u64::saturating_add) > 1 << 20 {
        return;
    }
    let place = HOME.path().join("place");
    let root = place.join("root");
    std::fs::create_dir_all(&root).expect("room");
    let layouts = Layouts {
        store,
        source: None,
        encoding: OwnerEncoding::Recorded,
        capabilities: &|_, _| Ok(()),
        replacements: None,
        interrupt: &Interrupt::default(),
    };
    let _ = layouts.apply(&[], &[layer], &root, &mut SideTable::default());
    let beside = std::fs::read_dir(&place).expect("a directory").count();
    assert_eq!(beside, 1, "something left the root");
    let _ = builder_core::store::remove_tree(&place);
}
