//! Docker's `config.json` and Podman's `auth.json`: `auths`, `credHelpers`, `credsStore`.

use builder_core::reference::DEFAULT_REGISTRY;
use builder_core::registry::Secret;
use serde_json::{Map, Value};

/// The name that Docker gives its own registry.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";
/// All the names that it goes by.
const DOCKER_NAMES: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];

/// One document; what rbuild doesn't know in it stays.
#[derive(Clone)]
pub(super) struct Document(Map<String, Value>);

/// The key of a registry in `auths`, and its name for helpers.
pub(super) fn server(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY {
        DOCKER_SERVER
    } else {
        registry
    }
}

impl Document {
    /// An empty one.
    pub(super) fn empty() -> Self {
        Self(Map::new())
    }

    /// Reads one; nothing at all is an empty one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::empty());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err("it is no JSON object".to_owned()),
            // The text of the error could hold a piece of the secret: only the place is told.
            Err(error) => Err(format!(
                "it is no JSON (line {}, column {})",
                error.line(),
                error.column()
            )),
        }
    }

    /// The bytes to write, as Docker writes them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
        // A map of strings always has a form in JSON.
        let _ = serde::Serialize::serialize(&self.0, &mut serializer);
        bytes.push(b'\n');
        bytes
    }

    /// The helper for one registry.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let helpers = self.0.get("credHelpers")?.as_object()?;
        let name = helpers
            .iter()
            .find(|(key, _)| host_of(key) == Some(canonical(registry)))?
            .1;
        name.as_str().filter(|name| !name.is_empty())
    }

    /// The helper for all others.
    pub(super) fn store(&self) -> Option<&str> {
        self.0
            .get("credsStore")?
            .as_str()
            .filter(|name| !name.is_empty())
    }

    /// What `auths` has for a repository: the key with the longest path that fits. An entry that is there and can't be
    /// read is one that says why; a readable one for a shorter path comes before it.
    pub(super) fn secret(&self, registry: &str, repository: &str) -> Option<Secret> {
        let auths = self.0.get("auths")?.as_object()?;
        let mut best: Option<(usize, Secret)> = None;
        let mut spoilt = None;
        for (key, entry) in auths {
            let Some(length) = fits(key, registry, repository) else {
                continue;
            };
            let better = best.as_ref().is_none_or(|(known, _)| length > *known);
            match secret_of(entry) {
                Ok(Some(secret)) if better => best = Some((length, secret)),
                Ok(_) => {}
                Err(why) => spoilt = Some(Secret::Unusable(format!("its entry `{key}` {why}"))),
            }
        }
        best.map(|(_, secret)| secret).or(spoilt)
    }

    /// Whether there is an entry for a registry, with or without a secret.
    pub(super) fn has(&self, registry: &str) -> bool {
        let auths = self.0.get("auths").and_then(Value::as_object);
        auths.is_some_and(|auths| {
            auths
                .keys()
                .any(|key| host_of(key) == Some(canonical(registry)) && path_of(key).is_empty())
        })
    }

    /// Puts an entry in the place of the one for that registry.
    pub(super) fn set(&mut self, registry: &str, entry: Value) {
        self.remove(registry);
        let auths = self
            .0
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(server(registry).to_owned(), entry);
        }
    }

    /// Takes the entries of a registry away; those for a path in it stay.
    pub(super) fn remove(&mut self, registry: &str) {
        if let Some(auths) = self.0.get_mut("auths").and_then(Value::as_object_mut) {
            auths.retain(|key, _| {
                host_of(key) != Some(canonical(registry)) || !path_of(key).is_empty()
            });
        }
    }
}

/// One name for Docker's registry, the others as they are.
fn canonical(host: &str) -> &str {
    if DOCKER_NAMES.contains(&host) {
        DEFAULT_REGISTRY
    } else {
        host
    }
}

fn without_scheme(key: &str) -> &str {
    key.strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
}

/// Host and port of a key.
fn host_of(key: &str) -> Option<&str> {
    let host = without_scheme(key).split('/').next()?;
    (!host.is_empty()).then(|| canonical(host))
}

/// The path of a key; the version that old keys end with is none.
fn path_of(key: &str) -> &str {
    let rest = without_scheme(key);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = path.trim_matches('/');
    if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    }
}

/// The length of a key's path where the key is for that repository.
fn fits(key: &str, registry: &str, repository: &str) -> Option<usize> {
    if host_of(key)? != canonical(registry) {
        return None;
    }
    let path = path_of(key);
    let rest = repository.strip_prefix(path)?;
    (path.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

/// What an entry holds; none where it holds nothing, as an entry for a helper does. An error says what is wrong with it,
/// without any of it.
fn secret_of(entry: &Value) -> Result<Option<Secret>, &'static str> {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Secret::IdentityToken(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Secret::RegistryToken(token.to_owned())));
    }
    let (username, password) = match text("auth") {
        Some(auth) => {
            let pair = from_base64(auth).and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = pair.ok_or(if auth.contains('$') {
                "has an `auth` that is no base64: it looks like a variable that nobody expanded"
            } else if auth.contains(':') {
                "has an `auth` that is no base64: it looks like the plain `user:password`"
            } else {
                "has an `auth` that is no base64 of `user:password`"
            })?;
            let (username, password) = pair
                .split_once(':')
                .ok_or("has an `auth` that is base64 of something without a `:`")?;
            let password = password.trim_end_matches('\0');
            (username.to_owned(), password.to_owned())
        }
        None => match (text("username"), text("password")) {
            (Some(username), Some(password)) => (username.to_owned(), password.to_owned()),
            _ => return Ok(None),
        },
    };
    Ok(Some(Secret::Password { username, password }))
}

/// RFC 4648, with or without padding, in both alphabets; blanks are passed over.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}
