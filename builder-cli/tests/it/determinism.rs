//! The same input gives the same bytes: whatever the number of threads, the user, and the way the epoch is told.

use std::fs;

use test_support::archive::{Member, Packing, pack, tar};
use test_support::tarball::{self, Image};
use test_support::tools::{is_root, require, skip};
use test_support::world::{World, set_mode};

use crate::world;

const EPOCH: &str = "1600000000";

/// A context with enough in it that several threads have work, and with all that owners and modes touch.
fn some_work() -> World {
    let world = world();
    let file = "FROM scratch AS users\nCOPY passwd /etc/passwd\nFROM users\nWORKDIR /w/x\nCOPY --chown=app many/ ./\n\
                COPY --chmod=g+w a.sh /bin/\nADD pack.tar.gz /p/\nCOPY <<end /here\ntext\nend\nUSER app\n";
    world.write("context/Dockerfile", file);
    world.write("context/passwd", "app:x:7:8::/:/bin/sh\n");
    set_mode(&world.write("context/a.sh", "#!/bin/sh\n"), 0o755);
    for number in 0..200_u32 {
        let line = format!("{number} {} ", number.wrapping_mul(2_654_435_761));
        world.write(
            format!("context/many/{}/{number}", number % 7),
            line.repeat(2000),
        );
    }
    let members = [
        Member {
            uid: 5,
            ..Member::file("f", "in a tar")
        },
        Member::hardlink("g", "f"),
        Member::directory("d"),
    ];
    world.write("context/pack.tar.gz", pack(Packing::Gzip, &tar(&members)));
    world
}

fn bytes(world: &World, name: &str) -> Vec<u8> {
    fs::read(world.path(name)).unwrap()
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let mut world = some_work();
    world.set("SOURCE_DATE_EPOCH", EPOCH);
    for compression in ["gzip", "zstd", "none"] {
        for jobs in [1, 2, 7] {
            world.set(
                "RBUILD_ROOT",
                world.path(format!("store-{compression}-{jobs}")),
            );
            let output = format!("-o type=oci,dest=@/{jobs}.tar");
            world
                .line(&format!(
                    "-t a --compression {compression} --jobs {jobs} {output} @/context"
                ))
                .exits(0);
        }
        let first = bytes(&world, "1.tar");
        assert!(
            first == bytes(&world, "2.tar") && first == bytes(&world, "7.tar"),
            "{compression}"
        );
    }
}

#[test]
fn an_ordinary_user_makes_what_root_makes() {
    if !is_root() {
        return skip("only root can be both");
    }
    if require("setpriv").is_none() {
        return;
    }
    let mut world = some_work();
    world.set("SOURCE_DATE_EPOCH", EPOCH);
    world
        .line("-t a -o type=oci,dest=@/root.tar @/context")
        .exits(0);
    world.set("RBUILD_ROOT", world.path("tmp/store"));
    set_mode(&world.path("tmp"), 0o777);
    world.run_through(&[
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]);
    world
        .line("-t a -o type=oci,dest=@/tmp/user.tar @/context")
        .exits(0);
    assert!(bytes(&world, "root.tar") == bytes(&world, "tmp/user.tar"));
}

#[test]
fn the_epoch_may_come_three_ways() {
    let mut digests = Vec::new();
    for flag in [
        "",
        "--source-date-epoch 1600000000",
        "--build-arg SOURCE_DATE_EPOCH=1600000000",
    ] {
        let mut world = some_work();
        if flag.is_empty() {
            world.set("SOURCE_DATE_EPOCH", EPOCH);
        }
        world.line(&format!("{flag} -t a @/context")).exits(0);
        let archive = world.path("out/a.tar");
        let image = Image::open(&archive);
        assert_eq!(image.config["created"], "2020-09-13T12:26:40Z", "{flag}");
        assert!(
            image
                .files()
                .values()
                .all(|entry| entry.mtime <= 1_600_000_000),
            "{flag}"
        );
        digests.push(tarball::digest(&fs::read(archive).unwrap()));
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn a_broken_epoch_is_an_error() {
    let mut world = some_work();
    world.set("SOURCE_DATE_EPOCH", "yesterday");
    world
        .line("-t a @/context")
        .exits(3)
        .says("SOURCE_DATE_EPOCH")
        .says("yesterday");
}

#[test]
fn without_an_epoch_files_keep_their_times_and_a_rebuild_its_layers_of_files() {
    let world = world();
    world.write("context/Dockerfile", "FROM scratch\nCOPY folder/ /\n");
    let file = world.write("context/folder/f", "f");
    test_support::world::set_mtime_nanos(&file, 1_500_000_000, 999_999_999);
    world.line("-t one @/context").exits(0);
    world.line("-t two @/context").exits(0);
    let (one, two) = (
        Image::open(&world.path("out/one.tar")),
        Image::open(&world.path("out/two.tar")),
    );
    assert_eq!(one.files()[&b"/f"[..]].mtime, 1_500_000_000);
    assert_eq!(one.manifest["layers"], two.manifest["layers"]);
}
