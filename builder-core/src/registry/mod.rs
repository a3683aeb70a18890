//! Registries: images come from there and go there.
//!
//! Follows the OCI distribution specification 1.1. Credentials, time and the network are handed in; what comes is
//! verified while it streams, and nothing that is not what it should be enters the store.

mod artifact;
pub mod auth;
mod blob_reader;
mod challenge;
mod client;
mod document;
pub mod error;
mod insecure;
mod kind;
mod place;
mod pull;
mod push;
mod remedy;
pub mod retry;
mod source;
mod token;
mod upload;
mod whole;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::http::{base64, clean};
pub use auth::{Credentials, Secret};
pub use client::MAX_DOCUMENT_BYTES;
pub use error::{Error, Result};
pub use push::Pushed;

use crate::event::{Event, EventSink};
use crate::http::{Transport, for_message};
use crate::interrupt::Interrupt;
use crate::reference::Reference;
use auth::Auth;
use insecure::Insecure;
use place::{Place, Schemes};
use retry::{Clock, Link};

/// How registries are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Hosts, with or without port, that may be spoken to without TLS.
    pub insecure: BTreeSet<String>,
    /// Where else a registry's images can be pulled from, by registry, or by a path in it (`registry.example.com/team`):
    /// hosts or URLs, in the order to try. Their path stands in the place of the key.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// What is pulled from another place instead, by registry or path in it. Pushes are not concerned.
    pub moved: BTreeMap<String, String>,
    /// Registries, or paths in them, that nothing is pulled from.
    pub blocked: BTreeSet<String>,
    /// How many blobs move at once, at least 1.
    pub parallel: usize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            mirrors: BTreeMap::new(),
            moved: BTreeMap::new(),
            blocked: BTreeSet::new(),
            parallel: 4,
        }
    }
}

/// How much of an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Index, manifest and config; where the layers are is remembered.
    Documents,
    /// Those, and the layers.
    Everything,
}

/// Looks credentials up by the image that is asked for.
pub type CredentialsFor<'a> = dyn Fn(&Reference) -> Option<Credentials> + Sync + 'a;

/// All registries, through one transport. Tokens and schemes are remembered while it lives.
pub struct Registry<'a> {
    link: Link<'a>,
    credentials: &'a CredentialsFor<'a>,
    options: &'a RegistryOptions,
    events: &'a dyn EventSink,
    schemes: Schemes,
    auth: Auth,
    /// Mirrors that failed, each with what is said of it.
    failed: Mutex<BTreeMap<String, String>>,
}

impl std::fmt::Debug for Registry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> Registry<'a> {
    /// Connects to nothing yet.
    pub fn new(
        transport: &'a dyn Transport,
        clock: &'a dyn Clock,
        credentials: &'a CredentialsFor<'a>,
        options: &'a RegistryOptions,
        events: &'a dyn EventSink,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self {
            link: Link {
                transport,
                clock,
                interrupt,
                insecure: Insecure(&options.insecure),
            },
            credentials,
            options,
            events,
            schemes: Schemes::default(),
            auth: Auth::default(),
            failed: Mutex::default(),
        }
    }

    /// Tells something in line with what the registries tell.
    pub fn tell(&self, event: Event) {
        self.events.send(event);
    }

    /// The repository of a reference on its own registry.
    fn home(&self, reference: &Reference) -> Result<Place> {
        let endpoint = self.schemes.endpoint(&self.link, reference.registry())?;
        Ok(Place {
            endpoint,
            repository: reference.repository().to_owned(),
            reference: reference.clone(),
        })
    }

    /// Calls `ask` with the mirrors of a registry and then with the registry itself, until one has an answer. A mirror
    /// that fails is said to once, and left alone from then on; one that merely lacks something is asked again.
    fn first<T>(
        &self,
        reference: &Reference,
        mut ask: impl FnMut(&Place) -> Result<T>,
    ) -> Result<T> {
        if let Some(rule) = blocking(self.options, reference) {
            return Err(Error::Blocked {
                reference: reference.familiar(),
                rule: rule.to_owned(),
            });
        }
        let mirrors = longest(self.options.mirrors.iter(), reference);
        let (rest, mirrors) = mirrors.unzip();
        for mirror in mirrors.into_iter().flatten() {
            if self.failed().contains_key(mirror) {
                continue;
            }
            let place = self.mirror_place(rest.unwrap_or_default(), mirror);
            match place.and_then(|place| ask(&place)) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => self.note_failure(mirror, &error),
                found => return found,
            }
        }
        let mut found = match longest(self.options.moved.iter(), reference) {
            None => ask(&self.home(reference)?),
            Some((rest, place)) => {
                let mut place = self.mirror_place(rest, place)?;
                // It stands in for nobody: it is asked as patiently as a registry is.
                place.endpoint.is_mirror = false;
                ask(&place)
            }
        };
        if let Err(Error::RateLimited { mirrors: told, .. }) = &mut found {
            let failed = self.failed();
            let known = mirrors.into_iter().flatten();
            told.extend(known.filter_map(|mirror| failed.get(mirror).cloned()));
        }
        found
    }

    fn mirror_place(&self, rest: &str, mirror: &str) -> Result<Place> {
        let (endpoint, prefix) = self.schemes.mirror(&self.link, mirror)?;
        let repository = format!("{prefix}{rest}");
        let repository = repository.trim_end_matches('/').to_owned();
        let name = format!("{}/{repository}", endpoint.registry);
        let looked_up = name.parse().map_err(|_| Error::Nonsense {
            registry: endpoint.registry.clone(),
            verb: "as a mirror",
            problem: "under a name that is no registry's",
        })?;
        Ok(Place {
            endpoint,
            repository,
            reference: looked_up,
        })
    }

    fn failed(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_failure(&self, mirror: &str, error: &Error) {
        if matches!(
            error,
            Error::UnknownManifest { .. } | Error::UnknownBlob { .. }
        ) {
            return;
        }
        let mirror_shown = for_message(mirror);
        let mut reason = error.to_string();
        if let Error::Unreachable { source, .. } | Error::Certificate { source, .. } = error {
            reason = source.to_string();
        }
        let message = format!("the mirror `{mirror_shown}` failed and is left alone: {reason}");
        let before = self.failed().insert(mirror.to_owned(), message.clone());
        if before.is_none() {
            self.tell(Event::Notice { message });
        }
    }

    /// Asks a registry whether it takes the credentials that `credentials` gives for `reference`, an image of any name
    /// there.
    ///
    /// # Errors
    /// [`Error::Denied`] where it doesn't, and where it can't be reached.
    pub fn check_login(&self, reference: &Reference) -> crate::Result<()> {
        let place = self.home(reference)?;
        Ok(self.check_access(&place)?)
    }
}

/// The value of the longest key that a reference's repository lies in, and the rest of its name.
fn longest<'r, T>(
    rules: impl Iterator<Item = (&'r String, T)>,
    reference: &'r Reference,
) -> Option<(&'r str, T)> {
    let (registry, repository) = (reference.registry(), reference.repository());
    rules
        .filter_map(|(key, value)| {
            let (host, path) = key.split_once('/').unwrap_or((key, ""));
            let rest = repository.strip_prefix(path)?;
            let fits = path.is_empty() || rest.is_empty() || rest.starts_with('/');
            (host == registry && fits).then(|| (path.len(), (rest.trim_start_matches('/'), value)))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, found)| found)
}

/// The rule that keeps a reference from being pulled.
fn blocking<'r>(options: &'r RegistryOptions, reference: &'r Reference) -> Option<&'r str> {
    let rules = options.blocked.iter().map(|rule| (rule, rule.as_str()));
    longest(rules, reference).map(|(_, rule)| rule)
}

/// Reads a challenge, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz_challenge(header: &str) {
    let _ = challenge::parse(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_decides() {
        let keys = ["r.io", "r.io/team", "r.io/team/app", "q.io/x"].map(str::to_owned);
        for (reference, expected) in [
            ("r.io/a:1", Some(("a", "r.io"))),
            ("r.io/team/b", Some(("b", "r.io/team"))),
            ("r.io/team/app", Some(("", "r.io/team/app"))),
            ("r.io/team/apple", Some(("apple", "r.io/team"))),
            ("r.io/teams/a", Some(("teams/a", "r.io"))),
            ("r.io:5000/a", None),
            ("q.io/a", None),
        ] {
            let reference: Reference = reference.parse().unwrap();
            let rules = keys.iter().map(|key| (key, key.as_str()));
            assert_eq!(longest(rules, &reference), expected, "{reference}");
        }
    }
}
