//! Proving who we are: Basic, and Bearer with tokens from a token server.
//!
//! Follows Docker's token authentication specification (with OAuth 2's refresh tokens) and RFC 7617. A challenge is
//! learnt once a repository, because registries of many tenants name a realm for each; tokens are kept by what they
//! allow, and fetched again before they expire.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::challenge::{self, Challenge};
use super::error::{Error, Proof, Result};
use super::place::Endpoint;
use super::retry::Link;
use super::token;
use crate::http::encoding::basic;
use crate::http::{self, Request, Response};

/// So many scopes of a registry's own are kept a repository.
const MAX_SCOPES: usize = 8;

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
    /// There is an entry for the registry, and it can't be used: requests go out without one, and a refusal says why.
    Unusable(String),
}

/// Credentials, and where they came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// What proves who we are.
    pub secret: Secret,
    /// Where it was found, for messages: a file or a variable.
    pub source: String,
}

impl Credentials {
    /// Whether requests go out without a proof.
    pub(crate) fn is_anonymous(found: Option<&Self>) -> bool {
        found.is_none_or(|one| matches!(one.secret, Secret::Unusable(_)))
    }

    /// What an error tells of them.
    pub(crate) fn proof(found: Option<&Self>) -> Proof {
        match found {
            None => Proof::Missing,
            Some(Self {
                secret: Secret::Unusable(why),
                source,
            }) => Proof::Unusable(format!("{source}: {why}")),
            Some(one) => Proof::From(one.source.clone()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
            Self::Unusable(_) => "Unusable(…)",
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

/// How a registry wants it proven.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        /// What the challenges asked for beside what we ask for: a gateway may know the repository by another name.
        scopes: BTreeSet<String>,
    },
}

struct Token {
    value: String,
    expires: Duration,
}

/// A server and a repository on it; the empty one is the server as a whole.
type Key = (String, String);

/// A server, its realm, and the scopes.
type TokenKey = (String, String, Vec<String>);

/// What is known of all registries so far.
#[derive(Default)]
pub(crate) struct Auth {
    schemes: Mutex<BTreeMap<Key, Scheme>>,
    tokens: Mutex<BTreeMap<TokenKey, Token>>,
    /// What `/v2/` of a server asks for, where it was asked.
    fronts: Mutex<BTreeMap<String, Option<Scheme>>>,
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

impl Wanted<'_> {
    fn key(&self) -> Key {
        (self.endpoint.base.clone(), self.repository.to_owned())
    }

    fn secret(&self) -> Option<&Secret> {
        let secret = self.credentials.map(|one| &one.secret);
        secret.filter(|secret| !matches!(secret, Secret::Unusable(_)))
    }
}

impl Auth {
    /// The value of the `Authorization` header, as far as the registry's wish is known.
    pub(crate) fn header(&self, link: &Link<'_>, wanted: &Wanted<'_>) -> Result<Option<String>> {
        let scheme = lock(&self.schemes).get(&wanted.key()).cloned();
        match (scheme, wanted.secret()) {
            (None, _) => Ok(None),
            (Some(_), Some(Secret::RegistryToken(token))) => Ok(Some(format!("Bearer {token}"))),
            (Some(Scheme::Basic), Some(Secret::Password { username, password })) => {
                Ok(Some(basic(username, password)))
            }
            (Some(Scheme::Basic), _) => Ok(None),
            (
                Some(Scheme::Bearer {
                    realm,
                    service,
                    scopes,
                }),
                _,
            ) => {
                let scopes = union(wanted.scopes, &scopes);
                let token = self.token(link, wanted, &realm, service.as_deref(), &scopes)?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    /// Learns from a 401. Whether it is worth trying again; `sent` is the header that was refused.
    pub(crate) fn learn(
        &self,
        wanted: &Wanted<'_>,
        response: &Response,
        sent: Option<&str>,
    ) -> Result<bool> {
        if let Some(refused) = sent.and_then(|sent| sent.strip_prefix("Bearer ")) {
            // Another thread may have fetched a newer one meanwhile: only the refused one goes.
            lock(&self.tokens).retain(|_, token| token.value != refused);
        }
        let Some(scheme) = challenged(wanted, response)? else {
            return Ok(false);
        };
        Ok(self.keep(wanted, scheme, sent))
    }

    /// Keeps what a repository asks for. Whether it is worth trying again.
    fn keep(&self, wanted: &Wanted<'_>, mut scheme: Scheme, sent: Option<&str>) -> bool {
        let mut schemes = lock(&self.schemes);
        if let (
            Scheme::Bearer { realm, scopes, .. },
            Some(Scheme::Bearer {
                realm: before,
                scopes: earlier,
                ..
            }),
        ) = (&mut scheme, schemes.get(&wanted.key()))
            && realm == before
            && earlier.len() < MAX_SCOPES
        {
            scopes.extend(earlier.iter().cloned());
        }
        let is_basic = scheme == Scheme::Basic;
        schemes.insert(wanted.key(), scheme);
        !is_basic || wanted.secret().is_some() && sent.is_none()
    }

    /// Asks `/v2/` what it wants, once a server, after a request without a proof was refused without a challenge.
    /// Registries that hide what is private answer so. Whether the request is worth trying again.
    pub(crate) fn ask_front(&self, link: &Link<'_>, wanted: &Wanted<'_>) -> Result<bool> {
        let base = &wanted.endpoint.base;
        if wanted.secret().is_none() || lock(&self.schemes).contains_key(&wanted.key()) {
            return Ok(false);
        }
        let known = lock(&self.fronts).get(base).cloned();
        let scheme = match known {
            Some(known) => known,
            None => {
                let mut request = Request::new("GET", format!("{base}/v2/"));
                request.trust.registry = Some(wanted.endpoint.host());
                request.connect_within = wanted.endpoint.patience();
                let response = link
                    .send_times(&request, wanted.endpoint.attempts())
                    .map(|(response, _)| response)
                    .map_err(|error| error.of_registry(&wanted.endpoint.registry))?;
                let scheme = match response.status {
                    401 => challenged(wanted, &response)?,
                    _ => None,
                };
                lock(&self.fronts).insert(base.clone(), scheme.clone());
                scheme
            }
        };
        Ok(scheme.is_some_and(|scheme| self.keep(wanted, scheme, None)))
    }

    fn token(
        &self,
        link: &Link<'_>,
        wanted: &Wanted<'_>,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<String> {
        let base = wanted.endpoint.base.clone();
        let key = (base, realm.to_owned(), scopes.to_vec());
        // Held while the token is fetched: threads that want the same one wait for it.
        let mut tokens = lock(&self.tokens);
        let now = link.clock.elapsed();
        if let Some(token) = tokens.get(&key).filter(|token| token.expires > now) {
            return Ok(token.value.clone());
        }
        refuse_plain(realm, link, wanted)?;
        let answer = token::fetch(link, wanted, realm, service, scopes)?;
        let token = Token {
            value: answer.value.clone(),
            expires: now.saturating_add(answer.life),
        };
        tokens.insert(key, token);
        Ok(answer.value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked for, and what the challenges asked for beyond it, each once.
fn union(asked: &[String], challenged: &BTreeSet<String>) -> Vec<String> {
    let mut scopes = asked.to_vec();
    for scope in challenged {
        if !scopes.iter().any(|known| covers(known, scope)) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

/// Whether one scope, `TYPE:NAME:ACTION,…`, allows all that another one does.
fn covers(known: &str, scope: &str) -> bool {
    let (Some((what, has)), Some((other, wants))) =
        (known.rsplit_once(':'), scope.rsplit_once(':'))
    else {
        return known == scope;
    };
    what == other
        && wants
            .split(',')
            .all(|one| has.split(',').any(|own| own == one))
}

/// What a 401 asks for.
fn challenged(wanted: &Wanted<'_>, response: &Response) -> Result<Option<Scheme>> {
    let challenges: Vec<Challenge> = response
        .all("www-authenticate")
        .flat_map(challenge::parse)
        .collect();
    choose(&wanted.endpoint.registry, &challenges)
}

/// The best scheme that we can answer.
fn choose(registry: &str, challenges: &[Challenge]) -> Result<Option<Scheme>> {
    let bearer = challenges
        .iter()
        .filter(|one| one.scheme == "bearer")
        .find_map(|one| {
            let scopes = one.get("scope").unwrap_or_default().split_whitespace();
            Some(Scheme::Bearer {
                realm: one.get("realm")?.to_owned(),
                service: one.get("service").map(str::to_owned),
                scopes: scopes.take(MAX_SCOPES).map(str::to_owned).collect(),
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

/// What proves who we are goes to a token server over TLS, stays on this machine, or goes where the user allowed plain
/// HTTP: to a host named insecure, and to the registry itself where that speaks it. Without a proof there is nothing to
/// lose at the token server of such a registry.
fn refuse_plain(realm: &str, link: &Link<'_>, wanted: &Wanted<'_>) -> Result<()> {
    let (scheme, authority) = http::authority(realm);
    let (own_scheme, own) = http::authority(&wanted.endpoint.base);
    let own_is_plain = own_scheme == "http";
    let fine = match scheme.as_str() {
        "https" => true,
        "http" => {
            link.may_be_plain(&authority)
                || own_is_plain && (own == authority || wanted.secret().is_none())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_adds_what_was_not_asked_for() {
        let asked = ["repository:a/b:pull,push".to_owned()];
        for (challenged, expected) in [
            (&[][..], &["repository:a/b:pull,push"][..]),
            (&["repository:a/b:pull"], &["repository:a/b:pull,push"]),
            (
                &["repository:b:pull"],
                &["repository:a/b:pull,push", "repository:b:pull"],
            ),
            (
                &["repository:a/b:delete", "odd"],
                &["repository:a/b:pull,push", "odd", "repository:a/b:delete"],
            ),
        ] {
            let challenged = challenged.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(union(&asked, &challenged), expected, "{challenged:?}");
        }
    }
}
