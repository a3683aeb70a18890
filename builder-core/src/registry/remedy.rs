//! What to do about an error of a registry, the facts beside it, and what it is to a caller.

use super::error::{Error, Proof};
use crate::error::ErrorKind;
use crate::http::{self, CertificateProblem};

impl Error {
    /// The remedy.
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Http(http::Error::TrustedFile { .. }) => {
                "name a file that is there, or unset SSL_CERT_FILE: the system's CAs count then".to_owned()
            }
            Self::Http(http::Error::TrustedText) => {
                "write the text into a file and name that; a variable of type \"file\" does so in GitLab's CI".to_owned()
            }
            Self::Unreachable { registry, source } => return unreachable(registry, source),
            Self::Certificate { registry, source } => return certificate(registry, source),
            Self::Denied {
                registry,
                repository,
                proof,
                ..
            } => denied(registry, repository.is_empty(), proof),
            Self::UnknownManifest { .. } => {
                "check the spelling of repository and tag, and that the image was pushed; a private registry stands in front of the name: `registry.example.com/team/app:1`".to_owned()
            }
            Self::RateLimited {
                registry,
                anonymous,
                mirrors,
                ..
            } => rate_limited(registry, *anonymous, mirrors.is_empty()),
            Self::TooLarge { .. } => {
                "what takes requests in front of a registry often limits their bodies (`client_max_body_size` of nginx, an upload limit of a CDN, a quota): have the limit raised, or make the layer smaller by splitting the step that makes it".to_owned()
            }
            Self::WebPage { .. } => {
                "check host and port: a registry often has a name of its own (GitLab's is `registry.` before the host); a proxy or a login page may answer in its place".to_owned()
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
            Self::Blocked { .. } => {
                "name an image of a registry that is allowed, or have the rule changed".to_owned()
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
            Self::Denied { proof, detail, .. } => {
                let used = match proof {
                    Proof::From(source) => format!("the credentials are from {source}"),
                    Proof::Missing => "no credentials were found for it".to_owned(),
                    Proof::Unusable(why) => format!("the credentials can't be used: {why}"),
                };
                let mut notes = vec![used];
                notes.extend::<Vec<String>>(said(detail));
                notes
            }
            Self::UnknownManifest { detail, .. }
            | Self::Status { detail, .. }
            | Self::WebPage { detail, .. }
            | Self::TooLarge { detail, .. } => said(detail),
            Self::RateLimited { after, mirrors, .. } => {
                let after =
                    after.map(|after| format!("it may be asked again in {} s", after.as_secs()));
                after.into_iter().chain(mirrors.iter().cloned()).collect()
            }
            Self::NoPlatform { offered, .. } if offered.is_empty() => {
                vec!["it names no platform at all".to_owned()]
            }
            Self::NoPlatform { offered, .. } => vec![format!("it has {}", offered.join(", "))],
            _ => Vec::new(),
        }
    }
}

/// Only who doesn't speak TLS is to be named as insecure.
fn unreachable(registry: &str, source: &http::Error) -> Option<String> {
    Some(match source {
        http::Error::NoTls { .. } => format!(
            "a registry that speaks plain HTTP is named with `--insecure-registry {registry}`"
        ),
        http::Error::Handshake { .. } => {
            "the server needs TLS 1.2 or 1.3 and a key that rbuild knows (RSA, P-256, P-384, P-521, Ed25519)".to_owned()
        }
        http::Error::Proxy { .. } => format!(
            "check HTTPS_PROXY, HTTP_PROXY and the rules of the proxy; NO_PROXY={registry} goes around it"
        ),
        http::Error::TooManyRedirects { .. } => return None,
        _ => "check the name and the network; behind a proxy, set HTTPS_PROXY".to_owned(),
    })
}

fn certificate(registry: &str, source: &http::Error) -> Option<String> {
    let http::Error::Certificate { url, problem } = source else {
        return None;
    };
    let host = http::authority(url).1;
    Some(match problem {
        CertificateProblem::UnknownIssuer => format!(
            "put the CA that signed it, or the certificate itself, into `/etc/docker/certs.d/{registry}/ca.crt` or `~/.config/containers/certs.d/{registry}/ca.crt`, or name a file of CAs in SSL_CERT_FILE; `--insecure-registry {host}` checks no certificate of it"
        ),
        CertificateProblem::Expired => {
            "have it renewed by whoever runs the server; check this machine's clock".to_owned()
        }
        CertificateProblem::NotYet => "check the clock of this machine, and of the server".to_owned(),
        CertificateProblem::WrongName { .. } => {
            "use a name that the certificate is for, or have one made with this name among its subjectAltNames".to_owned()
        }
        CertificateProblem::WrongUse => {
            "have one made for a server: `extendedKeyUsage=serverAuth`, or none at all".to_owned()
        }
        CertificateProblem::Revoked => "have a new one made".to_owned(),
        CertificateProblem::Ours(_) => format!(
            "put the certificate and its key into `certs.d/{registry}/client.cert` and `client.key`"
        ),
        CertificateProblem::Bad(_) => {
            "have a new one made: X.509 version 3, with a subjectAltName".to_owned()
        }
    })
}

fn denied(registry: &str, is_login: bool, proof: &Proof) -> String {
    match proof {
        _ if is_login => {
            "check user and password; many registries take a token in the password's place (GitLab: a personal, deploy or job token that may read and write the registry; Docker Hub: an access token)".to_owned()
        }
        Proof::From(_) => format!(
            "check that the repository exists and that this user may use it, or type `rbuild login {registry}`"
        ),
        Proof::Missing => format!("type `rbuild login {registry}`"),
        Proof::Unusable(_) => {
            format!("mend what is there, or type `rbuild login {registry}`")
        }
    }
}

fn rate_limited(registry: &str, anonymous: bool, without_mirror: bool) -> String {
    let login = format!("type `rbuild login {registry}`: who is known may ask more often");
    match (anonymous, without_mirror) {
        (true, true) => format!("{login}; or use a mirror with `--registry-mirror`"),
        (true, false) => login,
        (false, true) => "try again later, or use a mirror with `--registry-mirror`".to_owned(),
        (false, false) => "try again later, or have the mirror mended".to_owned(),
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
