//! Proving who we are: Basic, and Bearer with tokens from a token server.
//!
//! Follows Docker's token authentication specification (with OAuth 2's refresh tokens) and RFC 7617. A challenge is
//! learnt once a registry; tokens are kept by what they allow, and fetched again before they expire.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::error::{Error, Result, words};
use super::place::Endpoint;
use super::retry::Link;
use crate::http::proxy::{is_loopback, split};
use crate::http::{self, Body, Request, Response};

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A user and a password, or a token in a password's place.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token that the token server takes.
    IdentityToken(String),
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

/// Credentials, and where they came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// What proves who we are.
    pub secret: Secret,
    /// Where it was found, for messages: a file or a variable.
    pub source: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("secret", &self.secret)
            .field("source", &self.source)
            .finish()
    }
}

/// A token lives so long where its server doesn't say.
const DEFAULT_LIFE: u64 = 60;
/// A token is fetched anew so long before its end.
const MARGIN: u64 = 10;
/// Answers of token servers are small.
const MAX_ANSWER: u64 = 1 << 20;

/// How a registry wants it proven.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

struct Token {
    value: String,
    expires: Duration,
}

/// What is known of all registries so far.
#[derive(Default)]
pub(crate) struct Auth {
    schemes: Mutex<BTreeMap<String, Scheme>>,
    tokens: Mutex<BTreeMap<(String, Vec<String>), Token>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// What a token is asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// `repository:NAME:pull,push`, sorted.
    pub(crate) scopes: &'a [String],
    pub(crate) credentials: Option<&'a Credentials>,
    /// For messages.
    pub(crate) repository: &'a str,
    pub(crate) action: &'static str,
}

impl Auth {
    /// The value of the `Authorization` header, as far as the registry's wish is known.
    pub(crate) fn header(&self, link: &Link<'_>, wanted: &Wanted<'_>) -> Result<Option<String>> {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        let scheme = schemes.get(&wanted.endpoint.base).cloned();
        drop(schemes);
        match (scheme, wanted.credentials.map(|one| &one.secret)) {
            (None, _) => Ok(None),
            (Some(_), Some(Secret::RegistryToken(token))) => Ok(Some(format!("Bearer {token}"))),
            (Some(Scheme::Basic), Some(Secret::Password { username, password })) => {
                Ok(Some(basic(username, password)))
            }
            (Some(Scheme::Basic), _) => Ok(None),
            (Some(Scheme::Bearer { realm, service }), _) => self
                .token(link, wanted, &realm, service.as_deref())
                .map(|token| Some(format!("Bearer {token}"))),
        }
    }

    /// Learns from a 401. Whether it is worth trying again; `sent` is the header that was refused.
    pub(crate) fn learn(
        &self,
        wanted: &Wanted<'_>,
        response: &Response,
        sent: Option<&str>,
    ) -> Result<bool> {
        let key = (wanted.endpoint.base.clone(), wanted.scopes.to_vec());
        let refused = sent.and_then(|sent| sent.strip_prefix("Bearer "));
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have fetched a newer one meanwhile.
        if tokens
            .get(&key)
            .is_some_and(|token| Some(token.value.as_str()) == refused)
        {
            tokens.remove(&key);
        }
        drop(tokens);
        let challenges: Vec<Challenge> = response
            .all("www-authenticate")
            .flat_map(challenge::parse)
            .collect();
        let Some(scheme) = choose(&wanted.endpoint.registry, &challenges)? else {
            return Ok(false);
        };
        let is_basic = scheme == Scheme::Basic;
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(wanted.endpoint.base.clone(), scheme);
        Ok(!is_basic || wanted.credentials.is_some() && sent.is_none())
    }

    fn token(
        &self,
        link: &Link<'_>,
        wanted: &Wanted<'_>,
        realm: &str,
        service: Option<&str>,
    ) -> Result<String> {
        let key = (wanted.endpoint.base.clone(), wanted.scopes.to_vec());
        // Held while the token is fetched: threads that want the same one wait for it.
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = link.clock.elapsed();
        if let Some(token) = tokens.get(&key).filter(|token| token.expires > now) {
            return Ok(token.value.clone());
        }
        refuse_plain(realm, wanted.endpoint)?;
        let request = request(realm, service, wanted);
        let response = link
            .send(&request)
            .map_err(|error| error.of_registry(&wanted.endpoint.registry))?;
        let answer = read(response, wanted)?;
        let value = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        if value.is_empty() {
            return Err(nonsense(wanted, "without a token"));
        }
        let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).max(DEFAULT_LIFE);
        let expires = now + Duration::from_secs(life - MARGIN);
        let token = Token {
            value: value.clone(),
            expires,
        };
        tokens.insert(key, token);
        Ok(value)
    }
}

fn nonsense(wanted: &Wanted<'_>, problem: &'static str) -> Error {
    Error::Nonsense {
        registry: wanted.endpoint.registry.clone(),
        verb: "the request for a token",
        problem,
    }
}

/// The best scheme that we can answer.
fn choose(registry: &str, challenges: &[Challenge]) -> Result<Option<Scheme>> {
    let bearer = challenges
        .iter()
        .filter(|one| one.scheme == "bearer")
        .find_map(|one| {
            Some(Scheme::Bearer {
                realm: one.get("realm")?.to_owned(),
                service: one.get("service").map(str::to_owned),
            })
        });
    let basic = challenges
        .iter()
        .any(|one| one.scheme == "basic")
        .then_some(Scheme::Basic);
    match bearer.or(basic) {
        None if challenges.is_empty() => Ok(None),
        None => {
            let schemes: Vec<&str> = challenges.iter().map(|one| one.scheme.as_str()).collect();
            Err(Error::UnknownScheme {
                registry: registry.to_owned(),
                schemes: schemes.join(", "),
            })
        }
        found => Ok(found),
    }
}

/// Passwords go to a token server over TLS, or stay on this machine, or where the registry itself speaks plain HTTP.
fn refuse_plain(realm: &str, endpoint: &Endpoint) -> Result<()> {
    let (scheme, authority) = http::authority(realm);
    let fine = match scheme.as_str() {
        "https" => true,
        "http" => is_loopback(split(&authority).0) || endpoint.base.starts_with("http://"),
        _ => false,
    };
    if fine {
        return Ok(());
    }
    Err(Error::PlainHttp {
        registry: authority,
        url: http::for_message(realm),
    })
}

/// A GET with one `scope` parameter for each scope, or OAuth's POST for a refresh token.
fn request(realm: &str, service: Option<&str>, wanted: &Wanted<'_>) -> Request {
    let secret = wanted.credentials.map(|credentials| &credentials.secret);
    let mut fields: Vec<(&str, String)> = Vec::new();
    fields.extend(service.map(|service| ("service", service.to_owned())));
    if let Some(Secret::IdentityToken(token)) = secret {
        fields.extend([
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", "rbuild".to_owned()),
            ("refresh_token", token.clone()),
        ]);
        if !wanted.scopes.is_empty() {
            fields.push(("scope", wanted.scopes.join(" ")));
        }
        return Request::new("POST", realm)
            .with_header("Content-Type", "application/x-www-form-urlencoded")
            .with_body(Body::Bytes(encode(&fields).into_bytes()));
    }
    let scopes = wanted.scopes.iter();
    fields.extend(scopes.map(|scope| ("scope", scope.clone())));
    if let Some(Secret::Password { username, .. }) = secret {
        fields.push(("account", username.clone()));
    }
    let joint = if realm.contains('?') { '&' } else { '?' };
    let request = Request::new("GET", format!("{realm}{joint}{}", encode(&fields)));
    match secret {
        Some(Secret::Password { username, password }) => {
            request.with_header("Authorization", basic(username, password))
        }
        _ => request,
    }
}

fn read(mut response: Response, wanted: &Wanted<'_>) -> Result<TokenAnswer> {
    let mut body = Vec::new();
    // A broken answer is no JSON.
    let _ = (&mut response.body).take(MAX_ANSWER).read_to_end(&mut body);
    if response.status == 200 {
        return serde_json::from_slice(&body)
            .map_err(|_| nonsense(wanted, "with something that is no token"));
    }
    let registry = wanted.endpoint.registry.clone();
    let detail = words(&body).1;
    Err(match response.status {
        400 | 401 | 403 | 404 => Error::Denied {
            registry,
            repository: wanted.repository.to_owned(),
            action: wanted.action,
            credentials: wanted.credentials.map(|one| one.source.clone()),
            detail,
        },
        429 => Error::RateLimited {
            registry,
            after: super::retry::retry_after(&response),
            anonymous: wanted.credentials.is_none(),
        },
        status => Error::Status {
            registry,
            verb: "the request for a token",
            status,
            detail,
        },
    })
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        base64(format!("{username}:{password}").as_bytes())
    )
}

/// RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= chunk.len() {
                let value = bits >> (18 - 6 * digit) & 63;
                text.push(char::from(ALPHABET[value as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// `name=value&…`, percent-encoded (RFC 3986, section 2.1).
pub(crate) fn encode(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", percent(value)))
        .collect();
    fields.join("&")
}

/// One upper-case hexadecimal digit.
fn hex(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

fn percent(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            other => text.extend(['%', hex(other >> 4), hex(other & 15)]),
        }
    }
    text
}
