//! Documents as they arrive: what was packed on the way is unpacked, what is no document is told apart.

use std::io::Read as _;

use super::client::MAX_DOCUMENT_BYTES;
use crate::http::Response;

/// The body of an answer as it was meant. A cache in front of a registry may compress though nobody asked (RFC 9110,
/// section 8.4.1); what doesn't unpack, or unpacks to far too much, is left as it came, and fails by its digest.
pub(crate) fn decoded(response: &Response, body: Vec<u8>) -> Vec<u8> {
    if !is_packed(response) {
        return body;
    }
    let mut plain = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(body.as_slice());
    match decoder.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut plain) {
        Ok(_) => plain,
        Err(_) => body,
    }
}

/// Whether an answer says that its body is gzip of what was asked for.
pub(crate) fn is_packed(response: &Response) -> bool {
    response
        .header("content-encoding")
        .is_some_and(|name| matches!(name.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip"))
}
