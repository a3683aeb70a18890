//! An ssh agent with keys from files: it tells which it has, and signs (draft-ietf-sshm-ssh-agent).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::keys::Key;
use super::wire::{Reader, put};

/// Longer messages come from nobody who wants a signature: 256 KiB, as OpenSSH's agent has it.
const LONGEST: u32 = 256 * 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Answers a client until it hangs up.
pub(super) fn serve(mut client: UnixStream, keys: &[Key]) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length as usize];
        client.read_exact(&mut message)?;
        let mut framed = Vec::new();
        put(&mut framed, &answer(&message, keys));
        client.write_all(&framed)?;
    }
}

fn answer(message: &[u8], keys: &[Key]) -> Vec<u8> {
    let answered = match message.split_first() {
        Some((&REQUEST_IDENTITIES, _)) => Some(identities(keys)),
        Some((&SIGN_REQUEST, request)) => signature(request, keys),
        _ => None,
    };
    answered.unwrap_or_else(|| vec![FAILURE])
}

fn identities(keys: &[Key]) -> Vec<u8> {
    let mut out = vec![IDENTITIES_ANSWER];
    out.extend_from_slice(&(keys.len() as u32).to_be_bytes());
    for key in keys {
        put(&mut out, &key.public);
        put(&mut out, &key.comment);
    }
    out
}

fn signature(request: &[u8], keys: &[Key]) -> Option<Vec<u8>> {
    let mut request = Reader(request);
    let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
    let key = keys.iter().find(|key| key.public == public)?;
    let mut out = vec![SIGN_RESPONSE];
    put(&mut out, &key.sign(data, flags)?);
    Some(out)
}
