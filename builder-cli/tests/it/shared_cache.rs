//! Caches that machines share: two stores stand for two machines, and a registry, a directory or an image between them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use test_support::registry::{Fault, Registry};
use test_support::tools::require;
use test_support::world::{Outcome, World};

use crate::world;

/// Three stages: the image holds one file of each of the others.
const DOCKERFILE: &str = "FROM busybox AS deps
COPY deps/ /deps/
RUN cat /deps/list > /resolved
FROM busybox AS build
ARG MODE=release
COPY --from=deps /resolved /src/
RUN head -c 300000 /dev/urandom > /large && echo $MODE > /src/out
COPY src/ /src/
RUN cat /src/main.c /src/out > /out
FROM busybox
COPY --from=build /out /app/out
RUN echo hi > /app/hi
COPY run.sh /app/
";

/// A project and a registry.
struct Shared {
    world: World,
    registry: Registry,
}

impl Shared {
    fn new() -> Option<Self> {
        let busybox = require("busybox")?;
        let world = world();
        fs::create_dir_all(world.path("base/bin")).unwrap();
        fs::create_dir(world.path("base/tmp")).unwrap();
        fs::set_permissions(world.path("base/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs::copy(busybox, world.path("base/bin/busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "head"] {
            symlink("busybox", world.path("base/bin").join(applet)).unwrap();
        }
        for (path, text) in [
            ("Dockerfile", DOCKERFILE),
            ("deps/list", "one\n"),
            ("src/main.c", "main"),
            ("run.sh", "#!/bin/sh\n"),
        ] {
            world.write(format!("context/{path}"), text);
        }
        Some(Self {
            world,
            registry: Registry::start(),
        })
    }

    /// Builds as the machine `machine`; `R` in the flags is the registry.
    fn try_build(&self, machine: &str, flags: &str) -> Outcome {
        let flags = flags.replace("R/", &format!("{}/", self.registry.name()));
        self.world.line(&format!(
            "build --progress plain --source-date-epoch 1700000001 --root @/{machine} --build-context busybox=@/base {flags} @/context"
        ))
    }

    /// Builds into a tarball; the image's digest, and what was told.
    fn build(&self, machine: &str, flags: &str) -> (String, String) {
        let name = machine.replace('/', "-");
        let into = format!("-o type=oci,dest=@/{name}.tar --metadata-file @/{name}.json {flags}");
        let outcome = self.try_build(machine, &into).exits(0);
        let metadata = fs::read_to_string(self.world.path(format!("{name}.json"))).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        let digest = metadata["containerimage.digest"].as_str().unwrap();
        (digest.to_owned(), outcome.stderr)
    }

    /// Leaves the records beside the summary alone.
    fn lose_the_summary(&self) {
        let empty = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"application/vnd.rbuild.cache.v1+json","manifests":[]}"#;
        let kind = "application/vnd.oci.image.index.v1+json";
        self.registry
            .put_manifest("team/cache", "main", kind, empty);
    }

    /// The requests since the last time, as `METHOD PATH STATUS`.
    fn requests(&self, from: usize) -> Vec<String> {
        let seen = self.registry.seen();
        let seen = seen.iter().skip(from);
        seen.map(|one| format!("{} {} {}", one.method, one.path, one.status))
            .collect()
    }
}

/// How many steps were executed: those that made a layer without being found.
fn executed(told: &str) -> usize {
    let lines: Vec<&str> = told.lines().collect();
    let made = lines.iter().filter(|line| line.contains("] layer of "));
    let found = |line: &&&str| {
        let step = line.split(']').next().unwrap_or_default();
        lines.contains(&format!("{step}] cached").as_str())
    };
    made.filter(|line| !found(line)).count()
}

const TO: &str = "--cache-to type=registry,ref=R/team/cache:main,mode=";
const FROM: &str = "--cache-from type=registry,ref=R/team/cache:main";

#[test]
fn a_second_machine_builds_nothing() {
    for mode in ["max", "min"] {
        let Some(shared) = Shared::new() else { return };
        let (first, told) = shared.build("one", &format!("{TO}{mode}"));
        assert!(!told.contains("] cached"), "{told}");
        let before = shared.registry.seen().len();
        let (second, told) = shared.build("two", FROM);
        assert_eq!(second, first, "{mode}: {told}");
        assert_eq!(executed(&told), 0, "{mode}: {told}");
        let requests = shared.requests(before);
        let layers = requests
            .iter()
            .filter(|one| one.starts_with("GET") && one.contains("/blobs/"));
        // The image has four layers that were made here; that of the busybox is made of the directory.
        assert!(layers.count() <= 4, "{mode}: {requests:#?}");
        let manifests = requests.iter().filter(|one| one.contains("/manifests/"));
        assert!(
            manifests.count() <= 2,
            "one summary tells it all: {requests:#?}"
        );
    }
}

#[test]
fn a_change_costs_what_depends_on_it() {
    let Some(shared) = Shared::new() else { return };
    shared.build("one", &format!("{TO}min"));
    // The stage `build` has to go on from a layer that nobody has: that one is made again.
    shared.world.write("context/src/main.c", "niam");
    let (second, told) = shared.build("two", FROM);
    assert!(told.contains("is made anew"), "{told}");
    let (cold, _) = shared.build("cold", "");
    assert_eq!(second, cold);
    shared.world.write("context/src/main.c", "main");
    shared.build("one", &format!("{TO}max"));
    shared.world.write("context/src/main.c", "niam");
    // A machine that never built it says what another one knew.
    let name = shared.registry.name();
    let why = shared.world.line(&format!(
        "why --root @/asks --build-context busybox=@/base --cache-from type=registry,ref={name}/team/cache:main @/context"
    ));
    let text = String::from_utf8(why.exits(0).stdout).unwrap();
    assert!(
        text.contains("COPY src/ /src/\n    the files are other ones\n"),
        "{text}"
    );
    assert!(!text.contains("nothing like it"), "{text}");
    let (third, told) = shared.build("three", &format!("{FROM} {TO}max"));
    assert!(!told.contains("is made anew"), "{told}");
    let (fourth, told) = shared.build("four", FROM);
    assert_eq!(fourth, third);
    assert_eq!(executed(&told), 0, "{told}");
}

#[test]
fn a_push_fetches_no_layer() {
    let Some(shared) = Shared::new() else { return };
    shared.build("one", &format!("{TO}max"));
    shared.world.write("context/run.sh", "#!/bin/sh\nexit 0\n");
    let before = shared.registry.seen().len();
    let name = format!("{}/team/app:1", shared.registry.name());
    let told = shared
        .try_build("two", &format!("{FROM} -t {name} --push"))
        .exits(0)
        .stderr;
    assert!(told.contains("pushed"), "{told}");
    let requests = shared.requests(before);
    let fetched: Vec<_> = requests
        .iter()
        .filter(|one| one.starts_with("GET") && one.contains("/blobs/"))
        .collect();
    // COPY asks whether `/app` is there: the indexes of the layers tell, not the layers.
    let store = shared.world.path("two/blobs/sha256");
    let stored: u64 = fs::read_dir(store)
        .unwrap()
        .map(|blob| blob.unwrap().metadata().unwrap().len())
        .sum();
    let base = fs::metadata(shared.world.path("base/bin/busybox"))
        .unwrap()
        .len();
    assert!(stored < base + 20_000, "{stored} of {base}: {fetched:#?}");
    assert!(fetched.len() <= 6, "{requests:#?}");
    let manifest = shared.registry.manifest("team/app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        assert!(shared.registry.has("team/app", digest), "{digest}");
    }
}

#[test]
fn a_registry_that_knows_images_only_is_enough() {
    let Some(shared) = Shared::new() else { return };
    shared.registry.images_only();
    let (first, _) = shared.build("one", &format!("{TO}max"));
    let (second, told) = shared.build("two", FROM);
    assert_eq!((second, executed(&told)), (first, 0), "{told}");
}

/// Without an epoch, too: another machine's build without a change gives the same image, whatever the cache is.
#[test]
fn machines_agree_on_when_an_image_was_made() {
    for way in ["registry", "local", "inline"] {
        let Some(shared) = Shared::new() else { return };
        let registry = shared.registry.name();
        let flags = match way {
            "local" => {
                "--cache-from type=local,src=@/cache --cache-to type=local,dest=@/cache".to_owned()
            }
            "inline" => format!("--cache-from {registry}/app:1"),
            _ => format!(
                "--cache-from type=registry,ref={registry}/c:x --cache-to type=registry,ref={registry}/c:x"
            ),
        };
        let build = |machine: &str, more: &str| {
            let outcome = shared.world.line(&format!(
                "build -q --root @/{machine} --build-context busybox=@/base -t {registry}/app:1 --push {flags} {more} @/context"
            ));
            outcome.exits(0).stdout
        };
        let first = build("one", "");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(build("two", ""), first, "{way}");
        assert_ne!(build("three", "--label new=1"), first, "{way}");
    }
}

/// Two stages that begin alike share keys; the layers of the one that is the image go along all the same.
#[test]
fn stages_that_begin_alike_are_exported_each() {
    let Some(shared) = Shared::new() else { return };
    let text = "FROM busybox AS a
WORKDIR /app
COPY run.sh .
RUN echo built > /app/built
FROM busybox
WORKDIR /app
COPY run.sh .
COPY --from=a /app/built /app/
";
    shared.world.write("context/Dockerfile", text);
    shared.build("one", &format!("{TO}min --jobs 1"));
    let (_, told) = shared.build("two", &format!("{FROM} --jobs 1"));
    assert_eq!(executed(&told), 0, "{told}");
}

/// Each commit has an epoch of its own: what was lent under another one is written anew, and named so in the record.
#[test]
fn a_record_in_an_image_names_the_layers_of_that_image() {
    let Some(shared) = Shared::new() else { return };
    let registry = shared.registry.name();
    for number in 1..=3 {
        let told = shared.world.line(&format!(
            "build --progress plain --source-date-epoch {number} --root @/m{number} --build-context busybox=@/base --cache-from {registry}/app:1 -t {registry}/app:1 --push @/context"
        ));
        let told = told.exits(0).stderr;
        assert_eq!(executed(&told) == 0, number > 1, "{number}: {told}");
    }
}

#[test]
fn asking_writes_no_cache() {
    let Some(shared) = Shared::new() else { return };
    shared.build("one", "");
    let line = "why --root @/one --build-context busybox=@/base --cache-to type=local,dest=@/kept @/context";
    shared.world.line(line).exits(0);
    assert!(!shared.world.path("kept").exists());
    let name = format!("{}/team/app:1", shared.registry.name());
    let both = format!("-t {name} --push --cache-to type=registry,ref={name}");
    let told = shared.try_build("one", &both).exits(2).stderr;
    assert!(told.contains("both the image and its cache"), "{told}");
    assert!(shared.registry.manifest("team/app", "1").is_none());
}

/// Jobs that differ in how they write layers, or in what they export, leave each other's layers alone.
#[test]
fn what_another_job_exported_stays() {
    let Some(shared) = Shared::new() else { return };
    let (first, _) = shared.build("one", &format!("{TO}max"));
    shared.lose_the_summary();
    shared.build("one", &format!("--compression zstd {TO}min"));
    shared.lose_the_summary();
    shared.world.write("context/src/main.c", "niam");
    let (_, told) = shared.build("two", FROM);
    assert!(!told.contains("is made anew"), "{told}");
    shared.world.write("context/src/main.c", "main");
    let (third, told) = shared.build("three", FROM);
    assert_eq!((third, executed(&told)), (first, 0), "{told}");
}

#[test]
fn a_summary_may_be_lost() {
    let Some(shared) = Shared::new() else { return };
    let (first, _) = shared.build("one", &format!("{TO}max"));
    shared.lose_the_summary();
    let (second, told) = shared.build("two", FROM);
    assert_eq!((second, executed(&told)), (first, 0), "{told}");
}

#[test]
fn machines_that_write_at_once_lose_nothing() {
    let Some(shared) = Shared::new() else { return };
    let modes = ["a", "b", "c", "d"];
    let name = shared.registry.name();
    let flags = |mode: &str| {
        format!(
            "build --source-date-epoch 1 --progress plain --root @/{mode} --build-context busybox=@/base -o type=oci,dest=@/{mode}.tar --build-arg MODE={mode} @/context"
        )
    };
    let running: Vec<_> = modes
        .iter()
        .map(|mode| {
            let to = format!("--cache-to type=registry,ref={name}/c:x,mode=max");
            let line = flags(mode).replace("build ", &format!("build {to} "));
            shared.world.start_line(&line)
        })
        .collect();
    for one in running {
        one.wait().exits(0);
    }
    for mode in modes {
        let from = format!("build --cache-from type=registry,ref={name}/c:x ");
        let line = flags(mode).replace("build ", &from);
        let line = line.replace(
            &format!("--root @/{mode}"),
            &format!("--root @/other-{mode}"),
        );
        let told = shared.world.line(&line).exits(0).stderr;
        assert_eq!(executed(&told), 0, "{mode}: {told}");
    }
}

/// All documents of the cache's repository: tag and bytes.
fn documents(shared: &Shared) -> Vec<(String, Vec<u8>)> {
    let index = shared.registry.manifest("team/cache", "main").unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let tags = shared.registry.seen();
    let tags = tags.iter().filter(|one| one.method == "PUT");
    let tags = tags.filter_map(|one| one.path.strip_prefix("/v2/team/cache/manifests/"));
    let mut tags: Vec<String> = tags.map(str::to_owned).collect();
    tags.sort();
    tags.dedup();
    assert!(index["manifests"].as_array().unwrap().len() > 6, "{index}");
    let document = |tag: String| {
        let bytes = shared.registry.manifest("team/cache", &tag).unwrap();
        (tag, bytes)
    };
    tags.into_iter().map(document).collect()
}

/// What a damaged document becomes, from its tag and all documents.
type Damage = fn(&str, &[(String, Vec<u8>)]) -> Vec<u8>;

#[test]
fn a_spoilt_registry_changes_no_result() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let damages: [(&str, Damage); 5] = [
        ("truncated", |tag, all| {
            let bytes = &all.iter().find(|one| one.0 == tag).unwrap().1;
            bytes[..bytes.len() / 2].to_vec()
        }),
        ("empty", |_, _| b"{}".to_vec()),
        ("foreign", |_, _| {
            br#"{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1},"layers":[]}"#.to_vec()
        }),
        ("mixed up", |tag, all| {
            // The record of another step under this step's tag.
            let at = all.iter().position(|one| one.0 == tag).unwrap();
            let next = (1..all.len()).map(|by| &all[(at + by) % all.len()]);
            let mut next = next.filter(|one| one.0 != "main");
            next.next().unwrap().1.clone()
        }),
        ("another layer", |tag, all| {
            // Each record names the layer of another step, with a digest that exists.
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let own = text(&all.iter().find(|one| one.0 == tag).unwrap().1);
            let layers: Vec<String> = all.iter().flat_map(|one| digests(&text(&one.1))).collect();
            let mut changed = own.clone();
            for (number, digest) in digests(&own).into_iter().enumerate() {
                changed = changed.replace(&digest, &layers[(number * 7 + 3) % layers.len()]);
            }
            changed.into_bytes()
        }),
    ];
    for (name, damage) in damages {
        let Some(shared) = Shared::new() else { return };
        let text = DOCKERFILE.replace("head -c 300000 /dev/urandom", "echo large");
        shared.world.write("context/Dockerfile", text);
        let (first, _) = shared.build("one", &format!("{TO}max"));
        let all = documents(&shared);
        for (tag, _) in &all {
            if tag == "main" && name == "foreign" {
                // That would be somebody's image, which is not replaced.
                continue;
            }
            let kind = if tag == "main" { index } else { manifest };
            let bytes = damage(tag, &all);
            shared
                .registry
                .put_manifest("team/cache", tag, kind, &bytes);
        }
        let (second, told) = shared.build("two", &format!("{FROM} {TO}max"));
        assert_eq!(second, first, "{name}: {told}");
        // What was made anew is exported anew, and helps the next machine.
        let (third, told) = shared.build("three", FROM);
        assert_eq!(third, first, "{name}: {told}");
    }
}

/// The digests of layers that a record's text names.
fn digests(text: &str) -> Vec<String> {
    let found = text.match_indices("descriptor").filter_map(|(at, _)| {
        let rest = &text[at..];
        let start = rest.find("sha256:")?;
        rest.get(start..start + 71).map(str::to_owned)
    });
    found.collect()
}

#[test]
fn a_layer_that_breaks_is_made_anew() {
    for fault in [
        Fault::Lie,
        Fault::Short(100),
        Fault::Answer(404, Vec::new(), String::new()),
        Fault::Answer(403, Vec::new(), String::new()),
    ] {
        let Some(shared) = Shared::new() else { return };
        let text = DOCKERFILE.replace("head -c 300000 /dev/urandom", "echo large");
        shared.world.write("context/Dockerfile", text);
        let (first, _) = shared.build("one", &format!("{TO}max"));
        shared.registry.fault("GET", "/blobs/", 100, fault.clone());
        let (second, told) = shared.build("two", FROM);
        assert_eq!(second, first, "{fault:?}: {told}");
    }
}

#[test]
fn a_registry_that_is_away_costs_a_line() {
    let Some(shared) = Shared::new() else { return };
    let away = "127.0.0.1:1/team/cache:main";
    let (_, told) = shared.build("one", &format!("--cache-from type=registry,ref={away}"));
    assert!(
        told.contains(&format!("the cache `{away}` is not used")),
        "{told}"
    );
    let to = format!("--cache-to type=registry,ref={away}");
    let failed = shared.try_build("one", &format!("-o type=oci,dest=@/x.tar {to}"));
    let told = failed.exits(5).stderr;
    assert!(told.contains("the image is complete"), "{told}");
    assert!(shared.world.path("x.tar").exists());
    let (_, told) = shared.build("one", &format!("{to},ignore-error=true"));
    assert!(told.contains("was not written"), "{told}");
}

#[test]
fn a_directory_is_a_cache() {
    for mode in ["max", "min"] {
        let Some(shared) = Shared::new() else { return };
        let to = format!("--cache-to type=local,dest=@/cache,mode={mode}");
        let (first, _) = shared.build("one", &to);
        let from = "--cache-from type=local,src=@/cache";
        let (second, told) = shared.build("two", from);
        assert_eq!((second, executed(&told)), (first.clone(), 0), "{told}");
        for folder in ["cache/steps", "cache/selections", "blobs/sha256"] {
            for found in fs::read_dir(shared.world.path("cache").join(folder)).unwrap() {
                let path = found.unwrap().path();
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
                fs::write(&path, bytes).unwrap();
            }
        }
        shared.build("three", from);
    }
    let Some(shared) = Shared::new() else { return };
    // CI often keeps a directory of the project only: that one is no part of the context.
    let text = format!("{DOCKERFILE}COPY . /all/\n");
    shared.world.write("context/Dockerfile", text);
    let both = "--cache-from type=local,src=@/context/.kept --cache-to type=local,dest=@/context/.kept,mode=max";
    shared.build("one", both);
    let (_, told) = shared.build("two", both);
    assert_eq!(executed(&told), 0, "{told}");
    // So is the store.
    let (_, told) = shared.build("context/.store", both);
    assert_eq!(executed(&told), 0, "{told}");
    let (_, told) = shared.build("one", "--cache-from type=local,src=@/nothing");
    assert!(told.contains("is not there yet"), "{told}");
}

#[test]
fn an_image_carries_its_own_record() {
    let Some(shared) = Shared::new() else { return };
    let name = format!("{}/team/app:latest", shared.registry.name());
    let flags = format!("--cache-from {name} -t {name} --push");
    let told = shared.try_build("one", &flags).exits(0).stderr;
    assert!(told.contains("is not there yet"), "{told}");
    let before = shared.registry.seen().len();
    let told = shared.try_build("two", &flags).exits(0).stderr;
    assert_eq!(executed(&told), 0, "{told}");
    let requests = shared.requests(before);
    let beside = requests
        .iter()
        .any(|one| one.contains("/manifests/latest-"));
    assert!(!beside, "an image has nothing beside it: {requests:#?}");
    // An image without a record says so, and one on top of the image has none of it.
    let plain = format!("{}/team/plain:1", shared.registry.name());
    shared
        .try_build("one", &format!("-t {plain} --push"))
        .exits(0);
    let (_, told) = shared.build("three", &format!("--cache-from {plain}"));
    assert!(told.contains("has no cache record"), "{told}");
    let refused = shared.try_build("one", &format!("--cache-to type=registry,ref={plain}"));
    let told = refused.exits(2).stderr;
    assert!(told.contains("names an image"), "{told}");
    let argument = shared.try_build(
        "five",
        &format!("-t {plain} --push --build-arg BUILDKIT_INLINE_CACHE=1"),
    );
    argument.exits(0);
    let (_, told) = shared.build("six", &format!("--cache-from {plain}"));
    assert_eq!(executed(&told), 0, "{told}");
}

#[test]
fn another_epoch_or_compression_is_written_anew_and_executes_nothing() {
    let Some(shared) = Shared::new() else { return };
    shared.build("one", &format!("{TO}max"));
    for flags in ["--compression zstd", "--compression none"] {
        let (second, told) = shared.build("two", &format!("{FROM} {flags}"));
        assert_eq!(executed(&told), 0, "{told}");
        let (own, _) = shared.build("one", flags);
        assert_eq!(second, own, "{flags}: the same as on the first machine");
        fs::remove_dir_all(shared.world.path("two")).unwrap();
    }
}
