//! Which engine an image is loaded into: the one that is named, Docker's where it is configured or there, podman's,
//! containerd's.
//!
//! Docker's endpoint is found as its own client does: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of its
//! `config.json`, the default socket.

use std::path::{Path, PathBuf};

use builder_core::digest::Digest;
use builder_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::environment::Environment;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Whatever is there.
    Any,
    /// Docker, podman or containerd.
    Kind(Kind),
    /// A context of Docker's.
    Context(String),
}

/// The kinds of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
    Containerd,
}

/// An engine that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// By its API.
    Docker(Endpoint),
    /// By a program.
    Program(Program),
}

/// Where Docker's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
}

/// A program that hands images on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(super) kind: ProgramKind,
    pub(super) path: PathBuf,
    /// Words before all others: a context, a namespace.
    pub(super) words: Vec<String>,
}

/// How a program is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    /// `docker`, for endpoints over ssh and TLS.
    Docker,
    /// `podman`.
    Podman,
    /// `ctr`.
    Ctr,
}

impl Wish {
    /// Reads the value of `--load`; none for `--load=false`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value {
            "false" | "0" => None,
            "" | "true" | "1" => Some(Self::Any),
            "docker" => Some(Self::Kind(Kind::Docker)),
            "podman" => Some(Self::Kind(Kind::Podman)),
            "containerd" => Some(Self::Kind(Kind::Containerd)),
            name => Some(Self::Context(name.to_owned())),
        }
    }
}

impl Engine {
    /// What messages call it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Docker(endpoint) => format!("Docker at {}", endpoint.shown()),
            Self::Program(program) => match program.kind {
                ProgramKind::Docker => "Docker".to_owned(),
                ProgramKind::Podman => "podman".to_owned(),
                ProgramKind::Ctr => format!("containerd ({})", program.words.join(" ")),
            },
        }
    }
}

impl Endpoint {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(address) => format!("tcp://{address}"),
        }
    }
}

fn missing(message: impl Into<String>, help: &str) -> Error {
    Error::new(ErrorKind::Output, message).with_help(help)
}

/// The engine; none where nothing is there and nothing was named.
pub(super) fn choose(wish: &Wish, environment: &Environment) -> Result<Option<Engine>> {
    let host = environment
        .text("DOCKER_HOST")
        .filter(|host| !host.is_empty());
    match wish {
        Wish::Context(name) => {
            return of_context(name, environment)?.map(Some).ok_or_else(|| {
                let message =
                    format!("Docker's context `{name}` is the default one, and no engine is there");
                missing(
                    message,
                    "start Docker, or name another context, `podman` or `containerd`",
                )
            });
        }
        Wish::Any | Wish::Kind(Kind::Docker) => {
            if let Some(found) = docker(host, environment)? {
                return Ok(Some(found));
            }
        }
        Wish::Kind(_) => {}
    }
    if let Wish::Any | Wish::Kind(Kind::Podman) = wish
        && let Some(path) = find("podman", environment)
    {
        return Ok(Some(Engine::Program(Program {
            kind: ProgramKind::Podman,
            path,
            words: Vec::new(),
        })));
    }
    if let Wish::Any | Wish::Kind(Kind::Containerd) = wish
        && let Some(program) = ctr(environment, *wish == Wish::Any)
    {
        return Ok(Some(Engine::Program(program)));
    }
    match wish {
        Wish::Kind(Kind::Docker) => Err(missing(
            "Docker is not here: there is no socket of its engine",
            "start it, or say where it is with DOCKER_HOST",
        )),
        Wish::Kind(Kind::Podman) => Err(missing("podman is not on the PATH", "install it")),
        Wish::Kind(Kind::Containerd) => Err(missing(
            "containerd's `ctr` is not on the PATH",
            "install it",
        )),
        _ => Ok(None),
    }
}

/// Docker's engine: as it is configured, or at a socket that is there.
fn docker(host: Option<&str>, environment: &Environment) -> Result<Option<Engine>> {
    if let Some(host) = host {
        return of_host(host, &[], environment).map(Some);
    }
    let named = environment.text("DOCKER_CONTEXT").map(str::to_owned);
    let context = named.filter(|name| !name.is_empty()).or_else(|| {
        let bytes = std::fs::read(environment.docker_config()?).ok()?;
        let config: Value = serde_json::from_slice(&bytes).ok()?;
        Some(config["currentContext"].as_str()?.to_owned())
    });
    of_context(context.as_deref().unwrap_or("default"), environment)
}

/// The engine of a context; none for the default one where its socket isn't there.
fn of_context(name: &str, environment: &Environment) -> Result<Option<Engine>> {
    if name == "default" {
        let own = environment
            .path("XDG_RUNTIME_DIR")
            .map(|folder| folder.join("docker.sock"));
        let usual = Some(PathBuf::from("/var/run/docker.sock"));
        let there = [usual, own].into_iter().flatten();
        let there = there.filter(|path| is_socket(path)).map(Endpoint::Unix);
        return Ok(there.map(Engine::Docker).next());
    }
    let folder = environment.docker_config();
    let folder = folder
        .as_deref()
        .and_then(Path::parent)
        .unwrap_or(Path::new("."));
    let meta = folder
        .join("contexts/meta")
        .join(Digest::of(name.as_bytes()).hex())
        .join("meta.json");
    let bytes = std::fs::read(&meta).map_err(|error| {
        let message =
            format!("there is no engine and no context of Docker's that is called `{name}`");
        missing(
            message,
            "write --load=docker, podman, containerd, or a name that `docker context ls` lists",
        )
        .with_source(error)
    })?;
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let endpoint = &document["Endpoints"]["docker"];
    let host = endpoint["Host"].as_str().ok_or_else(|| {
        let message = format!("Docker's context `{name}` names no host of an engine");
        missing(message, "make it anew with `docker context create`")
    })?;
    let words = ["--context".to_owned(), name.to_owned()];
    if folder
        .join("contexts/tls")
        .join(Digest::of(name.as_bytes()).hex())
        .is_dir()
    {
        return by_program(&words, host, environment).map(Some);
    }
    of_host(host, &words, environment).map(Some)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.metadata()
        .is_ok_and(|found| found.file_type().is_socket())
}

/// The engine at a URL as `DOCKER_HOST` has it.
fn of_host(host: &str, words: &[String], environment: &Environment) -> Result<Engine> {
    let tls =
        environment.path("DOCKER_TLS_VERIFY").is_some() || environment.path("DOCKER_TLS").is_some();
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(Engine::Docker(Endpoint::Unix(PathBuf::from(path))));
    }
    let plain = host
        .strip_prefix("tcp://")
        .or_else(|| host.strip_prefix("http://"));
    match plain {
        Some(address) if !tls => {
            let address = address.trim_end_matches('/');
            let has_port = address
                .rsplit(']')
                .next()
                .is_some_and(|rest| rest.contains(':'));
            let address = if has_port {
                address.to_owned()
            } else {
                format!("{address}:2375")
            };
            Ok(Engine::Docker(Endpoint::Tcp(address)))
        }
        _ => by_program(words, host, environment),
    }
}

/// What only Docker's own client speaks: ssh, and TLS with certificates of its own.
fn by_program(words: &[String], host: &str, environment: &Environment) -> Result<Engine> {
    let path = find("docker", environment).ok_or_else(|| {
        let message = format!("Docker's engine at `{host}` is reached by its own client alone");
        missing(
            message,
            "install `docker`, or name a `unix://` or `tcp://` address",
        )
    })?;
    Ok(Engine::Program(Program {
        kind: ProgramKind::Docker,
        path,
        words: words.to_vec(),
    }))
}

/// containerd's client; where nobody named it, only where an engine is there for it.
fn ctr(environment: &Environment, only_running: bool) -> Option<Program> {
    let path = find("ctr", environment)?;
    let address = environment
        .text("CONTAINERD_ADDRESS")
        .unwrap_or("/run/containerd/containerd.sock");
    if only_running && !is_socket(Path::new(address)) {
        return None;
    }
    let namespace = environment
        .text("CONTAINERD_NAMESPACE")
        .unwrap_or("default");
    Some(Program {
        kind: ProgramKind::Ctr,
        path,
        words: vec!["-n".to_owned(), namespace.to_owned()],
    })
}

/// A program of the PATH that is not rbuild itself under that name.
fn find(name: &str, environment: &Environment) -> Option<PathBuf> {
    let own = environment
        .program
        .as_deref()
        .and_then(|own| own.canonicalize().ok());
    let path = environment.path("PATH")?;
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && (own.is_none() || file.canonicalize().ok() != own))
}
