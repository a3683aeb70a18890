//! What comes from Docker's world: flags that can't be honoured, proxies of its configuration file.

use std::collections::BTreeMap;

use builder_core::Result;

use super::usage;
use crate::environment::Environment;
use crate::flags::DockerFlags;

/// Refuses, with the reason, what rbuild can't do. None is swallowed.
pub(super) fn refuse(flags: &DockerFlags) -> Result<()> {
    const NO_GROUPS: &str = "an ordinary user can limit no memory and no processors";
    const NO_DAEMON: &str = "there is no daemon that could be told";
    let attestation =
        |value: &Option<String>| value.as_deref().is_some_and(|value| value != "false");
    for (given, flag, reason) in [
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
    ] {
        if given {
            return Err(usage(format!("{flag} can't be honoured: {reason}"))
                .with_help(format!("leave {flag} out")));
        }
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
