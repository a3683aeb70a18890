//! The registry room against a registry that misbehaves on demand, through the real transport.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use builder_core::digest::Digest;
use builder_core::event::{Event, Recorder, Settled};
use builder_core::http::client::{Client, ClientOptions};
use builder_core::interrupt::Interrupt;
use builder_core::oci::{Descriptor, MediaType};
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::registry::retry::Clock;
use builder_core::registry::{Credentials, Pull, Registry, RegistryOptions, Secret};
use builder_core::store::{BlobSource as _, Store};
use builder_core::{Error, ErrorKind};
use test_support::registry::{Auth, Fault, Registry as Double, digest};

/// A clock that doesn't wait, and tells how long it was asked to.
#[derive(Default)]
struct Patience(AtomicU64);

impl Clock for Patience {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, pause: Duration) {
        let millis = u64::try_from(pause.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

pub(crate) struct Case {
    pub(crate) double: Double,
    pub(crate) store: Store,
    _folder: tempfile::TempDir,
    clock: Patience,
    pub(crate) events: Recorder,
    pub(crate) options: RegistryOptions,
    pub(crate) secret: Option<Secret>,
    pub(crate) layer: Vec<u8>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Case {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            double: Double::start(),
            store: Store::open(folder.path()).unwrap(),
            _folder: folder,
            clock: Patience::default(),
            events: Recorder::default(),
            options: RegistryOptions::default(),
            secret: None,
            layer: (0..300_000_u32)
                .map(|number| (number * 7 % 251) as u8)
                .collect(),
        }
    }

    pub(crate) fn reference(&self, text: &str) -> Reference {
        format!("{}/{text}", self.double.name()).parse().unwrap()
    }

    /// An image with one layer; the digest of its manifest.
    pub(crate) fn image(&self, repository: &str, tag: &str) -> String {
        let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
        let layer = self.double.put_blob(repository, &self.layer);
        let id = self.double.put_blob(repository, config);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{}}}]}}"#,
            config.len(),
            self.layer.len()
        );
        self.double
            .put_manifest(repository, tag, MANIFEST, manifest.as_bytes())
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&Registry<'_>) -> T) -> T {
        let client = Client::new(&ClientOptions {
            idle_timeout: Duration::from_secs(2),
            ..ClientOptions::default()
        })
        .unwrap();
        let interrupt = Interrupt::default();
        let credentials = |_: &Reference| {
            Some(Credentials {
                secret: self.secret.clone()?,
                source: "the test".to_owned(),
            })
        };
        work(&Registry::new(
            &client,
            &self.clock,
            &credentials,
            &self.options,
            &self.events,
            &interrupt,
        ))
    }

    pub(crate) fn pull(&self, text: &str) -> Result<Descriptor, Error> {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let reference = self.reference(text);
        self.with(|registry| registry.pull(&self.store, &reference, &platform, Pull::Everything))
    }

    pub(crate) fn push(&self, image: &Descriptor, text: &str) -> Result<Digest, Error> {
        let to = self.reference(text);
        self.with(|registry| {
            registry
                .push(&self.store, image, &[to])
                .map(|pushed| pushed.digest)
        })
    }

    /// How long was waited, in milliseconds.
    pub(crate) fn waited(&self) -> u128 {
        self.clock.elapsed().as_millis()
    }

    pub(crate) fn settled(&self) -> Vec<Settled> {
        let events = self.events.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::BlobSettled { how, .. } => Some(how),
                _ => None,
            })
            .collect()
    }
}

pub(crate) fn password(user: &str, password: &str) -> Secret {
    Secret::Password {
        username: user.to_owned(),
        password: password.to_owned(),
    }
}

pub(crate) fn all(error: &Error) -> String {
    let mut text = format!(
        "{error}\n{}\n{}",
        error.notes().join("\n"),
        error.help().unwrap_or("")
    );
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}\n{inner}");
        cause = inner.source();
    }
    text
}

#[test]
fn pulls_an_image_and_verifies_it() {
    let case = Case::new();
    let manifest = case.image("team/app", "1");
    let found = case.pull("team/app:1").unwrap();
    assert_eq!(found.digest.to_string(), manifest);
    assert!(
        case.store
            .contains(&digest(&case.layer).parse().unwrap())
            .unwrap()
    );
    let name = case.reference("team/app:1").to_string();
    assert_eq!(
        case.store.resolve(&name).unwrap().unwrap().digest,
        found.digest
    );
}

#[test]
fn what_breaks_heals() {
    let reset = || Fault::Reset;
    let answer = |status, headers: &[(&str, &str)]| {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fault::Answer(status, headers.collect(), String::new())
    };
    for (method, part, times, fault, waited) in [
        ("GET", "/manifests/", 1, answer(500, &[]), 250),
        ("GET", "/manifests/", 2, answer(503, &[]), 750),
        (
            "GET",
            "/manifests/",
            1,
            answer(429, &[("Retry-After", "7")]),
            7000,
        ),
        ("GET", "/manifests/", 1, reset(), 250),
        ("GET", "/blobs/", 1, Fault::Cut(1000), 250),
        ("GET", "/blobs/", 3, Fault::Cut(10), 750),
        // A connection that was kept and turns out to be closed is no failure: there is no pause.
        ("GET", "/blobs/", 1, reset(), 0),
        ("GET", "/blobs/", 2, reset(), 250),
        ("GET", "/blobs/", 1, Fault::Short(100), 250),
    ] {
        let case = Case::new();
        case.image("a", "1");
        let layer = digest(&case.layer);
        let part = if part == "/blobs/" { &layer } else { part };
        case.double.fault(method, part, times, fault.clone());
        let found = case.pull("a:1");
        assert!(found.is_ok(), "{fault:?}: {found:?}");
        assert!(
            case.clock.elapsed() >= Duration::from_millis(waited),
            "{fault:?}"
        );
        assert!(
            case.store
                .contains(&digest(&case.layer).parse().unwrap())
                .unwrap()
        );
    }
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let case = Case::new();
    case.image("a", "1");
    let layer = digest(&case.layer);
    case.double.fault("GET", &layer, 1, Fault::Cut(200_000));
    case.pull("a:1").unwrap();
    let ranges: Vec<String> = case
        .double
        .seen()
        .into_iter()
        .filter(|seen| seen.path.contains(&layer))
        .map(|seen| seen.headers.get("range").cloned().unwrap_or_default())
        .collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[1].starts_with("bytes="), "{ranges:?}");
}

#[test]
fn a_server_that_ignores_ranges_is_no_trouble() {
    let case = Case::new();
    case.image("a", "1");
    let layer = digest(&case.layer);
    case.double.fault("GET", &layer, 1, Fault::Cut(200_000));
    case.double.fault("GET", &layer, 1, Fault::NoRange);
    case.pull("a:1").unwrap();
}

#[test]
fn lies_are_found_and_nothing_bad_is_stored() {
    for (part, fault, words) in [
        ("/blobs/", Fault::Lie, "received a blob with digest"),
        ("/blobs/", Fault::Long(5), "received"),
        ("/manifests/", Fault::Lie, "sha256:"),
    ] {
        let case = Case::new();
        case.image("a", "1");
        case.double.fault("GET", part, 9, fault.clone());
        let error = case.pull("a:1").unwrap_err();
        assert!(all(&error).contains(words), "{fault:?}: {}", all(&error));
        assert!(
            !case
                .store
                .contains(&digest(&case.layer).parse().unwrap())
                .unwrap()
        );
        assert!(case.store.tags().unwrap().is_empty());
    }
}

#[test]
fn tokens_are_fetched_and_fetched_again() {
    let mut case = Case::new();
    case.image("a", "1");
    // Every token is good for one request; two at once would take each other's.
    case.options.parallel = 1;
    case.double.auth(Auth::Bearer(None, 1));
    case.pull("a:1").unwrap();
    let seen = case.double.seen();
    let tokens: Vec<&str> = seen
        .iter()
        .filter(|one| one.path.starts_with("/token"))
        .map(|one| one.path.as_str())
        .collect();
    assert!(tokens.len() >= 3, "{tokens:?}");
    assert_eq!(
        tokens[0],
        "/token?service=double&scope=repository%3Aa%3Apull"
    );
}

#[test]
fn credentials_reach_the_token_server_and_the_registry() {
    for (auth, secret, fine) in [
        (
            Auth::Basic("me".into(), "pw".into()),
            Some(password("me", "pw")),
            true,
        ),
        (
            Auth::Basic("me".into(), "pw".into()),
            Some(password("me", "other")),
            false,
        ),
        (Auth::Basic("me".into(), "pw".into()), None, false),
        (
            Auth::Bearer(Some(("me".into(), "pw".into())), 99),
            Some(password("me", "pw")),
            true,
        ),
        (
            Auth::Bearer(Some(("me".into(), "pw".into())), 99),
            Some(password("me", "no")),
            false,
        ),
        (
            Auth::Bearer(Some(("me".into(), "pw".into())), 99),
            None,
            false,
        ),
        (
            Auth::Bearer(Some(("me".into(), "refresh".into())), 99),
            Some(Secret::IdentityToken("refresh".into())),
            true,
        ),
        (
            Auth::Bearer(Some(("me".into(), "refresh".into())), 99),
            Some(Secret::IdentityToken("stale".into())),
            false,
        ),
    ] {
        let mut case = Case::new();
        case.image("a", "1");
        case.double.auth(auth.clone());
        case.secret.clone_from(&secret);
        let found = case.pull("a:1");
        assert_eq!(found.is_ok(), fine, "{auth:?} {secret:?} {found:?}");
        let Err(error) = found else {
            continue;
        };
        let text = all(&error);
        assert_eq!(error.kind(), ErrorKind::Registry);
        assert!(text.contains("denies pulling from `a`"), "{text}");
        assert!(
            text.contains(&format!("rbuild login {}", case.double.name())),
            "{text}"
        );
        let source = if secret.is_some() {
            "from the test"
        } else {
            "no credentials were found"
        };
        assert!(text.contains(source), "{text}");
        for word in ["other", "stale"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[test]
fn odd_challenges_are_understood() {
    for challenge in [
        r#"bearer realm="http://ADDRESS/token" , service=double"#,
        r#"Basic realm="x", Bearer service="double",realm="http://ADDRESS/token""#,
        r#"BEARER realm="http://ADDRESS/token""#,
        r#"Bearer realm="http://ADDRESS/token?x=y",scope="repository:a:pull",error="insufficient_scope""#,
    ] {
        let case = Case::new();
        case.image("a", "1");
        case.double.auth(Auth::Bearer(None, 99));
        case.double.challenge(challenge);
        let found = case.pull("a:1");
        assert!(found.is_ok(), "{challenge}: {found:?}");
    }
    let case = Case::new();
    case.double.auth(Auth::Bearer(None, 99));
    case.double.challenge("Negotiate");
    assert!(all(&case.pull("a:1").unwrap_err()).contains("negotiate"));
    case.double
        .challenge(r#"Bearer realm="http://tokens.example.com/token""#);
    let error = case.pull("a:1").unwrap_err();
    assert!(!all(&error).is_empty());
}

#[test]
fn redirects_carry_no_credentials_to_another_host() {
    let mut case = Case::new();
    case.image("a", "1");
    case.double.auth(Auth::Basic("me".into(), "pw".into()));
    case.secret = Some(password("me", "pw"));
    let elsewhere = Double::start();
    let layer = elsewhere.put_blob("b", &case.layer);
    let to = format!(
        "http://{}/v2/b/blobs/{layer}?signature=secret",
        elsewhere.name()
    );
    let headers = vec![("Location".to_owned(), to)];
    case.double
        .fault("GET", &layer, 9, Fault::Answer(307, headers, String::new()));
    case.pull("a:1").unwrap();
    let seen = elsewhere.seen();
    assert!(!seen.is_empty());
    assert!(
        seen.iter()
            .all(|one| !one.headers.contains_key("authorization")),
        "{seen:?}"
    );
}

#[test]
fn unknown_names_foreign_documents_and_rate_limits_have_their_errors() {
    let case = Case::new();
    let text = all(&case.pull("a:none").unwrap_err());
    assert!(text.contains("a:none` is not in the registry"), "{text}");
    let index = "application/vnd.oci.image.index.v1+json";
    case.double.put_manifest(
        "a",
        "old",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        br#"{"schemaVersion":1,"fsLayers":[]}"#,
    );
    case.double.put_manifest("a", "chart", MANIFEST, br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#);
    case.double.put_manifest("a", "arm", index, br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"platform":{"os":"linux","architecture":"arm64"}}]}"#);
    for (tag, words) in [
        ("old", "schema version 1"),
        ("chart", "application/vnd.cncf.helm.config.v1+json"),
        ("arm", "it has linux/arm64"),
    ] {
        let error = case.pull(&format!("a:{tag}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BaseImage);
        assert!(all(&error).contains(words), "{}", all(&error));
    }
    let headers = vec![("Retry-After".to_owned(), "3600".to_owned())];
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    case.double.fault(
        "GET",
        "/manifests/",
        9,
        Fault::Answer(429, headers, body.to_owned()),
    );
    let text = all(&case.pull("a:old").unwrap_err());
    assert!(
        text.contains("3600 s") && text.contains("--registry-mirror"),
        "{text}"
    );
}

#[test]
fn an_index_and_a_pinned_digest() {
    let case = Case::new();
    let manifest = case.image("a", "amd64");
    let size = case.double.manifest("a", "amd64").unwrap().len();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{manifest}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
    );
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let pinned = case.double.put_manifest("a", "1", kind, index.as_bytes());
    let found = case.pull(&format!("a:other@{pinned}")).unwrap();
    assert_eq!(found.digest.to_string(), pinned);
    assert_eq!(found.media_type, MediaType::DockerManifestList);
    assert!(case.store.contains(&manifest.parse().unwrap()).unwrap());
    let resolved = case
        .with(|registry| registry.resolve(&case.reference("a:1")))
        .unwrap();
    assert_eq!(resolved.digest, found.digest);
}

#[test]
fn a_mirror_comes_first_and_may_fail() {
    let mut case = Case::new();
    case.image("a", "1");
    let mirror = Double::start();
    let name = case.double.name();
    case.options.mirrors = BTreeMap::from([(name, vec![format!("http://{}", mirror.name())])]);
    case.pull("a:1").unwrap();
    assert!(
        mirror
            .seen()
            .iter()
            .any(|seen| seen.path.contains("/manifests/1"))
    );
    assert!(!case.double.seen().is_empty());
}

#[test]
fn pushes_mounts_and_skips() {
    let case = Case::new();
    case.image("team/app", "1");
    let image = case.pull("team/app:1").unwrap();
    case.double.seen();
    assert_eq!(case.push(&image, "other/app:2").unwrap(), image.digest);
    let mounted = Settled::Mounted {
        from: "team/app".to_owned(),
    };
    assert!(case.settled().contains(&mounted));
    let bodies: usize = case.double.seen().iter().map(|seen| seen.body).sum();
    assert!(bodies < 1000, "{bodies}");
    case.push(&image, "other/app:3").unwrap();
    let requests: BTreeSet<String> = case
        .double
        .seen()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert!(!requests.contains("POST"), "{requests:?}");
    assert!(case.double.manifest("other/app", "3").is_some());
}

#[test]
fn uploads_survive_what_registries_do() {
    let unavailable = || Fault::Answer(503, Vec::new(), String::new());
    for (method, part, times, fault, fine) in [
        ("POST", "mount=", 9, Fault::MountRefused, true),
        (
            "POST",
            "mount=",
            9,
            Fault::Answer(403, Vec::new(), String::new()),
            true,
        ),
        ("POST", "/uploads/", 9, Fault::RelativeLocation, true),
        ("POST", "/uploads/", 9, Fault::NoLocation, false),
        ("PUT", "/uploads/", 1, unavailable(), true),
        ("PUT", "/uploads/", 2, Fault::Reset, true),
        (
            "PUT",
            "/uploads/",
            1,
            Fault::Answer(404, Vec::new(), String::new()),
            true,
        ),
        ("PUT", "/manifests/", 2, unavailable(), true),
        ("HEAD", "/blobs/", 1, unavailable(), true),
    ] {
        let case = Case::new();
        case.image("a", "1");
        let image = case.pull("a:1").unwrap();
        if !part.contains("mount") {
            case.double.fault(
                "POST",
                "mount=",
                9,
                Fault::Answer(405, Vec::new(), String::new()),
            );
        }
        case.double.fault(method, part, times, fault.clone());
        let pushed = case.push(&image, "b:1");
        assert_eq!(
            pushed.is_ok(),
            fine,
            "{method} {part} {fault:?}: {pushed:?}"
        );
        if fine {
            assert!(case.double.has("b", &digest(&case.layer)));
        }
    }
}

#[test]
fn one_token_allows_to_read_the_source_of_a_mount() {
    let mut case = Case::new();
    case.image("team/app", "1");
    let image = case.pull("team/app:1").unwrap();
    case.double
        .auth(Auth::Bearer(Some(("me".into(), "pw".into())), 99));
    case.secret = Some(password("me", "pw"));
    case.double.seen();
    case.push(&image, "other/app:2").unwrap();
    let both = "scope=repository%3Aother%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fapp%3Apull";
    let seen = case.double.seen();
    assert!(seen.iter().any(|one| one.path.contains(both)), "{seen:#?}");
}

#[test]
fn what_the_store_lacks_is_sent_on_to_another_registry() {
    let case = Case::new();
    case.image("a", "1");
    let platform: Platform = "linux/amd64".parse().unwrap();
    let from = case.reference("a:1");
    let pull =
        |registry: &Registry<'_>| registry.pull(&case.store, &from, &platform, Pull::Documents);
    let image = case.with(pull).unwrap();
    let layer: Digest = digest(&case.layer).parse().unwrap();
    assert!(!case.store.contains(&layer).unwrap());
    let other = Double::start();
    let to: Reference = format!("{}/b:1", other.name()).parse().unwrap();
    case.with(|registry| registry.push(&case.store, &image, &[to]))
        .unwrap();
    assert!(other.has("b", &layer.to_string()));
    assert!(!case.store.contains(&layer).unwrap());
    let blob = Descriptor::new(MediaType::LayerTar, layer, case.layer.len() as u64);
    case.with(|registry| registry.fetch(&case.store, &[blob]))
        .unwrap();
    assert!(case.store.contains(&layer).unwrap());
}

#[test]
fn an_index_is_pushed_with_the_images_that_were_never_pulled() {
    let case = Case::new();
    let manifest = case.image("a", "amd64");
    let size = case.double.manifest("a", "amd64").unwrap().len();
    let arm = br#"{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let id = case.double.put_blob("a", arm);
    let other = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},"layers":[]}}"#,
        arm.len()
    );
    let second = case
        .double
        .put_manifest("a", "arm64", MANIFEST, other.as_bytes());
    let entry = |digest: &str, size: usize, name: &str| {
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{name}"}}}}"#
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        entry(&manifest, size, "amd64"),
        entry(&second, other.len(), "arm64")
    );
    let kind = "application/vnd.oci.image.index.v1+json";
    case.double.put_manifest("a", "1", kind, index.as_bytes());
    let image = case.pull("a:1").unwrap();
    let target = Double::start();
    let to: Reference = format!("{}/b:1", target.name()).parse().unwrap();
    case.with(|registry| registry.push(&case.store, &image, &[to]))
        .unwrap();
    assert!(target.has("b", &id) && target.has("b", &digest(&case.layer)));
    assert_eq!(target.manifest("b", "1").unwrap(), index.as_bytes());
    assert!(target.manifest("b", &second).is_some());
}

#[test]
fn a_token_is_fetched_anew_before_it_expires() {
    let case = Case::new();
    case.image("a", "1");
    case.double.auth(Auth::Bearer(None, 99));
    let reference = case.reference("a:1");
    let tokens = || {
        let seen = case.double.seen().into_iter();
        seen.filter(|one| one.path.starts_with("/token")).count()
    };
    case.with(|registry| {
        registry.resolve(&reference).unwrap();
        registry.resolve(&reference).unwrap();
        assert_eq!(tokens(), 1);
        // The double's tokens live for 300 s.
        case.clock.sleep(Duration::from_secs(280));
        registry.resolve(&reference).unwrap();
        assert_eq!(tokens(), 0);
        case.clock.sleep(Duration::from_secs(15));
        registry.resolve(&reference).unwrap();
        let seen = case.double.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].path.starts_with("/token") && seen[1].status == 200);
    });
}
