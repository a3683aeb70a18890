//! Environment and flags -> transport and registries: proxies, CAs, insecure hosts, mirrors.

mod registries_conf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder_core::build::request::RegistryAccess;
use builder_core::http::Transport;
use builder_core::http::client::{Client, ClientOptions};
use builder_core::http::proxy::Proxies;
use builder_core::http::tls::TlsOptions;
use builder_core::interrupt::Interrupt;
use builder_core::reference::DEFAULT_REGISTRY;
use builder_core::registry::RegistryOptions;
use builder_core::{Error, ErrorKind, Result};

use crate::credentials::Finder;
use crate::environment::Environment;
use crate::flags::RegistryFlags;

/// Where the distributions keep the CAs, as one file.
const CA_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The one client of the program.
pub(crate) fn transport(
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Arc<dyn Transport + Send + Sync>> {
    let options = ClientOptions {
        proxies: proxies(environment),
        tls: tls(environment),
        user_agent: format!("rbuild/{}", env!("CARGO_PKG_VERSION")),
        interrupt: interrupt.clone(),
        ..ClientOptions::default()
    };
    let client = Client::new(&options).map_err(|error| {
        let message = format!("the proxy of the environment: {error}");
        Error::new(ErrorKind::Usage, message).with_help("write `http://HOST:PORT`")
    })?;
    Ok(Arc::new(client))
}

fn proxies(environment: &Environment) -> Proxies {
    let value = |names: &[&str]| {
        let values = names.iter().filter_map(|name| environment.text(name));
        values.map(str::to_owned).find(|value| !value.is_empty())
    };
    Proxies {
        http: value(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
        https: value(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
        none: value(&["NO_PROXY", "no_proxy"]).unwrap_or_default(),
    }
}

fn tls(environment: &Environment) -> TlsOptions {
    let file = environment.path("SSL_CERT_FILE").map(Path::to_owned);
    let folders = environment.path("SSL_CERT_DIR").map_or_else(
        || vec![PathBuf::from("/etc/ssl/certs")],
        |list| std::env::split_paths(list).collect(),
    );
    let home = |rest: &str| environment.path("HOME").map(|home| home.join(rest));
    let own = [
        home(".docker/certs.d"),
        environment
            .config()
            .map(|config| config.join("containers/certs.d")),
    ];
    TlsOptions {
        named_file: file,
        system_files: CA_FILES.iter().map(PathBuf::from).collect(),
        system_folders: folders,
        host_folders: ["/etc/docker/certs.d", "/etc/containers/certs.d"]
            .map(PathBuf::from)
            .into_iter()
            .chain(own.into_iter().flatten())
            .collect(),
    }
}

/// How registries are reached: flags before the configuration file.
pub(crate) fn registries(
    flags: &RegistryFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<RegistryAccess> {
    let mut options = RegistryOptions::default();
    registries_conf::read(&mut options, environment)?;
    if let Some(path) = environment
        .config()
        .map(|config| config.join("rbuild/registries.json"))
        && let Ok(bytes) = std::fs::read(&path)
    {
        configure(&mut options, &bytes, &path)?;
    }
    options.insecure.extend(flags.insecure.iter().cloned());
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mirror in &flags.mirrors {
        let (registry, url) = match mirror.split_once('=') {
            Some((registry, url)) if !registry.contains("://") => (registry, url),
            _ => (DEFAULT_REGISTRY, mirror.as_str()),
        };
        given
            .entry(registry.to_owned())
            .or_default()
            .push(url.to_owned());
    }
    options.mirrors.extend(given);
    let finder = Finder::new(environment, interrupt);
    Ok(RegistryAccess {
        options,
        credentials: Arc::new(move |reference| finder.find(reference)),
    })
}

/// `{"insecure-registries": […], "registry-mirrors": {"docker.io": […]}}`.
fn configure(options: &mut RegistryOptions, bytes: &[u8], path: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct File {
        #[serde(default)]
        insecure_registries: Vec<String>,
        #[serde(default)]
        registry_mirrors: BTreeMap<String, Vec<String>>,
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| {
        Error::new(
            ErrorKind::Usage,
            format!("the configuration file `{}` is not valid", path.display()),
        )
        .with_help(
            "it has `insecure-registries`, a list, and `registry-mirrors`, lists by registry",
        )
        .with_source(error)
    })?;
    options.insecure.extend(file.insecure_registries);
    options.mirrors.extend(file.registry_mirrors);
    Ok(())
}
