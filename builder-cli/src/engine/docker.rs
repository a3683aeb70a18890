//! Docker's engine by its API: `GET /images/ID/json`, `POST /images/ID/tag`, `POST /images/load`.

use std::fs::File;
use std::os::fd::OwnedFd;

use builder_core::output::OutputKind;
use builder_core::reference::Reference;
use builder_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::choose::Endpoint;
use super::http::{Answer, ask};
use super::{Image, refused};

/// Gives the engine what it lacks; gives whether that was nothing but names.
pub(super) fn hand_over(endpoint: &Endpoint, image: &Image<'_>) -> Result<bool> {
    // Engines of old know an image by its config, those on containerd by its manifest.
    for id in [&image.id, &image.digest] {
        let answer = call(endpoint, image, "GET", &format!("/images/{id}/json"))?;
        if answer.status != 200 {
            continue;
        }
        let known: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        return name(endpoint, image, id, &known).map(|()| true);
    }
    load(endpoint, image)?;
    Ok(false)
}

/// Gives an image of the engine the names that it lacks there.
fn name(endpoint: &Endpoint, image: &Image<'_>, id: &str, known: &Value) -> Result<()> {
    let has = |name: &Reference| {
        let tags = known["RepoTags"].as_array().into_iter().flatten();
        let tags = tags.filter_map(Value::as_str);
        tags.filter_map(|tag| tag.parse::<Reference>().ok())
            .any(|tag| tag == *name)
    };
    for name in image.names.iter().filter(|name| !has(name)) {
        let tag = name.tag().unwrap_or("latest");
        let full = name.to_string();
        let repository = full.strip_suffix(&format!(":{tag}")).unwrap_or(&full);
        let path = format!("/images/{id}/tag?repo={}&tag={tag}", escaped(repository));
        let answer = call(endpoint, image, "POST", &path)?;
        if answer.status >= 300 {
            return Err(refused(&endpoint.shown(), &said(&answer)));
        }
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace('/', "%2F")
        .replace(':', "%3A")
}

fn call(endpoint: &Endpoint, image: &Image<'_>, method: &str, path: &str) -> Result<Answer> {
    let answer = ask(endpoint, method, path, None, image.interrupt);
    answer.map_err(|error| unreachable(endpoint, error))
}

fn unreachable(endpoint: &Endpoint, error: std::io::Error) -> Error {
    let message = format!("Docker's engine can't be reached at {}", endpoint.shown());
    let help = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "join the group that may use the socket, or use `--load=podman`"
        }
        _ => "start it, or correct DOCKER_HOST, DOCKER_CONTEXT or Docker's current context",
    };
    Error::new(ErrorKind::Output, message)
        .with_help(help)
        .with_source(error)
}

/// Sends the archive as it is made.
fn load(endpoint: &Endpoint, image: &Image<'_>) -> Result<()> {
    let trouble = |error| unreachable(endpoint, error);
    let (reader, writer) = std::io::pipe().map_err(trouble)?;
    let (written, answer) = std::thread::scope(|scope| {
        let writer = File::from(OwnedFd::from(writer));
        let written = scope.spawn(move || image.write(OutputKind::Oci, writer));
        let body = Some(File::from(OwnedFd::from(reader)));
        let answer = ask(
            endpoint,
            "POST",
            "/images/load?quiet=1",
            body,
            image.interrupt,
        );
        let written = written.join();
        (
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            answer,
        )
    });
    image.interrupt.check()?;
    let answer = match (written, answer) {
        // Where the engine has said why it stopped reading, that is the reason.
        (_, Ok(answer)) if answer.status >= 300 => {
            return Err(refused(&endpoint.shown(), &said(&answer)));
        }
        (Err(error), _) => return Err(error),
        (Ok(()), answer) => answer.map_err(trouble)?,
    };
    match error_in(&answer.body) {
        Some(problem) => Err(refused(&endpoint.shown(), &problem)),
        None => Ok(()),
    }
}

/// The words of a refusal.
fn said(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match document["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("status {}", answer.status),
    }
}

/// A load that fails in the middle has the status of one that doesn't, and says so in one of its lines.
fn error_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let mut lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find_map(|line| {
        let detail = line["errorDetail"]["message"].as_str();
        detail.or(line["error"].as_str()).map(str::to_owned)
    })
}
