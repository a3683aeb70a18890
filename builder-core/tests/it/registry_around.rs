//! What stands around a company's registry: odd challenges, gateways, mirrors, limits, old registries, web pages.

use std::collections::BTreeMap;

use builder_core::event::Event;
use builder_core::registry::Secret;
use test_support::registry::{Auth, Fault, Registry as Double, digest};

use crate::registry::{Case, MANIFEST, all, password};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Fault::Answer(status, headers.iter().map(own).collect(), body.to_owned())
}

#[test]
fn token_servers_say_it_in_many_ways() {
    let json = &[("Content-Type", "application/json")][..];
    for (token, fine) in [
        (
            answer(
                200,
                json,
                r#"{"token":null,"access_token":"T","scope":null}"#,
            ),
            true,
        ),
        (
            answer(200, json, r#"{"token":"T","expires_in":"300"}"#),
            true,
        ),
        (
            answer(
                200,
                json,
                r#"{"token":"T","expires_in":18446744073709551615}"#,
            ),
            true,
        ),
        (answer(200, json, r#"{"token":""}"#), false),
        (
            answer(200, &[("Content-Type", "text/html")], "<html>login</html>"),
            false,
        ),
        (
            answer(403, json, r#"{"errors":[{"message":"Forbidden"}]}"#),
            false,
        ),
    ] {
        let case = Case::new();
        case.image("a", "1");
        case.double.auth(Auth::Bearer(None, 99));
        case.double.accept_token("T");
        case.double.fault("GET", "/token", 9, token.clone());
        let found = case.pull("a:1");
        assert_eq!(found.is_ok(), fine, "{token:?}: {found:?}");
    }
}

#[test]
fn an_identity_token_goes_by_get_where_there_is_no_post() {
    for (status, token, fine) in [
        (404, "refresh", true),
        (401, "refresh", true),
        (405, "refresh", true),
        (404, "stale", false),
        (500, "refresh", false),
    ] {
        let mut case = Case::new();
        case.image("a", "1");
        case.double
            .auth(Auth::Bearer(Some((String::new(), "refresh".into())), 99));
        case.double
            .fault("POST", "/token", 9, answer(status, &[], ""));
        case.secret = Some(Secret::IdentityToken(token.into()));
        let found = case.pull("a:1");
        assert_eq!(found.is_ok(), fine, "{status} {token}: {found:?}");
        if let Err(error) = found {
            assert!(!all(&error).contains(token), "{}", all(&error));
        }
    }
}

#[test]
fn the_scope_of_a_challenge_is_asked_for_too() {
    let case = Case::new();
    case.image("base/app", "1");
    case.double.auth(Auth::Bearer(None, 99));
    case.double.challenge(
        r#"Bearer realm="http://ADDRESS/token",service="double",scope="repository:app:pull""#,
    );
    case.pull("base/app:1").unwrap();
    let seen = case.double.seen();
    let token = seen
        .iter()
        .find(|one| one.path.starts_with("/token"))
        .unwrap();
    assert!(
        token
            .path
            .contains("scope=repository%3Abase%2Fapp%3Apull&scope=repository%3Aapp%3Apull"),
        "{}",
        token.path
    );
}

#[test]
fn who_hides_what_is_private_is_asked_at_the_front() {
    let mut case = Case::new();
    case.image("a", "1");
    case.double.auth(Auth::Basic("me".into(), "pw".into()));
    case.double.hide(true);
    let error = case.pull("a:1").unwrap_err();
    assert!(
        all(&error).contains("is not in the registry"),
        "{}",
        all(&error)
    );
    case.secret = Some(password("me", "pw"));
    case.double.seen();
    case.pull("a:1").unwrap();
    let fronts = case.double.seen();
    let fronts = fronts
        .iter()
        .filter(|one| one.path == "/v2/" && one.method == "GET");
    assert_eq!(fronts.count(), 1);
}

#[test]
fn a_password_goes_to_no_foreign_realm_in_the_open() {
    let mut case = Case::new();
    case.image("a", "1");
    case.double.auth(Auth::Bearer(None, 99));
    case.double
        .challenge(r#"Bearer realm="http://tokens.example.com/token""#);
    case.secret = Some(password("me", "pw"));
    let text = all(&case.pull("a:1").unwrap_err());
    assert!(
        text.contains("is plain HTTP") && text.contains("--insecure-registry tokens.example.com"),
        "{text}"
    );
}

#[test]
fn documents_are_read_as_they_are_meant() {
    let case = Case::new();
    let manifest = case.image("a", "1");
    let bytes = case.double.manifest("a", "1").unwrap();
    let entry = format!(
        r#"{{"mediaType":"{MANIFEST}","digest":"{manifest}","size":{}}}"#,
        bytes.len()
    );
    let index = "application/vnd.oci.image.index.v1+json";
    let of = |entries: &str| {
        format!(r#"{{"schemaVersion":2,"manifests":[{entries}],"annotations":null}}"#)
    };
    // One entry without a platform; the same one twice, of which the config decides; an index within an index.
    case.double
        .put_manifest("a", "one", index, of(&entry).as_bytes());
    case.double.put_manifest(
        "a",
        "two",
        index,
        of(&format!("{entry},{entry}")).as_bytes(),
    );
    let inner = of(&entry);
    let below = case
        .double
        .put_manifest("a", "inner", index, inner.as_bytes());
    let below = format!(
        r#"{{"mediaType":"{index}","digest":"{below}","size":{}}}"#,
        inner.len()
    );
    case.double
        .put_manifest("a", "nested", index, of(&below).as_bytes());
    case.double
        .fault("GET", "/manifests/cut", 1, Fault::Cut(100));
    case.double.put_manifest("a", "cut", MANIFEST, &bytes);
    case.double.put_manifest("a", "zipped", MANIFEST, &bytes);
    case.double
        .fault("GET", "/manifests/zipped", 9, Fault::Zipped);
    // A config and a layer too.
    case.double.fault("GET", "/blobs/", 9, Fault::Zipped);
    for tag in ["zipped", "one", "two", "nested", "cut"] {
        let found = case.pull(&format!("a:{tag}"));
        assert!(found.is_ok(), "{tag}: {found:?}");
    }
    case.double.put_manifest(
        "a",
        "page",
        "text/html",
        b"<!doctype html><title>Welcome to nginx!</title>",
    );
    let text = all(&case.pull("a:page").unwrap_err());
    assert!(
        text.contains("a web page (HTML)") && text.contains("Welcome to nginx!"),
        "{text}"
    );
    let nothing = case.double.put_blob("a", br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},"history":null}"#);
    let empty = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{nothing}","size":95}},"layers":null}}"#
    );
    case.double
        .put_manifest("a", "empty", MANIFEST, empty.as_bytes());
    case.pull("a:empty").unwrap();
}

#[test]
fn a_layer_is_fetched_from_where_its_descriptor_says() {
    let case = Case::new();
    case.image("elsewhere", "1");
    let layer = digest(&case.layer);
    let place = format!("http://{}/v2/elsewhere/blobs/{layer}", case.double.name());
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let id = case.double.put_blob("a", config);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{layer}","size":{},"urls":["http://127.0.0.1:1/no","{place}"]}}]}}"#,
        config.len(),
        case.layer.len()
    );
    case.double
        .put_manifest("a", "1", MANIFEST, manifest.as_bytes());
    case.pull("a:1").unwrap();
    assert!(case.store.contains(&layer.parse().unwrap()).unwrap());
}

#[test]
fn a_mirror_with_a_path_and_one_that_is_dead() {
    let mut case = Case::new();
    case.image("library/alpine", "3");
    let mirror = Double::start();
    // The mirror has the very same image below the name of a project.
    let bytes = case.double.manifest("library/alpine", "3").unwrap();
    mirror.put_manifest("proxy/library/alpine", "3", MANIFEST, &bytes);
    let home = case.double.name();
    let place = format!("http://{}/proxy", mirror.name());
    case.options.mirrors =
        BTreeMap::from([(home.clone(), vec!["http://127.0.0.1:1".to_owned(), place])]);
    case.pull("library/alpine:3").unwrap();
    let seen = mirror.seen();
    assert!(
        seen.iter()
            .any(|one| one.path == "/v2/proxy/library/alpine/manifests/3" && one.status == 200),
        "{seen:?}"
    );
    let notices = |case: &Case| -> Vec<String> {
        let events = case.events.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::Notice { message } => Some(message),
                _ => None,
            })
            .collect()
    };
    let told = notices(&case);
    assert_eq!(
        told.iter()
            .filter(|one| one.contains("127.0.0.1:1"))
            .count(),
        1,
        "{told:?}"
    );
    // Each request would have asked it five times.
    assert_eq!(case.waited(), 0);
    case.double.fault(
        "GET",
        "/manifests/",
        9,
        answer(429, &[("Retry-After", "3600")], ""),
    );
    case.options.mirrors = BTreeMap::from([(home, vec!["http://127.0.0.1:1".to_owned()])]);
    let text = all(&case.pull("library/alpine:other").unwrap_err());
    assert!(
        text.contains("the mirror `http://127.0.0.1:1` failed"),
        "{text}"
    );
    assert!(!text.contains("or use a mirror"), "{text}");
}

#[test]
fn limits_of_bodies_are_got_around_or_told() {
    for (limit, fine) in [(100_000_000, true), (300_000, true), (1000, false)] {
        let mut case = Case::new();
        case.layer = (0..900_000_u32)
            .map(|number| (number * 7 % 251) as u8)
            .collect();
        case.image("a", "1");
        let image = case.pull("a:1").unwrap();
        let target = Double::start();
        target.limit_bodies(limit);
        let to = format!("{}/b:1", target.name()).parse().unwrap();
        let pushed = case.with(|registry| registry.push(&case.store, &image, &[to]));
        assert_eq!(pushed.is_ok(), fine, "{limit}: {pushed:?}");
        match pushed {
            Ok(_) => assert!(target.has("b", &digest(&case.layer))),
            Err(error) => {
                let text = all(&error);
                assert!(
                    text.contains("900000 bytes") && text.contains("status 413"),
                    "{text}"
                );
                assert!(text.contains("client_max_body_size"), "{text}");
            }
        }
        assert_eq!(case.waited(), 0, "{limit}");
    }
}

#[test]
fn a_refusal_is_shown_in_the_registry_s_words() {
    let case = Case::new();
    case.image("a", "1");
    let image = case.pull("a:1").unwrap();
    let words = "Your authorization token has expired. Reauthenticate and try again.\n";
    let plain = &[("Content-Type", "text/plain")][..];
    case.double
        .fault("HEAD", "/v2/b/", 99, answer(403, plain, ""));
    case.double
        .fault("POST", "/v2/b/", 99, answer(403, plain, words));
    let text = all(&case.push(&image, "b:1").unwrap_err());
    assert!(
        text.contains("the registry says: Your authorization token has expired."),
        "{text}"
    );
    case.double
        .fault("HEAD", "/v2/c/", 99, answer(403, plain, ""));
    let quota =
        r#"{"errors":[{"code":"DENIED","message":"no","detail":"quota of 5 GB is used up"}]}"#;
    case.double
        .fault("POST", "mount=", 99, answer(405, plain, ""));
    case.double
        .fault("PUT", "/v2/c/blobs/", 99, answer(403, plain, quota));
    let text = all(&case.push(&image, "c:1").unwrap_err());
    assert!(
        text.contains("quota of 5 GB is used up") && text.contains("300000 bytes"),
        "{text}"
    );
}

#[test]
fn a_registry_that_knows_docker_s_types_alone_gets_them() {
    for (status, code) in [(415, "X"), (400, "MANIFEST_INVALID")] {
        let case = Case::new();
        case.image("a", "1");
        let image = case.pull("a:1").unwrap();
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#);
        case.double
            .fault("PUT", "/manifests/", 1, answer(status, &[], &body));
        case.push(&image, "b:1").unwrap();
        let bytes = case.double.manifest("b", "1").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("application/vnd.docker.distribution.manifest.v2+json"),
            "{text}"
        );
        assert!(
            text.contains("application/vnd.docker.container.image.v1+json"),
            "{text}"
        );
        assert!(!text.contains("vnd.oci"), "{text}");
        assert!(case.double.has("b", &digest(&case.layer)));
    }
}

/// `sha512:` of some bytes.
fn sha512(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha512::digest(bytes);
    let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{}", digits.concat())
}

#[test]
fn what_others_named_by_sha512_is_verified_and_kept() {
    for lie in [false, true] {
        let case = Case::new();
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
        let id = case.double.put_blob("a", config);
        let layer = sha512(&case.layer);
        let mut bytes = case.layer.clone();
        bytes[7] ^= u8::from(lie);
        case.double.put_blob_as("a", &layer, &bytes);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{}}}]}}"#,
            config.len(),
            bytes.len()
        );
        case.double
            .put_manifest("a", "1", MANIFEST, manifest.as_bytes());
        let found = case.pull("a:1");
        assert_eq!(found.is_ok(), !lie, "{found:?}");
        let kept = case.store.contains(&layer.parse().unwrap()).unwrap();
        assert_eq!(kept, !lie);
    }
}
