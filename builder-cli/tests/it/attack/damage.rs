//! A store in which a file is damaged: what is beside the blobs is as good as none then, and is made anew.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::archive::Member;
use test_support::image::Base;
use test_support::world::World;

use crate::world;

const DOCKERFILE: &str = "FROM base AS one\nCOPY a /usr/a\nCOPY --chown=app a /usr/b\n\
    FROM scratch\nCOPY --from=base /many /many\nCOPY --from=one /usr/ /one/\nADD t.tar /t/\nWORKDIR /w\n";

/// A world with a base that somebody else made, whose index is larger than what is read at once.
fn prepare() -> World {
    let world = world();
    let mut members = vec![
        Member::directory("etc"),
        Member::file(
            "etc/passwd",
            "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n",
        ),
        Member::file("etc/group", "root:x:0:\napp:x:8:\n"),
        Member::directory("usr"),
        Member::directory("many"),
    ];
    members.extend((0..1500).map(|number| Member::file(&format!("many/{number:05}"), "text")));
    Base::new(members).write(&world.path("layout"));
    world.write("context/a", "a");
    let archive = test_support::archive::tar(&[Member::file("in", "archive")]);
    world.write("context/t.tar", archive);
    world
}

/// Builds, and gives the digest of the image.
fn build(world: &World, first: &str) -> String {
    let dockerfile = DOCKERFILE.replace("FROM scratch\n", &format!("FROM scratch\n{first}"));
    world.write("context/Dockerfile", dockerfile);
    let line = "-t a -q --source-date-epoch 0 --build-context base=oci-layout://@/layout \
        -o type=oci,dest=@/out/a.tar @/context";
    let outcome = world.line(line).exits(0);
    outcome.text().to_owned()
}

/// The files of a store, the blobs left out.
fn files(store: &Path) -> Vec<PathBuf> {
    let mut todo = vec![store.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true if path.ends_with("blobs") || path.ends_with("locks") => {}
                true => todo.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn damaged(bytes: &[u8], way: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    match way {
        "emptied" => bytes.clear(),
        "cut" => bytes.truncate(middle),
        "flipped" => {
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x15;
            }
        }
        "zeros" => bytes.fill(0),
        _ => bytes.extend_from_slice(b"\xff\xfe more"),
    }
    bytes
}

#[test]
fn what_is_damaged_beside_the_blobs_is_made_anew() {
    let world = prepare();
    let more = "COPY a /first\n";
    let (same, other) = (build(&world, ""), build(&world, more));
    let store = world.path("store");
    let before: Vec<(PathBuf, Vec<u8>)> = files(&store)
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(before.len() > 20, "{before:?}");
    let mut problems = Vec::new();
    for way in ["emptied", "cut", "flipped", "zeros", "longer"] {
        // All at once, which is what a disk that was full, or power that went, leaves.
        for (path, bytes) in &before {
            // What says that it is a store is no record of anything.
            if !path.ends_with("oci-layout") {
                fs::write(path, damaged(bytes, way)).unwrap();
            }
        }
        for (first, expected) in [("", &same), (more, &other)] {
            let found = build(&world, first);
            if found != *expected {
                problems.push(format!("{way}: {found} is not {expected}"));
            }
        }
    }
    for way in ["cut", "flipped"] {
        for (path, _) in &before {
            let Ok(bytes) = fs::read(path) else { continue };
            if path.ends_with("oci-layout") {
                continue;
            }
            fs::write(path, damaged(&bytes, way)).unwrap();
            let found = build(&world, more);
            if found != other {
                problems.push(format!("{way} {}: {found}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
