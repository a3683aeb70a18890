//! The way to a server: direct, through a proxy in a tunnel, or by asking the proxy itself.
//!
//! Follows RFC 9110, section 9.3.6 (CONNECT, for TLS), and RFC 9112, section 3.2.2 (the absolute form, for plain HTTP:
//! proxies mostly refuse tunnels to other ports than 443).

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::client::ClientOptions;
use super::encoding::{basic_of, percent_decoded};
use super::socket::Socket;
use super::stream::{NO_HELLO, Stream};
use super::wire::Connection;
use super::{Error, Request, Response, Url, clean, for_message, is_html, title, verify};

/// So much of what a proxy says is read, in bytes.
const MAX_WORDS: u64 = 16 << 10;

/// A proxy.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) url: Url,
    /// The value of `Proxy-Authorization`.
    secret: Option<String>,
}

impl Proxy {
    /// Reads the URL of a proxy; one without a scheme is for plain HTTP.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url = Url::parse(&with_scheme).ok_or_else(|| Error::BadUrl {
            url: for_message(&with_scheme),
        })?;
        let secret = url.user().map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            basic_of(&[percent_decoded(name), percent_decoded(password)].join(&b':'))
        });
        Ok(Self { url, secret })
    }

    /// Host and port, for messages.
    fn shown(&self) -> String {
        self.url.address()
    }

    /// The header that proves who we are to the proxy.
    pub(super) fn header(&self) -> String {
        self.secret.as_ref().map_or_else(String::new, |secret| {
            format!("Proxy-Authorization: {secret}\r\n")
        })
    }

    fn failure(&self, url: &Url, problem: String, passes: bool) -> Error {
        Error::Proxy {
            proxy: self.shown(),
            url: for_message(&url.to_string()),
            problem,
            passes,
        }
    }

    fn said(&self, url: &Url, status: u16, words: Option<String>) -> Error {
        let words = words.map_or_else(String::new, |words| format!(" ({words})"));
        let problem = if status == 407 {
            format!("wants a user and a password, or others, and answered with status 407{words}")
        } else {
            format!("answered with status {status}{words}")
        };
        self.failure(url, problem, matches!(status, 502..=504))
    }

    /// The failure that an answer which came through the proxy is, where it is the proxy's own.
    pub(super) fn own_answer(
        &self,
        url: &Url,
        for_registry: bool,
        mut response: Response,
    ) -> Result<Response, Error> {
        if !matches!(response.status, 403 | 407 | 502..=504) {
            return Ok(response);
        }
        let marked = ["x-squid-error", "proxy-status", "proxy-authenticate"]
            .iter()
            .any(|name| response.header(name).is_some());
        let typed = response.header("content-type").unwrap_or_default();
        // No registry refuses with a web page.
        if !marked && response.status != 407 && !(for_registry && typed.starts_with("text/html")) {
            return Ok(response);
        }
        let words = words(&mut response);
        Err(self.said(url, response.status, words))
    }
}

/// What an answer says to people.
fn words(response: &mut Response) -> Option<String> {
    let mut body = Vec::new();
    // The status says enough where the words don't come.
    let _ = (&mut response.body).take(MAX_WORDS).read_to_end(&mut body);
    if is_html(response, &body) {
        return title(&body).or_else(|| clean(&without_tags(&body)));
    }
    clean(std::str::from_utf8(&body).ok()?)
}

fn without_tags(body: &[u8]) -> String {
    let mut inside = false;
    let text = String::from_utf8_lossy(body);
    text.chars()
        .filter(|one| {
            inside = *one == '<' || inside && *one != '>';
            !inside && *one != '>'
        })
        .collect()
}

/// What is needed to connect.
pub(super) struct Way<'w> {
    pub(super) options: &'w ClientOptions,
    pub(super) proxy: Option<&'w Proxy>,
    /// TLS to the server, where its URL says so.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// TLS to a proxy that speaks it.
    pub(super) proxy_tls: Option<Arc<ClientConfig>>,
}

impl Way<'_> {
    /// Connects; at the end of the way requests are understood.
    pub(super) fn connect(&self, request: &Request, url: &Url) -> Result<Connection, Error> {
        let within = request
            .connect_within
            .map_or(self.options.connect_timeout, |one| {
                one.min(self.options.connect_timeout)
            });
        let mut stream = match self.proxy {
            Some(proxy) => self.to_proxy(proxy, url, within)?,
            None => self
                .socket(url, within)
                .map_err(|error| unreachable(url, &error))?,
        };
        if let Some(config) = &self.tls {
            stream.socket().patience = within;
            stream = Stream::begin_tls(stream, Arc::clone(config), &url.host)
                .map_err(|error| tls_failure(url, &error))?;
            stream.socket().patience = self.options.idle_timeout;
        }
        Ok(Connection::new(stream))
    }

    fn socket(&self, to: &Url, within: Duration) -> io::Result<Stream> {
        let interrupt = &self.options.interrupt;
        let socket = Socket::connect(&to.address(), within, self.options.idle_timeout, interrupt)?;
        Ok(Stream::Plain(socket))
    }

    fn to_proxy(&self, proxy: &Proxy, url: &Url, within: Duration) -> Result<Stream, Error> {
        let failed =
            |error: &io::Error| proxy.failure(url, format!("can't be reached ({error})"), true);
        let mut stream = self
            .socket(&proxy.url, within)
            .map_err(|error| failed(&error))?;
        if let Some(config) = &self.proxy_tls {
            stream = Stream::begin_tls(stream, Arc::clone(config), &proxy.url.host)
                .map_err(|error| tls_failure(&proxy.url, &error))?;
        }
        if self.tls.is_none() {
            return Ok(stream);
        }
        let mut connection = Connection::new(stream);
        let address = url.address();
        let agent = &self.options.user_agent;
        let question = format!(
            "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {agent}\r\n{}\r\n",
            proxy.header()
        );
        let head = connection
            .send(question.as_bytes())
            .and_then(|()| connection.head())
            .map_err(|error| failed(&error))?;
        if (200..300).contains(&head.status) {
            return Ok(connection.stream);
        }
        let status = head.status;
        let mut response = super::incoming::response(connection, head, "CONNECT", None)
            .map_err(|error| failed(&error))?;
        let words = words(&mut response);
        Err(proxy.said(url, status, words))
    }
}

pub(super) fn unreachable(url: &Url, error: &io::Error) -> Error {
    Error::Unreachable {
        url: for_message(&url.to_string()),
        reason: error.to_string(),
    }
}

fn tls_failure(url: &Url, error: &io::Error) -> Error {
    let shown = url.to_string();
    if error.to_string() == NO_HELLO {
        return Error::NoTls {
            url: for_message(&shown),
        };
    }
    verify::failure(&shown, error).unwrap_or_else(|| unreachable(url, error))
}
