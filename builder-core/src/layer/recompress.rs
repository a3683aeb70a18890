//! A layer's tar compressed anew, byte for byte the same tar: for layers that were made elsewhere.

use std::io::{self, BufReader, Read, Write as _};

use flate2::GzBuilder;

use super::compress::Compression;
use super::decompress;
use crate::oci::Descriptor;
use crate::store::{BlobWriter, Store};

/// Writes the layer that `blob` holds with another compression; its diff ID stays.
///
/// # Errors
/// A blob that is damaged or isn't there, and those of the store.
pub fn recompress(
    store: &Store,
    blob: &Descriptor,
    compression: Compression,
) -> crate::Result<Descriptor> {
    let failed = |error: io::Error| -> crate::Error {
        match error.downcast::<crate::store::Error>() {
            Ok(own) => own.into(),
            Err(error) => crate::Error::new(
                crate::ErrorKind::BaseImage,
                format!("layer `{}` can't be compressed anew", blob.digest),
            )
            .with_source(error),
        }
    };
    let reader = BufReader::with_capacity(64 << 10, store.open_blob(blob)?);
    let (_, tar) = decompress::open(reader).map_err(failed)?;
    let writer = packed(tar, store.blob_writer()?, compression).map_err(failed)?;
    let (digest, size) = writer.finish()?;
    Ok(Descriptor::new(compression.media_type(), digest, size))
}

fn packed(
    mut tar: impl Read,
    mut writer: BlobWriter,
    compression: Compression,
) -> io::Result<BlobWriter> {
    match compression {
        Compression::Gzip(level) => {
            let level = flate2::Compression::new(level.min(9));
            let mut encoder = GzBuilder::new()
                .mtime(0)
                .operating_system(255)
                .write(writer, level);
            io::copy(&mut tar, &mut encoder)?;
            encoder.finish()
        }
        Compression::Zstd(level) => {
            let mut encoder = zstd::stream::write::Encoder::new(writer, level)?;
            io::copy(&mut tar, &mut encoder)?;
            encoder.finish()
        }
        Compression::None => {
            io::copy(&mut tar, &mut writer)?;
            writer.flush()?;
            Ok(writer)
        }
    }
}
