//! A registry on the loopback address that misbehaves on demand. It shares no code with the client.
//!
//! Speaks as much of the OCI distribution specification as a client needs: manifests, blobs with ranges, uploads in one
//! request, mounts, and a token server beside them.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test ends at the first surprise"
)]

mod answers;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::serve;

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
    /// The body comes packed with gzip, though nobody asked.
    Zipped,
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
    images_only: bool,
    /// What nobody may see is not there: the challenge is at `/v2/` alone.
    hides: bool,
    /// A body that is longer is refused, as by a proxy in front.
    limit: usize,
    /// Uploads in pieces, by their path.
    sessions: BTreeMap<String, Vec<u8>>,
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
            images_only: false,
            hides: false,
            limit: usize::MAX,
            sessions: BTreeMap::new(),
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

    /// From now on manifests are refused that name anything but what images are made of.
    pub fn images_only(&self) {
        self.state().images_only = true;
    }

    /// What nobody may see is not there, and the challenge is at `/v2/` alone.
    pub fn hide(&self, hides: bool) {
        self.state().hides = hides;
    }

    /// Bodies that are longer than so many bytes are refused with 413.
    pub fn limit_bodies(&self, limit: usize) {
        self.state().limit = limit;
    }

    /// A token that is good for every request.
    pub fn accept_token(&self, token: &str) {
        self.state().tokens.insert(token.to_owned(), u32::MAX);
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

    /// Puts a blob into a repository under a digest of another algorithm.
    pub fn put_blob_as(&self, repository: &str, digest: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.blobs.insert(digest.to_owned(), bytes.to_vec());
        let link = (repository.to_owned(), digest.to_owned());
        state.links.insert(link);
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
