//! A layer that takes blocks from an older blob is the layer that would be made without it, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;

use builder_core::entry::Entry;
use builder_core::image_path::ImagePath;
use builder_core::layer::{Compression, Layer, LayerOptions, LayerWriter};
use builder_core::oci::Descriptor;
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Files by path: time in seconds, and content.
type Files = BTreeMap<ImagePath, (i64, Vec<u8>)>;

fn content(numbers: &mut Numbers) -> Vec<u8> {
    let length = match numbers.below(20) {
        0 => 1_500_000 + numbers.below(1_000_000),
        1..4 => numbers.below(300_000),
        _ => numbers.below(3000),
    };
    let word = numbers.below(1 << 40).to_string();
    word.bytes().cycle().take(length as usize).collect()
}

fn path(numbers: &mut Numbers) -> ImagePath {
    ImagePath::clean(format!("/d{}/f{}", numbers.below(5), numbers.below(40)))
}

fn edit(files: &mut Files, numbers: &mut Numbers) {
    let path = path(numbers);
    match numbers.below(4) {
        0 => {
            files.remove(&path);
        }
        1 => {
            let made = content(numbers);
            files.insert(path, (numbers.below(1000).cast_signed(), made));
        }
        2 => {
            if let Some((time, _)) = files.get_mut(&path) {
                *time += 1;
            }
        }
        _ => {
            if let Some((_, content)) = files.get_mut(&path) {
                let at = numbers.below(content.len() as u64 + 1) as usize;
                content.insert(at, b'x');
            }
        }
    }
}

fn write(
    store: &Store,
    files: &Files,
    compression: Compression,
    previous: Option<&Descriptor>,
) -> Layer {
    let options = LayerOptions {
        compression,
        epoch: None,
        threads: 2,
    };
    let mut writer = LayerWriter::with_previous(store, &options, previous).unwrap();
    for (path, (time, content)) in files {
        let time = Timestamp::from_seconds(*time);
        let entry = Entry::file(path.clone(), content.len() as u64, 0o644, time);
        writer
            .append(&entry, Some(&mut content.as_slice()))
            .unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn blocks_of_an_older_blob_change_no_byte() {
    let home = tempfile::tempdir().unwrap();
    let (warm, cold) = (home.path().join("warm"), home.path().join("cold"));
    let (warm, cold) = (Store::open(&warm).unwrap(), Store::open(&cold).unwrap());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut files = Files::new();
    for _ in 0..120 {
        files.insert(path(&mut numbers), (1, content(&mut numbers)));
    }
    let (gzip, zstd) = (Compression::Gzip(1), Compression::Zstd(1));
    let mut previous = write(&warm, &files, gzip, None).descriptor;
    let mut edits = 0;
    for round in 0..60 {
        for _ in 0..numbers.below(100) {
            edit(&mut files, &mut numbers);
            edits += 1;
        }
        // Now and then the older blob is of another kind, and of no use.
        let compression = if round % 7 == 3 { zstd } else { gzip };
        let with = write(&warm, &files, compression, Some(&previous));
        let without = write(&cold, &files, compression, None);
        assert_eq!(with, without, "round {round}");
        previous = with.descriptor;
    }
    assert!(edits > 2000, "{edits}");
}

#[test]
fn a_spoilt_block_is_not_taken() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let files: Files = (0..50)
        .map(|number| {
            let path = ImagePath::clean(format!("/f{number}"));
            (path, (1, number.to_string().repeat(20_000).into_bytes()))
        })
        .collect();
    let compression = Compression::Gzip(6);
    let made = write(&store, &files, compression, None);
    let blob = store.blob_path(&made.descriptor.digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    for byte in bytes.iter_mut().step_by(500).skip(1) {
        *byte ^= 0x55;
    }
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let again = write(&store, &files, compression, Some(&made.descriptor));
    assert_eq!(again.descriptor, made.descriptor);
}
