//! Flags about RUN -> what the library takes: secrets, agents, hosts, isolation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use builder_core::Result;
use builder_core::build::request::{RunOptions, Secret, SshSource};
use builder_core::plan::step::RunNetwork;
use builder_core::sandbox::choose::{RunIds, RunMode};

use super::{limits, usage};
use crate::environment::Environment;
use crate::flags::run::{IdsFlag, Mode, ModeFlags, RunFlags};

/// No secret is larger, as in BuildKit: 500 KiB.
const SECRET_LIMIT: u64 = 500 * 1024;

/// Everything about RUN.
pub(super) fn options(flags: &RunFlags, environment: &Environment) -> Result<RunOptions> {
    let (mode, ids) = isolation(&flags.mode);
    Ok(RunOptions {
        sandbox_program: environment.program.clone(),
        mode,
        ids,
        network: network(flags.network.as_deref())?,
        hosts: flags
            .add_host
            .iter()
            .map(|host| add_host(host))
            .collect::<Result<_>>()?,
        limits: limits::limits(flags.shm_size.as_deref(), &flags.ulimit)?,
        secrets: secrets(&flags.secret, environment)?,
        ssh: agents(&flags.ssh, environment)?,
    })
}

/// `--run-mode` and `--run-ids`.
pub(crate) fn isolation(flags: &ModeFlags) -> (RunMode, RunIds) {
    let mode = match flags.run_mode {
        Mode::Auto => RunMode::Auto,
        Mode::Userns => RunMode::Userns,
        Mode::Paths => RunMode::Paths,
        Mode::Chroot => RunMode::Chroot,
        Mode::None => RunMode::None,
    };
    let ids = match flags.run_ids {
        IdsFlag::Auto => RunIds::Auto,
        IdsFlag::Single => RunIds::Single,
        IdsFlag::Range => RunIds::Range,
    };
    (mode, ids)
}

pub(super) fn network(given: Option<&str>) -> Result<RunNetwork> {
    match given {
        None | Some("default") => Ok(RunNetwork::Default),
        Some("host") => Ok(RunNetwork::Host),
        Some("none") => Ok(RunNetwork::None),
        Some(other) => Err(usage(format!(
            "--network=`{other}` is unknown: rbuild makes no networks"
        ))
        .with_help("write default, host or none")),
    }
}

pub(super) fn add_host(given: &str) -> Result<(String, IpAddr)> {
    let wrong = || {
        usage(format!("--add-host `{given}` is no host and address"))
            .with_help("write `--add-host NAME:ADDRESS`, such as `db:10.0.0.7`")
    };
    let (name, address) = given
        .split_once('=')
        .or_else(|| given.split_once(':'))
        .ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong());
    }
    // RUN has this machine's own network: the way to the host is the loopback.
    let address = if address == "host-gateway" {
        "127.0.0.1"
    } else {
        address
    };
    let address = address.parse().map_err(|_| wrong())?;
    Ok((name.to_owned(), address))
}

/// `id=ID[,src=FILE][,env=NAME][,type=file|env]`; values are read now, so that one that can't be is told early.
fn secrets(given: &[String], environment: &Environment) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for spec in given {
        let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
        let fields = super::fields::split("--secret", spec)?;
        for field in &fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key.to_lowercase().as_str() {
                "id" => id = Some(value),
                "src" | "source" => source = Some(value),
                "env" => variable = Some(value),
                "type" if matches!(value, "file" | "env") => kind = Some(value),
                _ => {
                    return Err(
                        usage(format!("--secret: `{key}` is unknown, or its value is"))
                            .with_help("write `id=ID,src=FILE` or `id=ID,env=NAME`"),
                    );
                }
            }
        }
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err(usage("--secret has no `id`").with_help("write `id=ID,src=FILE`"));
        };
        if kind == Some("env") && variable.is_none() {
            variable = source.take();
        }
        let value = match (source, variable) {
            (Some(file), _) => from_file(id, &environment.directory.join(file))?,
            (None, Some(name)) => from_variable(id, name, environment)?,
            // As in Docker: a variable of the secret's name, else a file.
            (None, None) => match environment.path(id) {
                Some(_) => from_variable(id, id, environment)?,
                None => from_file(id, &environment.directory.join(id))?,
            },
        };
        secrets.insert(id.to_owned(), value);
    }
    Ok(secrets)
}

fn from_file(id: &str, path: &Path) -> Result<Secret> {
    let shown = path.display();
    let known = std::fs::metadata(path).map_err(|error| {
        usage(format!("--secret `{id}`: `{shown}` can't be read")).with_source(error)
    })?;
    if known.len() > SECRET_LIMIT {
        return Err(
            usage(format!("--secret `{id}`: `{shown}` is larger than 500 KiB"))
                .with_help("use a bind mount for files of this size"),
        );
    }
    std::fs::read(path).map(Secret).map_err(|error| {
        usage(format!("--secret `{id}`: `{shown}` can't be read")).with_source(error)
    })
}

fn from_variable(id: &str, name: &str, environment: &Environment) -> Result<Secret> {
    let value = environment.variables.get(std::ffi::OsStr::new(name));
    let value = value.ok_or_else(|| {
        usage(format!("--secret `{id}`: the variable `{name}` is not set"))
            .with_help("set it, or give a file with `src=`")
    })?;
    Ok(Secret(
        std::os::unix::ffi::OsStrExt::as_bytes(value.as_os_str()).to_vec(),
    ))
}

/// `default`, `ID`, `ID=SOCKET` or `ID=KEY[,KEY]`.
fn agents(given: &[String], environment: &Environment) -> Result<BTreeMap<String, SshSource>> {
    let mut agents = BTreeMap::new();
    for spec in given {
        let (id, paths) = spec.split_once('=').unwrap_or((spec, ""));
        let source = if paths.is_empty() {
            let socket = environment.path("SSH_AUTH_SOCK").ok_or_else(|| {
                usage(format!(
                    "--ssh `{id}`: no agent is running, because `SSH_AUTH_SOCK` is not set"
                ))
                .with_help(
                    "start one (`eval $(ssh-agent)`), or name a key file (`--ssh default=KEY`)",
                )
            })?;
            SshSource::Agent(socket.to_owned())
        } else {
            named_agent(id, paths, environment)?
        };
        agents.insert(id.to_owned(), source);
    }
    Ok(agents)
}

fn named_agent(id: &str, paths: &str, environment: &Environment) -> Result<SshSource> {
    let mut keys = Vec::new();
    for path in paths.split(',') {
        let path = environment.directory.join(path);
        let found = std::fs::metadata(&path).map_err(|error| {
            usage(format!("--ssh `{id}`: `{}` can't be read", path.display())).with_source(error)
        })?;
        if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
            return Ok(SshSource::Agent(path));
        }
        keys.push(path);
    }
    Ok(SshSource::Keys(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_two_spellings() {
        for (given, expected) in [
            ("db:10.0.0.7", Some(("db", "10.0.0.7"))),
            ("db=10.0.0.7", Some(("db", "10.0.0.7"))),
            ("six:::1", Some(("six", "::1"))),
            ("six=[::1]", Some(("six", "::1"))),
            ("db", None),
            ("db:", None),
            (":1.2.3.4", None),
            ("db:host-gateway", Some(("db", "127.0.0.1"))),
        ] {
            let found = add_host(given).ok();
            let expected =
                expected.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
            assert_eq!(found, expected, "{given}");
        }
    }
}
