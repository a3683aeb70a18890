//! Content digests: what names a blob, a layer's tar and an image.
//!
//! Follows the OCI image specification, "Descriptors", section "Digests". What rbuild makes has a `sha256` digest, as
//! every registry and every tool writes it. A blob that others named by `sha512`, the other algorithm that the
//! specification registers, is verified by it and keeps that name.
//!
//! Three types keep apart what is easily swapped: a [`Digest`] is of the bytes as stored (compressed), a [`DiffId`]
//! of a layer's uncompressed tar, an [`ImageId`] of an image's config.

use std::str::FromStr;
use std::{fmt, io};

use sha2::Digest as _;

/// The digest of some bytes as they are stored. Prints as `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and
/// 128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Value);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// Digests `bytes` in one go.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Digests `bytes` by the algorithm of this digest: whether they are the bytes that it names.
    #[must_use]
    pub fn like(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Takes the 32 raw bytes of a SHA-256, as an index file holds them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Value::Sha256(bytes))
    }

    /// The digest whose hexadecimal digits these are; their number tells the algorithm.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let algorithm = match hex.len() {
            64 => "sha256",
            128 => "sha512",
            _ => return None,
        };
        format!("{algorithm}:{hex}").parse().ok()
    }

    /// The raw bytes: 32 of a SHA-256, 64 of a SHA-512.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => bytes,
        }
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Value::Sha256(_) => "sha256",
            Value::Sha512(_) => "sha512",
        }
    }

    /// Where the blob lies below the root of an image layout: `blobs/sha256/…`.
    pub fn path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm(), self.hex())
    }

    /// The hexadecimal digits without the algorithm: the file name below `blobs/sha256`.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(128);
        for byte in self.as_bytes() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// The first twelve hexadecimal digits, as progress lines show them.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || ParseDigestError(text.to_owned());
        let value = match text.split_once(':') {
            Some(("sha256", hex)) => raw(hex).map(Value::Sha256),
            Some(("sha512", hex)) => raw(hex).map(Value::Sha512),
            _ => None,
        };
        value.map(Self).ok_or_else(problem)
    }
}

/// The bytes that hexadecimal digits stand for, where there are just so many.
fn raw<const LENGTH: usize>(hex: &str) -> Option<[u8; LENGTH]> {
    if hex.len() != 2 * LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// The value of one lower-case hexadecimal digit. Upper case is not allowed in a digest.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a digest that rbuild speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a digest; expected `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128"
)]
pub struct ParseDigestError(String);

/// The digest of a layer's uncompressed tar (OCI image specification, "Layer DiffID").
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// The digest of an image's config document (OCI image specification, "ImageID").
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Default for State {
    fn default() -> Self {
        Self::Sha256(sha2::Sha256::default())
    }
}

impl Hasher {
    /// Starts a SHA-256 with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with no bytes, by the algorithm of a digest.
    pub fn like(digest: &Digest) -> Self {
        match digest.0 {
            Value::Sha256(_) => Self::default(),
            Value::Sha512(_) => Self(State::Sha512(Box::default())),
        }
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything appended.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Value::Sha256(state.finalize().into()),
            State::Sha512(state) => Value::Sha512(state.finalize().into()),
        })
    }
}

/// Hashes what is read from, or written to, `inner`.
#[derive(Debug)]
pub struct Hashing<T> {
    /// The stream itself. What passes by it alone is not hashed.
    pub inner: T,
    /// What went through so far.
    pub hasher: Hasher,
}

impl<T> Hashing<T> {
    /// Starts with no bytes.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..taken]);
        Ok(taken)
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_and_parses_the_digest_of_nothing() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn a_sha512_is_kept_as_it_is() {
        let text = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.like(b""), digest);
        assert_ne!(digest.like(b"x"), digest);
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
        assert_eq!(digest.path(), text.replace("sha512:", "blobs/sha512/"));
        assert_eq!(Digest::of(b"").like(b""), Digest::of(b""));
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        for text in [
            "",
            "sha256:",
            "sha512:00",
            &EMPTY.to_uppercase(),
            &EMPTY[..70],
            &format!("{EMPTY}0"),
            "sha256:é",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
