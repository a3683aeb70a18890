//! Keeping and forgetting credentials: in the file that Docker's tools read, or by the helper that it names.
//!
//! The file is replaced as a whole, readable by its owner alone; entries for other registries and settings that rbuild
//! doesn't know stay.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use builder_core::interrupt::Interrupt;
use builder_core::registry::base64;
use builder_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::document::{Document, server};
use super::helper;
use crate::environment::Environment;

/// Where something was kept or forgotten, for people.
pub(crate) type Kept = String;

/// Keeps a user's password for a registry.
pub(crate) fn login(
    environment: &Environment,
    registry: &str,
    username: &str,
    password: &str,
    interrupt: &Interrupt,
) -> Result<Kept> {
    let path = file(environment)?;
    let mut document = read(&path)?;
    let chosen = document.helper(registry).or_else(|| document.store());
    if let Some(program) = chosen.map(str::to_owned) {
        let entry = (server(registry), username, password);
        let kept = helper::store(&program, entry, environment, interrupt);
        kept.map_err(|problem| failed(problem, &path))?;
        document.set(registry, json!({}));
        write(&path, &document)?;
        return Ok(format!("the credential helper `{program}`"));
    }
    let auth = base64(format!("{username}:{password}").as_bytes());
    document.set(registry, json!({ "auth": auth }));
    write(&path, &document)?;
    Ok(format!("`{}`", path.display()))
}

/// Forgets a registry; none where nothing was kept.
pub(crate) fn logout(
    environment: &Environment,
    registry: &str,
    interrupt: &Interrupt,
) -> Result<Option<Kept>> {
    let path = file(environment)?;
    let mut document = read(&path)?;
    let chosen = document.helper(registry).or_else(|| document.store());
    if let Some(program) = chosen.map(str::to_owned) {
        helper::erase(&program, server(registry), environment, interrupt)
            .map_err(|problem| failed(problem, &path))?;
    }
    if !document.has(registry) {
        return Ok(None);
    }
    document.remove(registry);
    write(&path, &document)?;
    Ok(Some(format!("`{}`", path.display())))
}

/// The file that is written: `REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`.
fn file(environment: &Environment) -> Result<PathBuf> {
    let named = environment.path("REGISTRY_AUTH_FILE").map(Path::to_owned);
    named
        .or_else(|| environment.docker_config())
        .map(|path| environment.directory.join(path))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "there is no place for credentials: HOME is not set",
            )
            .with_help("name a directory in DOCKER_CONFIG, or a file in REGISTRY_AUTH_FILE")
        })
}

fn failed(problem: String, path: &Path) -> Error {
    Error::new(ErrorKind::Registry, problem).with_help(format!(
        "install it, or take `credsStore` and `credHelpers` out of `{}`",
        path.display()
    ))
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("credentials can't be kept in `{}`", path.display());
    move |error| {
        Error::new(ErrorKind::Output, message)
            .with_help("name another directory in DOCKER_CONFIG")
            .with_source(error)
    }
}

fn read(path: &Path) -> Result<Document> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Document::empty()),
        Err(error) => return Err(io_error(path)(error)),
    };
    Document::parse(&bytes).map_err(|problem| {
        let message = format!("`{}` can't be changed: {problem}", path.display());
        Error::new(ErrorKind::Usage, message).with_help("repair it or move it away")
    })
}

/// Replaces the file behind any links in one step.
fn write(path: &Path, document: &Document) -> Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(io_error(path))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(&document.to_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, path)
        });
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written.map_err(io_error(path))
}
