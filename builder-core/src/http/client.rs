//! The real transport: blocking, on HTTP/1.1 of our own and rustls.
//!
//! Follows RFC 9110 and RFC 9112. Everything it knows of the world is in [`ClientOptions`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::incoming::{Idle, response};
use super::proxy::Proxies;
use super::route::{Proxy, Way, unreachable};
use super::socket::{self, is_answering};
use super::tls::{self, TlsOptions};
use super::wire::{Connection, Head};
use super::{Body, Error, Request, Response, Transport, Trust, Url, for_message, verify};
use crate::interrupt::Interrupt;

/// A connection that isn't made for so long is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that moves no byte for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// So many bytes are sent between two words about it.
const PROGRESS_BYTES: u64 = 4 << 20;
/// So many bytes of a file are read in one go.
const PIECE: usize = 128 << 10;
/// A server may think for so long before it answers: some hash a whole upload first.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// Connects to servers.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    proxies: BTreeMap<String, Proxy>,
    roots: OnceLock<Vec<CertificateDer<'static>>>,
    /// By authority and by whose certificates count: sessions of TLS are remembered in them.
    configs: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
    idle: Arc<Idle>,
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
        let mut proxies = BTreeMap::new();
        for proxy in [&options.proxies.http, &options.proxies.https] {
            if let Some(text) = proxy.as_ref().filter(|text| !text.is_empty()) {
                proxies.insert(text.clone(), Proxy::parse(text)?);
            }
        }
        Ok(Self {
            options: options.clone(),
            proxies,
            roots: OnceLock::new(),
            configs: Mutex::default(),
            idle: Arc::default(),
        })
    }

    fn config(&self, authority: &str, trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
        let registry = trust.registry.as_deref().unwrap_or_default();
        let key = format!("{authority} {registry} {}", trust.unchecked);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = configs.get(&key) {
            return Ok(Arc::clone(known));
        }
        let none = Vec::new();
        let roots = match self.roots.get() {
            Some(roots) => roots,
            // Nobody is asked about what is not checked.
            None if trust.unchecked => &none,
            None => {
                let read = tls::roots(&self.options.tls)?;
                self.roots.get_or_init(|| read)
            }
        };
        let config = tls::config(&self.options.tls, roots, authority, trust)?;
        let config = Arc::new(config);
        configs.insert(key, Arc::clone(&config));
        Ok(config)
    }

    /// Sends a request on a connection that is there, or on a new one.
    fn exchange(
        &self,
        request: &Request,
        url: &Url,
        sent: &dyn Fn(u64),
    ) -> Result<Response, Error> {
        let chosen = self.options.proxies.choose(&url.scheme, &url.authority());
        let proxy = chosen.and_then(|text| self.proxies.get(text));
        let key = format!(
            "{} {} {:?} {:?}",
            url.scheme,
            url.address(),
            chosen,
            request.trust
        );
        let is_absolute = proxy.is_some() && !url.is_tls();
        loop {
            let kept = self.idle.take(&key);
            let is_fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(request, url, proxy)?,
            };
            connection.heard = false;
            let head = head_of(request, url, &self.options, proxy.filter(|_| is_absolute))?;
            let answered = self.speak(&mut connection, request, &head, sent)?;
            let head = match answered {
                Ok(head) => head,
                // The server closed it while nobody looked; that is no failure of this request.
                Err(_) if !is_fresh && !connection.heard && !self.options.interrupt.is_set() => {
                    continue;
                }
                Err(error) => return Err(failure(url, &error)),
            };
            let home = Some((Arc::clone(&self.idle), key));
            let response = response(connection, head, request.method, home)
                .map_err(|error| failure(url, &error))?;
            return match proxy.filter(|_| is_absolute) {
                Some(proxy) => proxy.own_answer(url, request.trust.registry.is_some(), response),
                None => Ok(response),
            };
        }
    }

    fn connect(
        &self,
        request: &Request,
        url: &Url,
        proxy: Option<&Proxy>,
    ) -> Result<Connection, Error> {
        let tls = url
            .is_tls()
            .then(|| self.config(&url.authority(), &request.trust));
        let proxy_tls = proxy
            .filter(|proxy| proxy.url.is_tls())
            .map(|proxy| self.config(&proxy.url.authority(), &Trust::default()));
        let way = Way {
            options: &self.options,
            proxy,
            tls: tls.transpose()?,
            proxy_tls: proxy_tls.transpose()?,
        };
        way.connect(request, url)
    }

    /// Sends head and body, and reads the head of the answer. The outer error is one of this machine.
    fn speak(
        &self,
        connection: &mut Connection,
        request: &Request,
        head: &str,
        sent: &dyn Fn(u64),
    ) -> Result<io::Result<Head>, Error> {
        connection.stream.socket().watching = true;
        let written = match connection.send(head.as_bytes()) {
            Ok(()) => Self::send_body(connection, &request.body, sent)?,
            failed => failed,
        };
        let socket = connection.stream.socket();
        socket.watching = false;
        socket.patience = ANSWER_TIMEOUT;
        let (cut, head) = match written {
            Ok(()) => (false, connection.head()),
            Err(error) if is_answering(&error) => (true, connection.head()),
            Err(error) => (true, Err(error)),
        };
        connection.stream.socket().patience = self.options.idle_timeout;
        Ok(head.map(|mut head| {
            if cut {
                // The server still waits for the rest of the body.
                head.close();
            }
            head
        }))
    }

    fn send_body(
        connection: &mut Connection,
        body: &Body,
        sent: &dyn Fn(u64),
    ) -> Result<io::Result<()>, Error> {
        let (path, offset, length) = match body {
            Body::Empty => return Ok(Ok(())),
            Body::Bytes(bytes) => return Ok(connection.send(bytes)),
            Body::File {
                path,
                offset,
                length,
            } => (path, *offset, *length),
        };
        let mut file = open(path, offset)?.take(length);
        let mut piece = vec![0; PIECE];
        let (mut done, mut told) = (0, 0);
        while done < length {
            let count = file
                .read(&mut piece)
                .map_err(|error| unreadable(path, &error))?;
            if count == 0 {
                let short =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was");
                return Err(unreadable(path, &short));
            }
            if let Err(error) = connection.send(&piece[..count]) {
                return Ok(Err(error));
            }
            done += count as u64;
            if done - told >= PROGRESS_BYTES {
                told = done;
                sent(done);
            }
        }
        Ok(Ok(()))
    }
}

/// The head of a request.
fn head_of(
    request: &Request,
    url: &Url,
    options: &ClientOptions,
    proxy: Option<&Proxy>,
) -> Result<String, Error> {
    let target = if proxy.is_some() {
        url.to_string()
    } else {
        url.target()
    };
    let mut head = format!(
        "{} {target} HTTP/1.1\r\nHost: {}\r\n",
        request.method,
        url.authority()
    );
    let given = |name: &str| {
        let mut names = request.headers.iter();
        names.any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !options.user_agent.is_empty() && !given("user-agent") {
        head.extend(["User-Agent: ", &options.user_agent, "\r\n"]);
    }
    if !given("accept") {
        head.push_str("Accept: */*\r\n");
    }
    for (name, value) in &request.headers {
        // One that ends its line early would be two.
        if value.contains(['\r', '\n', '\0']) {
            return Err(Error::BadHeader { name: name.clone() });
        }
        head.extend([name, ": ", value, "\r\n"]);
    }
    let length = match &request.body {
        Body::Empty if matches!(request.method, "POST" | "PUT" | "PATCH") => Some(0),
        Body::Empty => None,
        Body::Bytes(bytes) => Some(bytes.len() as u64),
        Body::File { length, .. } => Some(*length),
    };
    if let Some(length) = length {
        head.extend(["Content-Length: ", &length.to_string(), "\r\n"]);
    }
    if let Some(proxy) = proxy {
        head.push_str(&proxy.header());
    }
    head.push_str("\r\n");
    Ok(head)
}

fn failure(url: &Url, error: &io::Error) -> Error {
    let shown = url.to_string();
    verify::failure(&shown, error).unwrap_or_else(|| unreachable(url, error))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn open(path: &Path, offset: u64) -> Result<File, Error> {
    let opened = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    });
    opened.map_err(|error| unreadable(path, &error))
}

impl Transport for Client {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        self.send_watched(request, &|_| ())
    }

    fn send_watched(&self, request: &Request, sent: &dyn Fn(u64)) -> Result<Response, Error> {
        let url = Url::parse(&request.url).ok_or_else(|| Error::BadUrl {
            url: for_message(&request.url),
        })?;
        if self.options.interrupt.is_set() {
            return Err(Error::Unreachable {
                url: for_message(&request.url),
                reason: "interrupted".to_owned(),
            });
        }
        self.exchange(request, &url, sent)
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        socket::addresses(host)
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

    /// A server that hears some of one request and says one thing; its URL, and what it heard.
    fn server(says: Vec<u8>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = vec![0; 16384];
            let count = stream.read(&mut heard).unwrap();
            let text = String::from_utf8_lossy(&heard[..count]).into_owned();
            let _ = stream.write_all(&says);
            let _ = sender.send(text);
        });
        (url, receiver)
    }

    #[test]
    fn answers_are_read_as_they_are_framed() {
        let many = format!("X-Line: {}\r\n", "v".repeat(600)).repeat(300);
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(), Some((200, "hi"))),
            ("HTTP/1.1 200\r\n\r\nto the end".to_owned(), Some((200, "to the end"))),
            ("HTTP/1.0 200 OK\n\nhi".to_owned(), Some((200, "hi"))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n".to_owned(),
                Some((200, "hi0123456789")),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n".to_owned(),
                Some((201, "")),
            ),
            (format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nhi"), Some((200, "hi"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi".to_owned(), Some((200, "hi"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\nhi".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n".to_owned(), None),
            (format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(600 << 10)), None),
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            let (url, _heard) = server(answer.clone().into_bytes());
            let client = Client::new(&ClientOptions::default()).unwrap();
            let found = client.send(&Request::new("GET", url)).ok().and_then(|mut response| {
                let mut body = String::new();
                response.body.read_to_string(&mut body).ok()?;
                Some((response.status, body))
            });
            let expected = expected.map(|(status, body)| (status, body.to_owned()));
            assert_eq!(found, expected, "{}", &answer[..answer.len().min(200)]);
        }
    }

    #[test]
    fn folded_lines_are_one() {
        let answer = b"HTTP/1.1 401 x\r\nWWW-Authenticate: Bearer realm=\"a\",\r\n\tservice=\"b\"\r\nContent-Length: 0\r\n\r\n";
        let (url, heard) = server(answer.to_vec());
        let client = Client::new(&ClientOptions::default()).unwrap();
        let response = client.send(&Request::new("POST", url)).unwrap();
        let challenge = response.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"a\", service=\"b\""));
        let heard = heard.recv().unwrap();
        assert!(heard.contains("Content-Length: 0\r\n"), "{heard}");
    }

    /// Who answers before the end of an upload, and closes, is heard.
    #[test]
    fn an_answer_before_the_end_of_an_upload_is_read() {
        for status in [403, 413, 429] {
            let (_file, request) = upload(move |mut stream| {
                stream.read_exact(&mut vec![0; 70_000]).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwords"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let client = Client::new(&ClientOptions::default()).unwrap();
            let mut response = client.send(&request).unwrap();
            let mut words = String::new();
            response.body.read_to_string(&mut words).unwrap();
            assert_eq!((response.status, words.as_str()), (status, "words"));
        }
    }

    #[test]
    fn a_proxy_is_asked_in_absolute_form_and_its_refusal_is_its_own() {
        for (answer, problem) in [
            ("HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", None),
            (
                "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
                Some("wants a user and a password"),
            ),
            (
                "HTTP/1.1 403 x\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\nContent-Type: text/html\r\nContent-Length: 42\r\n\r\n<html><title>Denied by policy</title></html>",
                Some("answered with status 403 (Denied by policy)"),
            ),
            (
                "HTTP/1.1 403 x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
                None,
            ),
        ] {
            let (url, heard) = server(answer.as_bytes().to_vec());
            let proxy = url.replace("http://", "http://me:p%40w@");
            let options = ClientOptions {
                proxies: Proxies {
                    http: Some(proxy.trim_end_matches('/').to_owned()),
                    ..Proxies::default()
                },
                ..ClientOptions::default()
            };
            let client = Client::new(&options).unwrap();
            let sent = client.send(&Request::new("GET", "http://r.example.com:5000/v2/?a=b"));
            let heard = heard.recv().unwrap();
            assert!(
                heard.starts_with("GET http://r.example.com:5000/v2/?a=b HTTP/1.1\r\n"),
                "{heard}"
            );
            // me:p@w
            assert!(
                heard.contains("Proxy-Authorization: Basic bWU6cEB3\r\n"),
                "{heard}"
            );
            match problem {
                None => assert!(sent.is_ok(), "{sent:?}"),
                Some(problem) => {
                    let error = sent.unwrap_err().to_string();
                    assert!(
                        error.contains(problem) && !error.contains("p%40w"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_tunnel_that_is_refused_names_the_proxy() {
        for (answer, expected) in [
            (
                "HTTP/1.1 403 x\r\nContent-Type: text/html\r\nContent-Length: 37\r\n\r\n<html>Access Denied by policy.</html>",
                "answered with status 403 (Access Denied by policy.)",
            ),
            ("HTTP/1.1 407 x\r\n\r\n", "answered with status 407"),
            ("", "can't be reached"),
        ] {
            let (url, heard) = server(answer.as_bytes().to_vec());
            let options = ClientOptions {
                proxies: Proxies {
                    https: Some(url.clone()),
                    ..Proxies::default()
                },
                ..ClientOptions::default()
            };
            let client = Client::new(&options).unwrap();
            let error = client.send(&Request::new("GET", "https://r.example.com/v2/"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            let name = Url::parse(&url).unwrap().address();
            assert!(error.contains(&name), "{error}");
            let heard = heard.recv().unwrap();
            assert!(
                heard.starts_with("CONNECT r.example.com:443 HTTP/1.1\r\n"),
                "{heard}"
            );
        }
    }

    #[test]
    fn who_speaks_plain_http_speaks_no_tls() {
        for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
            let (url, _heard) = server(answer.as_bytes().to_vec());
            let client = Client::new(&ClientOptions::default()).unwrap();
            let url = url.replace("http://", "https://");
            let error = client.send(&Request::new("GET", url)).unwrap_err();
            assert!(matches!(error, Error::NoTls { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_file_of_cas_that_can_t_be_read_is_an_error() {
        for (named, expected) in [
            (
                "/nowhere/ca.pem",
                "`/nowhere/ca.pem`, which SSL_CERT_FILE names",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nsecret",
                "holds the text of a certificate",
            ),
        ] {
            let mut options = ClientOptions::default();
            options.tls.named_file = Some(named.into());
            let client = Client::new(&options).unwrap();
            let error = client.send(&Request::new("GET", "https://127.0.0.1:1/"));
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_header_becomes_two() {
        let request = Request::new("GET", "http://127.0.0.1:1/").with_header("A", "b\r\nC: d");
        let url = Url::parse(&request.url).unwrap();
        let head = head_of(&request, &url, &ClientOptions::default(), None);
        assert!(matches!(head, Err(Error::BadHeader { .. })), "{head:?}");
    }
}
