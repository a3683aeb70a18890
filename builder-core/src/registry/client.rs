//! One request a function, with its credentials; what the answers mean.
//!
//! Follows the OCI distribution specification, "Endpoints". A 401 is answered once with what it asks for; so is a
//! refusal of an anonymous request where only `/v2/` says what it wants.

use std::io::Read as _;
use std::time::Duration;

use super::Registry;
use super::auth::{Credentials, Wanted};
use super::error::{Error, Result};
use super::place::Place;
use super::retry::{self, Link};
use super::words::words;
use crate::digest::Digest;
use crate::http::{self, Body, Request, Response, Url};
use crate::oci::MediaType;

/// Documents are small; a larger one is refused.
pub const MAX_DOCUMENT_BYTES: u64 = 16 << 20;
/// So much of a failed answer is read.
const MAX_WORDS: u64 = 64 << 10;

/// What is done with a repository; decides scope and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Login,
}

impl Action {
    fn words(self) -> &'static str {
        match self {
            Self::Pull => "pulling from",
            Self::Push => "pushing to",
            Self::Login => "login",
        }
    }
}

/// Manifests that we understand, and the two that we refuse by name.
const ACCEPT: &[MediaType] = &[
    MediaType::Index,
    MediaType::Manifest,
    MediaType::DockerManifestList,
    MediaType::DockerManifest,
];

/// One request to a repository.
pub(crate) struct Call<'c> {
    pub(crate) place: &'c Place,
    pub(crate) action: Action,
    /// Another repository that is read by the same request.
    pub(crate) source: Option<&'c str>,
}

impl<'c> Call<'c> {
    pub(crate) fn new(place: &'c Place, action: Action) -> Self {
        Self {
            place,
            action,
            source: None,
        }
    }

    fn scopes(&self) -> Vec<String> {
        let own = match self.action {
            Action::Pull => format!("repository:{}:pull", self.place.repository),
            Action::Push => format!("repository:{}:pull,push", self.place.repository),
            Action::Login => return Vec::new(),
        };
        let other = self.source.map(|name| format!("repository:{name}:pull"));
        std::iter::once(own).chain(other).collect()
    }
}

/// What came of sending a request once.
pub(crate) enum Sent {
    /// An answer.
    Answered(Response),
    /// A failure that may pass, and how long the server wants to be left alone.
    Later(Error, Option<Duration>),
}

impl Registry<'_> {
    /// Sends a request with credentials, again and again where that may help.
    pub(crate) fn call(&self, call: &Call<'_>, request: &Request) -> Result<Response> {
        self.call_to(call, request).map(|(response, _)| response)
    }

    /// The same, with the URL that answered in the end.
    pub(crate) fn call_to(&self, call: &Call<'_>, request: &Request) -> Result<(Response, String)> {
        let attempts = call.place.endpoint.attempts();
        self.authorised(call, request, &|request| {
            self.link.send_times(request, attempts)
        })
    }

    /// Sends a request with credentials; what may pass is the caller's to repeat.
    pub(crate) fn call_once(
        &self,
        call: &Call<'_>,
        verb: &'static str,
        request: &Request,
        sent: &dyn Fn(u64),
    ) -> Result<Sent> {
        let answer = self.authorised(call, request, &|request| {
            self.link.once(request, sent)?.map_err(Error::Http)
        });
        match answer {
            Ok((response, _)) if retry::is_temporary(response.status) => {
                let after = retry::retry_after(&response);
                Ok(Sent::Later(self.refusal(call, verb, response), after))
            }
            Ok((response, _)) => Ok(Sent::Answered(response)),
            Err(error) if error.may_pass() => Ok(Sent::Later(error, None)),
            Err(error) => Err(error),
        }
    }

    fn authorised(
        &self,
        call: &Call<'_>,
        request: &Request,
        send: &dyn Fn(&Request) -> Result<(Response, String)>,
    ) -> Result<(Response, String)> {
        let endpoint = &call.place.endpoint;
        let name = |error: Error| error.of_registry(&endpoint.registry);
        let mut request = request.clone();
        request.trust.registry = Some(endpoint.host());
        request.connect_within = endpoint.patience();
        if http::authority(&request.url) != http::authority(&endpoint.base) {
            // An upload that continues elsewhere: what proves who we are stays here.
            return send(&request).map_err(name);
        }
        let credentials = (self.credentials)(&call.place.reference);
        let scopes = call.scopes();
        let wanted = Wanted {
            endpoint,
            scopes: &scopes,
            credentials: credentials.as_ref(),
            repository: match call.action {
                Action::Login => "",
                _ => &call.place.repository,
            },
            action: call.action.words(),
        };
        let mut asked_again = false;
        loop {
            let mut request = request.clone();
            let header = self.auth.header(&self.link, &wanted)?;
            if let Some(value) = &header {
                request = request.with_header("Authorization", value);
            }
            let (response, url) = send(&request).map_err(name)?;
            let mut again = response.status == 401
                && !asked_again
                && self.auth.learn(&wanted, &response, header.as_deref())?;
            if !again
                && !asked_again
                && header.is_none()
                && matches!(response.status, 401 | 403 | 404)
            {
                again = self.auth.ask_front(&self.link, &wanted)?;
            }
            if !again {
                return Ok((response, url));
            }
            asked_again = true;
        }
    }

    /// The error that an answer means.
    pub(crate) fn refusal(
        &self,
        call: &Call<'_>,
        verb: &'static str,
        mut response: Response,
    ) -> Error {
        let mut body = Vec::new();
        // The status says enough where the words don't come.
        let _ = (&mut response.body).take(MAX_WORDS).read_to_end(&mut body);
        let body = super::document::decoded(&response, body);
        let (codes, detail) = words(&response, &body);
        let registry = call.place.endpoint.registry.clone();
        let credentials = (self.credentials)(&call.place.reference);
        let says = |code: &str| codes.iter().any(|one| one.eq_ignore_ascii_case(code));
        match response.status {
            429 => Error::RateLimited {
                registry,
                after: retry::retry_after(&response),
                anonymous: Credentials::is_anonymous(credentials.as_ref()),
                mirrors: Vec::new(),
            },
            _ if says("TOOMANYREQUESTS") => Error::RateLimited {
                registry,
                after: retry::retry_after(&response),
                anonymous: Credentials::is_anonymous(credentials.as_ref()),
                mirrors: Vec::new(),
            },
            401 | 403 => Error::Denied {
                registry,
                repository: match call.action {
                    Action::Login => String::new(),
                    _ => call.place.repository.clone(),
                },
                action: call.action.words(),
                proof: Credentials::proof(credentials.as_ref()),
                detail,
            },
            status => Error::Status {
                registry,
                verb,
                status,
                detail,
            },
        }
    }

    /// Asks whether the credentials are good.
    pub(crate) fn check_access(&self, place: &Place) -> Result<()> {
        let call = Call::new(place, Action::Login);
        let request = Request::new("GET", format!("{}/v2/", place.endpoint.base));
        let response = self.call(&call, &request)?;
        match response.status {
            200 => Ok(()),
            _ => Err(self.refusal(&call, "the check of the login", response)),
        }
    }

    /// Asks for a manifest by tag or digest; `method` is GET or HEAD.
    pub(crate) fn manifest_request(
        &self,
        place: &Place,
        action: Action,
        method: &'static str,
        name: &str,
    ) -> Result<Response> {
        let accept: Vec<&str> = ACCEPT.iter().map(MediaType::as_str).collect();
        let request = Request::new(method, place.url(&format!("manifests/{name}")))
            .with_header("Accept", accept.join(", "));
        self.call(&Call::new(place, action), &request)
    }

    /// Stores a manifest under a tag or its digest; the registry's digest must be ours.
    pub(crate) fn put_manifest(
        &self,
        place: &Place,
        name: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Digest> {
        let call = Call::new(place, Action::Push);
        let request = Request::new("PUT", place.url(&format!("manifests/{name}")))
            .with_header("Content-Type", media_type.as_str())
            .with_body(Body::Bytes(bytes.to_vec()));
        let response = self.call(&call, &request)?;
        if !matches!(response.status, 200..=202) {
            return Err(self.refusal(&call, "the upload of the manifest", response));
        }
        let told = response
            .header("docker-content-digest")
            .map(str::parse::<Digest>);
        // A name that is a digest is the one that counts.
        let own = name.parse::<Digest>().ok();
        let expected = own.unwrap_or_else(|| Digest::of(bytes));
        match told {
            Some(Ok(found)) if found != found.like(bytes) => Err(Error::WrongDigest {
                registry: place.endpoint.registry.clone(),
                expected,
                found,
            }),
            _ => Ok(expected),
        }
    }

    /// Whether a repository has a blob.
    pub(crate) fn has_blob(&self, place: &Place, action: Action, digest: &Digest) -> Result<bool> {
        let call = Call::new(place, action);
        let request = Request::new("HEAD", place.url(&format!("blobs/{digest}")));
        let response = self.call(&call, &request)?;
        match response.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refusal(&call, "the question for a blob", response)),
        }
    }

    /// Asks for a blob from a byte on.
    pub(crate) fn get_blob(&self, place: &Place, digest: &Digest, from: u64) -> Result<Response> {
        let call = Call::new(place, Action::Pull);
        let mut request = Request::new("GET", place.url(&format!("blobs/{digest}")));
        if from > 0 {
            request = request.with_header("Range", format!("bytes={from}-"));
        }
        let response = self.call(&call, &request)?;
        match response.status {
            200 | 206 => Ok(response),
            404 => Err(Error::UnknownBlob {
                registry: place.endpoint.registry.clone(),
                repository: place.repository.clone(),
                digest: *digest,
            }),
            _ => Err(self.refusal(&call, "the download of a blob", response)),
        }
    }
}

impl Registry<'_> {
    /// Asks for a blob at a place outside of the registry that its descriptor names. Nothing that proves who we are goes
    /// there, and the digest decides what it is.
    pub(crate) fn get_elsewhere(
        &self,
        place: &Place,
        url: &str,
        digest: &Digest,
        from: u64,
    ) -> Result<Response> {
        let mut request = Request::new("GET", url);
        request.trust.registry = Some(place.endpoint.host());
        if from > 0 {
            request = request.with_header("Range", format!("bytes={from}-"));
        }
        let response = self.link.send(&request)?;
        match response.status {
            200 | 206 => Ok(response),
            _ => Err(Error::UnknownBlob {
                registry: http::authority(url).1,
                repository: place.repository.clone(),
                digest: *digest,
            }),
        }
    }
}

/// Where an upload that was begun goes on: the Location of the answer that `url` gave, never from TLS to plain HTTP of a
/// host that is not named as insecure.
pub(crate) fn location(
    link: &Link<'_>,
    place: &Place,
    url: &str,
    response: &Response,
) -> Result<String> {
    let nonsense = |problem| Error::Nonsense {
        registry: place.endpoint.registry.clone(),
        verb: "the beginning of an upload",
        problem,
    };
    let here = Url::parse(url).ok_or_else(|| nonsense("from a place that is no URL"))?;
    let location = response
        .header("location")
        .ok_or_else(|| nonsense("without a Location"))?;
    let next = here
        .join(location)
        .ok_or_else(|| nonsense("with a Location that is no URL"))?;
    if !here.is_tls() || next.is_tls() {
        return Ok(next.to_string());
    }
    // A proxy in front that forgot to say that it speaks TLS.
    let upgraded = next.clone().with_scheme("https");
    if upgraded.is_same_server(&here) {
        return Ok(upgraded.to_string());
    }
    if link.may_be_plain(&next.authority()) {
        return Ok(next.to_string());
    }
    Err(Error::PlainHttp {
        registry: next.authority(),
        url: http::for_message(&next.to_string()),
    })
}
