//! Whom to trust: the system's CAs, CAs and client certificates for single hosts.
//!
//! The folders are those of Docker and Podman, `certs.d/HOST[:PORT]/`: `*.crt` are CAs; `NAME.cert` with `NAME.key` is
//! the certificate that we show.

use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::Error;

/// Where certificates are. Files and folders that don't exist are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The system's CAs, as PEM: the first of these files that exists holds.
    pub system_files: Vec<PathBuf>,
    /// The system's CAs as folders of PEM files, where no file is there.
    pub system_folders: Vec<PathBuf>,
    /// More CAs, as PEM. A file that is missing is an error.
    pub extra_files: Vec<PathBuf>,
    /// Folders that hold a folder for each host, `certs.d`.
    pub host_folders: Vec<PathBuf>,
}

/// Reads the CAs that hold for every host. Without any, those that this program was built with.
pub(super) fn roots(options: &TlsOptions) -> Result<Vec<Certificate<'static>>, Error> {
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
    for path in &options.extra_files {
        found.extend(certificates(path)?);
    }
    Ok(found)
}

/// What holds for one host: the common CAs and those of its folders.
pub(super) fn config(
    options: &TlsOptions,
    common: &RootCerts,
    certificates_of_all: &[Certificate<'static>],
    authority: &str,
) -> Result<TlsConfig, Error> {
    let mut own = Vec::new();
    let mut client = None;
    for folder in &options.host_folders {
        for path in sorted(&folder.join(authority)) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => own.extend(certificates(&path)?),
                Some("cert") => client = Some(client_certificate(&path)?),
                _ => {}
            }
        }
    }
    let roots = if own.is_empty() {
        common.clone()
    } else {
        own.extend(certificates_of_all.iter().cloned());
        RootCerts::new_with_certs(&own)
    };
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(client)
        .build())
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
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let found = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(one)) => Some(one),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(unreadable(path, &"it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn client_certificate(path: &Path) -> Result<ClientCert, Error> {
    let key_path = path.with_extension("key");
    let bytes = std::fs::read(&key_path).map_err(|error| unreadable(&key_path, &error))?;
    let key = PrivateKey::from_pem(&bytes)
        .map_err(|_| unreadable(&key_path, &"it holds no private key in PEM form"))?;
    Ok(ClientCert::new_with_certs(&certificates(path)?, key))
}
