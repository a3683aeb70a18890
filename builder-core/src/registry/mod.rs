//! Registries: images come from there and go there.
//!
//! Follows the OCI distribution specification 1.1. Credentials, time and the network are handed in; what comes is
//! verified while it streams, and nothing that is not what it should be enters the store.

mod artifact;
pub mod auth;
mod blob_reader;
mod challenge;
mod client;
pub mod error;
mod place;
mod pull;
mod push;
pub mod retry;
mod source;

use std::collections::{BTreeMap, BTreeSet};

pub use auth::{Credentials, Secret};
pub use client::MAX_DOCUMENT_BYTES;
pub use error::{Error, Result};
pub use push::Pushed;

use crate::event::{Event, EventSink};
use crate::http::Transport;
use crate::interrupt::Interrupt;
use crate::reference::Reference;
use auth::Auth;
use place::{Place, Schemes};
use retry::{Clock, Link};

/// How registries are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Hosts, with or without port, that may be spoken to without TLS.
    pub insecure: BTreeSet<String>,
    /// Where else a registry's images can be pulled from, by registry: hosts or URLs, in the order to try.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// How many blobs move at once, at least 1.
    pub parallel: usize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            mirrors: BTreeMap::new(),
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
            },
            credentials,
            options,
            events,
            schemes: Schemes::default(),
            auth: Auth::default(),
        }
    }

    /// Tells something in line with what the registries tell.
    pub fn tell(&self, event: Event) {
        self.events.send(event);
    }

    /// The repository of a reference on its own registry.
    fn home(&self, reference: &Reference) -> Result<Place> {
        let endpoint = self
            .schemes
            .endpoint(&self.link, self.options, reference.registry())?;
        Ok(Place {
            endpoint,
            repository: reference.repository().to_owned(),
            reference: reference.clone(),
        })
    }

    /// Calls `ask` with the mirrors of a registry and then with the registry itself, until one has an answer.
    fn first<T>(
        &self,
        reference: &Reference,
        mut ask: impl FnMut(&Place) -> Result<T>,
    ) -> Result<T> {
        let mirrors = self.options.mirrors.get(reference.registry());
        for mirror in mirrors.into_iter().flatten() {
            let Ok(endpoint) = self.schemes.mirror(&self.link, self.options, mirror) else {
                continue;
            };
            let name = format!("{}/{}", endpoint.registry, reference.repository());
            let Ok(looked_up) = name.parse() else {
                continue;
            };
            let place = Place {
                endpoint,
                repository: reference.repository().to_owned(),
                reference: looked_up,
            };
            match ask(&place) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
                found => return found,
            }
        }
        ask(&self.home(reference)?)
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
