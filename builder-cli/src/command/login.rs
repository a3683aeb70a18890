//! `rbuild login` and `rbuild logout`.

use std::io::{BufRead as _, Read as _, Write as _};

use builder_core::event::Silent;
use builder_core::interrupt::Interrupt;
use builder_core::reference::Reference;
use builder_core::registry::retry::SystemClock;
use builder_core::registry::{Credentials, Registry, Secret};
use builder_core::{Error, ErrorKind, Result};

use crate::environment::Environment;
use crate::flags::LoginFlags;
use crate::{credentials, network};

/// A password longer than this is something else.
const MAX_PASSWORD: u64 = 64 << 10;

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Asks the registry, and keeps the credentials if it takes them.
pub(crate) fn login(
    flags: &LoginFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let (registry, image) = target(flags.registry.as_deref())?;
    let username = match &flags.username {
        Some(username) => username.clone(),
        None if flags.password_stdin => {
            return Err(usage("--password-stdin needs the user's name beside it")
                .with_help("write `rbuild login -u USER --password-stdin REGISTRY`"));
        }
        None => ask_for_user()?,
    };
    if username.is_empty() || username.contains(':') {
        return Err(usage("the user name is empty or holds a `:`"));
    }
    let password = password(flags)?;
    let transport = network::transport(environment, interrupt)?;
    let access = network::registries(&flags.registries, environment, interrupt)?;
    let given = Credentials {
        secret: Secret::Password {
            username: username.clone(),
            password: password.clone(),
        },
        source: "this login".to_owned(),
    };
    let (clock, find) = (SystemClock::default(), |_: &Reference| Some(given.clone()));
    let client = Registry::new(
        &*transport,
        &clock,
        &find,
        &access.options,
        &Silent,
        interrupt,
    );
    client.check_login(&image)?;
    let kept = credentials::login(environment, &registry, &username, &password, interrupt)?;
    say(&format!(
        "logged in to {registry}; the credentials are in {kept}"
    ));
    if let Some(found) = credentials::Finder::new(environment, interrupt).find(&image)
        && found.secret != given.secret
    {
        say(&format!(
            "warning: {} comes first and has other credentials for {registry}",
            found.source
        ));
    }
    Ok(())
}

/// Forgets the credentials for a registry.
pub(crate) fn logout(
    registry: Option<&str>,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let (registry, _) = target(registry)?;
    match credentials::logout(environment, &registry, interrupt)? {
        Some(kept) => say(&format!("logged out of {registry}: removed from {kept}")),
        None => say(&format!("not logged in to {registry}")),
    }
    Ok(())
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Host and port of what was typed, which may be a URL; and an image of that registry.
fn target(typed: Option<&str>) -> Result<(String, Reference)> {
    let typed = typed.unwrap_or("docker.io");
    let rest = typed.split_once("://").map_or(typed, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let image: Reference = format!("{host}/rbuild/login").parse().map_err(|_| {
        usage(format!("`{typed}` is no registry")).with_help("write `HOST` or `HOST:PORT`")
    })?;
    if image.registry() != host && host != "index.docker.io" {
        return Err(usage(format!("`{typed}` is no registry"))
            .with_help("a registry has a `.` or a port in its name, or is `localhost`"));
    }
    Ok((image.registry().to_owned(), image))
}

fn ask_for_user() -> Result<String> {
    let _ = write!(std::io::stderr().lock(), "Username: ");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| usage("the user name can't be read").with_source(error))?;
    Ok(line.trim().to_owned())
}

fn password(flags: &LoginFlags) -> Result<String> {
    if let Some(password) = &flags.password {
        if flags.password_stdin {
            return Err(usage("-p and --password-stdin exclude each other"));
        }
        say("warning: a password on the command line is seen by others; use --password-stdin");
        return Ok(password.clone());
    }
    let unreadable = |error| usage("the password can't be read").with_source(error);
    let stdin = std::io::stdin();
    let mut text = String::new();
    if flags.password_stdin {
        let limited = stdin.lock().take(MAX_PASSWORD);
        let mut limited = limited;
        limited.read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let _silence = Silence::begin().ok_or_else(|| {
            usage("standard input is no terminal to ask for a password")
                .with_help("send it there: `rbuild login -u USER --password-stdin REGISTRY`")
        })?;
        let _ = write!(std::io::stderr().lock(), "Password: ");
        stdin.lock().read_line(&mut text).map_err(unreadable)?;
        say("");
    }
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(usage("the password is empty")
            .with_help("in CI, check that the variable which holds it is set for this branch"));
    }
    Ok(password.to_owned())
}

/// What is typed is not shown while this lives.
struct Silence(rustix::termios::Termios);

impl Silence {
    fn begin() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
