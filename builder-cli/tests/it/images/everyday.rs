//! The day around a build, in one go, against other people's tools: a registry, skopeo, umoci, podman.

use std::path::Path;

use test_support::tarball::Image;
use test_support::tools::{is_root, require, run, skip, try_run};
use test_support::world::World;

use super::engines::machine_forbids;
use super::{built, listed};
use crate::readers::umoci_agrees;
use crate::registry::{Registry, tools};
use crate::world;

const NAMES: &str = "{{.Repository}}:{{.Tag}}";

/// Lets podman load an archive into a storage of its own; what it calls the image.
fn podman_loads(world: &World, archive: &Path) -> Option<String> {
    let podman = require("podman")?;
    if !is_root() {
        skip("podman's storage is tried as root");
        return None;
    }
    let (graph, state) = (world.path("graph"), world.path("state"));
    let words = [
        "--storage-driver=vfs",
        "--root",
        graph.to_str()?,
        "--runroot",
        state.to_str()?,
        "load",
        "--quiet",
        "-i",
        archive.to_str()?,
    ];
    match try_run(&podman, &words) {
        Ok(said) => Some(String::from_utf8(said.stdout).unwrap()),
        Err(problem) if machine_forbids(&problem) => None,
        Err(problem) => panic!("{problem}"),
    }
}

#[test]
fn build_look_name_save_load_push_pull_copy_remove() {
    if !tools() {
        return;
    }
    let registry = Registry::start(false);
    let name = format!("{}/team/app", registry.name);
    let (world, digest) = built();
    // Look at it.
    assert_eq!(listed(&world, NAMES), ["app:1"]);
    world.line("history app:1").exits(0);
    let id = world.line("inspect -f {{.Id}} app:1").exits(0);
    assert_eq!(id.text().trim(), digest);
    // Name it, and save it for a machine without a network.
    world.line(&format!("tag app:1 {name}:1 release")).exits(0);
    world.line("save -o app.tar app:1 release").exits(0);
    let archive = world.path("out/app.tar");
    umoci_agrees(&world, &archive, "1");
    if let Some(said) = podman_loads(&world, &archive) {
        assert!(
            said.contains("app:1") && said.contains("release:latest"),
            "{said}"
        );
    }
    let other = crate::world();
    other
        .run([Path::new("load"), Path::new("-i"), &archive])
        .exits(0);
    assert_eq!(
        listed(&other, "{{.Digest}}"),
        [digest.as_str(), digest.as_str()]
    );
    // Hand it on, and get it back.
    world.line(&format!("push {name}:1")).exits(0);
    let skopeo = require("skopeo").unwrap();
    let raw = run(
        &skopeo,
        &[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{name}:1"),
        ],
    );
    assert_eq!(test_support::tarball::digest(&raw.stdout), digest);
    let third = world_with(&name, &digest);
    // From there to elsewhere, without the store's names.
    third
        .line(&format!("copy docker://{name}:1 docker://{name}:copied"))
        .exits(0);
    third
        .line(&format!(
            "copy docker://{name}:copied oci-archive:copied.tar:1"
        ))
        .exits(0);
    assert_eq!(Image::open(&third.path("out/copied.tar")).digest, digest);
    assert_eq!(listed(&third, NAMES), [format!("{name}:1")]);
    // Take it away: the last name takes the bytes that the cache doesn't need.
    third.line(&format!("rmi {name}:1")).exits(0).says("freed");
    third.line("prune --all").exits(0);
    assert_eq!(blobs(&third), 0);
    world.line(&format!("rmi app:1 release {name}:1")).exits(0);
    assert_eq!(listed(&world, NAMES), [""; 0]);
    world.line("prune --all").exits(0);
    assert_eq!(blobs(&world), 0);
    // And once more from the beginning.
    let again = world.line("-q -t app:1 @/context").exits(0);
    assert!(again.text().starts_with("sha256:"));
}

/// A world that has pulled an image.
fn world_with(name: &str, digest: &str) -> World {
    let world = world();
    let pulled = world.line(&format!("pull -q {name}:1")).exits(0);
    assert_eq!(pulled.text().trim(), digest);
    let known = world.run([
        "inspect",
        "-f",
        "{{index .RepoDigests 0}}",
        &format!("{name}:1"),
    ]);
    assert_eq!(known.exits(0).text().trim(), format!("{name}@{digest}"));
    world
}

fn blobs(world: &World) -> usize {
    std::fs::read_dir(world.path("store/blobs/sha256"))
        .unwrap()
        .count()
}
