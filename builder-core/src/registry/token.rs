//! Tokens of token servers: the request, and what its answer says.
//!
//! Follows Docker's token authentication specification and its OAuth 2 variant. What servers leave out, write as null,
//! or write as text where a number belongs is read as what they mean.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;

use super::auth::{Credentials, Secret, Wanted};
use super::error::{Error, Result};
use super::retry::{Link, retry_after};
use super::words::words;
use crate::http::encoding::{basic, encode};
use crate::http::{Body, Request, Response, is_html};

/// A token lives so long where its server doesn't say, in seconds.
const DEFAULT_LIFE: u64 = 60;
/// No token is kept for longer, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// A token is fetched anew so long before its end, in seconds; a short one at half its life.
const MARGIN: u64 = 10;
/// Answers of token servers are small.
const MAX_ANSWER: u64 = 1 << 20;

/// A token, and for how long it may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) value: String,
    pub(super) life: Duration,
}

/// Asks a token server. A refresh token goes there by POST, and where there is none, in a password's place.
pub(super) fn fetch(
    link: &Link<'_>,
    wanted: &Wanted<'_>,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
) -> Result<Fetched> {
    let send = |mut request: Request| {
        request.trust.registry = Some(wanted.endpoint.host());
        request.connect_within = wanted.endpoint.patience();
        let sent = link.send_times(&request, wanted.endpoint.attempts());
        let response = sent.map(|(response, _)| response);
        response.map_err(|error| error.of_registry(&wanted.endpoint.registry))
    };
    let secret = wanted.credentials.map(|credentials| &credentials.secret);
    let response = match secret {
        Some(Secret::IdentityToken(token)) => {
            let response = send(form(realm, service, token, scopes))?;
            match response.status {
                // Google's server answered 404 in 2017, Artifactory's 401 in 2018; others say that POST is no method.
                401 | 403 | 404 | 405 | 501 => {
                    let refused = response;
                    let response = send(query(realm, service, Some(("", token)), scopes))?;
                    // What the POST said is nearer to the cause where neither works.
                    if response.status == 200 {
                        response
                    } else {
                        refused
                    }
                }
                _ => response,
            }
        }
        Some(Secret::Password { username, password }) => {
            send(query(realm, service, Some((username, password)), scopes))?
        }
        _ => send(query(realm, service, None, scopes))?,
    };
    read(response, wanted)
}

/// OAuth's POST for a refresh token.
fn form(realm: &str, service: Option<&str>, token: &str, scopes: &[String]) -> Request {
    let mut fields: Vec<(&str, String)> = Vec::new();
    fields.extend(service.map(|service| ("service", service.to_owned())));
    fields.extend([
        ("grant_type", "refresh_token".to_owned()),
        ("client_id", "rbuild".to_owned()),
        ("refresh_token", token.to_owned()),
    ]);
    if !scopes.is_empty() {
        fields.push(("scope", scopes.join(" ")));
    }
    Request::new("POST", realm)
        .with_header("Content-Type", "application/x-www-form-urlencoded")
        .with_body(Body::Bytes(encode(&fields).into_bytes()))
}

/// A GET with one `scope` parameter for each scope.
fn query(
    realm: &str,
    service: Option<&str>,
    user: Option<(&str, &str)>,
    scopes: &[String],
) -> Request {
    let mut fields: Vec<(&str, String)> = Vec::new();
    fields.extend(service.map(|service| ("service", service.to_owned())));
    fields.extend(scopes.iter().map(|scope| ("scope", scope.clone())));
    if let Some((name, _)) = user.filter(|(name, _)| !name.is_empty()) {
        fields.push(("account", name.to_owned()));
    }
    let joint = if realm.contains('?') { '&' } else { '?' };
    let url = if fields.is_empty() {
        realm.to_owned()
    } else {
        format!("{realm}{joint}{}", encode(&fields))
    };
    let request = Request::new("GET", url);
    match user {
        Some((name, password)) => request.with_header("Authorization", basic(name, password)),
        None => request,
    }
}

fn read(mut response: Response, wanted: &Wanted<'_>) -> Result<Fetched> {
    let mut body = Vec::new();
    // A broken answer is no JSON.
    let _ = (&mut response.body).take(MAX_ANSWER).read_to_end(&mut body);
    let body = super::document::decoded(&response, body);
    let registry = wanted.endpoint.registry.clone();
    let nonsense = |problem| Error::Nonsense {
        registry: wanted.endpoint.registry.clone(),
        verb: "the request for a token",
        problem,
    };
    if response.status == 200 {
        if is_html(&response, &body) {
            return Err(nonsense("with a web page (HTML)"));
        }
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| nonsense("with something that is no token"))?;
        return token_of(&answer).ok_or_else(|| nonsense("without a token"));
    }
    let detail = words(&response, &body).1;
    Err(match response.status {
        400 | 401 | 403 | 404 => Error::Denied {
            registry,
            repository: wanted.repository.to_owned(),
            action: wanted.action,
            proof: Credentials::proof(wanted.credentials),
            detail,
        },
        429 => Error::RateLimited {
            registry,
            after: retry_after(&response),
            anonymous: Credentials::is_anonymous(wanted.credentials),
            mirrors: Vec::new(),
        },
        status => Error::Status {
            registry,
            verb: "the request for a token",
            status,
            detail,
        },
    })
}

fn token_of(answer: &Value) -> Option<Fetched> {
    let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty());
    let value = text("token").or_else(|| text("access_token"))?.to_owned();
    let life = match &answer["expires_in"] {
        Value::Number(number) => number.as_u64().or_else(|| {
            Some(Duration::try_from_secs_f64(number.as_f64()?).map_or(
                if number.as_f64()? > 0.0 {
                    LONGEST_LIFE
                } else {
                    0
                },
                |life| life.as_secs(),
            ))
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let life = life.filter(|life| *life > 0).unwrap_or(DEFAULT_LIFE);
    let life = life.min(LONGEST_LIFE);
    let margin = Duration::from_secs(MARGIN).min(Duration::from_millis(life * 500));
    let life = Duration::from_secs(life).saturating_sub(margin);
    Some(Fetched { value, life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_meant() {
        for (answer, expected) in [
            (r#"{"token":"a"}"#, Some(("a", 50_000))),
            (
                r#"{"token":null,"access_token":"b","expires_in":300,"scope":null}"#,
                Some(("b", 290_000)),
            ),
            (
                r#"{"token":"","access_token":"b","expires_in":null}"#,
                Some(("b", 50_000)),
            ),
            (r#"{"token":"a","expires_in":0}"#, Some(("a", 50_000))),
            (r#"{"token":"a","expires_in":-5}"#, Some(("a", 50_000))),
            (r#"{"token":"a","expires_in":5}"#, Some(("a", 2_500))),
            (
                r#"{"token":"a","expires_in":"3600"}"#,
                Some(("a", 3_590_000)),
            ),
            (r#"{"token":"a","expires_in":299.5}"#, Some(("a", 289_000))),
            (
                r#"{"token":"a","expires_in":18446744073709551615}"#,
                Some(("a", 86_390_000)),
            ),
            (
                r#"{"token":"a","expires_in":1e300}"#,
                Some(("a", 86_390_000)),
            ),
            (r#"{"token":null}"#, None),
            (r#"{"token":7}"#, None),
            ("[]", None),
        ] {
            let found = token_of(&serde_json::from_str(answer).unwrap());
            let expected = expected.map(|(value, life)| Fetched {
                value: value.to_owned(),
                life: Duration::from_millis(life),
            });
            assert_eq!(found, expected, "{answer}");
        }
    }
}
