//! Where a repository is asked for: the registry itself, or a mirror of it.
//!
//! `docker.io` is served by another host. Plain HTTP is for loopback, and for hosts that were named as insecure; both
//! are asked over TLS first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::RegistryOptions;
use super::error::{Error, Result};
use super::retry::Link;
use crate::http::proxy::{is_loopback, split};
use crate::http::{self, Request};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// Where Docker's own registry answers.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host, port, and the path of a mirror; no `/` at the end.
    pub(crate) base: String,
    /// Host and port as users write it, for credentials and messages.
    pub(crate) registry: String,
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
    pub(crate) fn endpoint(
        &self,
        link: &Link<'_>,
        options: &RegistryOptions,
        registry: &str,
    ) -> Result<Endpoint> {
        let host = if registry == DEFAULT_REGISTRY {
            DOCKER_HOST
        } else {
            registry
        };
        let scheme = self.scheme(link, options, host)?;
        Ok(Endpoint {
            base: format!("{scheme}://{host}"),
            registry: registry.to_owned(),
        })
    }

    /// The server of a mirror, a URL or a host.
    pub(crate) fn mirror(
        &self,
        link: &Link<'_>,
        options: &RegistryOptions,
        mirror: &str,
    ) -> Result<Endpoint> {
        let trimmed = mirror.trim_end_matches('/');
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            let host = trimmed.split('/').next().unwrap_or(trimmed);
            let scheme = self.scheme(link, options, host)?;
            return Ok(Endpoint {
                base: format!("{scheme}://{trimmed}"),
                registry: host.to_owned(),
            });
        };
        let registry = rest.split('/').next().unwrap_or(rest).to_owned();
        if scheme != "https" && !may_be_plain(options, &registry) {
            return Err(Error::PlainHttp {
                registry,
                url: http::for_message(trimmed),
            });
        }
        Ok(Endpoint {
            base: trimmed.to_owned(),
            registry,
        })
    }

    fn scheme(
        &self,
        link: &Link<'_>,
        options: &RegistryOptions,
        host: &str,
    ) -> Result<&'static str> {
        if !may_be_plain(options, host) {
            return Ok("https");
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = known.get(host) {
            return Ok(scheme);
        }
        let probe = Request::new("GET", format!("https://{host}/v2/"));
        let scheme = match link.once(&probe, &|_| ())? {
            Ok(_) => "https",
            Err(error @ http::Error::Certificate { .. }) => {
                return Err(Error::from(error).of_registry(host));
            }
            Err(_) => "http",
        };
        known.insert(host.to_owned(), scheme);
        Ok(scheme)
    }
}

/// Whether plain HTTP is allowed.
fn may_be_plain(options: &RegistryOptions, host: &str) -> bool {
    let name = split(host).0;
    is_loopback(name) || options.insecure.contains(host) || options.insecure.contains(name)
}
