//! Credential helpers: programs `docker-credential-NAME` that answer `get`, `store` and `erase`.
//!
//! Follows the protocol of docker-credential-helpers: the request on standard input, JSON on standard output.

#![expect(
    clippy::disallowed_methods,
    reason = "a credential helper is a program, and this is where it is called"
)]

use std::process::{Command, Stdio};

use builder_core::interrupt::Interrupt;
use builder_core::program::{self, Finished, Problem};
use builder_core::registry::{Secret, clean};
use serde_json::{Value, json};

use crate::environment::Environment;

/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

/// What a helper has for a server; none where it has nothing. An error is a sentence without its secret.
pub(super) fn get(
    name: &str,
    server: &str,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Option<Secret>, String> {
    let answer = call(name, "get", server.as_bytes(), environment, interrupt)?;
    if !answer.success {
        let said = String::from_utf8_lossy(&answer.stdout).to_lowercase();
        if said.contains("not found") || said.contains("no credentials") {
            return Ok(None);
        }
        return Err(format!(
            "the credential helper `docker-credential-{name}` failed for `{server}`{}",
            words(&answer)
        ));
    }
    let found: Value = serde_json::from_slice(&answer.stdout).map_err(|_| {
        format!("the credential helper `docker-credential-{name}` answered with no JSON")
    })?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let (username, password) = (text("Username"), text("Secret"));
    Ok(match (username.as_str(), password.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, _) => Some(Secret::IdentityToken(password)),
        _ => Some(Secret::Password { username, password }),
    })
}

/// A helper's own words about a failure, on one line, to stand behind a sentence. One that failed may still have printed
/// what it keeps: what looks like its answer is left out.
fn words(answer: &Finished) -> String {
    [&answer.stderr, &answer.stdout]
        .into_iter()
        .filter(|bytes| !bytes.contains(&b'{') && !bytes.is_empty())
        .find_map(|bytes| clean(&String::from_utf8_lossy(bytes)))
        .map_or_else(String::new, |words| format!(": {words}"))
}

/// Gives a helper something to keep: for a server, a user's name and password.
pub(super) fn store(
    name: &str,
    (server, username, password): (&str, &str, &str),
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), String> {
    let entry = json!({ "ServerURL": server, "Username": username, "Secret": password });
    let entry = entry.to_string();
    well(name, "store", entry.as_bytes(), environment, interrupt)
}

/// Makes a helper forget a server.
pub(super) fn erase(
    name: &str,
    server: &str,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), String> {
    well(name, "erase", server.as_bytes(), environment, interrupt)
}

fn well(
    name: &str,
    verb: &str,
    input: &[u8],
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), String> {
    if call(name, verb, input, environment, interrupt)?.success {
        return Ok(());
    }
    // It was given a secret, and may repeat it: none of its words are shown.
    Err(format!(
        "the credential helper `docker-credential-{name}` refused to {verb}"
    ))
}

fn call(
    name: &str,
    verb: &str,
    input: &[u8],
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Finished, String> {
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(format!("`{name}` is no name of a credential helper"));
    }
    let mut command = Command::new(&program);
    command
        .arg(verb)
        .env_clear()
        .envs(&environment.variables)
        .stderr(Stdio::piped());
    program::run(&mut command, input, interrupt).map_err(|problem| match problem {
        Problem::Start(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("the credential helper `{program}` is not on the PATH")
        }
        Problem::Start(error) => {
            format!("the credential helper `{program}` can't be started: {error}")
        }
        Problem::Interrupted | Problem::TooMuch => {
            format!("the credential helper `{program}` was ended: {problem}")
        }
    })
}
