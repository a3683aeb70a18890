//! The images of the store: listed, named, removed, looked into, handed on.

mod archives;
mod committing;
mod copying;
mod engines;
mod everyday;
mod links;
mod listing;

use test_support::world::World;

use super::world;

/// A world with an image `app:1` of one file, a label and a few instructions; its digest.
fn built() -> (World, String) {
    let world = world();
    world.write("context/about.txt", "hello\n");
    world.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY about.txt /\nENV A=1 B=2\nLABEL com.example.kind=test\nEXPOSE 80\nCMD [\"/app\", \"<x>\"]\n",
    );
    let built = world.line("-q -t app:1 @/context").exits(0);
    let digest = built.text().trim().to_owned();
    (world, digest)
}

/// What `rbuild images` prints for a format.
fn listed(world: &World, format: &str) -> Vec<String> {
    let outcome = world.run(["images", "--format", format]).exits(0);
    outcome.text().lines().map(str::to_owned).collect()
}
