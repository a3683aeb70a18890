//! What comes from Docker's world: flags that can't be honoured, proxies of its configuration file.

use std::collections::BTreeMap;

use builder_core::Result;

use super::usage;
use crate::environment::Environment;
use crate::flags::DockerFlags;
use crate::flags::session::DockerRunFlags;

/// Refuses, with the reason, what rbuild can't do. None is swallowed.
pub(super) fn refuse(flags: &DockerFlags) -> Result<()> {
    const NO_GROUPS: &str = "an ordinary user can limit no memory and no processors";
    const NO_DAEMON: &str = "there is no daemon that could be told";
    let attestation =
        |value: &Option<String>| value.as_deref().is_some_and(|value| value != "false");
    refuse_given(&[
        (flags.memory.is_some(), "--memory", NO_GROUPS),
        (
            flags.allow.iter().any(|right| right != "network.host"),
            "--allow",
            "rbuild has no more rights than its caller; `network.host` is accepted",
        ),
        (flags.builder.is_some(), "--builder", NO_DAEMON),
        (flags.isolation.is_some(), "--isolation", NO_DAEMON),
        (flags.cgroup_parent.is_some(), "--cgroup-parent", NO_DAEMON),
        (
            flags.squash,
            "--squash",
            "a step is a layer; use several stages to leave files behind",
        ),
        (
            attestation(&flags.provenance),
            "--provenance",
            "rbuild makes no attestations; `--provenance=false` is accepted",
        ),
        (
            attestation(&flags.sbom),
            "--sbom",
            "rbuild makes no attestations; `--sbom=false` is accepted",
        ),
        (
            !flags.attest.is_empty(),
            "--attest",
            "rbuild makes no attestations",
        ),
    ])
}

/// Refuses, with the reason, what `run` can't do.
pub(super) fn refuse_run(flags: &DockerRunFlags) -> Result<()> {
    const NO_RIGHTS: &str = "rbuild has no more rights than its caller";
    const NO_GROUPS: &str = "an ordinary user can limit no memory and no processors";
    const NETWORK: &str = "the command has this machine's network: its ports are open as they are";
    const WALLS: &str = "the walls are those of RUN, whatever is asked for: docs/sandbox.md";
    const NO_OTHERS: &str = "there is no other container";
    let rights: [(bool, &str, &str); 22] = [
        (
            flags.detach,
            "--detach",
            "there is no daemon that could keep it: `run` ends with its command",
        ),
        (!flags.publish.is_empty(), "--publish", NETWORK),
        (flags.publish_all, "--publish-all", NETWORK),
        (!flags.dns.is_empty(), "--dns", NETWORK),
        (!flags.link.is_empty(), "--link", NO_OTHERS),
        (!flags.volumes_from.is_empty(), "--volumes-from", NO_OTHERS),
        (flags.privileged, "--privileged", NO_RIGHTS),
        (!flags.cap_add.is_empty(), "--cap-add", NO_RIGHTS),
        (!flags.device.is_empty(), "--device", NO_RIGHTS),
        (flags.gpus.is_some(), "--gpus", NO_RIGHTS),
        (!flags.cap_drop.is_empty(), "--cap-drop", WALLS),
        (!flags.security_opt.is_empty(), "--security-opt", WALLS),
        (flags.pid.is_some(), "--pid", WALLS),
        (flags.ipc.is_some(), "--ipc", WALLS),
        (flags.uts.is_some(), "--uts", WALLS),
        (flags.userns.is_some(), "--userns", WALLS),
        (
            !flags.group_add.is_empty(),
            "--group-add",
            "groups are those that the image gives the user",
        ),
        (flags.memory.is_some(), "--memory", NO_GROUPS),
        (flags.cpus.is_some(), "--cpus", NO_GROUPS),
        (
            flags.cidfile.is_some(),
            "--cidfile",
            "nothing stays that could have an id",
        ),
        (
            flags.stop_timeout.is_some(),
            "--stop-timeout",
            "a command has ten seconds to end",
        ),
        (
            flags.restart.as_deref().is_some_and(|when| when != "no"),
            "--restart",
            "there is no daemon that could start it again",
        ),
    ];
    refuse_given(&rights)
}

/// Refuses the first flag that is given.
fn refuse_given(flags: &[(bool, &str, &str)]) -> Result<()> {
    if let Some((_, flag, reason)) = flags.iter().find(|(given, ..)| *given) {
        return Err(usage(format!("{flag} can't be honoured: {reason}"))
            .with_help(format!("leave {flag} out")));
    }
    Ok(())
}

/// The proxies that Docker's config.json gives to every build, as build arguments in both cases.
pub(super) fn proxies(environment: &Environment) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    let file = environment
        .docker_config()
        .and_then(|path| std::fs::read(path).ok());
    let config: serde_json::Value = file
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let proxies = &config["proxies"]["default"];
    for (key, name) in [
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ] {
        if let Some(value) = proxies[key].as_str().filter(|value| !value.is_empty()) {
            arguments.insert(name.to_owned(), value.to_owned());
            arguments.insert(name.to_lowercase(), value.to_owned());
        }
    }
    arguments
}
