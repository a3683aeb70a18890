//! The real transport, on the blocking client `ureq` with rustls.
//!
//! Follows RFC 9110 and RFC 9112. Everything it knows of the world is in [`ClientOptions`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Take};
use std::path::Path;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use ureq::SendBody;
use ureq::tls::{Certificate, RootCerts};

use crate::interrupt::Interrupt;

use super::proxy::Proxies;
use super::tls::{self, TlsOptions};
use super::{Body, Error, Request, Response, Transport, authority, for_message};

/// A connection that isn't made for so long is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that moves no byte for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// So many bytes are sent between two words about it.
const PROGRESS_BYTES: u64 = 4 << 20;
/// An interrupt is noticed after so long.
const WATCH_STEP: Duration = Duration::from_millis(100);
/// A server may think for so long before it answers: some hash a whole upload first.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// Connects to servers.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    roots: OnceLock<Roots>,
    /// One for each scheme and authority: their proxies and certificates differ.
    agents: Arc<Mutex<Agents>>,
    /// Starts the thread that waits for an interrupt.
    watched: Once,
}

type Agents = BTreeMap<(String, String), ureq::Agent>;

#[derive(Debug)]
struct Roots {
    certificates: Vec<Certificate<'static>>,
    shared: RootCerts,
}

/// What a [`Client`] is told about the world; nothing is read from the environment.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Which proxy is for whom.
    pub proxies: Proxies,
    /// Whom to trust.
    pub tls: TlsOptions,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a connection may be silent while bytes are moved.
    pub idle_timeout: Duration,
    /// Breaks what is being moved, soon after it is set.
    pub interrupt: Interrupt,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            proxies: Proxies::default(),
            tls: TlsOptions::default(),
            user_agent: String::new(),
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            interrupt: Interrupt::default(),
        }
    }
}

impl Client {
    /// Makes a client. Certificates are read when a host needs them.
    ///
    /// # Errors
    /// A proxy that is no URL.
    pub fn new(options: &ClientOptions) -> Result<Self, Error> {
        for proxy in [&options.proxies.http, &options.proxies.https] {
            proxy.as_deref().map(proxy_of).transpose()?;
        }
        Ok(Self {
            options: options.clone(),
            roots: OnceLock::new(),
            agents: Arc::default(),
            watched: Once::new(),
        })
    }

    fn agent(&self, url: &str) -> Result<ureq::Agent, Error> {
        let key = authority(url);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let (scheme, host) = &key;
        let proxy = self.options.proxies.choose(scheme, host);
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(self.options.connect_timeout))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(self.options.idle_timeout))
            .timeout_per_write(Some(self.options.idle_timeout))
            .user_agent(self.options.user_agent.clone())
            .proxy(proxy.map(proxy_of).transpose()?);
        if scheme == "https" {
            let roots = self.roots()?;
            let options = &self.options.tls;
            let tls = tls::config(options, &roots.shared, &roots.certificates, host)?;
            config = config.tls_config(tls);
        }
        let agent = config.build().new_agent();
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// Closes all connections once the interrupt is set, so that nobody waits for a silent server any longer.
    fn watch(&self) {
        let (agents, interrupt) = (Arc::downgrade(&self.agents), self.options.interrupt.clone());
        let wait = move || {
            while let Some(agents) = agents.upgrade() {
                if interrupt.is_set() {
                    let agents = agents.lock().unwrap_or_else(PoisonError::into_inner);
                    agents.values().cloned().for_each(ureq::Agent::shutdown);
                    return;
                }
                drop(agents);
                std::thread::sleep(WATCH_STEP);
            }
        };
        // Without the thread an interrupt is noticed when a byte is moved.
        let watch = std::thread::Builder::new().name("interrupt".to_owned());
        self.watched.call_once(|| drop(watch.spawn(wait)));
    }

    fn roots(&self) -> Result<&Roots, Error> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots);
        }
        let certificates = tls::roots(&self.options.tls)?;
        let shared = if certificates.is_empty() {
            RootCerts::WebPki
        } else {
            RootCerts::new_with_certs(&certificates)
        };
        Ok(self.roots.get_or_init(|| Roots {
            certificates,
            shared,
        }))
    }
}

fn proxy_of(url: &str) -> Result<ureq::Proxy, Error> {
    ureq::Proxy::new(url).map_err(|_| Error::BadUrl {
        url: for_message(url),
    })
}

/// Tells a certificate that is not trusted from a server that is not there.
fn failure(url: &str, error: &ureq::Error) -> Error {
    let url = for_message(url);
    let reason = match error {
        ureq::Error::Io(inner) => inner.to_string(),
        other => other.to_string(),
    };
    if reason.contains("UnknownIssuer") {
        let problem = super::CertificateProblem::UnknownIssuer;
        return Error::Certificate { url, problem };
    }
    if reason.to_ascii_lowercase().contains("certificate") {
        let problem = super::CertificateProblem::Bad(reason);
        return Error::Certificate { url, problem };
    }
    Error::Unreachable { url, reason }
}

fn stopped(url: &str) -> Error {
    Error::Unreachable {
        url: for_message(url),
        reason: "interrupted".to_owned(),
    }
}

fn open(path: &Path, offset: u64) -> Result<File, Error> {
    let opened = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    });
    opened.map_err(|error| Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A file on its way: tells how far it is, and breaks where someone asks to stop.
struct Watched<'a> {
    file: Take<File>,
    done: u64,
    told: u64,
    sent: &'a dyn Fn(u64),
    interrupt: &'a Interrupt,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_set() {
            return Err(io::Error::other("interrupted"));
        }
        if self.done - self.told >= PROGRESS_BYTES {
            self.told = self.done;
            (self.sent)(self.done);
        }
        let read = self.file.read(buffer)?;
        self.done += read as u64;
        Ok(read)
    }
}

impl Transport for Client {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        self.send_watched(request, &|_| ())
    }

    fn send_watched(&self, request: &Request, sent: &dyn Fn(u64)) -> Result<Response, Error> {
        let url = &request.url;
        let bad = || Error::BadUrl {
            url: for_message(url),
        };
        let mut builder = ureq::http::Request::builder()
            .method(request.method)
            .uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if self.options.interrupt.is_set() {
            return Err(stopped(url));
        }
        self.watch();
        let agent = self.agent(url)?;
        let answer = match &request.body {
            Body::Empty if matches!(request.method, "POST" | "PUT" | "PATCH") => {
                agent.run(builder.body(&[][..]).map_err(|_| bad())?)
            }
            Body::Empty => agent.run(builder.body(()).map_err(|_| bad())?),
            Body::Bytes(bytes) => agent.run(builder.body(bytes.as_slice()).map_err(|_| bad())?),
            Body::File {
                path,
                offset,
                length,
            } => {
                let mut range = Watched {
                    file: open(path, *offset)?.take(*length),
                    done: 0,
                    told: 0,
                    sent,
                    interrupt: &self.options.interrupt,
                };
                let builder = builder.header("Content-Length", length.to_string());
                let body = SendBody::from_reader(&mut range);
                agent.run(builder.body(body).map_err(|_| bad())?)
            }
        };
        let (parts, body) = answer.map_err(|error| failure(url, &error))?.into_parts();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    const LENGTH: u64 = 9 << 20;

    /// A server of one connection, and a request that sends it a file.
    fn upload(
        serve: impl FnOnce(TcpStream) + Send + 'static,
    ) -> (tempfile::NamedTempFile, Request) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LENGTH).unwrap();
        let request = Request::new("PUT", url).with_body(Body::File {
            path: file.path().to_owned(),
            offset: 0,
            length: LENGTH,
        });
        (file, request)
    }

    #[test]
    fn an_upload_tells_how_far_it_is() {
        let (_file, request) = upload(|mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {}
            io::copy(&mut reader.take(LENGTH), &mut io::sink()).unwrap();
            let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
        });
        let heard = Mutex::new(Vec::new());
        let client = Client::new(&ClientOptions::default()).unwrap();
        let response = client.send_watched(&request, &|sent| heard.lock().unwrap().push(sent));
        assert_eq!(response.unwrap().status, 201);
        let heard = heard.into_inner().unwrap();
        assert!(heard.len() == 2 && heard.is_sorted(), "{heard:?}");
    }

    #[test]
    fn an_interrupt_ends_an_upload_that_nobody_reads() {
        let (finish, finished) = mpsc::channel::<()>();
        let (_file, request) = upload(move |stream| {
            // Open, and silent until the test is over.
            let _ = finished.recv();
            drop(stream);
        });
        let options = ClientOptions::default();
        let interrupt = options.interrupt.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            interrupt.set();
        });
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let client = Client::new(&options).unwrap();
            done.send(client.send(&request).is_err()).unwrap();
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(5)), Ok(true));
        drop(finish);
    }
}
