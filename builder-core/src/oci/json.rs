//! The one place that turns a document into bytes, and bytes into a document.
//!
//! Compact JSON, fields in the order of the struct, maps in the order of their keys: equal documents are equal bytes.
//! The digest of a document that someone else wrote is of the bytes received, never of bytes made here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ErrorKind;

/// A document that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not JSON, or not such a document.
    #[error("{what} is not valid")]
    Read {
        /// What the bytes should have been.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A document that is a manifest to one reader and an index to another (CVE-2021-41190).
    #[error(
        "{what} is ambiguous: it says that it is {one}, and has `{field}`, which belongs to {other}"
    )]
    Ambiguous {
        /// What it should have been.
        what: String,
        /// What it says it is.
        one: &'static str,
        /// The field, or `mediaType`.
        field: &'static str,
        /// What has such a field.
        other: &'static str,
    },
    /// A value that JSON has no form for: a bug.
    #[error("{what} has no form in JSON")]
    Write {
        /// What was being written.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Read { .. } | Error::Ambiguous { .. } => ErrorKind::BaseImage,
            Error::Write { .. } => ErrorKind::Internal,
        };
        let message = error.to_string();
        match error {
            Error::Read { source, .. } | Error::Write { source, .. } => {
                Self::new(kind, message).with_source(source)
            }
            Error::Ambiguous { .. } => Self::new(kind, message)
                .with_help("tools would disagree about what it is; have the image pushed anew"),
        }
    }
}

/// The bytes of `document`: compact, without a newline at the end. `what` names it in an error.
pub fn to_bytes<T: Serialize>(what: &'static str, document: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|source| Error::Write { what, source })
}

/// Reads a document. `what` names it in an error, for example "the manifest `sha256:…`".
pub fn from_bytes<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Read {
        what: what.to_owned(),
        source,
    })
}

/// Reads `null` as the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
