//! Where a repository is asked for: the registry itself, or a mirror of it.
//!
//! `docker.io` is served by another host. Plain HTTP is for loopback, and for hosts that were named as insecure; both
//! are asked over TLS first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::{Error, Result};
use super::retry::{ATTEMPTS, Link};
use crate::http::{self, Request};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// Where Docker's own registry answers.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A mirror that can't be connected to for so long is passed over.
const MIRROR_PATIENCE: Duration = Duration::from_millis(1500);

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host and port; no `/` at the end.
    pub(crate) base: String,
    /// Host and port as users write it, for credentials and messages.
    pub(crate) registry: String,
    /// Whether it stands in for another registry, and is passed over where it fails.
    pub(crate) is_mirror: bool,
}

impl Endpoint {
    /// Host and port of the server itself, for its `certs.d` folder.
    pub(crate) fn host(&self) -> String {
        http::authority(&self.base).1
    }

    /// How often a request is sent in all. Who only stands in gets one try.
    pub(crate) fn attempts(&self) -> u32 {
        if self.is_mirror { 1 } else { ATTEMPTS }
    }

    /// How long connecting may take, where that is less than usual.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.is_mirror.then_some(MIRROR_PATIENCE)
    }
}

/// A repository on a server.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) repository: String,
    /// What credentials are looked up by.
    pub(crate) reference: Reference,
}

impl Place {
    /// A URL below `/v2/`.
    pub(crate) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.endpoint.base, self.repository)
    }
}

/// Which scheme each host turned out to speak.
#[derive(Debug, Default)]
pub(crate) struct Schemes(Mutex<BTreeMap<String, &'static str>>);

impl Schemes {
    /// The server of a registry.
    pub(crate) fn endpoint(&self, link: &Link<'_>, registry: &str) -> Result<Endpoint> {
        let host = if registry == DEFAULT_REGISTRY {
            DOCKER_HOST
        } else {
            registry
        };
        let scheme = self.scheme(link, host)?;
        Ok(Endpoint {
            base: format!("{scheme}://{host}"),
            registry: registry.to_owned(),
            is_mirror: false,
        })
    }

    /// The server of a mirror, a URL or a host; and the path before the names of its repositories, with a `/` at its
    /// end: a proxy cache is a project of a registry, as Harbor, Artifactory and Nexus have them.
    pub(crate) fn mirror(&self, link: &Link<'_>, mirror: &str) -> Result<(Endpoint, String)> {
        let (scheme, rest) = match mirror.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, mirror),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        // Some write the API's own prefix with it.
        let path = path.strip_prefix("v2/").unwrap_or(path);
        let path = if path == "v2" { "" } else { path };
        let scheme = match scheme.as_deref() {
            None => self.scheme(link, host)?,
            Some("https") => "https",
            Some("http") if link.may_be_plain(host) => "http",
            Some(_) => {
                return Err(Error::PlainHttp {
                    registry: host.to_owned(),
                    url: http::for_message(mirror),
                });
            }
        };
        let endpoint = Endpoint {
            base: format!("{scheme}://{host}"),
            registry: host.to_owned(),
            is_mirror: true,
        };
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        Ok((endpoint, prefix))
    }

    fn scheme(&self, link: &Link<'_>, host: &str) -> Result<&'static str> {
        if !link.may_be_plain(host) {
            return Ok("https");
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = known.get(host) {
            return Ok(scheme);
        }
        let mut probe = Request::new("GET", format!("https://{host}/v2/"));
        probe.trust.registry = Some(host.to_owned());
        let scheme = match link.once(&probe, &|_| ())? {
            Ok(_) => "https",
            Err(
                error @ (http::Error::Certificate { .. }
                | http::Error::File { .. }
                | http::Error::TrustedFile { .. }
                | http::Error::TrustedText),
            ) => {
                return Err(Error::from(error).of_registry(host));
            }
            Err(_) => "http",
        };
        known.insert(host.to_owned(), scheme);
        Ok(scheme)
    }
}
