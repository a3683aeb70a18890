//! Whom to trust: the system's CAs, CAs and client certificates for single hosts.
//!
//! The folders are those of Docker and Podman, `certs.d/HOST[:PORT]/`: `*.crt` are certificates to trust; `NAME.cert` with
//! `NAME.key` is the certificate that we show. What a registry names is trusted as the registry itself is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::verify::Verifier;
use super::{Error, Trust};

/// Where certificates are. Files and folders that don't exist are passed over, but for those that the user named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The file of CAs that the user named, in `SSL_CERT_FILE`: in the place of the system's, and an error where it can't be
    /// read.
    pub named_file: Option<PathBuf>,
    /// The system's CAs, as PEM: the first of these files that exists holds.
    pub system_files: Vec<PathBuf>,
    /// The system's CAs as folders of PEM files, where no file is there.
    pub system_folders: Vec<PathBuf>,
    /// Folders that hold a folder for each host, `certs.d`.
    pub host_folders: Vec<PathBuf>,
}

/// Reads the CAs that hold for every host; none where those that this program was built with do.
pub(super) fn roots(options: &TlsOptions) -> Result<Vec<CertificateDer<'static>>, Error> {
    if let Some(path) = &options.named_file {
        return named(path);
    }
    let mut found = options
        .system_files
        .iter()
        .find_map(|path| certificates(path).ok())
        .unwrap_or_default();
    if found.is_empty() {
        let files = options
            .system_folders
            .iter()
            .flat_map(|folder| sorted(folder));
        found.extend(files.filter_map(|path| certificates(&path).ok()).flatten());
    }
    Ok(found)
}

fn named(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    if path
        .as_os_str()
        .as_encoded_bytes()
        .starts_with(b"-----BEGIN")
    {
        return Err(Error::TrustedText);
    }
    certificates(path).map_err(|error| match error {
        Error::File { path, reason } => Error::TrustedFile { path, reason },
        other => other,
    })
}

/// What holds for one server: the common CAs, those of its folders, and those of the registry that named it.
pub(super) fn config(
    options: &TlsOptions,
    common: &[CertificateDer<'static>],
    authority: &str,
    trust: &Trust,
) -> Result<ClientConfig, Error> {
    let (mut trusted, mut client) = (Vec::new(), None);
    let mut hosts = vec![authority];
    hosts.extend(trust.registry.as_deref().filter(|one| *one != authority));
    for host in hosts {
        for folder in &options.host_folders {
            for path in sorted(&folder.join(host)) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => trusted.extend(certificates(&path)?),
                    Some("cert") if client.is_none() => client = Some(client_certificate(&path)?),
                    _ => {}
                }
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    trusted.extend(common.iter().cloned());
    let verifier = if trust.unchecked {
        Verifier::unchecked(&provider)
    } else {
        Verifier::new(anchors(&trusted, common.is_empty()), trusted, &provider)
    };
    finished(provider, verifier, client)
}

fn anchors(trusted: &[CertificateDer<'static>], built_in: bool) -> RootCertStore {
    let mut store = RootCertStore::empty();
    // One that is odd must not take the others with it.
    store.add_parsable_certificates(trusted.iter().cloned());
    if built_in {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

type Identity = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    PathBuf,
);

fn finished(
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
    client: Option<Identity>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Handshake {
            url: String::new(),
            reason: error.to_string(),
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key, path)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| unreadable(&path, &error)),
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn unreadable(path: &Path, reason: &dyn ToString) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The certificates of a PEM file; what else is in it is passed over.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let found = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(unreadable(path, &"it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn client_certificate(path: &Path) -> Result<Identity, Error> {
    let key_path = path.with_extension("key");
    let bytes = std::fs::read(&key_path).map_err(|error| unreadable(&key_path, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| unreadable(&key_path, &"it holds no private key in PEM form"))?;
    Ok((certificates(path)?, key, path.to_owned()))
}
