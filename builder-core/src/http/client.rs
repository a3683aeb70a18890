//! The real transport, on the blocking client `ureq` with rustls.

use std::time::Duration;

use super::{Error, Request, Response, Transport, without_user};

/// A connection that says nothing for so long is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to servers.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
}

/// What a [`Client`] is told about the world; nothing is read from the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// URL of a proxy for all requests.
    pub proxy: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// A proxy that is no URL.
    pub fn new(options: &ClientOptions) -> Result<Self, Error> {
        let proxy = match &options.proxy {
            Some(url) => Some(ureq::Proxy::new(url).map_err(|_| Error::BadUrl {
                url: without_user(url),
            })?),
            None => None,
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(Duration::from_mins(5)))
            .user_agent(options.user_agent.clone())
            .proxy(proxy)
            .build();
        Ok(Self {
            agent: config.new_agent(),
        })
    }
}

impl Transport for Client {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        let shown = || without_user(&request.url);
        let mut builder = ureq::http::Request::builder()
            .method(request.method)
            .uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let request = builder
            .body(())
            .map_err(|_| Error::BadUrl { url: shown() })?;
        let response = self
            .agent
            .run(request)
            .map_err(|error| Error::Unreachable {
                url: shown(),
                reason: error.to_string(),
            })?;
        let (parts, body) = response.into_parts();
        let text = |value: &ureq::http::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        Ok(Response {
            status: parts.status.as_u16(),
            headers,
            body: Box::new(body.into_reader()),
        })
    }
}
