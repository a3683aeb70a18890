//! Credential helpers: programs `docker-credential-NAME` that answer `get`, `store` and `erase`.
//!
//! Follows the protocol of docker-credential-helpers: the request on standard input, JSON on standard output.

#![expect(
    clippy::disallowed_methods,
    reason = "a credential helper is a program, and this is where it is called"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use builder_core::registry::Secret;
use serde_json::{Value, json};

use crate::environment::Environment;

/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

/// What a helper has for a server; none where it has nothing. An error is a sentence without its secret.
pub(super) fn get(
    name: &str,
    server: &str,
    environment: &Environment,
) -> Result<Option<Secret>, String> {
    let (well, output) = call(name, "get", server.as_bytes(), environment)?;
    if !well {
        let said = String::from_utf8_lossy(&output).to_lowercase();
        if said.contains("not found") || said.contains("no credentials") {
            return Ok(None);
        }
        return Err(format!(
            "the credential helper `docker-credential-{name}` failed for `{server}`"
        ));
    }
    let answer: Value = serde_json::from_slice(&output).map_err(|_| {
        format!("the credential helper `docker-credential-{name}` answered with no JSON")
    })?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let (username, password) = (text("Username"), text("Secret"));
    Ok(match (username.as_str(), password.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, _) => Some(Secret::IdentityToken(password)),
        _ => Some(Secret::Password { username, password }),
    })
}

/// Gives a helper something to keep.
pub(super) fn store(
    name: &str,
    server: &str,
    username: &str,
    password: &str,
    environment: &Environment,
) -> Result<(), String> {
    let entry = json!({ "ServerURL": server, "Username": username, "Secret": password });
    well(name, "store", entry.to_string().as_bytes(), environment)
}

/// Makes a helper forget a server.
pub(super) fn erase(name: &str, server: &str, environment: &Environment) -> Result<(), String> {
    well(name, "erase", server.as_bytes(), environment)
}

fn well(name: &str, verb: &str, input: &[u8], environment: &Environment) -> Result<(), String> {
    match call(name, verb, input, environment)? {
        (true, _) => Ok(()),
        (false, _) => Err(format!(
            "the credential helper `docker-credential-{name}` refused to {verb}"
        )),
    }
}

fn call(
    name: &str,
    verb: &str,
    input: &[u8],
    environment: &Environment,
) -> Result<(bool, Vec<u8>), String> {
    let program = format!("docker-credential-{name}");
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("the credential helper `{program}` is not on the PATH")
        }
        _ => format!("the credential helper `{program}` can't be started: {error}"),
    };
    if name.contains('/') {
        return Err(format!("`{name}` is no name of a credential helper"));
    }
    let mut child = Command::new(&program)
        .arg(verb)
        .env_clear()
        .envs(&environment.variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that reads nothing says so with its status.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok((output.status.success(), output.stdout))
}
