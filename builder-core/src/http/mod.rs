//! HTTP as values: a request goes to a [`Transport`], a response comes back; redirects are followed here.
//!
//! Follows RFC 9110. The one real transport is [`client::Client`]; tests answer in its place.

pub mod client;
pub mod date;
pub(crate) mod encoding;
mod error;
mod incoming;
mod page;
pub mod proxy;
mod route;
mod socket;
mod stream;
pub mod tls;
mod url;
mod verify;
mod wire;

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use encoding::base64;
pub use error::{CertificateProblem, Error};
pub use page::clean;
pub(crate) use page::{is_html, title};
pub(crate) use url::authority;
pub use url::{Url, for_message, without_user};

/// What a request sends. It can be sent again: a file is opened anew each time.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A range of a file, streamed with its length announced.
    File {
        /// The file.
        path: PathBuf,
        /// Where the range begins, in bytes.
        offset: u64,
        /// How many bytes are sent.
        length: u64,
    },
}

impl std::fmt::Debug for Body {
    /// Bytes may be a secret: their number is shown, not they themselves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File { path, length, .. } => write!(f, "File({}, {length})", path.display()),
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: &'static str,
    /// Absolute URL.
    pub url: String,
    /// Names in any case, and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Body,
    /// Whose certificates count.
    pub trust: Trust,
    /// How long connecting may take, where that is less than the client's own limit.
    pub connect_within: Option<Duration>,
}

/// On whose behalf a request is sent: what a registry names (token servers, stores of blobs, places of uploads) is
/// trusted as the registry itself is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Host and port of the registry, whose `certs.d` folder counts beside the server's own.
    pub registry: Option<String>,
    /// Any certificate will do: the user named the host as insecure.
    pub unchecked: bool,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Body::Empty,
            trust: Trust::default(),
            connect_within: None,
        }
    }

    /// This request with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// This request with a body.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl std::fmt::Debug for Request {
    /// Neither values of secret headers nor the query of the URL are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), if is_secret(name) { "…" } else { value }))
            .collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &for_message(&self.url))
            .field("headers", &headers)
            .field("body", &self.body)
            .field("trust", &self.trust)
            .field("connect_within", &self.connect_within)
            .finish()
    }
}

/// A response whose body has not been read yet.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as it arrives.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The value of the header `name`, which is written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of the header `name`, which is written in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Sends one request and waits for the head of its response. Follows nothing by itself.
pub trait Transport: Sync {
    /// Sends a request.
    ///
    /// # Errors
    /// Where no response came; any status is a response.
    fn send(&self, request: &Request) -> Result<Response, Error>;

    /// The same; `sent` is told now and then how many bytes of a file were sent so far. Of a transport that can't
    /// tell, it hears nothing.
    ///
    /// # Errors
    /// Those of [`Transport::send`].
    fn send_watched(&self, request: &Request, sent: &dyn Fn(u64)) -> Result<Response, Error> {
        let _ = sent;
        self.send(request)
    }

    /// The addresses of a host, for rules about networks. A transport without a network knows none.
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        host.parse().into_iter().collect()
    }
}

/// Redirects that are followed in one go.
const MAX_REDIRECTS: usize = 10;

/// Sends a request and follows redirects. Headers that prove who we are stay with the host that they are for. What has
/// a body or changes something is sent elsewhere only where the server asks for the same method there (307, 308), and bytes in
/// memory stay with their host too.
///
/// # Errors
/// Those of the transport, and redirects without end.
pub fn follow(transport: &dyn Transport, request: &Request) -> Result<Response, Error> {
    follow_watched(transport, request, &|_| ())
}

/// The same as [`follow`]; `sent` is told what [`Transport::send_watched`] tells it.
///
/// # Errors
/// Those of [`follow`].
pub fn follow_watched(
    transport: &dyn Transport,
    request: &Request,
    sent: &dyn Fn(u64),
) -> Result<Response, Error> {
    follow_to(transport, request, sent).map(|(response, _)| response)
}

/// The same, with the URL that answered in the end.
///
/// # Errors
/// Those of [`follow`].
pub fn follow_to(
    transport: &dyn Transport,
    request: &Request,
    sent: &dyn Fn(u64),
) -> Result<(Response, String), Error> {
    follow_by(transport, request, sent, &|_, _| Ok(()))
}

/// The same; `admit` is asked before each redirect, with the URL that answered and the request that would be sent
/// next, which it may change.
///
/// # Errors
/// Those of [`follow`], and those of `admit`.
pub(crate) fn follow_by(
    transport: &dyn Transport,
    request: &Request,
    sent: &dyn Fn(u64),
    admit: &dyn Fn(&Url, &mut Request) -> Result<(), Error>,
) -> Result<(Response, String), Error> {
    let mut request = request.clone();
    for _ in 0..=MAX_REDIRECTS {
        let response = transport.send_watched(&request, sent)?;
        let location = match response.status {
            301..=303 if !matches!(request.method, "GET" | "HEAD") => None,
            301..=303 | 307 | 308 => response.header("location"),
            _ => None,
        };
        let Some(location) = location else {
            return Ok((response, request.url));
        };
        let bad = |url: &str| Error::BadUrl {
            url: for_message(url),
        };
        let here = Url::parse(&request.url).ok_or_else(|| bad(&request.url))?;
        let next = here.join(location).ok_or_else(|| bad(location))?;
        let leaves = !next.is_same_server(&here);
        if leaves {
            // A body in memory may be a secret itself, such as a refresh token.
            if matches!(request.body, Body::Bytes(_)) {
                return Ok((response, request.url));
            }
            request.headers.retain(|(name, _)| !is_secret(name));
        }
        request.url = next.to_string();
        admit(&here, &mut request)?;
    }
    Err(Error::TooManyRedirects {
        url: without_user(&request.url),
        limit: MAX_REDIRECTS,
    })
}

fn is_secret(header: &str) -> bool {
    ["authorization", "cookie", "proxy-authorization"]
        .iter()
        .any(|secret| header.eq_ignore_ascii_case(secret))
}

/// Joins a `Location` to the URL that it was an answer to, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz_url(base: &str, location: &str) {
    let joined = Url::parse(base).and_then(|base| base.join(location));
    let _ = joined.map(|joined| Url::parse(&joined.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Script(Mutex<Vec<Request>>);

    impl Transport for Script {
        fn send(&self, request: &Request) -> Result<Response, Error> {
            let mut seen = self.0.lock().unwrap();
            seen.push(request.clone());
            let location = match seen.len() {
                1 => Some("/same"),
                2 => Some("http://other/there"),
                _ => None,
            };
            let headers = location
                .map(|to| ("location".to_owned(), to.to_owned()))
                .into_iter()
                .collect();
            let status = if location.is_some() { 302 } else { 200 };
            Ok(Response {
                status,
                headers,
                body: Box::new(std::io::empty()),
            })
        }
    }

    #[test]
    fn another_host_gets_no_form() {
        let script = Script(Mutex::new(Vec::new()));
        let form = Body::Bytes(b"refresh_token=secret".to_vec());
        let request = Request::new("GET", "http://one/a").with_body(form);
        assert!(!format!("{request:?}").contains("secret"));
        assert_eq!(follow(&script, &request).unwrap().status, 302);
        let seen = script.0.into_inner().unwrap();
        assert!(seen.iter().all(|one| one.url.starts_with("http://one/")));
    }

    #[test]
    fn another_host_gets_no_secret() {
        let script = Script(Mutex::new(Vec::new()));
        let headers = vec![
            ("Authorization".to_owned(), "x".to_owned()),
            ("Accept".to_owned(), "y".to_owned()),
        ];
        follow(
            &script,
            &Request {
                headers,
                ..Request::new("GET", "http://one/a")
            },
        )
        .unwrap();
        let seen = script.0.into_inner().unwrap();
        let counts: Vec<usize> = seen.iter().map(|request| request.headers.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(seen[2].url, "http://other/there");
    }
}
