//! A registry on the loopback address that misbehaves on demand. It shares no code with the client.
//!
//! Speaks as much of the OCI distribution specification as a client needs: manifests, blobs with ranges, uploads in one
//! request, mounts, and a token server beside them.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test ends at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::Digest as _;

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let hex = hash
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    format!("sha256:{}", hex.collect::<String>())
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An answer with this status, these headers and this body.
    Answer(u16, Vec<(String, String)>, String),
    /// The whole length is announced, and the connection ends after so many bytes.
    Cut(usize),
    /// The body ends after so many bytes, and its length says so.
    Short(usize),
    /// So many bytes too many, and their length says so.
    Long(usize),
    /// The bytes are others.
    Lie,
    /// The connection ends without a word.
    Reset,
    /// The body comes in pieces of this length with a pause between them.
    Trickle(usize, Duration),
    /// An upload begins without a Location.
    NoLocation,
    /// An upload begins with a relative Location.
    RelativeLocation,
    /// A mount begins an upload instead.
    MountRefused,
    /// A range is ignored.
    NoRange,
}

/// Which requests a fault hits.
#[derive(Clone, Debug)]
struct Rule {
    method: String,
    part: String,
    times: u32,
    fault: Fault,
}

/// How the registry wants it proven.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Everything is open.
    Open,
    /// Basic, with a user and a password.
    Basic(String, String),
    /// Bearer, with a token of the server's own `/token`, good for so many requests. The user and the password are
    /// what the token server wants; none where it serves everyone.
    Bearer(Option<(String, String)>, u32),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Length of the body.
    pub body: usize,
    /// The status that was answered; 0 for none.
    pub status: u16,
}

#[derive(Debug)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Repository and digest.
    links: BTreeSet<(String, String)>,
    /// Repository and tag or digest: type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    rules: Vec<Rule>,
    auth: Auth,
    challenge: Option<String>,
    tokens: BTreeMap<String, u32>,
    count: u32,
    seen: Vec<Seen>,
}

/// A running registry; it ends with the value.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            blobs: BTreeMap::new(),
            links: BTreeSet::new(),
            manifests: BTreeMap::new(),
            rules: Vec::new(),
            auth: Auth::Open,
            challenge: None,
            tokens: BTreeMap::new(),
            count: 0,
            seen: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(connection), shared) = (connection, Arc::clone(&shared)) else {
                    continue;
                };
                std::thread::spawn(move || serve(&connection, &shared, address));
            }
        });
        Self {
            address,
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How it wants it proven.
    pub fn auth(&self, auth: Auth) {
        self.state().auth = auth;
    }

    /// The challenge to send instead of the usual one.
    pub fn challenge(&self, text: &str) {
        self.state().challenge = Some(text.to_owned());
    }

    /// The next `times` requests with this method, whose path holds `part`, go wrong.
    pub fn fault(&self, method: &str, part: &str, times: u32, fault: Fault) {
        self.state().rules.push(Rule {
            method: method.to_owned(),
            part: part.to_owned(),
            times,
            fault,
        });
    }

    /// Puts a blob into a repository and gives its digest.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.state();
        state.blobs.insert(digest.clone(), bytes.to_vec());
        state.links.insert((repository.to_owned(), digest.clone()));
        digest
    }

    /// Puts a manifest under a tag and its digest, which it gives.
    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.state();
        for name in [tag, &digest] {
            let key = (repository.to_owned(), name.to_owned());
            state
                .manifests
                .insert(key, (kind.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// The bytes of a manifest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), name.to_owned());
        self.state()
            .manifests
            .get(&key)
            .map(|(_, bytes)| bytes.clone())
    }

    /// Whether a repository has a blob.
    pub fn has(&self, repository: &str, digest: &str) -> bool {
        let key = (repository.to_owned(), digest.to_owned());
        self.state().links.contains(&key)
    }

    /// What came since the last time this was asked.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An answer in the making.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        let mut answer = Self::new(status);
        answer.body = format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#).into_bytes();
        answer
    }
}

/// A request in the reading.
struct Incoming {
    method: String,
    path: String,
    query: BTreeMap<String, Vec<String>>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    full: String,
}

fn serve(connection: &TcpStream, state: &Mutex<State>, address: SocketAddr) {
    let _ = connection.set_nodelay(true);
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        let (answer, fault) = {
            let mut state = state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let fault = take_fault(&mut state, &request);
            let answer = match &fault {
                Some(Fault::Answer(status, headers, body)) => Some(Answer {
                    status: *status,
                    headers: headers.clone(),
                    body: body.clone().into_bytes(),
                }),
                Some(Fault::Reset) => None,
                other => Some(answer(&mut state, &request, address, other.as_ref())),
            };
            state.seen.push(Seen {
                method: request.method.clone(),
                path: request.full.clone(),
                headers: request.headers.clone(),
                body: request.body.len(),
                status: answer.as_ref().map_or(0, |answer| answer.status),
            });
            (answer, fault)
        };
        let Some(answer) = answer else {
            return;
        };
        if send(connection, &request, answer, fault.as_ref()).is_none() {
            return;
        }
    }
}

fn take_fault(state: &mut State, request: &Incoming) -> Option<Fault> {
    let rule = state.rules.iter_mut().find(|rule| {
        rule.times > 0 && rule.method == request.method && request.full.contains(&rule.part)
    })?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Incoming> {
    // A client that begins TLS is sent away.
    if *reader.fill_buf().ok()?.first()? == 0x16 {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, full) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = full.split_once('?').unwrap_or((&full, ""));
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        fields
            .entry(name.to_owned())
            .or_default()
            .push(decode(value));
    }
    Some(Incoming {
        method,
        path: path.to_owned(),
        query: fields,
        headers,
        body,
        full: full.clone(),
    })
}

fn decode(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' && after.len() >= 2 {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn send(
    mut to: &TcpStream,
    request: &Incoming,
    answer: Answer,
    fault: Option<&Fault>,
) -> Option<()> {
    let mut body = answer.body;
    let mut announced = body.len();
    match fault {
        Some(Fault::Short(length)) => {
            body.truncate(*length);
            announced = body.len();
        }
        Some(Fault::Long(more)) => {
            body.extend(vec![b'x'; *more]);
            announced = body.len();
        }
        Some(Fault::Cut(length)) => body.truncate(*length),
        Some(Fault::Lie) => body.iter_mut().for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let mut head = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {announced}\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
    }
    head.push_str("\r\n");
    to.write_all(head.as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let (piece, pause) = match fault {
        Some(Fault::Trickle(piece, pause)) => (*piece, *pause),
        _ => (usize::MAX, Duration::ZERO),
    };
    for chunk in body.chunks(piece.clamp(1, body.len().max(1))) {
        to.write_all(chunk).ok()?;
        std::thread::sleep(pause);
    }
    (body.len() == announced).then_some(())
}

fn answer(
    state: &mut State,
    request: &Incoming,
    address: SocketAddr,
    fault: Option<&Fault>,
) -> Answer {
    if request.path == "/token" {
        return token(state, request);
    }
    if let Some(refusal) = refuse(state, request, address) {
        return refusal;
    }
    let Some(rest) = request.path.strip_prefix("/v2/") else {
        return Answer::error(404, "UNSUPPORTED");
    };
    if rest.is_empty() {
        return Answer::new(200);
    }
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        return manifest(state, request, repository, name);
    }
    match rest.split_once("/blobs/") {
        Some((repository, name)) if name.starts_with("uploads/") => {
            upload(state, request, repository, address, fault)
        }
        Some((repository, name)) => blob(state, request, repository, name, fault),
        None => Answer::error(404, "UNSUPPORTED"),
    }
}

fn refuse(state: &mut State, request: &Incoming, address: SocketAddr) -> Option<Answer> {
    let given = request.headers.get("authorization").map(String::as_str);
    let (fine, usual) = match &state.auth {
        Auth::Open => return None,
        Auth::Basic(user, password) => {
            let expected = format!("Basic {}", base64(&format!("{user}:{password}")));
            (
                given == Some(&expected),
                r#"Basic realm="double""#.to_owned(),
            )
        }
        Auth::Bearer(..) => {
            let token = given.and_then(|given| given.strip_prefix("Bearer "));
            let left = token.and_then(|token| state.tokens.get_mut(token));
            let fine = left.is_some_and(|left| {
                let fine = *left > 0;
                *left = left.saturating_sub(1);
                fine
            });
            let usual = format!(r#"Bearer realm="http://{address}/token",service="double""#);
            (fine, usual)
        }
    };
    let challenge = state.challenge.clone().unwrap_or(usual);
    let challenge = challenge.replace("ADDRESS", &address.to_string());
    (!fine).then(|| Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge))
}

fn token(state: &mut State, request: &Incoming) -> Answer {
    let Auth::Bearer(wanted, uses) = state.auth.clone() else {
        return Answer::error(404, "UNSUPPORTED");
    };
    let given = request.headers.get("authorization").cloned();
    let by_password = wanted.as_ref().is_none_or(|(user, password)| {
        given == Some(format!("Basic {}", base64(&format!("{user}:{password}"))))
    });
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let by_token = request.method == "POST"
        && wanted
            .as_ref()
            .is_some_and(|(_, password)| form.contains(&format!("refresh_token={password}")));
    if !by_password && !by_token {
        return Answer::error(401, "UNAUTHORIZED");
    }
    state.count += 1;
    let token = format!("token-{}", state.count);
    state.tokens.insert(token.clone(), uses);
    let mut answer = Answer::new(200);
    let key = if by_token { "access_token" } else { "token" };
    answer.body = format!(r#"{{"{key}":"{token}","expires_in":300}}"#).into_bytes();
    answer
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .bytes()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let mut encoded: String = bits
        .chunks(6)
        .map(|six| {
            let value = (0..6).fold(0, |value, at| {
                value << 1 | six.get(at).copied().unwrap_or(0)
            });
            char::from(DIGITS[usize::from(value)])
        })
        .collect();
    while !encoded.len().is_multiple_of(4) {
        encoded.push('=');
    }
    encoded
}

fn manifest(state: &mut State, request: &Incoming, repository: &str, name: &str) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    if request.method == "PUT" {
        let kind = request
            .headers
            .get("content-type")
            .cloned()
            .unwrap_or_default();
        let digest = digest(&request.body);
        let value = (kind, request.body.clone());
        state.manifests.insert(key, value.clone());
        state
            .manifests
            .insert((repository.to_owned(), digest.clone()), value);
        return Answer::new(201).with("Docker-Content-Digest", digest);
    }
    let Some((kind, bytes)) = state.manifests.get(&key) else {
        return Answer::error(404, "MANIFEST_UNKNOWN");
    };
    let mut answer = Answer::new(200)
        .with("Content-Type", kind.clone())
        .with("Docker-Content-Digest", digest(bytes));
    answer.body.clone_from(bytes);
    answer
}

fn blob(
    state: &State,
    request: &Incoming,
    repository: &str,
    name: &str,
    fault: Option<&Fault>,
) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    let Some(bytes) = state.blobs.get(name).filter(|_| state.links.contains(&key)) else {
        return Answer::error(404, "BLOB_UNKNOWN");
    };
    let from = request
        .headers
        .get("range")
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .filter(|_| !matches!(fault, Some(Fault::NoRange)));
    let mut answer = match from {
        Some(from) if from >= bytes.len() => return Answer::new(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206).with("Content-Range", range)
        }
        None => Answer::new(200),
    };
    answer.body = bytes[from.unwrap_or(0)..].to_vec();
    answer.with("Docker-Content-Digest", name)
}

fn upload(
    state: &mut State,
    request: &Incoming,
    repository: &str,
    address: SocketAddr,
    fault: Option<&Fault>,
) -> Answer {
    let field = |name: &str| {
        request
            .query
            .get(name)
            .and_then(|values| values.first())
            .cloned()
    };
    if request.method == "PUT" {
        let wanted = field("digest").unwrap_or_default();
        if digest(&request.body) != wanted {
            return Answer::error(400, "DIGEST_INVALID");
        }
        state.blobs.insert(wanted.clone(), request.body.clone());
        state.links.insert((repository.to_owned(), wanted));
        return Answer::new(201);
    }
    if let (Some(mount), Some(from)) = (field("mount"), field("from"))
        && !matches!(fault, Some(Fault::MountRefused))
        && state.links.contains(&(from, mount.clone()))
    {
        state.links.insert((repository.to_owned(), mount));
        return Answer::new(201);
    }
    state.count += 1;
    let path = format!("/v2/{repository}/blobs/uploads/{}?state=x", state.count);
    match fault {
        Some(Fault::NoLocation) => Answer::new(202),
        Some(Fault::RelativeLocation) => Answer::new(202).with("Location", path),
        _ => Answer::new(202).with("Location", format!("http://{address}{path}")),
    }
}
