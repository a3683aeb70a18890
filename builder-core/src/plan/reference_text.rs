//! Whether a text can be an image reference, and whether two texts mean the same image.
//!
//! Follows the distribution specification for repository names; only as much of it as lowering needs to refuse a
//! FROM line before a registry is asked.

/// What is wrong with `text` as an image reference; none where it may be one.
pub fn problem(text: &str) -> Option<String> {
    let name = text.split('@').next().unwrap_or(text);
    let last_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name.get(last_slash..).and_then(|last| last.find(':')) {
        Some(colon) => name.split_at(last_slash + colon),
        None => (name, ""),
    };
    let tag = tag.strip_prefix(':');
    if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.bytes().all(is_tag_byte)) {
        return Some(format!("`{text}` has a malformed tag"));
    }
    let repository = match name.split_once('/') {
        Some((domain, rest)) if is_domain(domain) => rest,
        _ => name,
    };
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(format!(
            "`{text}` can't be an image: the repository name must be in lower case"
        ));
    }
    let fine = repository.split('/').all(is_component);
    (!fine).then(|| format!("`{text}` is no image reference"))
}

fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

fn is_domain(text: &str) -> bool {
    text.contains(['.', ':'])
        || text == "localhost"
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| alphanumeric(*byte));
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
}

/// The short form that people type: without `docker.io/`, `library/` and `:latest`.
pub fn familiar(text: &str) -> &str {
    let text = text.strip_prefix("docker.io/").unwrap_or(text);
    let text = text.strip_prefix("library/").unwrap_or(text);
    text.strip_suffix(":latest").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_registry_has() {
        for (text, fine) in [
            ("alpine", true),
            ("alpine:3.20", true),
            ("a/b_c/d.e:X@sha256:00", true),
            ("localhost:5000/x", true),
            ("Registry.example/x:1", true),
            ("Build", false),
            ("a/B", false),
            ("", false),
            ("/x", false),
            ("x:", false),
            ("registry.example/:1", false),
            ("a b", false),
        ] {
            assert_eq!(problem(text).is_none(), fine, "{text}");
        }
    }
}
