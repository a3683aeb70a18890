//! Input that can't be built: a status of the table, a message that names the thing, and nothing left behind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use test_support::tarball::Image;
use test_support::tools::{is_root, require};
use test_support::world::{Outcome, World, set_mode};

use crate::world;

fn with(dockerfile: &str) -> World {
    let world = world();
    world.write("context/Dockerfile", dockerfile);
    world
}

/// Fails unless the build ended so, named the thing, and left no output.
#[track_caller]
fn refused(world: &World, line: &str, status: i32, words: &[&str]) -> Outcome {
    let outcome = words
        .iter()
        .fold(world.line(line).exits(status), |outcome, word| {
            outcome.says(word)
        });
    let left: Vec<_> = fs::read_dir(world.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{line} left {left:?}");
    outcome
}

/// Makes every program of the world an ordinary user's. None where that can't be.
fn as_ordinary_user(world: &mut World) -> Option<()> {
    if is_root() {
        require("setpriv")?;
        world.run_through(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]);
        for folder in ["out", "tmp"] {
            set_mode(&world.path(folder), 0o777);
        }
        world.set("RBUILD_ROOT", world.path("tmp/store"));
    }
    Some(())
}

#[test]
fn a_dockerfile_that_is_none() {
    for (content, words) in [
        (&b""[..], "Dockerfile"),
        (b"# nothing but a comment\n", "Dockerfile"),
        (b"FROM scratch\nCOPY \xff /x\n", "UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "Dockerfile"),
        (b"COPY a /\n", "FROM"),
        (b"FROM scratch\nCOPY <<end /f\nno end\n", "end"),
        (b"FROM scratch\nENV A=\"open\n", "Dockerfile:2:"),
    ] {
        let world = world();
        world.write("context/Dockerfile", content);
        refused(&world, "@/context", 3, &[words]);
    }
    let world = world();
    refused(&world, "@/context", 3, &["@/context/", "Dockerfile", "-f"]);
    refused(
        &world,
        "-f @/context/other @/context",
        3,
        &["@/context/other"],
    );
    world.write("context/Containerfile", "FROM scratch\n");
    refused(&world, "@/context", 3, &["Containerfile"]);
    fs::create_dir(world.path("context/Dockerfile")).unwrap();
    refused(&world, "@/context", 3, &["Dockerfile", "directory"]);
}

#[test]
fn a_context_that_is_none() {
    let world = with("FROM scratch\n");
    refused(&world, "@/nowhere", 4, &["@/nowhere"]);
    refused(
        &world,
        "@/context/Dockerfile",
        4,
        &["Dockerfile", "no directory"],
    );
    refused(
        &world,
        "http://127.0.0.1:1/x.tar",
        4,
        &["http://127.0.0.1:1/x.tar", "downloaded"],
    );
}

#[test]
fn what_may_not_be_read_is_named() {
    let mut world = with("FROM scratch\nCOPY . /\n");
    if as_ordinary_user(&mut world).is_none() {
        return;
    }
    let secret = world.write("context/folder/secret", "s");
    set_mode(&secret, 0);
    refused(&world, "@/context", 4, &["folder/secret", "ermission"]);
    // An ignored file is not read.
    world.write("context/.dockerignore", "folder/secret\n");
    world.line("-t a @/context").exits(0);
    fs::remove_file(world.path("out/a.tar")).unwrap();
    fs::remove_file(world.path("context/.dockerignore")).unwrap();

    set_mode(&world.path("context/folder"), 0);
    refused(&world, "@/context", 4, &["folder", "ermission"]);
    set_mode(&world.path("context/folder"), 0o755);
    set_mode(&world.path("context/Dockerfile"), 0);
    refused(&world, "@/context", 3, &["Dockerfile", "ermission"]);
    set_mode(&world.path("context"), 0);
    let outcome = world.line("@/context");
    assert!(
        matches!(outcome.status, 3 | 4) && outcome.stderr.contains("@/context"),
        "{outcome:?}"
    );
    set_mode(&world.path("context"), 0o755);
}

#[test]
fn nothing_outside_the_context_is_reached() {
    for line in [
        "COPY ../secret /",
        "COPY ../../../../../../../etc/hostname /",
        "COPY /../secret /",
        "COPY out-link /",
        "COPY absolute-link /",
        "COPY folder-link/secret /",
        "COPY folder-link/s* /x/",
        "ADD ../secret /",
        "ADD folder-link/secret /",
        "COPY --from=more ../secret /",
        "COPY --from=more out-link /",
    ] {
        let world = with(&format!("FROM scratch\n{line}\n"));
        let secret = world.write("secret", "secret");
        for folder in ["context", "more"] {
            fs::create_dir_all(world.path(folder)).unwrap();
            symlink("../secret", world.path(folder).join("out-link")).unwrap();
            symlink(&secret, world.path(folder).join("absolute-link")).unwrap();
            symlink("..", world.path(folder).join("folder-link")).unwrap();
        }
        let outcome = world.line("-t a --build-context more=@/more @/context");
        if line.contains('*') {
            // A pattern without a match is a warning.
            outcome.exits(0);
            assert!(
                !Image::open(&world.path("out/a.tar"))
                    .paths()
                    .iter()
                    .any(|path| path.ends_with("secret"))
            );
        } else {
            outcome.exits(4).says("Dockerfile:2:");
            assert!(!world.path("out/a.tar").exists());
        }
    }
}

#[test]
fn special_files_do_not_hang_a_build() {
    let world = with("FROM scratch\nCOPY . /\n");
    world.write("context/file", "f");
    mknodat(
        CWD,
        world.path("context/fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(world.path("context/socket")).unwrap();
    let device = mknodat(
        CWD,
        world.path("context/zero"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o644),
        makedev(1, 5),
    );
    world.line("-t a @/context").exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    let files = image.files();
    assert_eq!(files[&b"/fifo"[..]].kind, "fifo");
    // A tar has no sockets.
    assert_eq!(files[&b"/socket"[..]].kind, "file");
    if device.is_ok() {
        assert_eq!(files[&b"/zero"[..]].device, Some((1, 5)));
    }
    // ADD looks into files for archives, and a pipe has nothing to look into.
    world.write("context/Dockerfile", "FROM scratch\nADD fifo file /x/\n");
    world.line("-t a @/context").exits(0);
}

#[test]
fn names_are_bytes() {
    let world = with("FROM scratch\nCOPY names /names\n");
    fs::create_dir(world.path("context/names")).unwrap();
    let names: [&[u8]; 6] = [
        b"\xff\xfe",
        b"a\nb",
        b" blank ",
        b"-dash",
        b"*",
        b"back\\slash",
    ];
    for name in names {
        fs::write(
            world.path("context/names").join(OsStr::from_bytes(name)),
            name,
        )
        .unwrap();
    }
    let long = "n".repeat(255);
    world.write(format!("context/names/{long}/{long}/f"), "deep");
    world
        .line("-t a -o type=oci,dest=@/out/a.tar -o type=local,dest=@/tree @/context")
        .exits(0);
    let files = Image::open(&world.path("out/a.tar")).files();
    for name in names {
        let path = [b"/names/", name].concat();
        assert_eq!(files[&path].content, name);
        assert_eq!(
            fs::read(world.path("tree/names").join(OsStr::from_bytes(name))).unwrap(),
            name
        );
    }
    assert_eq!(
        files[format!("/names/{long}/{long}/f").as_bytes()].content,
        b"deep"
    );
}

#[test]
fn a_context_that_changes_meanwhile_gives_an_image_or_an_error() {
    let world = with("FROM scratch\nCOPY many/ /\n");
    let file = |number: u32| format!("context/many/{}/{number}", number % 5);
    for number in 0..300 {
        world.write(file(number), "x".repeat(30_000));
    }
    for round in 0..6 {
        let running = world.start_line(&format!(
            "--jobs 2 -t a -o type=oci,dest=@/out/{round}.tar @/context"
        ));
        // Until the build ends, files go, come back larger, and are cut.
        let mut number = 0_u32;
        let ended = loop {
            let path = world.path(file(number % 300));
            let _ = fs::remove_file(&path);
            let _ = fs::write(&path, "y".repeat(40_000));
            let _ = fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(10));
            number += 7;
            if let Some(ended) = running.ends_within(std::time::Duration::ZERO) {
                break ended;
            }
        };
        let outcome = running.outcome(Some(ended));
        let output = world.path(format!("out/{round}.tar"));
        match outcome.status {
            0 => drop(Image::open(&output).files()),
            _ => {
                outcome.exits(4).says("/many/");
                assert!(!output.exists());
            }
        }
    }
}
