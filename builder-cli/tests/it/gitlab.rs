//! The case that started the project: a GitLab job names its base image by build arguments.

use test_support::tarball::Image;
use test_support::world::World;

use crate::{testdata, world};

const IMAGE: &str = "registry.example.com/group/app";

/// A world whose store has the base image under the name that the job will use.
fn with_base() -> World {
    let world = world();
    world.copy(&testdata("gitlab"), "context");
    world.write(
        "base/Dockerfile",
        "FROM scratch\nENV FROM_BASE=yes\nCOPY marker /\n",
    );
    world.write("base/marker", "base\n");
    world
        .line(&format!(
            "-t {IMAGE}:base -o type=oci,dest=@/base.tar @/base"
        ))
        .exits(0);
    world
}

#[test]
fn the_job_builds_on_the_base_that_it_names() {
    let world = with_base();
    world
        .line(&format!(
            "-t {IMAGE}:main --build-arg CI_REGISTRY_IMAGE={IMAGE} @/context"
        ))
        .exits(0);
    let image = Image::open(&world.path("out/app.tar"));
    assert_eq!(image.paths(), ["/Dockerfile", "/marker"]);
    assert!(
        image.config["config"]["Env"]
            .to_string()
            .contains("FROM_BASE=yes")
    );
    assert_eq!(image.layers.len(), 2);
}

#[test]
fn the_argument_may_come_from_the_job_s_environment() {
    let mut world = with_base();
    world.set("CI_REGISTRY_IMAGE", IMAGE);
    world
        .line("-t app --build-arg CI_REGISTRY_IMAGE @/context")
        .exits(0);
    assert_eq!(
        Image::open(&world.path("out/app.tar")).paths(),
        ["/Dockerfile", "/marker"]
    );
}

#[test]
fn without_the_arg_lines_the_error_tells_what_to_add() {
    let world = with_base();
    let line =
        format!("-f @/context/Dockerfile.broken --build-arg CI_REGISTRY_IMAGE={IMAGE} @/context");
    let outcome = world
        .line(&line)
        .exits(3)
        .says("add `ARG CI_REGISTRY_IMAGE`")
        .says("Dockerfile.broken:1:6");
    assert!(outcome.stdout.is_empty());
    assert_eq!(std::fs::read_dir(world.path("out")).unwrap().count(), 0);
}

#[test]
fn a_base_that_is_not_there_says_how_to_get_it() {
    let world = with_base();
    world
        .line("-t app @/context")
        .exits(5)
        .says("`default:base`")
        .says("--build-context");
}
