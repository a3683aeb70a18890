//! Credential sources: a table of cases, and real helper scripts on the PATH.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use builder_core::interrupt::Interrupt;
use builder_core::registry::Secret;
use builder_core::timestamp::Timestamp;

use super::*;

/// `user:pw` and `other:pw`.
const USER: &str = r#"{"auth":"dXNlcjpwdw=="}"#;
const OTHER: &str = r#"{"auth":"b3RoZXI6cHc"}"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../target/credentials")
            .join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        let home = self.0.to_str().unwrap();
        let path = format!("{home}/bin:/usr/bin:/bin");
        let own = [("HOME", home), ("PATH", path.as_str())];
        let all = own.iter().chain(variables);
        Environment {
            program: None,
            variables: all
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
            directory: self.0.clone(),
            now: Timestamp::default(),
            terminal: false,
            input_terminal: false,
            output_terminal: false,
            processors: 1,
        }
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/docker-credential-{name}"), script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn found(environment: &Environment, image: &str) -> String {
    match Finder::new(environment, &Interrupt::default()).find(&image.parse().unwrap()) {
        None => "none".to_owned(),
        Some(found) => match found.secret {
            Secret::Password { username, password } => format!("{username}:{password}"),
            Secret::IdentityToken(token) => format!("identity {token}"),
            Secret::RegistryToken(token) => format!("registry {token}"),
            Secret::Unusable(why) => format!("unusable: {why}"),
        },
    }
}

#[test]
fn keys_fit_hosts_ports_and_paths() {
    for (auths, image, expected) in [
        (format!(r#"{{"r.io":{USER}}}"#), "r.io/a", "user:pw"),
        (format!(r#"{{"r.io":{USER}}}"#), "r.io:5000/a", "none"),
        (
            format!(r#"{{"r.io:5000":{USER}}}"#),
            "r.io:5000/a",
            "user:pw",
        ),
        (format!(r#"{{"r.io:5000":{USER}}}"#), "r.io/a", "none"),
        (format!(r#"{{"https://r.io":{USER}}}"#), "r.io/a", "user:pw"),
        (
            format!(r#"{{"https://r.io/v2/":{USER}}}"#),
            "r.io/a",
            "user:pw",
        ),
        (
            format!(r#"{{"https://index.docker.io/v1/":{USER}}}"#),
            "alpine",
            "user:pw",
        ),
        (format!(r#"{{"docker.io":{USER}}}"#), "team/app", "user:pw"),
        (format!(r#"{{"index.docker.io":{USER}}}"#), "r.io/a", "none"),
        (
            format!(r#"{{"r.io":{USER},"r.io/team":{OTHER}}}"#),
            "r.io/team/app",
            "other:pw",
        ),
        (
            format!(r#"{{"r.io":{USER},"r.io/team":{OTHER}}}"#),
            "r.io/teams/app",
            "user:pw",
        ),
        (
            format!(r#"{{"r.io/team":{OTHER},"r.io":{USER}}}"#),
            "r.io/x",
            "user:pw",
        ),
        (
            format!(r#"{{"r.io/team/app":{OTHER}}}"#),
            "r.io/team",
            "none",
        ),
        (r#"{"r.io":{}}"#.to_owned(), "r.io/a", "none"),
        (
            format!(r#"{{"r.io/a":{{"auth":"!!"}},"r.io":{USER}}}"#),
            "r.io/a",
            "user:pw",
        ),
        (
            r#"{"r.io":{"username":"a","password":"b:c"}}"#.to_owned(),
            "r.io/a",
            "a:b:c",
        ),
        (
            r#"{"r.io":{"auth":"dXNlcjpwdw==","identitytoken":"t"}}"#.to_owned(),
            "r.io/a",
            "identity t",
        ),
        (
            r#"{"r.io":{"registrytoken":"t"}}"#.to_owned(),
            "r.io/a",
            "registry t",
        ),
    ] {
        let folder = Folder::new("keys");
        let text = format!(r#"{{"auths":{auths}}}"#);
        let environment = folder.environment(&[("DOCKER_AUTH_CONFIG", &text)]);
        assert_eq!(found(&environment, image), expected, "{auths} {image}");
    }
}

#[test]
fn an_entry_that_can_t_be_read_says_why() {
    for (entry, expected) in [
        ("!!", "is no base64 of `user:password`"),
        (
            "$CI_TOKEN",
            "is no base64: it looks like a variable that nobody expanded",
        ),
        (
            "user:pw",
            "is no base64: it looks like the plain `user:password`",
        ),
        ("dXNlcg==", "is base64 of something without a `:`"),
    ] {
        let folder = Folder::new("spoilt");
        let text = format!(r#"{{"auths":{{"r.io":{{"auth":"{entry}"}}}}}}"#);
        folder.write(".docker/config.json", &text);
        let expected = format!("unusable: its entry `r.io` has an `auth` that {expected}");
        assert_eq!(found(&folder.environment(&[]), "r.io/a"), expected);
    }
}

#[test]
fn sources_have_an_order() {
    let folder = Folder::new("order");
    let with =
        |user: &str| format!(r#"{{"auths":{{"r.io":{{"username":"{user}","password":"x"}}}}}}"#);
    let home = folder.0.to_str().unwrap().to_owned();
    folder.write(".config/containers/auth.json", &with("podman"));
    let mut variables = Vec::new();
    let check = |variables: &[(&str, String)], expected: &str| {
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let environment = folder.environment(&variables);
        assert_eq!(found(&environment, "r.io/a"), format!("{expected}:x"));
    };
    check(&variables, "podman");
    folder.write("run/containers/auth.json", &with("runtime"));
    variables.push(("XDG_RUNTIME_DIR", format!("{home}/run")));
    check(&variables, "runtime");
    folder.write(".docker/config.json", &with("docker"));
    check(&variables, "docker");
    folder.write("named/config.json", &with("named"));
    variables.push(("DOCKER_CONFIG", format!("{home}/named")));
    check(&variables, "named");
    folder.write("auth.json", &with("file"));
    variables.push(("REGISTRY_AUTH_FILE", format!("{home}/auth.json")));
    check(&variables, "file");
    variables.push(("DOCKER_AUTH_CONFIG", with("variable")));
    check(&variables, "variable");
    variables.push(("DOCKER_AUTH_CONFIG", "{broken".to_owned()));
    check(&variables, "file");
}

#[test]
fn helpers_answer_have_nothing_or_are_missing() {
    let folder = Folder::new("helpers");
    folder.helper(
        "good",
        "#!/bin/sh\nread -r server\n[ \"$1\" = get ] && printf '{\"Username\":\"%s\",\"Secret\":\"s\"}' \"$server\"\n",
    );
    folder.helper(
        "token",
        "#!/bin/sh\necho '{\"Username\":\"<token>\",\"Secret\":\"t\"}'\n",
    );
    folder.helper(
        "empty",
        "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n",
    );
    folder.helper(
        "broken",
        "#!/bin/sh\nprintf 'role:\\n\\tExpiredToken\\n' >&2\nexit 1\n",
    );
    folder.helper("leaky", "#!/bin/sh\necho '{\"Secret\":\"s\"}'\nexit 1\n");
    for (config, image, expected) in [
        (r#"{"credHelpers":{"r.io":"good"}}"#, "r.io/a", "r.io:s"),
        (r#"{"credHelpers":{"r.io":"good"}}"#, "q.io/a", "none"),
        (
            r#"{"credsStore":"good"}"#,
            "alpine",
            "https://index.docker.io/v1/:s",
        ),
        (
            r#"{"credsStore":"good","auths":{"r.io":{}}}"#,
            "r.io/a",
            "r.io:s",
        ),
        (
            r#"{"credsStore":"empty","credHelpers":{"r.io":"token"}}"#,
            "r.io/a",
            "identity t",
        ),
        (r#"{"credsStore":"empty"}"#, "r.io/a", "none"),
        (
            r#"{"credsStore":"missing"}"#,
            "r.io/a",
            "unusable: the credential helper `docker-credential-missing` is not on the PATH",
        ),
        (
            r#"{"credHelpers":{"r.io":"broken"}}"#,
            "r.io/a",
            "unusable: the credential helper `docker-credential-broken` failed for `r.io`: role: ExpiredToken",
        ),
        (
            r#"{"credHelpers":{"r.io":"broken"},"credsStore":"good"}"#,
            "r.io/a",
            "r.io:s",
        ),
        (
            r#"{"credHelpers":{"r.io":"leaky"}}"#,
            "r.io/a",
            "unusable: the credential helper `docker-credential-leaky` failed for `r.io`",
        ),
    ] {
        folder.write(".docker/config.json", config);
        assert_eq!(found(&folder.environment(&[]), image), expected, "{config}");
    }
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_login_touches_nothing_else_and_is_private() {
    let folder = Folder::new("login");
    let path = folder.write(
        ".docker/config.json",
        r#"{"auths":{"q.io":{"auth":"x","email":"e"},"https://r.io/v1/":{"auth":"old"}},"HttpHeaders":{"A":"b"}}"#,
    );
    let environment = folder.environment(&[]);
    login(&environment, "r.io", "user", "p:w", &Interrupt::default()).unwrap();
    assert_eq!(found(&environment, "r.io/a"), "user:p:w");
    let document = read(&path);
    assert_eq!(document["HttpHeaders"]["A"], "b");
    assert_eq!(document["auths"]["q.io"]["email"], "e");
    assert_eq!(document["auths"].as_object().unwrap().len(), 2);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    login(&environment, "docker.io", "me", "pw", &Interrupt::default()).unwrap();
    assert!(read(&path)["auths"]["https://index.docker.io/v1/"].is_object());
    assert!(
        logout(&environment, "r.io", &Interrupt::default())
            .unwrap()
            .is_some()
    );
    assert!(
        logout(&environment, "r.io", &Interrupt::default())
            .unwrap()
            .is_none()
    );
    assert_eq!(found(&environment, "r.io/a"), "none");
    let left = std::fs::read_dir(folder.0.join(".docker")).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn a_login_goes_through_the_helper_that_is_configured() {
    let folder = Folder::new("store");
    folder.helper("keep", "#!/bin/sh\ncat > \"$HOME/kept-$1\"\n");
    let path = folder.write(".docker/config.json", r#"{"credsStore":"keep"}"#);
    let environment = folder.environment(&[]);
    login(
        &environment,
        "r.io",
        "user",
        "secret",
        &Interrupt::default(),
    )
    .unwrap();
    let kept = read(&folder.0.join("kept-store"));
    assert_eq!(
        (&kept["ServerURL"], &kept["Secret"]),
        (&"r.io".into(), &"secret".into())
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret") && text.contains("r.io"), "{text}");
    logout(&environment, "r.io", &Interrupt::default()).unwrap();
    assert_eq!(
        std::fs::read_to_string(folder.0.join("kept-erase")).unwrap(),
        "r.io"
    );
    folder.write(".docker/config.json", r#"{"credsStore":"gone"}"#);
    let error = login(
        &environment,
        "r.io",
        "user",
        "secret",
        &Interrupt::default(),
    )
    .unwrap_err();
    assert!(!format!("{error:?}").contains("secret\""), "{error:?}");
}
