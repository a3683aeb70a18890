//! The key of RUN: all that decides what the command finds, and what it may do.

use std::collections::BTreeMap;

use crate::build::keys::{Place, tokens};
use crate::cache::Key;
use crate::digest::Digest;
use crate::plan::lower::DEFAULT_HOSTNAME;
use crate::plan::step::{CopyFrom, RunMount, RunMountKind, RunNetwork, RunScript, RunStep};
use crate::sandbox::spec::{Limits, ResourceLimit};

/// What the command line gives to a RUN.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// The network that it has in the end.
    pub(crate) network: RunNetwork,
    /// The names of `--add-host`.
    pub(crate) hosts: &'a [String],
    /// `--shm-size` and `--ulimit`.
    pub(crate) limits: &'a Limits,
}

/// RUN, without the files of its mounts.
pub(crate) fn run(place: &Place<'_>, step: &RunStep, given: Given<'_>) -> Key {
    let RunStep {
        argv,
        scripts,
        // They are in `env`; the history shows them.
        args: _,
        env,
        // A proxy is how the network is reached, not what is found there.
        proxies: _,
        workdir,
        user,
        mounts,
        hostname,
        // It is part of `network`.
        network: _,
        insecure,
    } = step;
    let mut key = place.below();
    set_command(&mut key, argv);
    for (number, RunScript { name, content }) in scripts.iter().enumerate() {
        key.set(format!("script {number} {name}"), content.clone());
    }
    set_environment(&mut key, env);
    key.set("user", user.clone());
    key.set("workdir", workdir.clone());
    if hostname != DEFAULT_HOSTNAME {
        key.set("hostname", hostname.clone());
    }
    if given.network == RunNetwork::None {
        key.set("--network", "none");
    }
    if *insecure {
        key.set("--security", "insecure");
    }
    if !given.hosts.is_empty() {
        key.set("--add-host", given.hosts.join(" "));
    }
    set_limits(&mut key, given.limits);
    for (number, mount) in mounts.iter().enumerate() {
        key.set(format!("--mount {number}"), described(mount));
    }
    key
}

/// What the command may use: a program may ask, and behave accordingly.
fn set_limits(key: &mut Key, limits: &Limits) {
    let Limits {
        shm_size,
        resources,
    } = limits;
    if let Some(size) = shm_size {
        key.set("--shm-size", size.to_string());
    }
    for limit in resources {
        let ResourceLimit {
            resource,
            soft,
            hard,
        } = limit;
        let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |it| it.to_string());
        let values = format!("{}:{}", number(*soft), number(*hard));
        key.set(format!("--ulimit {}", resource.name()), values);
    }
}

/// What is started. No word of it can hold a NUL and be started; one that does must not look like two.
fn set_command(key: &mut Key, argv: &[String]) {
    key.set("command", argv.join("\0"));
    if argv.iter().any(|word| word.contains('\0')) {
        let lengths: Vec<String> = argv.iter().map(|word| word.len().to_string()).collect();
        key.set("command lengths", lengths.join(" "));
    }
}

/// Each variable, and their order: `env` shows it.
fn set_environment(key: &mut Key, env: &[(String, String)]) {
    // A base image may name a variable twice, and programs differ about which of them holds.
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in env {
        values.entry(name).or_default().push(value);
    }
    for (name, values) in values {
        // Some hand in secrets as build arguments: their values stand nowhere.
        let digest = Digest::of(values.join("\0").as_bytes());
        key.set(format!("env {name}"), digest.hex());
    }
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    key.set("env", names.join("="));
}

/// What of a mount counts, beside its files, as a line: never the content of a cache, nor the value of a secret or
/// whether it was given.
fn described(mount: &RunMount) -> String {
    let RunMount {
        kind,
        target,
        read_only,
        span: _,
    } = mount;
    let mut words: Vec<String> = Vec::new();
    let mut word = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!(" {name} {value}")));
    };
    word("target", target.as_deref().map(tokens::quoted));
    word("readonly", read_only.then(|| "true".to_owned()));
    let kind = match kind {
        RunMountKind::Bind {
            // What counts is what it shows.
            from: _,
            source: _,
        } => "bind",
        RunMountKind::Cache {
            id,
            sharing,
            from: _,
            source: _,
            mode,
            uid,
            gid,
        } => {
            word("id", Some(tokens::quoted(id)));
            word("sharing", Some(tokens::sharing(*sharing).to_owned()));
            word("mode", Some(format!("{mode:o} owner {uid}:{gid}")));
            "cache"
        }
        RunMountKind::Tmpfs { size } => {
            word("size", size.map(|size| size.to_string()));
            "tmpfs"
        }
        RunMountKind::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => {
            word("id", Some(tokens::quoted(id)));
            word("required", required.then(|| "true".to_owned()));
            word("env", env.as_deref().map(tokens::quoted));
            word("mode", Some(format!("{mode:o} owner {uid}:{gid}")));
            "secret"
        }
        RunMountKind::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => {
            word("id", Some(tokens::quoted(id)));
            word("required", required.then(|| "true".to_owned()));
            word("mode", Some(format!("{mode:o} owner {uid}:{gid}")));
            "ssh"
        }
    };
    format!("{kind}{}", words.concat())
}

/// What tells one source of a mount from others of the build.
pub(crate) fn bound_name(from: &CopyFrom, path: &str) -> String {
    format!("{}\0{path}", tokens::from(from))
}

/// Where the files of a mount come from, and of a cache the files that it begins with; none for other mounts.
pub(crate) fn bound(mount: &RunMount) -> Option<(&CopyFrom, &str)> {
    match &mount.kind {
        RunMountKind::Bind { from, source }
        | RunMountKind::Cache {
            from: Some(from),
            source,
            ..
        } => Some((from, source)),
        _ => None,
    }
}
