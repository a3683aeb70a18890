//! The layer pipeline by itself: entries in memory to a blob in the store, a level a row.

use builder_core::entry::Entry;
use builder_core::image_path::ImagePath;
use builder_core::layer::{Compression, LayerOptions, LayerWriter};
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Entries with their bytes.
type Files = Vec<(Entry, Vec<u8>)>;

/// 16 MiB in files of 6 KiB, and 16 MiB of noise in one file.
fn inputs() -> [(&'static str, Files); 2] {
    let mut random = benches::Random(3);
    let time = Timestamp::from_seconds(1);
    let small = (0..2_700).map(|number| {
        let bytes = random.text(6 * 1024);
        let path = ImagePath::clean(format!("/src/file_{number:05}.rs"));
        (Entry::file(path, bytes.len() as u64, 0o644, time), bytes)
    });
    let small = small.collect();
    let noise = benches::Random(4).noise(16 << 20);
    let large = Entry::file(ImagePath::clean("/noise"), noise.len() as u64, 0o644, time);
    [("small text", small), ("large noise", vec![(large, noise)])]
}

fn layers(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("a store");
    for (name, files) in inputs() {
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Bytes(16 << 20))
            .sample_size(10);
        for compression in [
            Compression::None,
            Compression::Gzip(4),
            Compression::Gzip(5),
            Compression::Gzip(6),
            Compression::Zstd(3),
        ] {
            let options = LayerOptions {
                compression,
                epoch: None,
                threads: 2,
            };
            group.bench_function(format!("{compression:?}"), |bencher| {
                bencher.iter(|| {
                    let mut writer = LayerWriter::new(&store, &options).expect("a writer");
                    for (entry, bytes) in &files {
                        writer
                            .append(entry, Some(&mut bytes.as_slice()))
                            .expect("an entry");
                    }
                    writer.finish().expect("a layer")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
