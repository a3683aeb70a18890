//! The integration tests of `rbuild`, one binary: the program is run in a world of its own and judged by what it leaves.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod around;
mod attack;
mod bad_input;
mod cache;
mod contexts;
mod crash;
mod determinism;
mod gitlab;
mod hello;
mod hostile;
mod images;
mod language;
mod outputs;
mod program;
mod readers;
mod reference;
mod registry;
mod remote;
mod remote_again;
mod run;
mod session;
mod shared_cache;
mod shared_mounts;

use std::path::{Path, PathBuf};

use test_support::world::World;

/// A new world with the program in it.
fn world() -> World {
    World::new(env!("CARGO_BIN_EXE_rbuild"))
}

/// A path below `testdata`.
fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(path)
}

#[test]
fn no_file_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main" || main.contains(&format!("\nmod {name};\n")),
            "{} is in no module",
            path.display()
        );
    }
}
