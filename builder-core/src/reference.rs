//! References to images: `registry/repository:tag@digest`.
//!
//! The grammar is that of the distribution project's `reference` package, which Docker's tools share; so are the short
//! names: `alpine` is `docker.io/library/alpine:latest`, `team/app` is `docker.io/team/app:latest`. What stands before
//! the first `/` is a registry if it holds a `.` or a `:`, is `localhost`, or has an upper-case letter.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry that short names mean.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// A complete reference. Prints in full, with the registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one; `latest` was added where neither tag nor digest was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which decides where there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The short form that users type: `alpine:3.20`, `team/app:1`, `registry.example.com/app:1`. `:latest` is kept.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short
            .strip_prefix("library/")
            .filter(|_| short != full)
            .unwrap_or(short)
            .to_owned()
    }

    /// The last component of the repository, which names the default output.
    pub fn last_component(&self) -> &str {
        self.repository
            .rsplit('/')
            .next()
            .unwrap_or(&self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ParseReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseReferenceError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (
            name,
            Some(digest.parse().map_err(|_| "the digest is malformed")?),
        ),
        None => (text, None),
    };
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[last..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag.to_owned())),
        None => (name, None),
    };
    if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
        );
    }
    let (registry, repository) = split_registry(name);
    check_registry(registry)?;
    check_repository(repository)?;
    // What Docker's registry puts in front of a name is no part of its length: the full form is as legal as the short.
    let own = match registry {
        DEFAULT_REGISTRY => repository.strip_prefix("library/").unwrap_or(repository),
        _ => repository,
    };
    if own.len() > MAX_REPOSITORY {
        return Err("the repository has more than 255 characters");
    }
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let repository = if official {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    let tag = if tag.is_none() && digest.is_none() {
        Some("latest".to_owned())
    } else {
        tag
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The greatest length of a repository, in bytes.
const MAX_REPOSITORY: usize = 255;

/// Splits off the registry, where the first component looks like one.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            let legacy = first == "index.docker.io";
            (if legacy { DEFAULT_REGISTRY } else { first }, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .ok_or("the registry's `[` is not closed")?,
        None => registry
            .find(':')
            .map_or((registry, ""), |colon| registry.split_at(colon)),
    };
    let legal = if registry.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    let port_is_legal = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    if legal && port_is_legal {
        Ok(())
    } else {
        Err("the registry is no host name with an optional port")
    }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("it is empty");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository is written in lower case");
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(
            "a repository's components are lower-case letters and digits, joined by `.`, `_`, `__` or `-`",
        )
    }
}

/// Runs of letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separators =
        component.split(|character: char| character.is_ascii() && word(character as u8));
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().last()) else {
        return false;
    };
    word(first)
        && word(last)
        && separators
            .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

/// Whether `tag` is a legal tag (OCI distribution specification, "Pulling manifests").
fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_legal_length_is_legal_in_full() {
        for (length, legal) in [
            (1, true),
            (247, true),
            (249, true),
            (255, true),
            (256, false),
        ] {
            for before in [
                "",
                "docker.io/",
                "index.docker.io/",
                "docker.io/library/",
                "r.io/",
            ] {
                let text = format!("{before}{}", "a".repeat(length));
                let parsed = text.parse::<Reference>();
                assert_eq!(parsed.is_ok(), legal, "{before} {length}");
                let Ok(parsed) = parsed else { continue };
                assert_eq!(parsed.to_string().parse(), Ok(parsed.clone()));
                assert_eq!(parsed.familiar().parse(), Ok(parsed));
            }
        }
    }

    #[test]
    fn completes_short_names() {
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("team/app:1.2", "docker.io/team/app:1.2", "team/app:1.2"),
            (
                "docker.io/alpine",
                "docker.io/library/alpine:latest",
                "alpine:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "127.0.0.1:5000/a/b:c",
                "127.0.0.1:5000/a/b:c",
                "127.0.0.1:5000/a/b:c",
            ),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "r.example.com/t/a__b-c.d",
                "r.example.com/t/a__b-c.d:latest",
                "r.example.com/t/a__b-c.d:latest",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (
                    reference.to_string().as_str(),
                    reference.familiar().as_str()
                ),
                (full, familiar)
            );
        }
        let digest = Digest::of(b"");
        let pinned: Reference = format!("alpine:3@{digest}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (Some("3"), Some(digest)));
        assert_eq!(
            format!("alpine@{digest}")
                .parse::<Reference>()
                .unwrap()
                .tag(),
            None
        );
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for text in [
            "",
            ":x",
            "Upper",
            "a/Upper",
            "a:",
            "a:-x",
            "a//b",
            "a/",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a@sha256:1",
            "host:99999/a",
            "a b",
            "a:b:c/d",
            "$X:$Y",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn agrees_with_the_specification_crate() {
        for text in ["alpine", "a/b:c", "r.io:80/x/y:z", "localhost:1/a"] {
            let other: oci_spec::distribution::Reference = text.parse().unwrap();
            let ours: Reference = text.parse().unwrap();
            assert_eq!(other.whole(), ours.to_string(), "{text}");
        }
    }
}
