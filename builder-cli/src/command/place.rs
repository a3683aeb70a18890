//! The places that `copy` knows, with the names that skopeo gives them.

use std::fmt;
use std::path::{Path, PathBuf};

use builder_core::reference::Reference;
use builder_core::{Error, ErrorKind, Result};

use super::tag::new_name;

/// Where an image is, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the store: a name, a digest, or the beginning of one.
    Store(String),
    /// In a registry.
    Registry(Reference),
    /// In an OCI layout, a directory or a tar.
    Layout {
        path: PathBuf,
        word: Option<String>,
        is_archive: bool,
    },
    /// In an archive of Docker's.
    DockerArchive {
        path: PathBuf,
        name: Option<Reference>,
    },
}

/// Places of skopeo's that rbuild has no way to, and which way there is.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "containers-storage",
        "podman and buildah keep it: `podman load` takes what `rbuild save` writes",
    ),
    (
        "docker-daemon",
        "`rbuild save IMAGE | docker load` hands it to Docker's engine",
    ),
    ("dir", "use `oci:DIR`, which is a standard"),
    ("ostree", "use `oci:DIR`"),
    ("sif", "use `oci-archive:FILE`"),
    ("atomic", "use `docker://NAME`"),
    (
        "tarball",
        "`rbuild commit FILE NAME` makes an image of a root file system",
    ),
];

impl Place {
    /// Reads a place.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a place that rbuild doesn't know, and a name that is none.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        let (transport, rest) = text.split_once(':').unwrap_or(("", text));
        if let Some((_, why)) = ELSEWHERE.iter().find(|(name, _)| *name == transport) {
            return Err(usage(format!("`{transport}:` can't be honoured")).with_help(*why));
        }
        let place = |rest: &str| {
            let (path, word) = match rest.split_once(':') {
                Some((path, word)) => (path, Some(word.to_owned()).filter(|word| !word.is_empty())),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(usage(format!("`{text}` names no path"))
                    .with_help(format!("write `{transport}:PATH[:NAME]`")));
            }
            Ok((directory.join(path), word))
        };
        Ok(match transport {
            "docker" => {
                let name = rest.strip_prefix("//").ok_or_else(|| {
                    usage(format!("`{text}` is no place")).with_help("write `docker://NAME`")
                })?;
                Self::Registry(reference(name)?)
            }
            "store" => Self::Store(rest.to_owned()),
            "oci" | "oci-archive" => {
                let (path, word) = place(rest)?;
                Self::Layout {
                    path,
                    word,
                    is_archive: transport == "oci-archive",
                }
            }
            "docker-archive" => {
                let (path, name) = place(rest)?;
                let name = name.map(|name| reference(&name)).transpose()?;
                Self::DockerArchive { path, name }
            }
            _ => Self::Store(text.to_owned()),
        })
    }

    /// Refuses, before anything moves, a name that can't be given.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub(super) fn check_destination(&self) -> Result<()> {
        let digest = |reference: &Reference| {
            let message = format!("`{reference}` has a digest, which nobody can give");
            Error::new(ErrorKind::Usage, message).with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
        };
        match self {
            Self::Store(name) => new_name(name).map(drop),
            Self::Registry(reference) if reference.digest().is_some() => Err(digest(reference)),
            Self::DockerArchive {
                name: Some(name), ..
            } if name.digest().is_some() => Err(digest(name)),
            _ => Ok(()),
        }
    }
}

fn reference(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| {
        Error::new(ErrorKind::Usage, format!("{error}"))
            .with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(name) => f.write_str(name),
            Self::Registry(reference) => f.write_str(&reference.familiar()),
            Self::Layout { path, .. } | Self::DockerArchive { path, .. } => {
                write!(f, "{}", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_the_names_of_skopeo() {
        let layout = |path: &str, word: Option<&str>, is_archive| Place::Layout {
            path: path.into(),
            word: word.map(str::to_owned),
            is_archive,
        };
        let app: Reference = "r.io:5000/app:1".parse().unwrap();
        for (text, expected) in [
            ("app", Some(Place::Store("app".to_owned()))),
            (
                "r.io:5000/app:1",
                Some(Place::Store("r.io:5000/app:1".to_owned())),
            ),
            (
                "docker://r.io:5000/app:1",
                Some(Place::Registry(app.clone())),
            ),
            ("oci:d", Some(layout("/w/d", None, false))),
            ("oci:/d/e:1.0", Some(layout("/d/e", Some("1.0"), false))),
            (
                "oci-archive:f.tar:app:1",
                Some(layout("/w/f.tar", Some("app:1"), true)),
            ),
            ("oci-archive:f.tar:", Some(layout("/w/f.tar", None, true))),
            (
                "docker-archive:f.tar:r.io:5000/app:1",
                Some(Place::DockerArchive {
                    path: "/w/f.tar".into(),
                    name: Some(app),
                }),
            ),
            ("docker:app", None),
            ("docker://APP", None),
            ("containers-storage:app", None),
            ("docker-daemon:app:1", None),
            ("dir:x", None),
            ("oci:", None),
        ] {
            let found = Place::parse(text, Path::new("/w"));
            assert!(
                found.is_ok() || found.as_ref().unwrap_err().help().is_some(),
                "{text}"
            );
            assert_eq!(found.ok(), expected, "{text}");
        }
    }
}
