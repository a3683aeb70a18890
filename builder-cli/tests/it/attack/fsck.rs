//! `rbuild store fsck`: whatever is damaged in a store is told, stays where nobody asks for a repair, and is gone where
//! somebody does.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::busybox;
use test_support::tools::require;
use test_support::world::World;

use crate::world;

/// A store with everything in it that a store has.
fn with_store() -> Option<World> {
    let world = world();
    busybox::base(&world.path("bb"), &require("busybox")?, busybox::MORE);
    world.write("context/f", "f");
    world.write(
        "context/Dockerfile",
        "FROM bb\nCOPY f /f\nRUN echo > /made; ln -s made /link\nRUN echo\n",
    );
    world
        .line("-t app:1 --build-context bb=@/bb @/context")
        .exits(0);
    world.line("store fsck").exits(0).says_out(" 0 problems");
    Some(world)
}

trait SaysOut {
    fn says_out(self, words: &str) -> Self;
}

impl SaysOut for test_support::world::Outcome {
    #[track_caller]
    fn says_out(self, words: &str) -> Self {
        assert!(self.text().contains(words), "{words}: {}", self.text());
        self
    }
}

/// The largest file in a folder whose name ends so.
fn one(folder: &Path, end: &str) -> PathBuf {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file() && path.to_str().unwrap().ends_with(end));
    files
        .max_by_key(|path| (path.metadata().unwrap().len(), path.clone()))
        .unwrap()
}

/// Changes a byte in the middle.
fn turn(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// The tree of a laid out layer that holds a path.
fn root_with(world: &World, path: &str) -> Option<PathBuf> {
    let folders =
        ["native", "recorded", "complete"].map(|name| world.path("store/roots").join(name));
    let roots = folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut trees = roots.map(|root| root.unwrap().path().join("tree").join(path));
    trees.find(|place| place.symlink_metadata().is_ok())
}

/// Damages a store; false where it has nothing of the kind.
type Damage = fn(&World) -> bool;

#[test]
fn what_is_damaged_is_told_and_taken_away() {
    let damages: &[(&str, Damage)] = &[
        ("not those of its digest", |world| {
            turn(&one(&world.path("store/blobs/sha256"), ""));
            true
        }),
        ("its name is no digest", |world| {
            fs::write(world.path("store/blobs/sha256/what"), "x").unwrap();
            true
        }),
        ("it is no image index", |world| {
            fs::write(world.path("store/index.json"), "{\"manif").unwrap();
            true
        }),
        ("which is not there", |world| {
            let index = fs::read_to_string(world.path("store/index.json")).unwrap();
            let at = index.find("sha256:").unwrap() + 7;
            fs::remove_file(world.path("store/blobs/sha256").join(&index[at..at + 64])).unwrap();
            true
        }),
        ("not as it was written", |world| {
            turn(&one(&world.path("store/layers"), ".index"));
            true
        }),
        ("not as it was written", |world| {
            let path = one(&world.path("store/layers"), ".blocks");
            fs::write(path, "RB").unwrap();
            true
        }),
        ("no record of a step", |world| {
            turn(&one(&world.path("store/cache/steps"), ""));
            true
        }),
        ("`/made` is not there", |world| {
            root_with(world, "made").is_some_and(|path| fs::remove_file(path).is_ok())
        }),
        ("`/made` has another length", |world| {
            root_with(world, "made").is_some_and(|path| fs::write(path, "longer").is_ok())
        }),
        ("`/link` is of another kind", |world| {
            root_with(world, "link").is_some_and(|path| {
                fs::remove_file(&path).unwrap();
                fs::write(path, "").is_ok()
            })
        }),
    ];
    for (words, damage) in damages {
        let Some(world) = with_store() else {
            return;
        };
        if !damage(&world) {
            // RUN has one directory here, and lays no layer out.
            continue;
        }
        world.line("store fsck").exits(7).says_out(words);
        // Who only looks changes nothing.
        world.line("store fsck").exits(7).says_out(words);
        world
            .line("store fsck --repair")
            .exits(0)
            .says_out(words)
            .says_out("taken away");
        world.line("store fsck").exits(0).says_out(" 0 problems");
        world
            .line("-t app:1 --build-context bb=@/bb @/context")
            .exits(0);
        world.line("store fsck").exits(0).says_out(" 0 problems");
    }
}

#[test]
fn an_index_of_another_version_is_no_damage() {
    let Some(world) = with_store() else {
        return;
    };
    for entry in fs::read_dir(world.path("store/layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "index") {
            let mut bytes = fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            (bytes[7], bytes[last]) = (2, 2);
            fs::write(path, bytes).unwrap();
        }
    }
    world.line("store fsck").exits(0);
    let outcome = world
        .line("-t app:1 --no-cache --build-context bb=@/bb @/context")
        .exits(0);
    assert!(!outcome.stderr.contains("damaged"), "{}", outcome.stderr);
}
