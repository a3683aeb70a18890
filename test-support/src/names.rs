//! Names that are not UTF-8, as the reference cases write them: `\\` is a backslash, `\xNN` a byte.

/// The bytes that a text stands for.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text
            .get(at + 2..at + 4)
            .filter(|_| bytes[at..].starts_with(b"\\x"));
        if bytes[at..].starts_with(b"\\\\") {
            out.push(b'\\');
            at += 2;
        } else if let Some(value) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            at += 4;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// The text that stands for bytes.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.extend(["\\x", &crate::tarball::hex(&[*byte])]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (text, bytes) in [
            ("a", &b"a"[..]),
            ("\\\\x41", b"\\x41"),
            ("\\xff", b"\xff"),
            ("é\\xe9", b"\xc3\xa9\xe9"),
        ] {
            assert_eq!(to_bytes(text), bytes, "{text}");
            assert_eq!(from_bytes(bytes), text);
        }
    }
}
