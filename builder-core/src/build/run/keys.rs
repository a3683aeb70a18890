//! Private keys of ssh, read from files: OpenSSH's own format (PROTOCOL.key), PKCS #8 and PKCS #1.
//!
//! What can sign: Ed25519, ECDSA with the curve P-256, and RSA with SHA-2.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};

use super::wire::{Reader, put, put_number};
use crate::error::{Error, ErrorKind, Result};

/// `SSH_AGENT_RSA_SHA2_256`
const SHA2_256: u32 = 2;
/// `SSH_AGENT_RSA_SHA2_512`
const SHA2_512: u32 = 4;

/// A key that can sign.
#[derive(Debug)]
pub(super) struct Key {
    /// The public key, as ssh sends it.
    pub(super) public: Vec<u8>,
    /// What `ssh-add -l` shows.
    pub(super) comment: Vec<u8>,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// Why a file holds no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Encrypted,
    Unknown,
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] for a file that can't be read, is encrypted, or holds something else.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Run, format!("the key `{shown}` can't be read"))
                .with_source(error)
        })?;
        parse(&text, &shown.to_string()).map_err(|refusal| match refusal {
            Refusal::Encrypted => {
                let message = format!("the key `{shown}` is encrypted");
                Error::new(ErrorKind::Run, message).with_help(
                    "add it to an agent with `ssh-add`, and give `--ssh default`: rbuild asks for no passphrase",
                )
            }
            Refusal::Unknown => {
                let message = format!("`{shown}` is no private key that rbuild can use");
                Error::new(ErrorKind::Run, message).with_help(
                    "Ed25519, ECDSA with P-256 and RSA of 2048 bits and more work; `ssh-keygen -p -f FILE` rewrites \
                     other formats; an agent (`--ssh default`) takes every kind",
                )
            }
        })
    }

    /// Signs `data`; the signature as ssh sends it. None for a kind of signature that nobody should use.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let mut out = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                put(&mut out, b"ssh-ed25519");
                put(&mut out, pair.sign(data).as_ref());
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(32)?;
                let mut numbers = Vec::new();
                put_number(&mut numbers, r);
                put_number(&mut numbers, s);
                put(&mut out, b"ecdsa-sha2-nistp256");
                put(&mut out, &numbers);
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let (name, padding): (&[u8], _) = match flags {
                    flags if flags & SHA2_512 != 0 => (b"rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & SHA2_256 != 0 => (b"rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                pair.sign(padding, &random, data, &mut signature).ok()?;
                put(&mut out, name);
                put(&mut out, &signature);
            }
        }
        Some(out)
    }
}

fn parse(text: &str, name: &str) -> std::result::Result<Key, Refusal> {
    let (label, body) = armor(text).ok_or(Refusal::Unknown)?;
    if label == "ENCRYPTED PRIVATE KEY" || body.contains("ENCRYPTED") {
        return Err(Refusal::Encrypted);
    }
    let bytes = decode(body).ok_or(Refusal::Unknown)?;
    let comment = name.as_bytes().to_vec();
    let key = match label {
        "OPENSSH PRIVATE KEY" => return own_format(&bytes),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&bytes).ok().map(of_rsa),
        "PRIVATE KEY" => pkcs8(&bytes),
        _ => None,
    };
    let (public, pair) = key.ok_or(Refusal::Unknown)?;
    Ok(Key {
        public,
        comment,
        pair,
    })
}

/// The label and the body of a PEM text.
fn armor(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    Some((label, body))
}

/// Base64 (RFC 4648), without regard to line ends.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// OpenSSH's format: one key, not encrypted.
fn own_format(bytes: &[u8]) -> std::result::Result<Key, Refusal> {
    let mut outer = Reader(
        bytes
            .strip_prefix(b"openssh-key-v1\0")
            .ok_or(Refusal::Unknown)?,
    );
    let cipher = outer.string().ok_or(Refusal::Unknown)?;
    if cipher != b"none" {
        return Err(Refusal::Encrypted);
    }
    own_key(&mut outer).ok_or(Refusal::Unknown)
}

/// What follows the name of the cipher.
fn own_key(outer: &mut Reader<'_>) -> Option<Key> {
    let (_kdf, _options) = (outer.string()?, outer.string()?);
    let _one = outer.number().filter(|count| *count == 1)?;
    let public = outer.string()?.to_vec();
    let mut inner = Reader(outer.string()?);
    let (first, second) = (inner.number()?, inner.number()?);
    if first != second {
        return None;
    }
    let pair = match inner.string()? {
        b"ssh-ed25519" => {
            let (public, private) = (inner.string()?, inner.string()?);
            let pair = Ed25519KeyPair::from_seed_and_public_key(private.get(..32)?, public);
            Pair::Ed25519(pair.ok()?)
        }
        b"ecdsa-sha2-nistp256" => {
            let (_curve, point, private) = (inner.string()?, inner.string()?, inner.integer()?);
            let mut padded = vec![0; 32_usize.checked_sub(private.len())?];
            padded.extend_from_slice(private);
            let random = SystemRandom::new();
            let pair =
                EcdsaKeyPair::from_private_key_and_public_key(&P256, &padded, point, &random);
            Pair::P256(pair.ok()?)
        }
        b"ssh-rsa" => Pair::Rsa(Box::new(own_rsa(&mut inner)?)),
        _ => return None,
    };
    let comment = inner.string()?.to_vec();
    Some(Key {
        public,
        comment,
        pair,
    })
}

#[expect(
    clippy::many_single_char_names,
    non_snake_case,
    reason = "the names of RFC 8017"
)]
fn own_rsa(inner: &mut Reader<'_>) -> Option<RsaKeyPair> {
    let (n, e, d) = (inner.integer()?, inner.integer()?, inner.integer()?);
    let (qInv, p, q) = (inner.integer()?, inner.integer()?, inner.integer()?);
    let (dP, dQ) = (exponent(d, p), exponent(d, q));
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &dP,
        dQ: &dQ,
        qInv,
    };
    RsaKeyPair::from_components(&components).ok()
}

/// `d` modulo `prime - 1`, which OpenSSH's format leaves out: long division, bit by bit.
fn exponent(d: &[u8], prime: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0];
    modulus.extend_from_slice(prime);
    if let Some(last) = modulus.last_mut() {
        // A prime is odd.
        *last &= !1;
    }
    let mut rest = vec![0; modulus.len()];
    for bit in d
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if rest >= modulus {
            let mut borrow = false;
            for (byte, minus) in rest.iter_mut().zip(&modulus).rev() {
                let (less, first) = byte.overflowing_sub(*minus);
                let (less, second) = less.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (less, first || second);
            }
        }
    }
    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
    rest.split_off(zeros)
}

/// PKCS #8: the key says its kind itself.
fn pkcs8(bytes: &[u8]) -> Option<(Vec<u8>, Pair)> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        let mut public = Vec::new();
        put(&mut public, b"ssh-ed25519");
        put(&mut public, pair.public_key().as_ref());
        return Some((public, Pair::Ed25519(pair)));
    }
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&P256, bytes, &SystemRandom::new()) {
        let mut public = Vec::new();
        put(&mut public, b"ecdsa-sha2-nistp256");
        put(&mut public, b"nistp256");
        put(&mut public, pair.public_key().as_ref());
        return Some((public, Pair::P256(pair)));
    }
    RsaKeyPair::from_pkcs8(bytes).ok().map(of_rsa)
}

fn of_rsa(pair: RsaKeyPair) -> (Vec<u8>, Pair) {
    let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    let mut public = Vec::new();
    put(&mut public, b"ssh-rsa");
    put_number(&mut public, &parts.e);
    put_number(&mut public, &parts.n);
    (public, Pair::Rsa(Box::new(pair)))
}
