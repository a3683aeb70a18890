//! The language as people write it: what arrives, from every kind of source, and what is said where nothing can.

mod archives;
mod calls;
mod epoch;
mod git;
mod messages;
mod sources;

use test_support::tarball::Image;
use test_support::world::World;

/// Builds the context's Dockerfile and reads the image.
#[track_caller]
fn built(world: &World, line: &str) -> Image {
    world.line(&format!("-t a {line}")).exits(0);
    Image::open(&world.path("out/a.tar"))
}
