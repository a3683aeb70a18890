//! `rbuild` and a registry with what companies put around it: certificates of every kind, nginx with a limit of bodies,
//! squid. Debian's docker-registry, nginx, squid and openssl are the other side.

#![allow(
    clippy::disallowed_methods,
    reason = "a test starts processes and looks at the environment"
)]

use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use test_support::tools::require;

/// A process that ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a server and waits until it listens.
fn start(program: &Path, arguments: &[&str], host: IpAddr, port: u16) -> Server {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    for _ in 0..400 {
        if TcpStream::connect((host, port)).is_ok() {
            return server;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{} does not listen", program.display());
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// docker-registry in a folder, with more of a configuration.
fn registry(folder: &Path, host: IpAddr, more: &str) -> Option<(Server, u16)> {
    let program = require("docker-registry")?;
    let port = port();
    let config = folder.join(format!("registry-{port}.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp:\n  addr: {host}:{port}\n{more}",
        folder.display()
    );
    fs::write(&config, text).unwrap();
    let server = start(&program, &["serve", config.to_str().unwrap()], host, port);
    Some((server, port))
}

/// Runs a line in a folder that is its home, with more of an environment; its status, and what it said.
fn say(folder: &Path, line: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rbuild"))
        .args(line.split(' '))
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RBUILD_ROOT", folder.join("store"))
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// A CA, one on P-521, and certificates that something is the matter with.
const PKI: &str = r"
key() { openssl ecparam -name $2 -genkey -noout -out $1.key; }
ca() { key $1 $2; openssl req -x509 -key $1.key -subj /CN=$1 -days 3 -out $1.crt; }
# NAME CA EXTENSIONS [CURVE]
leaf() {
    key $1 ${4:-prime256v1}
    openssl req -new -key $1.key -subj /CN=$1 -out $1.csr
    printf '%b' $3 > $1.ext
    openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -CAcreateserial -days 3 -extfile $1.ext -out $1.crt
}
ca ca prime256v1
ca ca521 secp521r1
leaf good ca 'subjectAltName=IP:127.0.0.1'
leaf p521 ca 'subjectAltName=IP:127.0.0.1' secp521r1
leaf by521 ca521 'subjectAltName=IP:127.0.0.1'
leaf othername ca 'subjectAltName=DNS:other.example.com'
leaf client ca 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth'
# The recipe of Docker's documentation: it makes a CA of itself.
openssl req -newkey rsa:2048 -nodes -keyout self.key -addext subjectAltName=IP:127.0.0.1 -x509 -days 3 -subj /CN=self -out self.crt
openssl req -newkey rsa:2048 -nodes -keyout expired.key -subj /CN=expired -out expired.csr
printf 'subjectAltName=IP:127.0.0.1\n' > expired.ext
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=i\nnew_certs_dir=.\nserial=s\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' > cnf
: > i; echo 77 > s
openssl ca -batch -config cnf -cert ca.crt -keyfile ca.key -in expired.csr -out expired.crt -startdate 20200101000000Z -enddate 20210101000000Z -extfile expired.ext -notext
";

/// What a pull says where TLS is agreed on: there is no such image.
const TRUSTED: &str = "is not in the registry";

/// The certificate shown, what lies in certs.d, whether the host is named insecure, what is said, and what is not.
const CERTIFICATES: &[(&str, &str, bool, &str, &str)] = &[
    ("good", "ca", false, TRUSTED, "certificate"),
    ("p521", "ca", false, TRUSTED, "certificate"),
    ("by521", "ca521", false, TRUSTED, "certificate"),
    ("self", "self", false, TRUSTED, "certificate"),
    ("good", "good", false, TRUSTED, "certificate"),
    ("self", "", true, TRUSTED, "certificate"),
    ("expired", "", true, TRUSTED, "certificate"),
    ("othername", "", true, TRUSTED, "certificate"),
    (
        "self",
        "",
        false,
        "signed by no CA that is trusted here",
        "has expired",
    ),
    (
        "good",
        "ca521",
        false,
        "signed by no CA that is trusted here",
        "has expired",
    ),
    ("expired", "ca", false, "has expired", "put the CA"),
    ("expired", "expired", false, "has expired", "put the CA"),
    (
        "othername",
        "ca",
        false,
        "is for `other.example.com`, not for this name",
        "put the CA",
    ),
    (
        "othername",
        "othername",
        false,
        "is for `other.example.com`, not for this name",
        "put the CA",
    ),
    (
        "client",
        "ca",
        false,
        "is not made for a server",
        "put the CA",
    ),
];

#[test]
fn certificates_are_trusted_as_docker_trusts_them() {
    if require("openssl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut pki = Command::new("bash");
    pki.args(["-ec", PKI]).current_dir(folder.path());
    let made = pki.output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for (shown, trusted, flag, expected, never) in CERTIFICATES {
        let path = folder.path().display();
        let tls = format!("  tls: {{certificate: {path}/{shown}.crt, key: {path}/{shown}.key}}\n");
        let Some((_server, port)) = registry(folder.path(), LOOPBACK, &tls) else {
            return;
        };
        let name = format!("127.0.0.1:{port}");
        if !trusted.is_empty() {
            let certs = folder.path().join(".config/containers/certs.d").join(&name);
            fs::create_dir_all(&certs).unwrap();
            fs::copy(
                folder.path().join(format!("{trusted}.crt")),
                certs.join("x.crt"),
            )
            .unwrap();
        }
        let flag = if *flag {
            format!(" --insecure-registry {name}")
        } else {
            String::new()
        };
        let (status, text) = say(folder.path(), &format!("pull{flag} {name}/none:1"), &[]);
        assert_eq!(status, 5, "{shown} {trusted}: {text}");
        assert!(text.contains(expected), "{shown} {trusted}: {text}");
        assert!(!text.contains(never), "{shown} {trusted}: {text}");
        assert!(!text.contains("plain HTTP"), "{shown} {trusted}: {text}");
        if *shown == "good" {
            files_of_cas(folder.path(), &name);
        }
    }
}

/// What `SSL_CERT_FILE` may hold, where a registry shows a certificate of the CA.
fn files_of_cas(pki: &Path, name: &str) {
    let ca = pki.join("ca.crt");
    let own = tempfile::tempdir().unwrap();
    for (file, expected) in [
        (ca.to_str().unwrap(), TRUSTED),
        (
            "/builds/project.tmp/CA_FILE",
            "`/builds/project.tmp/CA_FILE`, which SSL_CERT_FILE names",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMII",
            "holds the text of a certificate",
        ),
    ] {
        let line = format!("pull {name}/none:1");
        let (_, text) = say(own.path(), &line, &[("SSL_CERT_FILE", file)]);
        assert!(text.contains(expected), "{file}: {text}");
    }
}

/// A context with a file of noise, which nothing compresses.
fn context(folder: &Path, bytes: usize) {
    let mut state = 7_u32;
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    fs::create_dir_all(folder.join("app")).unwrap();
    fs::write(folder.join("app/noise"), noise).unwrap();
    fs::write(
        folder.join("app/Dockerfile"),
        "FROM scratch\nCOPY noise /noise\n",
    )
    .unwrap();
}

#[test]
fn a_limit_of_bodies_in_front_is_got_around_or_told() {
    let (Some(nginx), folder) = (require("nginx"), tempfile::tempdir().unwrap()) else {
        return;
    };
    let Some((_registry, behind)) = registry(folder.path(), LOOPBACK, "") else {
        return;
    };
    context(folder.path(), 3_000_000);
    for (limit, fine) in [("1m", true), ("100k", false)] {
        let port = port();
        let path = folder.path().display();
        let text = format!(
            "pid {path}/nginx.pid; error_log /dev/null; daemon off; master_process off; events {{}}\nhttp {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\nserver {{ listen 127.0.0.1:{port}; client_max_body_size {limit}; location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_set_header Host $http_host; }} }} }}\n"
        );
        let config = folder.path().join(format!("nginx-{limit}.conf"));
        fs::write(&config, text).unwrap();
        let arguments = [
            "-c",
            config.to_str().unwrap(),
            "-p",
            folder.path().to_str().unwrap(),
        ];
        let _nginx = start(&nginx, &arguments, LOOPBACK, port);
        let name = format!("127.0.0.1:{port}/team/{limit}:1");
        let (status, text) = say(folder.path(), &format!("build --push -t {name} app"), &[]);
        if fine {
            assert_eq!(status, 0, "{text}");
            let (status, text) = say(
                folder.path(),
                &format!("pull 127.0.0.1:{behind}/team/{limit}:1"),
                &[],
            );
            assert_eq!(status, 0, "{text}");
            continue;
        }
        assert_eq!(status, 5, "{text}");
        assert!(
            text.contains("413") && text.contains("client_max_body_size"),
            "{text}"
        );
        assert!(
            !text.contains("insecure-registry") && !text.contains("can't be reached"),
            "{text}"
        );
    }
}

/// An address of this machine that is not loopback, which no proxy would be asked for. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn squid_is_asked_in_absolute_form_and_its_refusals_are_its_own() {
    let (Some(squid), folder) = (require("squid"), tempfile::tempdir().unwrap()) else {
        return;
    };
    let Some(address) = own_address() else {
        test_support::tools::skip("this machine has no address but loopback");
        return;
    };
    let Some((_registry, behind)) = registry(folder.path(), address, "") else {
        return;
    };
    let port = port();
    // CONNECT is for port 443 alone, as Debian ships it.
    let text = format!(
        "http_port 127.0.0.1:{port}\naccess_log none\ncache_log /dev/null\npid_filename none\ncache deny all\nacl connect method CONNECT\nacl tls port 443\nacl denied urlpath_regex /denied/\nhttp_access deny connect !tls\nhttp_access deny denied\nhttp_access allow all\nshutdown_lifetime 0 seconds\n"
    );
    let config = folder.path().join("squid.conf");
    fs::write(&config, text).unwrap();
    let arguments = ["-N", "-f", config.to_str().unwrap()];
    let _squid = start(&squid, &arguments, LOOPBACK, port);
    context(folder.path(), 100_000);
    let proxy = format!("http://127.0.0.1:{port}");
    let host = format!("{address}:{behind}");
    let through = [
        ("HTTP_PROXY", proxy.as_str()),
        ("HTTPS_PROXY", proxy.as_str()),
    ];
    let push = |name: &str, environment: &[(&str, &str)]| {
        let line = format!("build --insecure-registry {host} --push -t {host}/{name}:1 app");
        say(folder.path(), &line, environment)
    };
    let (status, text) = push("team/app", &through);
    assert_eq!(status, 0, "{text}");
    let (status, text) = push("denied/app", &through);
    assert_eq!(status, 5, "{text}");
    let named = format!("the proxy `127.0.0.1:{port}` answered with status 403");
    assert!(text.contains(&named), "{text}");
    let dead = [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let (status, text) = push("team/app", &dead);
    assert_eq!(status, 5, "{text}");
    assert!(
        text.contains("the proxy `127.0.0.1:1` can't be reached"),
        "{text}"
    );
    assert!(!text.contains("--insecure-registry "), "{text}");
    drop::<TempDir>(folder);
}
