//! Whether a server is who it should be, and what is said where it isn't.
//!
//! Chains are checked by rustls (RFC 5280). Beside them a certificate that is itself among the trusted ones is taken as it
//! is, as OpenSSL and Go take it: self-signed by the recipe of Docker's documentation, which makes a CA of it, or the
//! server's own without its CA. Its names and its time are checked all the same.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error as TlsError, InvalidMessage,
    RootCertStore, SignatureScheme,
};

use super::{CertificateProblem, Error, for_message};
use crate::timestamp::Timestamp;

/// Checks servers.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None where no certificate is checked.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// Taken as they are.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    checks: bool,
}

impl Verifier {
    pub(super) fn new(
        anchors: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider));
        Self {
            chains: chains.build().ok(),
            trusted,
            provider: Arc::clone(provider),
            checks: true,
        }
    }

    /// Takes any certificate; the server must still have its key.
    pub(super) fn unchecked(provider: &Arc<CryptoProvider>) -> Self {
        Self {
            chains: None,
            trusted: Vec::new(),
            provider: Arc::clone(provider),
            checks: false,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if !self.checks {
            return Ok(ServerCertVerified::assertion());
        }
        if self.trusted.iter().any(|one| one == own) {
            verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            return match validity(own) {
                Some((from, _)) if seconds < from => Err(CertificateError::NotValidYet.into()),
                Some((_, to)) if seconds > to => Err(CertificateError::Expired.into()),
                Some(_) => Ok(ServerCertVerified::assertion()),
                None => Err(CertificateError::BadEncoding.into()),
            };
        }
        match &self.chains {
            Some(chains) => chains.verify_server_cert(own, others, name, stapled, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// One value of DER (X.690): its tag, its content, and what follows it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits
            .iter()
            .fold(0, |sum, one| sum << 8 | usize::from(*one));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// From when until when a certificate is valid (RFC 5280, section 4.1), in seconds.
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = value(certificate)?;
    let (_, mut fields, _) = value(certificate)?;
    // The version, which is tagged, may be missing; then come number, algorithm and issuer.
    if fields.first() == Some(&0xa0) {
        fields = value(fields)?.2;
    }
    for _ in 0..3 {
        fields = value(fields)?.2;
    }
    let (_, times, _) = value(fields)?;
    let (tag, from, times) = value(times)?;
    let from = time(tag, from)?;
    let (tag, to, _) = value(times)?;
    Some((from, time(tag, to)?))
}

/// A `UTCTime` of two digits for the year, or a `GeneralizedTime` of four.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        0x17 => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        _ => text.to_owned(),
    };
    let time = jiff::fmt::strtime::parse("%Y%m%d%H%M%S", text).ok()?;
    let time = time.to_datetime().ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_seconds(time.timestamp().as_second()).seconds)
}

/// What a failure of TLS means.
pub(super) fn failure(url: &str, error: &io::Error) -> Option<Error> {
    let url = for_message(url);
    let inner = error.get_ref()?.downcast_ref::<TlsError>()?;
    let problem = match inner {
        TlsError::InvalidCertificate(problem) => certificate_problem(problem),
        TlsError::NoCertificatesPresented => CertificateProblem::Bad("there is none".to_owned()),
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => CertificateProblem::Ours(format!("{alert:?}")),
            _ => {
                let reason = format!("it says {alert:?}");
                return Some(Error::Handshake { url, reason });
            }
        },
        TlsError::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => return Some(Error::NoTls { url }),
        TlsError::PeerIncompatible(_) | TlsError::PeerMisbehaved(_) => {
            let reason = inner.to_string();
            return Some(Error::Handshake { url, reason });
        }
        _ => return None,
    };
    Some(Error::Certificate { url, problem })
}

fn certificate_problem(problem: &CertificateError) -> CertificateProblem {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateProblem::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYet
        }
        CertificateError::UnknownIssuer => CertificateProblem::UnknownIssuer,
        CertificateError::Revoked => CertificateProblem::Revoked,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateProblem::WrongUse
        }
        CertificateError::NotValidForName => CertificateProblem::WrongName {
            names: vec!["another name".to_owned()],
        },
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().map(|name| shown(name)).take(8).collect();
            CertificateProblem::WrongName {
                names: if names.is_empty() {
                    vec!["no name at all (it has no subjectAltName)".to_owned()]
                } else {
                    names
                },
            }
        }
        // A self-signed one that makes a CA of itself: nobody signed it who is trusted.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            CertificateProblem::UnknownIssuer
        }
        other => CertificateProblem::Bad(other.to_string()),
    }
}

/// `DnsName("a.example")` as `` `a.example` ``.
fn shown(name: &str) -> String {
    let inner = name.split('"').nth(1).unwrap_or(name);
    format!("`{inner}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (tag, text, expected) in [
            (0x17, "200101000000Z", Some(1_577_836_800)),
            (0x17, "490101000000Z", Some(2_493_072_000)),
            (0x17, "500101000000Z", Some(-631_152_000)),
            (0x18, "20500101000000Z", Some(2_524_608_000)),
            (0x18, "20501301000000Z", None),
            (0x17, "2001010000", None),
            (0x17, "", None),
        ] {
            assert_eq!(time(tag, text.as_bytes()), expected, "{text}");
        }
        assert_eq!(validity(&[0x30, 0x82, 0xff, 0xff]), None);
        assert_eq!(validity(&[0x30, 0x80]), None);
    }
}
