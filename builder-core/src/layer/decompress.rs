//! Compressed streams: told apart by their first bytes, read to their end.
//!
//! gzip is read with all its members, as every tool that makes layers in pieces writes them; so are frames of zstd and
//! streams of xz and bzip2. What a media type or a file name says about a stream is not asked.

use std::io::{self, BufRead, Read};

use super::header::{self, UNIT};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, RFC 1952.
    Gzip,
    /// zstd, RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// Tells the packing by the first bytes; six are enough.
pub fn sniff(start: &[u8]) -> Packing {
    for (magic, packing) in [
        (&[0x1f, 0x8b, 0x08][..], Packing::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
        (b"BZh", Packing::Bzip2),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Packing::Xz),
    ] {
        if start.starts_with(magic) {
            return packing;
        }
    }
    // A skippable frame may come first.
    if matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        return Packing::Zstd;
    }
    Packing::Plain
}

/// A stream without its compression. The reader's buffer must hold at least six bytes.
pub fn open<'a>(
    mut reader: impl BufRead + Send + 'a,
) -> io::Result<(Packing, Box<dyn Read + Send + 'a>)> {
    let packing = sniff(reader.fill_buf()?);
    let opened: Box<dyn Read + Send + 'a> = match packing {
        Packing::Plain => Box::new(reader),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(reader)?),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new(reader, true)),
    };
    Ok((packing, opened))
}

/// Whether a stream is a tar, and how it is compressed. None where it is something else: a compressed file that holds
/// no tar is not an archive. A stream too damaged to tell is not one either.
pub fn detect_archive(reader: impl Read + Send) -> Option<Packing> {
    let (packing, mut opened) = open(io::BufReader::new(reader)).ok()?;
    let mut header = [0; UNIT];
    opened.read_exact(&mut header).ok()?;
    header::is_header(&header).then_some(packing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_compressed_file_is_an_archive_only_with_a_tar_inside() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_cksum();
        builder.append_data(&mut header, "a", &b"hi"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&tar).unwrap();
        for (bytes, expected) in [
            (tar.clone(), Some(Packing::Plain)),
            (gzip(&tar), Some(Packing::Gzip)),
            (zstd::encode_all(&tar[..], 1).unwrap(), Some(Packing::Zstd)),
            (bzip2.finish().unwrap(), Some(Packing::Bzip2)),
            (gzip(b"just text"), None),
            (gzip(&[0; 2048]), None),
            (b"BZh".to_vec(), None),
            (Vec::new(), None),
            (vec![0; 2048], None),
        ] {
            assert_eq!(detect_archive(&bytes[..]), expected);
            if expected.is_some() {
                let mut plain = Vec::new();
                open(&bytes[..]).unwrap().1.read_to_end(&mut plain).unwrap();
                assert_eq!(plain, tar);
            }
        }
    }

    /// A tar of one file `a` of two bytes, 2048 bytes long, made by xz 5.
    const XZ: &str = "
        fd377a585a0000016922de360200210116000000742fe5a3e007ff00395d00308033501868898301dce26e21054a7037c98c
        59ada89dedddb96e420be4b672e6e05bf064301ca33867f6836874830dd33866dc745bc0de0000000000c47e73b000015180
        1000000082e878e53e300d8b020000000001595a
    ";

    #[test]
    fn reads_xz() {
        let digits: Vec<u8> = XZ.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        let bytes: Vec<u8> = digits.chunks(2).map(|two| pair(two).unwrap()).collect();
        assert_eq!(detect_archive(&bytes[..]), Some(Packing::Xz));
        let mut plain = Vec::new();
        open(&bytes[..]).unwrap().1.read_to_end(&mut plain).unwrap();
        assert_eq!((plain.len(), &plain[512..514]), (2048, &b"hi"[..]));
    }
}
