//! Why no response came, by the cause: who has to do something about it differs.

use std::path::PathBuf;

/// Why no response came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL can't be used.
    #[error("`{url}` is not a URL that can be fetched")]
    BadUrl {
        /// Without user information.
        url: String,
    },
    /// Connecting, TLS, or reading failed.
    #[error("`{url}` can't be reached: {reason}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What the transport said.
        reason: String,
    },
    /// The server's certificate is not trusted, or doesn't fit its name; or ours was refused.
    #[error("`{url}` can't be trusted: {problem}")]
    Certificate {
        /// Without user information.
        url: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The server answers, and not in TLS.
    #[error("`{url}` does not speak TLS")]
    NoTls {
        /// Without user information.
        url: String,
    },
    /// The two have no version or method of TLS in common.
    #[error("`{url}` and rbuild can't agree on TLS: {reason}")]
    Handshake {
        /// Without user information.
        url: String,
        /// What the server, or rbuild, said.
        reason: String,
    },
    /// The proxy is not there, or refuses.
    #[error("the proxy `{proxy}` {problem} for `{url}`")]
    Proxy {
        /// Without user information.
        proxy: String,
        /// What was asked for through it.
        url: String,
        /// What went wrong, as a verb with its object.
        problem: String,
        /// Whether it may work later.
        passes: bool,
    },
    /// A redirect from TLS to plain HTTP.
    #[error("`{from}` leads from TLS to plain HTTP, to `{url}`")]
    Downgrade {
        /// Who answered, without query.
        from: String,
        /// Where it leads, without query.
        url: String,
    },
    /// A file that is needed can't be read: one to send, or a certificate.
    #[error("`{}` can't be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of CAs that the user named can't be read.
    #[error("the file of CAs `{}`, which SSL_CERT_FILE names, can't be read: {reason}", path.display())]
    TrustedFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Where the name of a file of CAs should be, the CAs themselves are.
    #[error("SSL_CERT_FILE holds the text of a certificate, not the name of a file")]
    TrustedText,
    /// A header whose value would end its line.
    #[error("the value of the header `{name}` holds the end of a line")]
    BadHeader {
        /// The header.
        name: String,
    },
    /// A server sends us in circles.
    #[error("`{url}` redirects more than {limit} times")]
    TooManyRedirects {
        /// Where it began.
        url: String,
        /// How many are followed.
        limit: usize,
    },
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// No CA that is trusted signed it.
    #[error("its certificate is signed by no CA that is trusted here")]
    UnknownIssuer,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not begun.
    #[error("its certificate is not valid yet")]
    NotYet,
    /// It is for other names.
    #[error("its certificate is for {}, not for this name", names.join(", "))]
    WrongName {
        /// The names it is for, in backticks; or a word for there being none.
        names: Vec<String>,
    },
    /// It may not be used for a server.
    #[error("its certificate is not made for a server")]
    WrongUse,
    /// It was withdrawn.
    #[error("its certificate is revoked")]
    Revoked,
    /// The server wants a certificate of ours, or refuses the one it got.
    #[error("it wants a client certificate, and says: {0}")]
    Ours(String),
    /// It can't be read, or something in it is not what it should be.
    #[error("its certificate can't be used: {0}")]
    Bad(String),
}
