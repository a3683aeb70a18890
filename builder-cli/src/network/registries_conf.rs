//! `registries.conf` of Podman, Buildah and skopeo: mirrors, insecure and blocked registries, and what lies elsewhere.
//!
//! Follows containers-registries.conf(5), version 2 of the format. The user's file stands in the place of the system's, and
//! the files in the folder beside it add to it. Short names mean what they mean to Docker: aliases and
//! `unqualified-search-registries` are not applied, because a Dockerfile is to mean the same on every machine.

use std::path::{Path, PathBuf};

use builder_core::registry::RegistryOptions;
use builder_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::environment::Environment;

/// The variable that names the file.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";
/// The system's file.
const SYSTEM: &str = "/etc/containers/registries.conf";

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// Reads what there is into the options.
///
/// # Errors
/// A file that is no TOML of this form, and one that the variable names and that isn't there.
pub(super) fn read(options: &mut RegistryOptions, environment: &Environment) -> Result<()> {
    let named = environment.path(VARIABLE).map(Path::to_owned);
    let own = environment
        .config()
        .map(|config| config.join("containers/registries.conf"));
    let found = own.filter(|path| path.is_file());
    let main = named
        .clone()
        .or(found)
        .unwrap_or_else(|| PathBuf::from(SYSTEM));
    let mut files = vec![main.clone()];
    if named.is_none() {
        files.extend(beside(&main));
    }
    for path in files {
        match std::fs::read_to_string(&path) {
            Ok(text) => apply(options, &text, &path)?,
            Err(error) if named.is_some() => {
                let message = format!(
                    "`{}`, which {VARIABLE} names, can't be read",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Usage, message).with_source(error));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// `registries.conf.d/*.conf`, in the order of their names.
fn beside(main: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(main.with_extension("conf.d"));
    let entries = entries.into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort();
    files
}

fn apply(options: &mut RegistryOptions, text: &str, path: &Path) -> Result<()> {
    let file: File = toml::from_str(text).map_err(|error| {
        let message = format!("the configuration file `{}` is not valid", path.display());
        Error::new(ErrorKind::Usage, message)
            .with_help("it is TOML: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked` and `[[registry.mirror]]`")
            .with_source(error)
    })?;
    for entry in file.registry {
        // Each of the two stands for the other where it is missing.
        let location = entry.location.trim_end_matches('/');
        let prefix = match entry.prefix.trim_end_matches('/') {
            "" => location,
            prefix => prefix,
        };
        // A wildcard for names below a domain has no equal here.
        if prefix.is_empty() || prefix.starts_with("*.") {
            continue;
        }
        if entry.blocked {
            options.blocked.insert(prefix.to_owned());
        }
        if !location.is_empty() && location != prefix {
            options.moved.insert(prefix.to_owned(), location.to_owned());
        }
        let home = if location.is_empty() {
            prefix
        } else {
            location
        };
        if entry.insecure {
            options.insecure.insert(host(home));
        }
        let insecure = entry.mirror.iter().filter(|mirror| mirror.insecure);
        options
            .insecure
            .extend(insecure.map(|mirror| host(&mirror.location)));
        if !entry.mirror.is_empty() {
            let mirrors = entry.mirror.into_iter().map(|mirror| mirror.location);
            options.mirrors.insert(prefix.to_owned(), mirrors.collect());
        }
    }
    Ok(())
}

fn host(location: &str) -> String {
    location.split('/').next().unwrap_or(location).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_read_as_podman_reads_them() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example.com/hub"
            [[registry.mirror]]
            location = "lan.example.com:5000"
            insecure = true
            [[registry]]
            prefix = "old.example.com/team"
            location = "new.example.com/moved"
            insecure = true
            [[registry]]
            prefix = "bad.example.com"
            blocked = true
            [[registry]]
            prefix = "*.example.org"
            location = "x.example.com"
            [aliases]
            "fedora" = "registry.fedoraproject.org/fedora"
        "#;
        let mut options = RegistryOptions::default();
        apply(&mut options, text, Path::new("x")).unwrap();
        assert_eq!(
            options.mirrors["docker.io"],
            ["mirror.example.com/hub", "lan.example.com:5000"]
        );
        let insecure: Vec<&String> = options.insecure.iter().collect();
        assert_eq!(insecure, ["lan.example.com:5000", "new.example.com"]);
        assert_eq!(
            options.moved["old.example.com/team"],
            "new.example.com/moved"
        );
        assert_eq!(options.moved.len(), 1);
        assert!(options.blocked.contains("bad.example.com"));
        for broken in [
            "[[registry]",
            "[[registry]]\ninsecure = 7",
            "[[registry]]\n[[registry.mirror]]\n",
        ] {
            assert!(
                apply(&mut RegistryOptions::default(), broken, Path::new("x")).is_err(),
                "{broken}"
            );
        }
    }
}
