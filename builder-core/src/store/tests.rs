//! The store's promises: complete or absent, verified, shared by many.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::oci::{ImageManifest, MediaType};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn count(store: &Store, folder: &str) -> usize {
    std::fs::read_dir(store.root().join(folder))
        .unwrap()
        .count()
}

#[test]
fn a_blob_is_there_only_when_finished() {
    let (_folder, store) = store();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    assert_eq!(
        (count(&store, "tmp"), count(&store, "blobs/sha256")),
        (0, 0)
    );

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"whole").unwrap();
    let (digest, size) = writer.finish().unwrap();
    assert_eq!((digest, size), (Digest::of(b"whole"), 5));
    assert_eq!(store.blob_size(&digest).unwrap(), Some(5));
    assert_eq!(count(&store, "tmp"), 0);
    assert_eq!(store.put(b"whole").unwrap(), digest);
}

#[test]
fn what_was_announced_must_come() {
    let (_folder, store) = store();
    for (bytes, size) in [(&b"other"[..], 5), (b"whole", 6)] {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(bytes).unwrap();
        let error = writer
            .finish_expecting(&Digest::of(b"whole"), size)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&Digest::of(b"whole").to_string())
        );
    }
    assert_eq!(
        (count(&store, "tmp"), count(&store, "blobs/sha256")),
        (0, 0)
    );
}

#[test]
fn a_damaged_blob_is_an_error_that_names_it() {
    let (_folder, store) = store();
    let descriptor = Descriptor::of(MediaType::Config, b"content");
    store.put(b"content").unwrap();
    assert_eq!(store.read_document(&descriptor, 7).unwrap(), b"content");
    assert!(store.read_document(&descriptor, 6).is_err());
    let path = store.blob_path(&descriptor.digest);

    std::fs::write(&path, b"c0ntent").unwrap();
    let error = crate::Error::from(store.read_document(&descriptor, 100).unwrap_err());
    assert!(
        error.message().contains(&path.display().to_string()),
        "{error}"
    );
    assert!(
        error
            .message()
            .contains(&Digest::of(b"c0ntent").to_string())
    );
    assert!(error.help().unwrap().contains("delete"));

    std::fs::write(&path, b"content!").unwrap();
    assert!(matches!(
        store.open_blob(&descriptor),
        Err(Error::DamagedSize { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        store.open_blob(&descriptor),
        Err(Error::Missing { .. })
    ));
}

#[test]
fn a_blob_that_grows_while_it_is_read_is_refused() {
    let (_folder, store) = store();
    let descriptor = Descriptor::of(MediaType::Config, b"content");
    store.put(b"content").unwrap();
    let mut reader = store.open_blob(&descriptor).unwrap();
    std::fs::write(store.blob_path(&descriptor.digest), b"content and more").unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn tags_survive_other_tools() {
    let (_folder, store) = store();
    let one = Descriptor::of(MediaType::Manifest, b"1");
    let two = Descriptor::of(MediaType::Manifest, b"2");
    store.tag("docker.io/library/a:x", "x", &one).unwrap();
    store.tag("docker.io/library/a:x", "x", &two).unwrap();
    assert_eq!(store.tags().unwrap().len(), 1);
    assert_eq!(
        store
            .resolve("docker.io/library/a:x")
            .unwrap()
            .unwrap()
            .digest,
        two.digest
    );

    let index = format!(
        r#"{{"manifests":[{{"digest":"{}","size":1}},{{"mediaType":"m","digest":"{}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}],"own":1}}"#,
        one.digest, two.digest
    );
    std::fs::write(store.root().join("index.json"), index).unwrap();
    assert_eq!(store.resolve("v1").unwrap().unwrap().digest, two.digest);
    store.tag("r/a:x", "x", &one).unwrap();
    assert!(store.untag("r/a:x").unwrap());
    assert!(!store.untag("r/a:x").unwrap());
    let text = std::fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(
        text.contains(r#""own":1"#) && text.contains(&one.digest.to_string()),
        "{text}"
    );
}

#[test]
fn many_threads_tag_at_once_and_none_is_lost() {
    let (folder, _) = store();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let root = folder.path().join("store");
            scope.spawn(move || {
                let store = Store::open(&root).unwrap();
                for round in 0..10 {
                    let name = format!("r/{number}:{round}");
                    let digest = store.put(name.as_bytes()).unwrap();
                    let descriptor = Descriptor::new(MediaType::Manifest, digest, 1);
                    store.tag(&name, "t", &descriptor).unwrap();
                }
            });
        }
    });
    let store = Store::open(&folder.path().join("store")).unwrap();
    assert_eq!(store.tags().unwrap().len(), 80);
    assert_eq!(
        (count(&store, "tmp"), count(&store, "blobs/sha256")),
        (0, 80)
    );
}

#[test]
fn opening_deletes_what_killed_processes_left_and_nothing_else() {
    let (_folder, store) = store();
    std::fs::write(store.root().join("tmp/left"), b"half").unwrap();
    let mut alive = store.blob_writer().unwrap();
    alive.write_all(b"alive").unwrap();
    let again = Store::open(store.root()).unwrap();
    assert_eq!(count(&again, "tmp"), 1);
    alive.finish().unwrap();
    assert!(again.contains(&Digest::of(b"alive")).unwrap());
}

#[test]
fn collection_keeps_what_tags_reach() {
    let (_folder, store) = store();
    let layer = store.put(b"layer").unwrap();
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#);
    store.put(config.as_bytes()).unwrap();
    let manifest = ImageManifest::new(
        Descriptor::of(MediaType::Config, config.as_bytes()),
        vec![Descriptor::new(MediaType::LayerTar, layer, 5)],
    );
    let bytes = manifest.to_bytes().unwrap();
    store.put(&bytes).unwrap();
    store
        .tag("r/a:1", "1", &Descriptor::of(MediaType::Manifest, &bytes))
        .unwrap();
    let lost = store.put(b"lost").unwrap();
    let wanted = store.put(b"wanted").unwrap();
    for which in [Sidecar::Blocks(layer), Sidecar::Blocks(lost)] {
        store
            .keep_sidecar(which, store.temporary_file().unwrap())
            .unwrap();
    }

    let root = store.root_path("native", &Digest::of(b"root"));
    std::fs::create_dir_all(root.join("tree/hidden")).unwrap();
    let hidden = Permissions::from_mode(0o0);
    std::fs::set_permissions(root.join("tree/hidden"), hidden).unwrap();

    let options = GcOptions {
        keep: vec![wanted],
        ..GcOptions::default()
    };
    let busy = store.lock_for_use().unwrap();
    assert!(matches!(store.collect(&options), Err(Error::InUse { .. })));
    drop(busy);
    let expected = Collected {
        blobs: 1,
        sidecars: 1,
        roots: 1,
        bytes: 4,
    };
    let dry = GcOptions {
        dry_run: true,
        ..options.clone()
    };
    assert_eq!(store.collect(&dry).unwrap(), expected);
    assert_eq!(store.collect(&options).unwrap(), expected);
    assert_eq!(count(&store, "blobs/sha256"), 4);
    assert_eq!(store.collect(&options).unwrap(), Collected::default());
}

#[test]
fn refuses_a_folder_of_another_layout_version() {
    let (_folder, store) = store();
    std::fs::write(
        store.root().join("oci-layout"),
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    )
    .unwrap();
    assert!(matches!(
        Store::open(store.root()),
        Err(Error::NotALayout { .. })
    ));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let error = crate::Error::from(Store::open(Path::new("/proc/rbuild-store")).unwrap_err());
    assert!(error.message().contains("/proc/rbuild-store"), "{error}");
    assert_eq!(error.kind(), crate::ErrorKind::Store);
}
