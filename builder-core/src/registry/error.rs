//! What can go wrong between us and a registry, and what to do about it.
//!
//! Follows the OCI distribution specification, "Error Codes". A server's own words are shown, shortened and on one
//! line; a secret is in none of these values.

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
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
        /// What was sent to prove who we are.
        proof: Proof,
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
        /// Whether there were no credentials.
        anonymous: bool,
        /// The mirrors that were asked before, each with what it said.
        mirrors: Vec<String>,
    },
    /// Something else than a registry answers.
    #[error(
        "registry `{registry}` answered {verb} with a web page (HTML): it is no registry, or something in front of it answers in its place"
    )]
    WebPage {
        /// Host and port.
        registry: String,
        /// What was asked for.
        verb: &'static str,
        /// The page's title.
        detail: Option<String>,
    },
    /// A body that is larger than the registry, or something in front of it, takes.
    #[error(
        "registry `{registry}` takes no blob of {size} bytes: `{digest}` is too large (status {status})"
    )]
    TooLarge {
        /// Host and port.
        registry: String,
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The status code.
        status: u16,
        /// The registry's own words.
        detail: Option<String>,
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
    /// The user's configuration keeps it from being pulled.
    #[error("`{reference}` is blocked: `{rule}` is, in registries.conf")]
    Blocked {
        /// The reference.
        reference: String,
        /// The registry, or the path in it, that is blocked.
        rule: String,
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

/// What was sent to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was found.
    Missing,
    /// What was found there: a file, a variable, a helper.
    From(String),
    /// What was found could not be used: where it is, and why.
    Unusable(String),
}

impl Error {
    /// Gives a failed connection the name of the registry.
    pub(crate) fn of_registry(self, name: &str) -> Self {
        let registry = name.to_owned();
        match self {
            Self::Http(source @ http::Error::Certificate { .. }) => {
                Self::Certificate { registry, source }
            }
            Self::Http(http::Error::Downgrade { url, .. }) => {
                let registry = http::authority(&url).1;
                Self::PlainHttp { registry, url }
            }
            Self::Http(
                source @ (http::Error::Unreachable { .. }
                | http::Error::NoTls { .. }
                | http::Error::Handshake { .. }
                | http::Error::Proxy { .. }
                | http::Error::TooManyRedirects { .. }),
            ) => Self::Unreachable { registry, source },
            other => other,
        }
    }

    /// Whether a manifest was refused for what it is: registries that know Docker's types alone say it in these ways.
    pub(crate) fn is_about_type(&self) -> bool {
        match self {
            Self::Status { status, detail, .. } => {
                let said = detail.as_deref().unwrap_or_default();
                let says = |word: &str| said.starts_with(word);
                *status == 415 || says("manifest_invalid") || says("unsupported")
            }
            _ => false,
        }
    }

    /// Whether it may work the next time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } | Self::Http(source) => super::retry::may_pass(source),
            _ => false,
        }
    }
}
