//! What can go wrong between us and a registry, and what to do about it.
//!
//! Follows the OCI distribution specification, "Error Codes". A server's own words are shown, shortened and on one
//! line; a secret is in none of these values.

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::http;
use crate::oci::json;
use crate::store;

/// An error of a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer came.
    #[error("registry `{registry}` can't be reached")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// Why.
        source: http::Error,
    },
    /// The certificate of the registry, or of a server that it names, isn't trusted.
    #[error("the certificate of registry `{registry}` is not trusted")]
    Certificate {
        /// Host and port.
        registry: String,
        /// Why.
        source: http::Error,
    },
    /// No answer came from a server, before it is known which registry was meant.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The registry wants other credentials, or has none of this.
    #[error("registry `{registry}` denies {action} `{repository}`")]
    Denied {
        /// Host and port.
        registry: String,
        /// The repository; empty for a login.
        repository: String,
        /// `pulling from`, `pushing to`, `login to`.
        action: &'static str,
        /// Where the credentials came from; none where there were none.
        credentials: Option<String>,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// There is no such tag or manifest.
    #[error("`{reference}` is not in the registry")]
    UnknownManifest {
        /// The reference.
        reference: String,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// A blob that a manifest names isn't there.
    #[error("registry `{registry}` has no blob `{digest}` in `{repository}`")]
    UnknownBlob {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
    },
    /// Too many requests.
    #[error("registry `{registry}` has had too many requests from here")]
    RateLimited {
        /// Host and port.
        registry: String,
        /// When to come back.
        after: Option<Duration>,
        /// Whether there were credentials.
        anonymous: bool,
    },
    /// An answer that means failure.
    #[error("registry `{registry}` answered {verb} with status {status}")]
    Status {
        /// Host and port.
        registry: String,
        /// What was asked for.
        verb: &'static str,
        /// The status code.
        status: u16,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// An answer that makes no sense.
    #[error("registry `{registry}` answered {verb} {problem}")]
    Nonsense {
        /// Host and port.
        registry: String,
        /// What was asked for.
        verb: &'static str,
        /// What is wrong with the answer.
        problem: &'static str,
    },
    /// A document that is not the one asked for.
    #[error("registry `{registry}` sent `{found}` for `{expected}`")]
    WrongDigest {
        /// Host and port.
        registry: String,
        /// What was asked for, or announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A document of another size than its descriptor says.
    #[error("registry `{registry}` sent {found} bytes for `{digest}`, expected {expected}")]
    WrongSize {
        /// Host and port.
        registry: String,
        /// The document.
        digest: Digest,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A download that broke off again and again.
    #[error("the download of `{digest}` from `{registry}` broke off after {done} of {size} bytes")]
    Broken {
        /// Host and port.
        registry: String,
        /// The blob.
        digest: Digest,
        /// Bytes that came.
        done: u64,
        /// Bytes in all.
        size: u64,
    },
    /// A manifest of 2015.
    #[error("`{reference}` has a manifest of schema version 1, which rbuild does not read")]
    Schema1 {
        /// The reference.
        reference: String,
    },
    /// Something that is no image.
    #[error("`{reference}` is no image: its manifest is `{media_type}`")]
    Foreign {
        /// The reference.
        reference: String,
        /// What it says it is.
        media_type: String,
    },
    /// A header and a document that say different things of what it is (CVE-2021-41190).
    #[error(
        "the manifest of `{reference}` is ambiguous: it says that it is `{own}`, and the registry that it is `{typed}`"
    )]
    Contradiction {
        /// The reference.
        reference: String,
        /// The document's own `mediaType`.
        own: String,
        /// The `Content-Type` that came with it.
        typed: String,
    },
    /// No manifest of an index is for the platform.
    #[error("image `{reference}` has no manifest for {platform}")]
    NoPlatform {
        /// The reference.
        reference: String,
        /// The platform asked for.
        platform: String,
        /// The platforms on offer.
        offered: Vec<String>,
    },
    /// A way to prove who we are that rbuild doesn't know.
    #[error("registry `{registry}` wants a proof that rbuild can't give: {schemes}")]
    UnknownScheme {
        /// Host and port.
        registry: String,
        /// The schemes it offers.
        schemes: String,
    },
    /// Credentials would go over the wire in the open.
    #[error("`{url}` is plain HTTP, and `{registry}` is not named as insecure")]
    PlainHttp {
        /// Host and port.
        registry: String,
        /// Where they would go, without query.
        url: String,
    },
    /// A blob that is neither here nor known to be anywhere.
    #[error("blob `{digest}` is not in the store, and it is not known where to get it")]
    NoOrigin {
        /// The blob.
        digest: Digest,
    },
    /// A file of ours that can't be read or written.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A document can't be read.
    #[error(transparent)]
    Document(#[from] json::Error),
    /// Someone asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of the registry room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Gives a failed connection the name of the registry.
    pub(crate) fn of_registry(self, name: &str) -> Self {
        let registry = name.to_owned();
        match self {
            Self::Http(source @ http::Error::Certificate { .. }) => {
                Self::Certificate { registry, source }
            }
            Self::Http(
                source @ (http::Error::Unreachable { .. } | http::Error::TooManyRedirects { .. }),
            ) => Self::Unreachable { registry, source },
            other => other,
        }
    }

    /// The remedy.
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { registry, .. } => format!(
                "check the name and the network; a registry that speaks plain HTTP is named with `--insecure-registry {registry}`"
            ),
            Self::Certificate { source, .. } if source.to_string().contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of a CA as its own; give it one that the CA signed, or make it with `basicConstraints=CA:FALSE`".to_owned()
            }
            Self::Certificate { registry, .. } => format!(
                "put its CA into `/etc/docker/certs.d/{registry}/ca.crt` or `~/.config/containers/certs.d/{registry}/ca.crt`, or name a file of CAs in SSL_CERT_FILE"
            ),
            Self::Denied {
                registry,
                credentials,
                ..
            } => match credentials {
                Some(_) => format!(
                    "check that the repository exists and that this user may use it, or type `rbuild login {registry}`"
                ),
                None => format!("type `rbuild login {registry}`"),
            },
            Self::UnknownManifest { .. } => {
                "check the spelling of repository and tag, and that the image was pushed; a private registry stands in front of the name: `registry.example.com/team/app:1`".to_owned()
            }
            Self::RateLimited {
                registry,
                anonymous: true,
                ..
            } => format!(
                "type `rbuild login {registry}`: who is known may ask more often; or use a mirror with `--registry-mirror`"
            ),
            Self::RateLimited { .. } => {
                "try again later, or use a mirror with `--registry-mirror`".to_owned()
            }
            Self::WrongDigest { .. } | Self::WrongSize { .. } => {
                "try again; if it happens twice, the registry or a proxy changes the bytes".to_owned()
            }
            Self::Broken { .. } => "try again; what came so far was dropped".to_owned(),
            Self::Schema1 { .. } => {
                "push the image again with a newer tool, or choose a newer tag".to_owned()
            }
            Self::NoPlatform { .. } => "choose one of them with `--platform`".to_owned(),
            Self::Foreign { .. } => "name an image: charts and other artifacts have no layers to build on".to_owned(),
            Self::Contradiction { .. } => {
                "tools would disagree about what it is; have the image pushed anew".to_owned()
            }
            Self::PlainHttp { registry, .. } => {
                format!("if that is meant so, add `--insecure-registry {registry}`")
            }
            Self::NoOrigin { .. } => "pull or build the image again".to_owned(),
            Self::UnknownBlob { .. } => {
                "the registry has lost a part of the image; push it there again".to_owned()
            }
            _ => return None,
        };
        Some(text)
    }

    /// Facts beside the message.
    fn notes(&self) -> Vec<String> {
        let said = |detail: &Option<String>| {
            detail
                .iter()
                .map(|detail| format!("the registry says: {detail}"))
                .collect()
        };
        match self {
            Self::Denied {
                credentials,
                detail,
                ..
            } => {
                let used = match credentials {
                    Some(source) => format!("the credentials are from {source}"),
                    None => "no credentials were found for it".to_owned(),
                };
                let mut notes = vec![used];
                notes.extend::<Vec<String>>(said(detail));
                notes
            }
            Self::UnknownManifest { detail, .. } | Self::Status { detail, .. } => said(detail),
            Self::RateLimited {
                after: Some(after), ..
            } => vec![format!("it may be asked again in {} s", after.as_secs())],
            Self::NoPlatform { offered, .. } => vec![format!("it has {}", offered.join(", "))],
            _ => Vec::new(),
        }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let (help, notes) = (error.help(), error.notes());
        let message = match &error {
            Error::Denied {
                registry,
                repository,
                action,
                ..
            } if repository.is_empty() => format!("registry `{registry}` denies the {action}"),
            _ => error.to_string(),
        };
        let kind = match &error {
            Error::Interrupted => ErrorKind::Interrupted,
            Error::NoPlatform { .. }
            | Error::Schema1 { .. }
            | Error::Contradiction { .. }
            | Error::Foreign { .. } => ErrorKind::BaseImage,
            Error::Io { .. } => ErrorKind::Store,
            _ => ErrorKind::Registry,
        };
        let converted = match error {
            Error::Store(source) => return source.into(),
            Error::Document(source) => return source.into(),
            Error::Unreachable { source, .. } | Error::Certificate { source, .. } => {
                Self::new(kind, message).with_source(source)
            }
            Error::Io { source, .. } => Self::new(kind, message).with_source(source),
            _ => Self::new(kind, message),
        };
        let converted = notes.into_iter().fold(converted, Self::with_note);
        match help {
            Some(help) => converted.with_help(help),
            None => converted,
        }
    }
}

/// The words of a failed answer: `code: message` of the first errors, on one line, shortened.
pub(crate) fn words(body: &[u8]) -> (Vec<String>, Option<String>) {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = document["errors"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let codes = errors.iter().map(|error| text(&error["code"])).collect();
    let mut said: Vec<String> = errors
        .iter()
        .map(|error| {
            let parts = [text(&error["code"]).to_lowercase(), text(&error["message"])];
            parts.join(": ").trim_matches([':', ' ']).to_owned()
        })
        .collect();
    if said.is_empty() {
        // A token server's answer, or OAuth's.
        for key in ["error_description", "details", "message", "error"] {
            said.extend(document[key].as_str().map(str::to_owned));
        }
        said.truncate(1);
    }
    let clean: String = said
        .join("; ")
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(300)
        .collect();
    (codes, Some(clean).filter(|text| !text.is_empty()))
}
