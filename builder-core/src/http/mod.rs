//! HTTP as values: a request goes to a [`Transport`], a response comes back; redirects are followed here.
//!
//! Follows RFC 9110. The one real transport is [`client::Client`]; tests answer in its place.

pub mod client;
pub mod date;
pub mod proxy;
pub mod tls;

use std::io::Read;
use std::path::PathBuf;

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
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Body::Empty,
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

/// Why no response came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL can't be used.
    #[error("`{url}` is not a URL that can be fetched")]
    BadUrl {
        /// Without user information.
        url: String,
    },
    /// Connecting, TLS, or reading failed.
    #[error("`{url}` can't be reached: {reason}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What the transport said.
        reason: String,
    },
    /// The server's certificate is not trusted, or doesn't fit its name; or ours was refused.
    #[error("`{url}` can't be trusted: {reason}")]
    Certificate {
        /// Without user information.
        url: String,
        /// What the transport said.
        reason: String,
    },
    /// A file that is needed can't be read: one to send, or a certificate.
    #[error("`{}` can't be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A server sends us in circles.
    #[error("`{url}` redirects more than {limit} times")]
    TooManyRedirects {
        /// Where it began.
        url: String,
        /// How many are followed.
        limit: usize,
    },
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
        let next = join(&request.url, location);
        if authority(&next) != authority(&request.url) {
            // A body in memory may be a secret itself, such as a refresh token.
            if matches!(request.body, Body::Bytes(_)) {
                return Ok((response, request.url));
            }
            request.headers.retain(|(name, _)| !is_secret(name));
        }
        request.url = next;
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

/// Scheme, host and port: who answers. User information is left out.
pub(crate) fn authority(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
}

/// Resolves a Location against the URL that answered with it (RFC 3986, section 5, without dot segments).
pub(crate) fn join(base: &str, location: &str) -> String {
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    let path_start = base[scheme_end..]
        .find(['/', '?', '#'])
        .map_or(base.len(), |at| scheme_end + at);
    if location.contains("://") {
        return location.to_owned();
    }
    if location.starts_with("//") {
        return format!("{}{location}", &base[..scheme_end.saturating_sub(2)]);
    }
    if location.starts_with('/') {
        return format!("{}{location}", &base[..path_start]);
    }
    let path_end = base[path_start..]
        .find(['?', '#'])
        .map_or(base.len(), |at| path_start + at);
    let directory = base[path_start..path_end]
        .rfind('/')
        .map_or(path_start, |at| path_start + at);
    format!("{}/{location}", &base[..directory])
}

/// A URL without user name and password, for messages.
pub fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// A URL for messages: no user information, no query, which may hold a signature or a token.
pub fn for_message(url: &str) -> String {
    let url = without_user(url);
    match url.find(['?', '#']) {
        Some(end) => url[..end].to_owned(),
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn locations_are_resolved() {
        for (location, expected) in [
            ("https://o.example/x", "https://o.example/x"),
            ("//o.example/x", "http://o.example/x"),
            ("/x", "http://h:1/x"),
            ("x", "http://h:1/a/x"),
        ] {
            assert_eq!(join("http://h:1/a/b?q=/z", location), expected);
        }
        assert_eq!(without_user("https://me:secret@h/x@y"), "https://h/x@y");
    }

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
                method: "GET",
                url: "http://one/a".to_owned(),
                headers,
                body: Body::Empty,
            },
        )
        .unwrap();
        let seen = script.0.into_inner().unwrap();
        let counts: Vec<usize> = seen.iter().map(|request| request.headers.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(seen[2].url, "http://other/there");
    }
}
