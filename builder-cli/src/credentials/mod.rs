//! Credentials: where users of Docker, Podman and GitLab keep them, in the order that they expect.
//!
//! `DOCKER_AUTH_CONFIG`, `REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`, then Podman's
//! `auth.json`. The first source that has something for an image decides. The formats are those of Docker's
//! `config.json` and of `containers-auth.json`.

mod document;
mod helper;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use builder_core::interrupt::Interrupt;
use builder_core::reference::Reference;
use builder_core::registry::{Credentials, Secret};

use crate::environment::Environment;
use crate::render::text::shown;
use document::Document;
pub(crate) use write::{login, logout};

/// A place where credentials may be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A variable that holds the JSON itself.
    Variable(&'static str),
    /// A file.
    File(PathBuf),
}

/// All places, in order.
fn sources(environment: &Environment) -> Vec<Source> {
    let file = |path: Option<PathBuf>| path.map(Source::File);
    let variable = environment
        .path("DOCKER_AUTH_CONFIG")
        .map(|_| Source::Variable("DOCKER_AUTH_CONFIG"));
    let named = |name: &str, rest: &str| {
        let base = environment.path(name)?;
        Some(environment.directory.join(base).join(rest))
    };
    let auth_file = environment
        .path("REGISTRY_AUTH_FILE")
        .map(|path| environment.directory.join(path));
    let places = [
        variable,
        file(auth_file),
        file(named("DOCKER_CONFIG", "config.json")),
        file(named("HOME", ".docker/config.json")),
        file(named("XDG_RUNTIME_DIR", "containers/auth.json")),
        file(
            environment
                .config()
                .map(|config| config.join("containers/auth.json")),
        ),
    ];
    let mut known = Vec::new();
    for place in places.into_iter().flatten() {
        if !known.contains(&place) {
            known.push(place);
        }
    }
    known
}

/// Finds credentials; remembers what it found, and what it complained about.
#[derive(Debug)]
pub(crate) struct Finder {
    environment: Environment,
    interrupt: Interrupt,
    sources: Vec<Source>,
    found: Mutex<BTreeMap<(String, String), Option<Credentials>>>,
    warned: Mutex<BTreeSet<String>>,
}

impl Finder {
    /// Looks nowhere yet. The interrupt ends a helper that it asks.
    pub(crate) fn new(environment: &Environment, interrupt: &Interrupt) -> Self {
        Self {
            interrupt: interrupt.clone(),
            sources: sources(environment),
            environment: environment.clone(),
            found: Mutex::new(BTreeMap::new()),
            warned: Mutex::new(BTreeSet::new()),
        }
    }

    /// What proves who we are to the registry of an image; none means anonymous.
    pub(crate) fn find(&self, reference: &Reference) -> Option<Credentials> {
        let key = (
            reference.registry().to_owned(),
            reference.repository().to_owned(),
        );
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(&key) {
            return known.clone();
        }
        // What can't be used is told of where nothing else is found.
        let mut credentials: Option<Credentials> = None;
        for source in &self.sources {
            let is_better = credentials.as_ref().is_none_or(is_unusable);
            match self.look(source, reference) {
                Some(one) if is_better && (credentials.is_none() || !is_unusable(&one)) => {
                    credentials = Some(one);
                }
                _ => {}
            }
            if credentials.as_ref().is_some_and(|one| !is_unusable(one)) {
                break;
            }
        }
        found.insert(key, credentials.clone());
        credentials
    }

    fn look(&self, source: &Source, reference: &Reference) -> Option<Credentials> {
        let (name, document) = self.read(source)?;
        let (registry, repository) = (reference.registry(), reference.repository());
        let helper = document.helper(registry);
        let own = document.secret(registry, repository);
        let store = document.store().filter(|store| Some(*store) != helper);
        let ask = |program: Option<&str>| self.ask(program?, registry);
        let entry = own.map(|secret| Credentials {
            secret,
            source: name,
        });
        let mut spoilt = None;
        // A helper that is named for all is asked only where nothing else has anything.
        for found in [ask(helper), entry] {
            match found {
                Some(one) if is_unusable(&one) => spoilt = spoilt.or(Some(one)),
                None => {}
                found => return found,
            }
        }
        match ask(store) {
            Some(one) if is_unusable(&one) => spoilt.or(Some(one)),
            found => found.or(spoilt),
        }
    }

    fn read(&self, source: &Source) -> Option<(String, Document)> {
        let (name, bytes) = match source {
            Source::Variable(name) => {
                let text = self.environment.text(name)?;
                (format!("the variable {name}"), text.as_bytes().to_vec())
            }
            Source::File(path) => (format!("`{}`", path.display()), std::fs::read(path).ok()?),
        };
        match Document::parse(&bytes) {
            Ok(document) => Some((name, document)),
            Err(error) => {
                self.warn(&format!("the credentials in {name} can't be read: {error}"));
                None
            }
        }
    }

    fn ask(&self, program: &str, registry: &str) -> Option<Credentials> {
        let server = document::server(registry);
        match helper::get(program, server, &self.environment, &self.interrupt) {
            Ok(secret) => secret.map(|secret| Credentials {
                secret,
                source: format!("the credential helper `{program}`"),
            }),
            // Said by whoever waits for the credentials.
            Err(_) if self.interrupt.is_set() => None,
            Err(problem) => {
                self.warn(&format!("{problem}; going on without credentials from it"));
                Some(Credentials {
                    secret: Secret::Unusable(problem),
                    source: format!("the credential helper `{program}`"),
                })
            }
        }
    }

    /// Says something once.
    fn warn(&self, text: &str) {
        use std::io::Write as _;
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(text.to_owned()) {
            let _ = writeln!(std::io::stderr().lock(), "warning: {}", shown(text));
        }
    }
}

fn is_unusable(one: &Credentials) -> bool {
    matches!(one.secret, Secret::Unusable(_))
}

#[cfg(test)]
mod tests;
