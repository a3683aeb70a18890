//! Directories as deep as nobody can open them by their path: 5,000 levels go through, more is refused, and nothing of
//! it is left in the store.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use test_support::archive::{Member, tar};
use test_support::tools::{is_root, require, skip};
use test_support::world::World;

use crate::run::{image_of, ways};
use crate::world;

/// What goes through.
const LEVELS: usize = 5_000;
/// What doesn't.
const TOO_MANY: usize = 6_500;

/// Makes directories below one another, the last with a file in it.
fn dig(at: &Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here: OwnedFd = open(at, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&here, c"d", Mode::RWXU).unwrap();
        here = openat(&here, c"d", flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(&here, c"end", flags, Mode::RUSR).unwrap();
}

/// A world whose program may not open many files at once.
fn small() -> World {
    let mut world = world();
    world.run_through(&["sh", "-c", "ulimit -n 1024; exec \"$@\"", "sh"]);
    fs::create_dir_all(world.path("context/x")).unwrap();
    world
}

/// How many directories are above the deepest entry of a tar.
fn depth(archive: &Path) -> usize {
    let mut archive = ::tar::Archive::new(fs::File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let depths = entries.map(|entry| {
        entry
            .path_bytes()
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .count()
    });
    depths.max().unwrap() - 1
}

/// What is left of builds that are over.
fn left(world: &World) -> usize {
    fs::read_dir(world.path("store/tmp")).map_or(0, Iterator::count)
}

#[test]
fn deep_directories_are_copied_and_packed() {
    let world = small();
    dig(&world.path("context/x"), LEVELS);
    let file = "FROM scratch AS one\nCOPY x /\nFROM one\nCOPY Dockerfile /\n";
    world.write("context/Dockerfile", file);
    world
        .line("-t a -o type=tar,dest=@/out/a.tar @/context")
        .exits(0);
    assert_eq!(depth(&world.path("out/a.tar")), LEVELS);
    // No path leads there: it is said, and what was written is gone.
    let outcome = world
        .line("-t a -o type=local,dest=@/out/tree @/context")
        .exits(8);
    outcome
        .says("is too long to be a file here")
        .says("type=tar");
    let names: Vec<_> = fs::read_dir(world.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a.tar"]);
    assert_eq!(left(&world), 0);
}

#[test]
fn deeper_ones_are_refused() {
    let world = small();
    dig(&world.path("context/x"), TOO_MANY);
    world.write("context/Dockerfile", "FROM scratch\nCOPY x /\n");
    let refused = "leads through more than 6000 directories";
    world
        .line("-t a -o type=tar,dest=@/out/a.tar @/context")
        .exits(4)
        .says(refused);
    let name = vec!["d"; TOO_MANY].join("/") + "/f";
    world.write("context/t.tar", tar(&[Member::file(&name, "x")]));
    world.write("context/Dockerfile", "FROM scratch\nADD t.tar /\n");
    world
        .line("-t a -o type=tar,dest=@/out/a.tar @/context")
        .exits(4)
        .says(refused);
    assert!(!world.path("out/a.tar").exists());
    assert_eq!(left(&world), 0);
}

#[test]
fn members_far_down_in_an_archive_cost_their_names() {
    let world = small();
    let place = vec!["d"; LEVELS].join("/");
    let members: Vec<Member> = (0..10)
        .map(|number| Member::file(&format!("{place}/{number}"), "x"))
        .collect();
    world.write("context/t.tar", tar(&members));
    world.write("context/Dockerfile", "FROM scratch\nADD t.tar /\n");
    world
        .line("-t a -o type=tar,dest=@/out/a.tar @/context")
        .exits(0);
    assert_eq!(depth(&world.path("out/a.tar")), LEVELS);
}

/// Goes down in a new shell each thousand levels: what a shell thinks that its path is may not be too long.
const DOWN: &str = "p=$(printf 'd/%.0s' $(seq 1000)); mkdir -p $p; cd -P $p || exit\n\
    [ $1 = 1 ] && { echo > end; exit; }; exec sh /down $(($1 - 1))\n";

#[test]
fn what_a_command_digs_is_a_layer_in_each_way() {
    // A supervisor knows where a directory is by a path of the kernel's, which has at most 4,096 bytes.
    let ways = ways().into_iter().filter(|way| way.cuts_network());
    for way in ways {
        let world = way.world();
        world.write("context/down", DOWN);
        let file = |thousands: u32| {
            format!("FROM bb\nCOPY down /\nRUN sh /down {thousands}\nRUN echo > /x\n")
        };
        let outcome = way
            .start(&world, &file(3), "-o type=tar,dest=@/out/t.tar")
            .wait()
            .exits(0);
        drop(outcome);
        assert!(depth(&world.path("out/t.tar")) >= 2999, "{}", way.name);
        let outcome = way.start(&world, &file(7), "").wait().exits(6);
        outcome.says("leads through more than 6000 directories");
        assert_eq!(left(&world), 0, "{}", way.name);
        assert!(image_of(&world).exists());
    }
}

/// What a build left that was killed, or a version that could not delete it.
#[test]
fn a_store_with_such_a_leftover_works() {
    if !is_root() || require("busybox").is_none() {
        return skip("only root can make what a RUN makes");
    }
    let world = small();
    world.write("context/Dockerfile", "FROM scratch\nCOPY f /\n");
    world.write("context/f", "f");
    world.line("-t a @/context").exits(0);
    let leftover = world.path("store/tmp/leftover");
    fs::create_dir_all(&leftover).unwrap();
    dig(&leftover, 20_000);
    world.line("-t a --no-cache @/context").exits(0);
    world.line("prune --all").exits(0);
}
