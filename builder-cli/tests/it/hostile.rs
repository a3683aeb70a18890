//! Archives made to do harm, as ADD and as a build context.

use std::fs;
use std::path::Path;

use test_support::archive::{Member, Packing, pack, tar};
use test_support::image::Base;
use test_support::tarball::Image;
use test_support::tools::run;
use test_support::world::World;

use crate::world;

/// Streams that give no byte of a tar: a file like any other for ADD, as in Docker.
const NO_ARCHIVES: &[&str] = &["cut xz", "cut bzip2"];

/// A header that lies about the size of what follows.
fn with_size(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    [header.as_bytes(), &[0_u8; 2048][..]].concat()
}

/// A PAX or GNU record of so many bytes, of which none follow.
fn with_extension(kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path("extension").unwrap();
    header.set_size(size);
    header.set_cksum();
    [header.as_bytes(), &[b'x'; 2048][..]].concat()
}

/// A world whose programs may use two gigabytes of addresses.
fn bounded() -> World {
    let mut world = world();
    world.run_through(&["sh", "-c", "ulimit -v 2000000; exec \"$@\"", "sh"]);
    world
}

fn half(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

fn broken() -> Vec<(&'static str, Vec<u8>)> {
    // Numbers in words, so that a packed half holds the first header and more.
    let text: String = (0..250_000_u32)
        .map(|number| number.wrapping_mul(2_654_435_761).to_string())
        .collect();
    let good = tar(&[Member::file("a", &text), Member::file("b", "b")]);
    let after_a = 512 + text.len().next_multiple_of(512);
    let packed = pack(Packing::Gzip, &good);
    let mut bad_sum = good.clone();
    bad_sum[after_a + 10] ^= 1;
    let mut bad_crc = packed.clone();
    let end = bad_crc.len() - 8;
    bad_crc[end] ^= 0xff;
    vec![
        ("cut in a file", half(&good)),
        ("cut gzip", half(&packed)),
        ("gzip with a wrong sum", bad_crc),
        ("cut zstd", half(&pack(Packing::Zstd, &good))),
        ("cut xz", half(&pack(Packing::Xz, &good))),
        ("cut bzip2", half(&pack(Packing::Bzip2, &good))),
        ("second header with a wrong sum", bad_sum),
        ("an exabyte promised", with_size(1 << 60)),
        ("all the bytes there can be", with_size(u64::MAX)),
        ("a terabyte of PAX records", with_extension(b'x', 1 << 40)),
        (
            "a terabyte of global records",
            with_extension(b'g', 1 << 40),
        ),
        ("a terabyte of GNU name", with_extension(b'L', 1 << 40)),
        ("a terabyte of GNU link", with_extension(b'K', 1 << 40)),
        (
            "a name of too many folders",
            tar(&[Member::file(&"a/".repeat(50_000), "")]),
        ),
        (
            "a hard link to nothing",
            tar(&[Member::hardlink("a", "nothing")]),
        ),
        ("a hard link to itself", tar(&[Member::hardlink("a", "a")])),
    ]
}

#[test]
fn a_broken_archive_is_an_error_that_names_it() {
    let mut problems = Vec::new();
    for (name, bytes) in broken() {
        let world = bounded();
        world.write("context/Dockerfile", "FROM scratch\nADD bad.tar /x/\n");
        world.write("context/bad.tar", bytes);
        let outcome = world.line("-t a @/context");
        let seen = outcome.status == 4
            && outcome.stderr.contains("bad.tar")
            && !world.path("out/a.tar").exists();
        let copied = outcome.status == 0 && NO_ARCHIVES.contains(&name);
        if !seen && !copied {
            problems.push(format!("{name}: {} {}", outcome.status, outcome.stderr));
        }
        world.write("context/Dockerfile", "FROM scratch\nCOPY bad.tar /x/\n");
        world.line("-t a @/context").exits(0);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_broken_context_is_an_error() {
    let mut problems = Vec::new();
    for (name, bytes) in broken() {
        let outcome = bounded().line_with_input("-t a -", bytes);
        if outcome.status != 4 {
            problems.push(format!("{name}: {} {}", outcome.status, outcome.stderr));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Archives that want to leave the place where they are unpacked.
fn escaping() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("parents", tar(&[Member::file("../../evil", "e")])),
        (
            "parents in the middle",
            tar(&[Member::file("a/../../../evil", "e")]),
        ),
        ("absolute", tar(&[Member::file("/evil", "e")])),
        (
            "a hard link outside",
            tar(&[Member::hardlink("evil", "../../../../../etc/passwd")]),
        ),
        (
            "an absolute hard link",
            tar(&[Member::hardlink("evil", "/etc/passwd")]),
        ),
        (
            "through a link",
            tar(&[Member::symlink("l", "../.."), Member::file("l/evil", "e")]),
        ),
        (
            "through an absolute link",
            tar(&[Member::symlink("l", "/"), Member::file("l/evil", "e")]),
        ),
        ("an empty name", tar(&[Member::file("", "e")])),
        ("only dots", tar(&[Member::file("..", "e")])),
    ]
}

#[test]
fn nothing_leaves_the_image_and_nothing_of_the_host_enters() {
    for (name, bytes) in escaping() {
        let world = bounded();
        world.write(
            "context/Dockerfile",
            "FROM scratch\nCOPY keep /x/y/\nADD evil.tar /x/y/\n",
        );
        world.write("context/keep", "kept");
        world.write("context/evil.tar", bytes);
        let outputs = "-o type=oci,dest=@/out/a.tar -o type=local,dest=@/out/deep/er/tree";
        fs::create_dir_all(world.path("out/deep/er")).unwrap();
        let outcome = world.line(&format!("{outputs} @/context"));
        assert!(matches!(outcome.status, 0 | 4), "{name}: {outcome:?}");
        let outcome = if outcome.status == 4 {
            outcome.says("evil.tar")
        } else {
            outcome
        };
        assert!(
            !outcome.stderr.contains("panicked"),
            "{name}: {}",
            outcome.stderr
        );
        for place in [
            "evil",
            "out/evil",
            "out/deep/evil",
            "out/deep/er/evil",
            "context/evil",
        ] {
            assert!(!world.path(place).exists(), "{name} made {place}");
        }
        if outcome.status == 0 {
            let image = Image::open(&world.path("out/a.tar"));
            assert!(
                image.paths().contains(&"/x/y/keep".to_owned()),
                "{name}: {:?}",
                image.paths()
            );
            let host = fs::read("/etc/passwd").unwrap();
            assert!(
                image.files().values().all(|entry| entry.content != host),
                "{name}"
            );
        }
    }
}

/// What is no regular file in a layout is refused at once: a pipe would be waited for, and a device has no end.
#[test]
fn a_layout_of_pipes_and_devices_is_refused() {
    let spoil: &[(&str, &str)] = &[
        ("a pipe as the index", "rm index.json; mkfifo index.json"),
        ("a device as the index", "ln -sf /dev/zero index.json"),
        (
            "pipes as blobs",
            "for b in blobs/sha256/*; do rm $b; mkfifo $b; done",
        ),
        (
            "devices as blobs",
            "for b in blobs/sha256/*; do ln -sf /dev/zero $b; done",
        ),
        (
            "blobs without end",
            "for b in blobs/sha256/*; do head -c 9000000 /dev/zero >> $b; done",
        ),
    ];
    for (name, script) in spoil {
        let world = bounded();
        Base::new(vec![Member::file("f", "x")]).write(&world.path("layout"));
        world.write("context/Dockerfile", "FROM base\nCOPY Dockerfile /\n");
        let layout = world.path("layout");
        let script = format!("cd {}; {script}", layout.display());
        run(Path::new("/bin/sh"), &["-c", &script]);
        let outcome = world.line(
            "--build-context base=oci-layout://@/layout -o type=local,dest=@/out/o @/context",
        );
        assert!(
            [5, 7].contains(&outcome.status),
            "{name}: {} {}",
            outcome.status,
            outcome.stderr
        );
        assert!(!world.path("out/o").exists(), "{name}");
    }
}
