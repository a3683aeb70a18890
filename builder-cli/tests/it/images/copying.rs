//! `copy`: between registries, the store, layouts and archives, with digests kept.

use std::fs;

use serde_json::Value;
use test_support::archive::Member;
use test_support::image::Base;
use test_support::registry::Registry;
use test_support::tarball::digest;
use test_support::tools::{require, run};
use test_support::world::World;

use super::{built, listed};
use crate::world;

/// A layout of an image for two platforms in `out/many`; the digest of its index.
fn many(world: &World) -> String {
    let mut base = Base::new(vec![Member::file("about.txt", "many\n")]);
    base.architectures = vec!["amd64", "arm64"];
    base.tag = Some("1");
    base.write(&world.path("out/many"));
    let index = fs::read(world.path("out/many/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn an_index_goes_whole_from_place_to_place() {
    let world = world();
    let index = many(&world);
    let (first, second) = (Registry::start(), Registry::start());
    let (one, two) = (first.name(), second.name());
    let copied = |from: &str, to: &str| {
        let outcome = world.line(&format!("copy -q {from} {to}")).exits(0);
        assert_eq!(outcome.text(), format!("{index}\n"), "{from} {to}");
    };
    copied("oci:many:1", &format!("docker://{one}/app:1"));
    copied(
        &format!("docker://{one}/app:1"),
        &format!("docker://{two}/team/app:2"),
    );
    copied(
        &format!("docker://{two}/team/app:2"),
        "oci-archive:many.tar:app:2",
    );
    copied("oci-archive:many.tar:app:2", "oci:again:3");
    copied("oci:again:3", "app:3");
    copied("app:3", &format!("docker://{two}/other:4"));
    assert_eq!(digest(&second.manifest("other", "4").unwrap()), index);
    assert_eq!(
        listed(&world, "{{.Repository}}:{{.Tag}} {{.Digest}}"),
        [format!("app:3 {index}")]
    );
    // Both platforms are in each of them.
    for place in ["many", "again"] {
        let blobs = fs::read_dir(world.path(format!("out/{place}/blobs/sha256"))).unwrap();
        let mut names: Vec<_> = blobs.map(|blob| blob.unwrap().file_name()).collect();
        names.sort();
        let wanted = fs::read_dir(world.path("out/many/blobs/sha256")).unwrap();
        let mut wanted: Vec<_> = wanted.map(|blob| blob.unwrap().file_name()).collect();
        wanted.sort();
        assert_eq!(names, wanted, "{place}");
    }
    let Some(skopeo) = require("skopeo") else {
        return;
    };
    let path = world.path("out/again");
    let said = run(
        &skopeo,
        &["inspect", "--raw", &format!("oci:{}:3", path.display())],
    );
    assert_eq!(digest(&said.stdout), index);
}

#[test]
fn a_platform_narrows_an_index() {
    let world = world();
    many(&world);
    let registry = Registry::start();
    let name = registry.name();
    world
        .line(&format!("copy oci:many:1 docker://{name}/app:1"))
        .exits(0);
    let mut seen = Vec::new();
    for from in ["oci:many:1".to_owned(), format!("docker://{name}/app:1")] {
        let line = format!("copy -q --platform linux/arm64 {from} arm:1");
        let outcome = world.line(&line).exits(0);
        seen.push(outcome.text().trim().to_owned());
        let outcome = world
            .line("inspect -f {{.Architecture}}={{.Id}} arm:1")
            .exits(0);
        assert_eq!(outcome.text(), format!("arm64={}\n", seen[0]));
    }
    assert_eq!(seen[0], seen[1]);
    let line = format!("copy --platform linux/s390x docker://{name}/app:1 x");
    world.line(&line).exits(5).says("linux/arm64");
    // What was pulled for one platform is saved as it is, and narrowed where that is asked for.
    let other = crate::world();
    other.line(&format!("pull {name}/app:1")).exits(0);
    other
        .line(&format!("save -o app.tar {name}/app:1"))
        .exits(0);
    let third = crate::world();
    third
        .run([std::path::Path::new("load"), &other.path("out/app.tar")])
        .exits(0);
    third.line(&format!("inspect {name}/app:1")).exits(0);
}

#[test]
fn archives_of_docker_lose_their_manifest_and_keep_the_image() {
    let (world, digest) = built();
    world.line("tag app:1 two:2").exits(0);
    world
        .line("copy app:1 docker-archive:one.tar:app:1")
        .exits(0);
    world
        .line("copy -q docker-archive:one.tar again:1")
        .exits(0);
    let id = |name: &str| {
        let outcome = world
            .line(&format!("inspect -f {{{{.ConfigDigest}}}} {name}"))
            .exits(0);
        outcome.text().to_owned()
    };
    assert_eq!(id("app:1"), id("again:1"));
    world.line("-q -t other --label a=b @/context").exits(0);
    world
        .line("save --format docker -o both.tar app:1 other")
        .exits(0);
    world
        .line("copy docker-archive:both.tar x")
        .exits(5)
        .says("several images");
    world
        .line("copy docker-archive:both.tar:nothing x")
        .exits(5)
        .says("other:latest");
    world.line("copy docker-archive:both.tar:other x").exits(0);
    assert_eq!(id("other"), id("x"));
    world
        .line("copy app:1 oci-archive:a.tar:1 --digestfile d")
        .exits(0);
    assert_eq!(
        fs::read_to_string(world.path("out/d")).unwrap(),
        format!("{digest}\n")
    );
}

#[test]
fn places_that_are_none_are_refused_before_anything_moves() {
    let (world, digest) = built();
    for (line, status, said) in [
        ("copy containers-storage:app x".to_owned(), 2, "podman load"),
        (
            "copy app:1 docker-daemon:app:1".to_owned(),
            2,
            "docker load",
        ),
        ("copy app:1 dir:x".to_owned(), 2, "oci:DIR"),
        ("copy nothing x".to_owned(), 2, "not in the store"),
        ("copy app:1 X".to_owned(), 2, "lower case"),
        (
            format!("copy app:1 docker://r.io/app@{digest}"),
            2,
            "digest",
        ),
        ("copy oci:nothing x".to_owned(), 5, "nothing"),
        ("copy oci:@/context x".to_owned(), 5, "index.json"),
        (
            "copy docker://127.0.0.1:1/app x".to_owned(),
            5,
            "127.0.0.1:1",
        ),
        ("copy app:1".to_owned(), 2, "DESTINATION"),
    ] {
        world.line(&line).exits(status).says(said);
    }
    assert_eq!(listed(&world, "{{.Repository}}"), ["app"]);
}
