//! Makes one layer of a directory, to be timed beside `tar -c DIRECTORY | pigz`.
//!
//! `layer make-small DIRECTORY [SOURCE]` and `layer make-large DIRECTORY [COUNT]` write the inputs;
//! `layer write DIRECTORY STORE LEVEL THREADS` makes the layer and prints the blob's size and the seconds;
//! `layer index TAR STORE` takes a tar into a store, indexes it, and prints the number of records and the seconds.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use builder_core::entry::EntryKind;
use builder_core::layer::{Compression, LayerOptions, LayerWriter, index_layer};
use builder_core::oci::{Descriptor, MediaType};
use builder_core::store::Store;

#[expect(
    clippy::print_stdout,
    reason = "a program whose result is a line of text"
)]
#[expect(clippy::disallowed_methods, reason = "a program that measures time")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make-small", folder, source @ ..] => {
            benches::small_files(Path::new(folder), 20_000, source.first().map(Path::new))?;
        }
        ["make-large", folder, count @ ..] => {
            let count = count.first().map_or(Ok(16), |count| count.parse())?;
            benches::large_files(Path::new(folder), count)?;
        }
        ["write", folder, store, level, threads] => {
            let store = Store::open(Path::new(store))?;
            let compression = match level.split_once(':') {
                Some(("zstd", level)) => Compression::Zstd(level.parse()?),
                _ => Compression::Gzip(level.parse()?),
            };
            let options = LayerOptions {
                compression,
                epoch: None,
                threads: threads.parse()?,
            };
            let start = Instant::now();
            let mut writer = LayerWriter::new(&store, &options)?;
            for (entry, path) in benches::entries(Path::new(folder))? {
                if matches!(entry.kind, EntryKind::File { .. }) {
                    writer.append(&entry, Some(&mut File::open(path)?))?;
                } else {
                    writer.append(&entry, None)?;
                }
            }
            let layer = writer.finish()?;
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{} {} {seconds:.3}",
                layer.descriptor.digest, layer.descriptor.size
            );
        }
        ["index", tar, store] => {
            let store = Store::open(Path::new(store))?;
            let mut blob = store.blob_writer()?;
            std::io::copy(&mut File::open(tar)?, &mut blob)?;
            let (digest, size) = blob.finish()?;
            let start = Instant::now();
            let layer = Descriptor::new(MediaType::LayerTar, digest, size);
            let (diff_id, index) = index_layer(&store, &layer, None)?;
            let seconds = start.elapsed().as_secs_f64();
            println!("{diff_id} {} {seconds:.3}", index.len());
        }
        _ => println!("see the first lines of this program's source"),
    }
    Ok(())
}
