//! `rbuild` against Debian's docker-registry, with skopeo as the second opinion: pull, push, login, lazily read bases.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test starts processes, looks at the environment, and speaks"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Whether the tools are there; says so where they aren't, and fails in CI.
pub(crate) fn tools() -> bool {
    let missing: Vec<&str> = ["docker-registry", "skopeo", "htpasswd", "openssl"]
        .into_iter()
        .filter(|tool| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output();
            !found.is_ok_and(|output| output.status.success())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI lacks {missing:?}");
    eprintln!("skipped: {} not installed", missing.join(", "));
    false
}

/// A running registry with its own folder; it ends with the value.
pub(crate) struct Registry {
    folder: TempDir,
    process: Child,
    pub(crate) name: String,
}

impl Registry {
    /// Starts one; `secure` has TLS and wants the user `gitlab-ci-token` with the password `job-token`.
    pub(crate) fn start(secure: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: warn}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            path.display()
        );
        if secure {
            certificates(path);
            let line = run(Command::new("htpasswd").args(["-Bbn", "gitlab-ci-token", "job-token"]));
            fs::write(path.join("htpasswd"), line).unwrap();
            config = format!(
                "{config}  tls: {{certificate: {0}/server.crt, key: {0}/server.key}}\nauth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
                path.display()
            );
        }
        fs::write(path.join("config.yml"), config).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(path.join("log"))
            .unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path.join("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Self {
            folder,
            process,
            name: format!("127.0.0.1:{port}"),
        }
    }

    /// Requests since the last time this was asked: `GET /v2/…`.
    fn requests(&self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(50));
        let path = self.folder.path().join("log");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, "").unwrap();
        let requests = text.lines().filter_map(|line| line.split('"').nth(1));
        requests
            .filter(|request| request.contains(" /v2/"))
            .map(|request| request.trim_end_matches(" HTTP/1.1").to_owned())
            .collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A CA, and a certificate of its for 127.0.0.1.
fn certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=registry
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > extensions
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile extensions";
    run(Command::new("sh").args(["-ec", script]).current_dir(folder));
}

/// Standard output of a command that must end well.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A home and a store.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.0.path().join(rest)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn rbuild(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RBUILD_ROOT", self.path("store"))
            .current_dir(self.0.path());
        command
    }

    /// Runs a line; status, and what it said on standard error.
    fn say(&self, line: &str) -> (i32, String) {
        let output = self
            .rbuild()
            .args(line.split(' '))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text)
    }

    /// Runs a line that must end well; what it said.
    fn well(&self, line: &str) -> String {
        let (status, text) = self.say(line);
        assert_eq!(status, 0, "{line}: {text}");
        text
    }

    fn blobs(&self) -> u64 {
        let blobs = fs::read_dir(self.path("store/blobs/sha256")).unwrap();
        blobs
            .map(|blob| blob.unwrap().metadata().unwrap().len())
            .sum()
    }
}

/// A base of two layers, one of them large, that another store built, in the registry by skopeo.
fn base(registry: &Registry, flags: &[&str]) {
    let maker = Place::new();
    let mut state = 1_u32;
    let big: String = (0..400_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(33 + (state >> 24) as u8 % 89)
        })
        .collect();
    maker.write("base/big", &big);
    maker.write(
        "base/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/:/bin/sh\n",
    );
    maker.write(
        "base/Dockerfile",
        "FROM scratch\nCOPY big /usr/share/big\nCOPY etc /etc\nENV BASE=1\n",
    );
    maker.well("build -t debian:bookworm -o type=oci,dest=base.tar base");
    let from = format!("oci-archive:{}:bookworm", maker.path("base.tar").display());
    let to = format!("docker://{}/debian:bookworm", registry.name);
    run(Command::new("skopeo")
        .args(["copy", "-q"])
        .args(flags)
        .args([&from, &to]));
}

fn inspect(registry: &Registry, image: &str, flags: &[&str]) -> String {
    let name = format!("docker://{}/{image}", registry.name);
    run(Command::new("skopeo")
        .args(["inspect", "--format", "{{.Digest}}"])
        .args(flags)
        .arg(name))
}

const PLAIN: &[&str] = &["--dest-tls-verify=false"];
const PLAIN_INSPECT: &[&str] = &["--tls-verify=false"];

#[test]
fn a_push_on_a_remote_base_stores_none_of_it() {
    if !tools() {
        return;
    }
    let (registry, place) = (Registry::start(false), Place::new());
    base(&registry, PLAIN);
    let name = &registry.name;
    place.write("app/app.conf", "one\n");
    place.write(
        "app/Dockerfile",
        &format!("FROM {name}/debian:bookworm\nCOPY app.conf /etc/\n"),
    );
    let line = |tag: &str| format!("build --push -t {name}/team/app:{tag} app");
    registry.requests();
    let said = place.well(&line("1"));
    let digest = inspect(&registry, "team/app:1", PLAIN_INSPECT);
    assert!(
        said.contains(&format!("pushed {name}/team/app:1 {digest}")),
        "{said}"
    );
    assert!(said.contains("Mounted from debian"), "{said}");
    assert!(place.blobs() < 20_000, "{}", place.blobs());
    place.write("app/app.conf", "two\n");
    registry.requests();
    let said = place.well(&line("2"));
    assert!(said.contains("Layer already exists"), "{said}");
    let requests = registry.requests();
    assert!(
        requests
            .iter()
            .all(|request| !request.starts_with("GET /v2/debian")),
        "{requests:?}"
    );
    assert!(place.blobs() < 20_000, "{}", place.blobs());
    let copy = format!("oci:{}:x", place.path("copy").display());
    let from = format!("docker://{name}/team/app:2");
    run(Command::new("skopeo").args(["copy", "-q", "--src-tls-verify=false", &from, &copy]));
    // Names of users are known without the layer.
    let chown = format!("FROM {name}/debian:bookworm\nCOPY --chown=node app.conf /etc/\n");
    place.write("app/Dockerfile", &chown);
    registry.requests();
    place.well(&line("3"));
    let requests = registry.requests();
    assert!(
        requests
            .iter()
            .all(|request| !request.starts_with("GET /v2/debian")),
        "{requests:?}"
    );
    assert!(place.blobs() < 20_000, "{}", place.blobs());
    // An output needs the layers, and fetches them.
    place.well("build -o type=tar,dest=out.tar app");
    let names = run(Command::new("tar").arg("tf").arg(place.path("out.tar")));
    assert!(
        names.contains("usr/share/big") && names.contains("etc/app.conf"),
        "{names}"
    );
}

#[test]
fn two_machines_share_a_cache() {
    if !tools() {
        return;
    }
    let registry = Registry::start(false);
    base(&registry, PLAIN);
    let name = &registry.name;
    let cache = format!("type=registry,ref={name}/team/cache:main");
    let machine = || {
        let place = Place::new();
        let text = format!(
            "FROM {name}/debian:bookworm AS files\nWORKDIR /made\nCOPY --chown=node a /made/\nFROM {name}/debian:bookworm\nCOPY --from=files /made /made\nCOPY b /\n"
        );
        place.write("context/Dockerfile", &text);
        place.write("context/a", "a");
        place.write("context/b", "b");
        place
    };
    let line = |flags: &str| {
        format!(
            "build --progress plain --source-date-epoch 1700000000 -t {name}/team/app:1 --push {flags} context"
        )
    };
    let one = machine();
    one.well(&line(&format!("--cache-to {cache},mode=max")));
    let pushed = inspect(&registry, "team/app:1", PLAIN_INSPECT);
    registry.requests();
    let two = machine();
    let told = two.well(&line(&format!("--cache-from {cache}")));
    assert_eq!(told.matches("] cached").count(), 4, "{told}");
    assert_eq!(inspect(&registry, "team/app:1", PLAIN_INSPECT), pushed);
    let requests = registry.requests();
    let layers: Vec<_> = requests
        .iter()
        .filter(|one| one.starts_with("GET") && one.contains("/team/cache/blobs/"))
        .collect();
    assert!(layers.is_empty(), "nothing needs a layer: {layers:#?}");
    // Other tools see an index of artifacts, each with its own tag.
    let summary = run(Command::new("skopeo")
        .args(["inspect", "--raw"])
        .args(PLAIN_INSPECT)
        .arg(format!("docker://{name}/team/cache:main")));
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let records = summary["manifests"].as_array().unwrap().len();
    let tags = run(Command::new("skopeo")
        .arg("list-tags")
        .args(PLAIN_INSPECT)
        .arg(format!("docker://{name}/team/cache")));
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"].as_array().unwrap().len(), records + 1);
    assert!(records >= 5, "{summary}");
    // The image carries its own record on request.
    let inline = format!("--cache-from {name}/team/app:1");
    one.well(&line(&inline));
    let told = machine().well(&line(&inline));
    assert_eq!(told.matches("] cached").count(), 4, "{told}");
}

#[test]
fn pull_policies() {
    if !tools() {
        return;
    }
    let (registry, place) = (Registry::start(false), Place::new());
    base(&registry, PLAIN);
    let name = &registry.name;
    place.write(
        "app/Dockerfile",
        &format!("FROM {name}/debian:bookworm\nLABEL a=b\n"),
    );
    let build = |flag: &str| place.say(&format!("build {flag} -t {name}/x:1 --push app"));
    let (status, text) = build("--pull=never");
    assert_eq!(status, 5, "{text}");
    assert_eq!(build("--pull=missing").0, 0);
    registry.requests();
    assert_eq!(build("--pull=missing").0, 0);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| !request.contains("/v2/debian"))
    );
    assert_eq!(build("--pull").0, 0);
    let asked = registry.requests();
    assert!(
        asked
            .iter()
            .any(|request| request == "HEAD /v2/debian/manifests/bookworm"),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|request| !request.starts_with("GET /v2/debian")),
        "{asked:?}"
    );
    let other = Place::new();
    other.well(&format!("pull {name}/debian:bookworm"));
    assert!(other.blobs() > 100_000);
    other.well(&format!("push {name}/debian:bookworm"));
    let (status, text) = other.say(&format!("pull {name}/debian:none"));
    assert!(
        status == 5 && text.contains("is not in the registry"),
        "{text}"
    );
}

/// The commands of a job, as GitLab's documentation has them with `docker` replaced.
const JOB: &str = r#"
    echo "$CI_JOB_TOKEN" | rbuild login -u gitlab-ci-token --password-stdin "$CI_REGISTRY"
    rbuild build --pull --build-arg CI_REGISTRY --build-arg VERSION="$CI_COMMIT_TAG" \
        -t "$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA" -t "$CI_REGISTRY_IMAGE:latest" --iidfile digest --push .
    rbuild push "$CI_REGISTRY_IMAGE:latest"
    rbuild logout "$CI_REGISTRY""#;

/// Runs the job; how it ended, and what it said.
fn job(place: &Place, registry: &str, token: &str) -> (bool, String) {
    let bin = place.path("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rbuild"), bin.join("rbuild")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-ec", JOB])
        .env_clear()
        .env("HOME", place.0.path())
        .env("PATH", &path)
        .env("CI_REGISTRY", registry)
        .env("CI_REGISTRY_IMAGE", format!("{registry}/group/app"))
        .env("CI_COMMIT_SHORT_SHA", "0123abcd")
        .env("CI_COMMIT_TAG", "v1")
        .env("CI_JOB_TOKEN", token)
        .current_dir(place.0.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

/// Trusts the registry's CA.
fn trust(registry: &Registry, place: &Place, folder: &str) -> PathBuf {
    let certs = place.path(&format!("{folder}/certs.d/{}", registry.name));
    fs::create_dir_all(&certs).unwrap();
    fs::copy(registry.folder.path().join("ca.crt"), certs.join("ca.crt")).unwrap();
    certs
}

/// The README's GitLab job, as a script, where the registry wants a login and has a certificate of its own CA.
#[test]
fn the_gitlab_job_works_with_a_job_token() {
    if !tools() {
        return;
    }
    let (registry, place) = (Registry::start(true), Place::new());
    let name = &registry.name;
    let (status, text) = place.say(&format!("pull {name}/debian:bookworm"));
    assert!(
        status == 5 && text.contains("certificate") && text.contains("certs.d"),
        "{text}"
    );
    let certs = trust(&registry, &place, ".config/containers");
    let (status, text) = place.say(&format!("pull {name}/debian:bookworm"));
    assert!(
        status == 5 && text.contains("no credentials were found"),
        "{text}"
    );
    assert!(text.contains(&format!("rbuild login {name}")), "{text}");
    let flag = format!("--dest-cert-dir={}", certs.display());
    base(
        &registry,
        &[&flag, "--dest-creds=gitlab-ci-token:job-token"],
    );
    place.write("Dockerfile", "ARG CI_REGISTRY\nFROM $CI_REGISTRY/debian:bookworm\nARG VERSION\nLABEL version=$VERSION\nCOPY app.conf /etc/\n");
    place.write("app.conf", "x\n");
    let (well, text) = job(&place, name, "wrong-token");
    assert!(!well && text.contains("denies the login"), "{text}");
    assert!(
        !text.contains("wrong-token") && !place.path(".docker/config.json").exists(),
        "{text}"
    );
    let (well, text) = job(&place, name, "job-token");
    assert!(well, "{text}");
    assert!(!text.contains("job-token"), "{text}");
    let config = place.path(".docker/config.json");
    assert_eq!(
        fs::metadata(&config).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!fs::read_to_string(&config).unwrap().contains(name));
    let flags = [
        format!("--cert-dir={}", certs.display()),
        "--creds=gitlab-ci-token:job-token".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let digest = fs::read_to_string(place.path("digest")).unwrap();
    for tag in ["0123abcd", "latest"] {
        assert_eq!(
            inspect(&registry, &format!("group/app:{tag}"), &flags),
            digest
        );
    }
    let auth = format!(
        "DOCKER_AUTH_CONFIG={{\"auths\":{{\"{name}\":{{\"username\":\"gitlab-ci-token\",\"password\":\"job-token\"}}}}}}"
    );
    let (key, value) = auth.split_once('=').unwrap();
    let pulled = Place::new();
    trust(&registry, &pulled, ".docker");
    let line = format!("pull -q {name}/group/app:latest");
    let output = pulled
        .rbuild()
        .args(line.split(' '))
        .env(key, value)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), digest);
}
