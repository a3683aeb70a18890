//! Flags of `run` and `shell` -> a session and the request that leads to it.

use std::path::{Path, PathBuf};

use builder_core::Result;
use builder_core::build::request::{BuildRequest, ContextSource, PullPolicy, RunOptions};
use builder_core::build::session::{Place, Session, SessionCommand, SessionMount};
use builder_core::catalog;
use builder_core::interrupt::Interrupt;
use builder_core::reference::Reference;
use builder_core::source::SourceFile;
use builder_core::store::Store;

use super::{docker, fields, limits, run, usage};
use crate::environment::Environment;
use crate::flags::session::{PullWhen, RunImageFlags, WorldFlags};
use crate::network;

/// Where a static busybox may be.
const BUSYBOXES: [&str; 4] = [
    "/bin/busybox",
    "/usr/bin/busybox",
    "/usr/lib/busybox/busybox-static",
    "/busybox/busybox",
];

/// A session in this place.
pub(crate) fn session(
    place: Place,
    command: SessionCommand,
    world: &WorldFlags,
    environment: &Environment,
) -> Result<Session> {
    let workdir = world.workdir.as_deref();
    if let Some(path) = workdir.filter(|path| !path.starts_with('/')) {
        return Err(usage(format!("--workdir `{path}` is not absolute"))
            .with_help("write a path that begins with `/`"));
    }
    Ok(Session {
        place,
        command,
        env: variables(world, environment)?,
        user: world.user.clone(),
        workdir: workdir.map(str::to_owned),
        hostname: world.hostname.clone(),
        stop_signal: None,
        mounts: mounts(world, environment)?,
        read_only: world.read_only,
        keep: false,
        busybox: busybox(),
    })
}

/// A busybox of this machine that needs no libraries.
pub(crate) fn busybox() -> Option<PathBuf> {
    let mut paths = BUSYBOXES.iter().map(PathBuf::from);
    paths.find(|path| is_static(path))
}

/// Whether a program names no interpreter (ELF, `PT_INTERP`).
fn is_static(path: &Path) -> bool {
    use std::io::Read as _;
    let mut start = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(4096).read_to_end(&mut start));
    // The interpreter's path stands at the beginning of a program that has one.
    read.is_ok()
        && start.starts_with(b"\x7fELF")
        && !start
            .windows(7)
            .any(|bytes| bytes == b"/ld-lin" || bytes == b"/ld-mus")
}

/// The request of `run`: a file that has nothing but the image's name.
pub(crate) fn image_request(
    flags: &RunImageFlags,
    store: &Store,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<BuildRequest> {
    docker::refuse_run(&flags.docker)?;
    // What the store has may be named by a digest, or the beginning of one.
    let known = catalog::find(store, &flags.image).ok();
    let known = known.and_then(|found| {
        found
            .names
            .first()
            .cloned()
            .map(|first| found.name.unwrap_or(first))
    });
    let image = known.as_deref().unwrap_or(&flags.image);
    let image: Reference = image.parse().map_err(|error| {
        usage(format!("the image: {error}")).with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
    })?;
    let text = format!("FROM {}\n", image.familiar());
    let file = SourceFile::new("the command line", text);
    let mut request = BuildRequest::new(
        file,
        ContextSource::Empty { modified: None },
        environment.now,
    );
    let platform = flags.platform.as_deref().map(super::platform).transpose()?;
    request.platform = platform;
    request.threads = environment.processors.max(1);
    request.run = run_options(&flags.world, environment)?;
    request.pull = match flags.pull {
        PullWhen::Always => PullPolicy::Always,
        PullWhen::Missing => PullPolicy::Missing,
        PullWhen::Never => PullPolicy::Never,
    };
    let access = network::registries(&flags.world.registry, environment, interrupt)?;
    request.registry = Some(access);
    request.transport = Some(network::transport(environment, interrupt)?);
    let names: Vec<String> = flags.commit.iter().cloned().collect();
    request.references = super::references(&names)?;
    Ok(request)
}

/// How the command is executed.
pub(crate) fn run_options(world: &WorldFlags, environment: &Environment) -> Result<RunOptions> {
    let (mode, ids) = run::isolation(&world.mode);
    Ok(RunOptions {
        sandbox_program: environment.program.clone(),
        mode,
        ids,
        network: run::network(world.network.as_deref())?,
        hosts: world
            .add_host
            .iter()
            .map(|host| run::add_host(host))
            .collect::<Result<_>>()?,
        limits: limits::limits(world.shm_size.as_deref(), &world.ulimit)?,
        ..RunOptions::default()
    })
}

/// What `run` executes.
pub(crate) fn command(flags: &RunImageFlags) -> Result<SessionCommand> {
    let text = |word: &std::ffi::OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            usage(format!(
                "`{}` is no UTF-8, which a command must be",
                word.display()
            ))
        })
    };
    let entrypoint = flags.entrypoint.as_ref().map(|program| {
        let program = Some(program.clone()).filter(|program| !program.is_empty());
        program.into_iter().collect()
    });
    if flags.health {
        return Ok(SessionCommand::Health);
    }
    Ok(SessionCommand::Program {
        entrypoint,
        arguments: flags.command.iter().map(text).collect::<Result<_>>()?,
    })
}

/// The variables of the files, then those of the flags.
fn variables(world: &WorldFlags, environment: &Environment) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for path in &world.env_file {
        let path = environment.directory.join(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            usage(format!("--env-file `{}` can't be read", path.display())).with_source(error)
        })?;
        let lines = text.lines().map(str::trim_start);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            all.extend(variable("--env-file", line, environment)?);
        }
    }
    for given in &world.env {
        all.extend(variable("--env", given, environment)?);
    }
    Ok(all)
}

/// `NAME=VALUE`, or `NAME` for the value that it has here, if any.
fn variable(flag: &str, text: &str, environment: &Environment) -> Result<Option<(String, String)>> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, environment.text(text)),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(
            usage(format!("{flag}: `{text}` names no variable")).with_help("write NAME=VALUE")
        );
    }
    Ok(value.map(|value| (name.to_owned(), value.to_owned())))
}

fn mounts(world: &WorldFlags, environment: &Environment) -> Result<Vec<SessionMount>> {
    let mut all = Vec::new();
    for given in &world.volume {
        all.push(volume(given, environment)?);
    }
    for given in &world.mount {
        all.push(long_mount(given, environment)?);
    }
    for given in &world.tmpfs {
        all.push(tmpfs(given)?);
    }
    Ok(all)
}

/// `HOST:PATH[:OPTIONS]`
fn volume(given: &str, environment: &Environment) -> Result<SessionMount> {
    let wrong = |problem: &str| {
        usage(format!("--volume `{given}`: {problem}"))
            .with_help("write `HOST:PATH` or `HOST:PATH:ro`")
    };
    let mut parts = given.split(':');
    let (source, target, options) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target)) = (source, target) else {
        return Err(wrong(
            "it names no directory of this machine; what a command writes is thrown away anyway",
        ));
    };
    if parts.next().is_some() {
        return Err(wrong("it has too many parts"));
    }
    if !source.starts_with(['/', '.', '~']) {
        return Err(wrong(
            "it names a volume, and rbuild keeps none: name a directory, such as `./DIR`",
        ));
    }
    let mut read_only = false;
    for option in options.unwrap_or_default().split(',') {
        match option {
            "ro" => read_only = true,
            // Labels of SELinux, and Docker's consistency on other systems: nothing is labelled or copied here.
            "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            other => return Err(wrong(&format!("`{other}` is unknown"))),
        }
    }
    host(
        ("--volume", given),
        (source, target),
        read_only,
        environment,
    )
}

fn host(
    (flag, given): (&str, &str),
    (source, target): (&str, &str),
    read_only: bool,
    environment: &Environment,
) -> Result<SessionMount> {
    let home = environment.path("HOME");
    let source = match (source.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => environment.directory.join(source),
    };
    // Links on the way are what the caller named.
    let source = source.canonicalize().map_err(|error| {
        usage(format!(
            "{flag} `{given}`: `{}` can't be shown",
            source.display()
        ))
        .with_source(error)
        .with_help("make it first: nothing is made on this machine")
    })?;
    check_target(flag, target)?;
    Ok(SessionMount::Host {
        source,
        target: target.to_owned(),
        read_only,
    })
}

fn check_target(flag: &str, target: &str) -> Result<()> {
    if !target.starts_with('/') || target.trim_matches('/').is_empty() {
        return Err(usage(format!("{flag}: `{target}` is no place in the root"))
            .with_help("write a path that begins with `/`, below `/`"));
    }
    Ok(())
}

/// `type=bind,src=…,dst=…[,readonly]`, `type=tmpfs,dst=…[,tmpfs-size=…]`
fn long_mount(given: &str, environment: &Environment) -> Result<SessionMount> {
    let (mut kind, mut source, mut target) = (String::new(), None, None);
    let (mut read_only, mut size) = (false, None);
    for field in fields::split("--mount", given)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        match key {
            "type" => value.clone_into(&mut kind),
            "src" | "source" => source = Some(value.to_owned()),
            "dst" | "destination" | "target" => target = Some(value.to_owned()),
            "ro" | "readonly" if value == "true" => read_only = true,
            "ro" | "readonly" if value == "false" => read_only = false,
            "tmpfs-size" => size = Some(limits::memory("--mount tmpfs-size", value)?),
            _ => {
                return Err(usage(format!("--mount `{given}`: `{field}` is unknown"))
                    .with_help("keys are type, src, dst, readonly and tmpfs-size"));
            }
        }
    }
    let missing = || {
        usage(format!(
            "--mount `{given}` names no place: `dst` is missing"
        ))
    };
    let target = target.ok_or_else(missing)?;
    match (kind.as_str(), source) {
        ("bind", Some(source)) => host(
            ("--mount", given),
            (&source, &target),
            read_only,
            environment,
        ),
        ("tmpfs", None) => {
            check_target("--mount", &target)?;
            Ok(SessionMount::Tmpfs { target, size })
        }
        _ => Err(
            usage(format!("--mount `{given}` can't be honoured")).with_help(
                "write type=bind,src=HOST,dst=PATH or type=tmpfs,dst=PATH; rbuild keeps no volumes",
            ),
        ),
    }
}

/// `PATH[:OPTIONS]`
fn tmpfs(given: &str) -> Result<SessionMount> {
    let (target, options) = given.split_once(':').unwrap_or((given, ""));
    check_target("--tmpfs", target)?;
    let mut size = None;
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("size", text)) => size = Some(limits::memory("--tmpfs size", text)?),
            // So it is anyway.
            Some(("mode", "1777")) => {}
            None if matches!(option, "" | "rw" | "nosuid" | "nodev") => {}
            _ => {
                return Err(
                    usage(format!("--tmpfs `{given}`: `{option}` can't be honoured"))
                        .with_help("write `PATH` or `PATH:size=64m`"),
                );
            }
        }
    }
    Ok(SessionMount::Tmpfs {
        target: target.to_owned(),
        size,
    })
}
