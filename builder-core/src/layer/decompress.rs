//! Compressed streams: told apart by their first bytes, read to their end.
//!
//! gzip is read with all its members, as every tool that makes layers in pieces writes them; so are frames of zstd and
//! streams of xz and bzip2. Padding behind the last one is no part of it. What a media type or a file name says about a stream is not asked.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        Packing::Gzip => members(
            packing,
            reader,
            |inner| Ok(flate2::bufread::GzDecoder::new(inner)),
            flate2::bufread::GzDecoder::into_inner,
        )?,
        Packing::Zstd => members(
            packing,
            reader,
            |inner| zstd::Decoder::with_buffer(inner).map(zstd::Decoder::single_frame),
            zstd::Decoder::finish,
        )?,
        Packing::Bzip2 => members(
            packing,
            reader,
            |inner| Ok(bzip2::bufread::BzDecoder::new(inner)),
            bzip2::bufread::BzDecoder::into_inner,
        )?,
        Packing::Xz => members(
            packing,
            reader,
            |inner| Ok(lzma_rust2::XzReader::new(inner, false)),
            lzma_rust2::XzReader::into_inner,
        )?,
    };
    Ok((packing, opened))
}

fn members<'a, R, D>(
    packing: Packing,
    reader: R,
    make: fn(R) -> io::Result<D>,
    finish: fn(D) -> R,
) -> io::Result<Box<dyn Read + Send + 'a>>
where
    R: BufRead + Send + 'a,
    D: Read + Send + 'a,
{
    Ok(Box::new(Members {
        packing,
        current: Some(make(reader)?),
        make,
        finish,
    }))
}

/// Compressed pieces one after another. What stands behind the last one is padding, whatever it is: tapes, downloads
/// and `tar` itself fill up to a whole number of blocks, and no other reader looks at it.
struct Members<R, D> {
    packing: Packing,
    current: Option<D>,
    make: fn(R) -> io::Result<D>,
    finish: fn(D) -> R,
}

impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut current) = self.current.take() {
            let taken = current.read(buffer)?;
            if taken > 0 || buffer.is_empty() {
                self.current = Some(current);
                return Ok(taken);
            }
            let mut inner = (self.finish)(current);
            skip_zeros(&mut inner)?;
            if sniff(inner.fill_buf()?) == self.packing {
                self.current = Some((self.make)(inner)?);
            }
        }
        Ok(0)
    }
}

/// Skips zero bytes: xz allows them between its streams.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let here = reader.fill_buf()?;
        let zeros = here.iter().take_while(|byte| **byte == 0).count();
        let more = zeros == here.len() && zeros > 0;
        reader.consume(zeros);
        if !more {
            return Ok(());
        }
    }
}

/// Whether a stream is a tar, and how it is compressed. None where it is something else: a compressed file that holds
/// no tar is not an archive.
///
/// # Errors
/// A stream that begins as a compressed one does and ends before the first header, or has a broken first block of bzip2:
/// nobody can tell what it was to be.
pub fn detect_archive(reader: impl Read + Send) -> io::Result<Option<Packing>> {
    let mut reader = io::BufReader::new(reader);
    let surely = begins_well(reader.fill_buf()?);
    let Ok((packing, mut opened)) = open(reader) else {
        return Ok(None);
    };
    let told = |error: io::Error| {
        let early = error.kind() == io::ErrorKind::UnexpectedEof;
        if surely && (early || packing == Packing::Bzip2) {
            Err(error)
        } else {
            Ok(None)
        }
    };
    let mut header = [0; UNIT];
    let mut filled = 0;
    while filled < UNIT {
        match opened.read(&mut header[filled..]) {
            Ok(0) => return Ok(None),
            Ok(taken) => filled += taken,
            Err(error) => return told(error),
        }
    }
    if header::is_header(&header) {
        return Ok(Some(packing));
    }
    // A damaged block of bzip2 gives bytes all the same, in the wrong order: only its end tells that they are wrong.
    let rest = if packing == Packing::Bzip2 { BLOCK } else { 0 };
    match io::copy(&mut opened.take(rest), &mut io::sink()) {
        Ok(_) => Ok(None),
        Err(error) => told(error),
    }
}

/// More than any block of bzip2 gives, in bytes.
const BLOCK: u64 = 4 << 20;

/// Whether a stream begins as only a compressed one does: with more than the letters that some text may begin with.
fn begins_well(start: &[u8]) -> bool {
    match sniff(start) {
        Packing::Plain => false,
        // Reserved flags are zero (RFC 1952, section 2.3.1).
        Packing::Gzip => start.get(3).is_some_and(|flags| flags & 0xe0 == 0),
        // A level, then the first block's magic.
        Packing::Bzip2 => start.get(4..10) == Some(b"1AY&SY"),
        Packing::Zstd | Packing::Xz => true,
    }
}

/// Counts the bytes that were used up of a stream: an error of a decompressor has the place where it was found.
#[derive(Debug)]
pub(super) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R, count: Arc<AtomicU64>) -> Self {
        Self { inner, count }
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.fill_buf()?.read(buffer)?;
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count.fetch_add(amount as u64, Ordering::Relaxed);
        self.inner.consume(amount);
    }
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
            assert_eq!(detect_archive(&bytes[..]).unwrap(), expected);
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
        assert_eq!(detect_archive(&bytes[..]).unwrap(), Some(Packing::Xz));
        let mut plain = Vec::new();
        open(&bytes[..]).unwrap().1.read_to_end(&mut plain).unwrap();
        assert_eq!((plain.len(), &plain[512..514]), (2048, &b"hi"[..]));
    }
}
