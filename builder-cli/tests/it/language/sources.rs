//! Sources of COPY and ADD: none is lost in silence, and each flag means the same for every kind.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use test_support::archive::{Member, tar};
use test_support::image::Base;
use test_support::tarball::Image;
use test_support::tools::require;

use super::built;
use crate::remote::serve_work;
use crate::world;

/// The number of entries in each layer of the target.
fn entries(image: &Image) -> Vec<usize> {
    let count = |tar: &Vec<u8>| tar::Archive::new(&tar[..]).entries().unwrap().count();
    image.layers.iter().map(count).collect()
}

#[test]
fn what_is_named_and_exists_never_gives_an_empty_layer() {
    let world = world();
    for file in [
        "f",
        "d/f",
        "d/e/f",
        ".hidden/f",
        "[odd]/f",
        "b\\k",
        "!n",
        "sp ace/f",
    ] {
        world.write(format!("context/{file}"), file);
    }
    symlink("d", world.path("context/link")).unwrap();
    let words = [
        "f",
        "/f",
        "./f",
        "../f",
        ".//f",
        "././f",
        "./../f",
        "d",
        "d/",
        "d/.",
        "d/e/..",
        "../d/e",
        "..",
        ".",
        "/",
        ".hidden",
        "d/./e",
        "./d/./e/f",
        "[[]odd]",
        "[[]odd]/f",
        "b\\\\k",
        "!n",
        "sp ace",
        "sp ace/f",
        "d/*",
        "*/f",
        "../*/f",
        "../../d/../*",
        "?",
        "**/f",
    ];
    for (flags, from) in [
        ("", ""),
        ("--link", ""),
        ("--parents", ""),
        ("--parents --link", ""),
        ("--parents", "--from=stage"),
        ("--chown=1:2", "--from=stage"),
        ("--parents --chmod=0700", "--from=named"),
        ("", "--from=named"),
    ] {
        let mut file = String::from("FROM scratch AS stage\nCOPY . /\nFROM scratch\n");
        for (number, word) in words.iter().enumerate() {
            let word = serde_json::to_string(word).unwrap();
            writeln!(file, "COPY {flags} {from} [{word}, \"/{number}/\"]").unwrap();
        }
        world.write("elsewhere/Dockerfile", &file);
        let line = "-f @/elsewhere/Dockerfile --build-context named=@/context @/context";
        let image = built(&world, line);
        for (number, (found, word)) in entries(&image).iter().zip(words).enumerate() {
            // One entry would be the destination alone.
            assert!(*found > 1, "{number}: COPY {flags} {from} {word}: {found}");
        }
    }
}

#[test]
fn what_brings_nothing_is_told() {
    let world = world();
    world.write("context/x/h", "h");
    symlink("gone", world.path("context/x/f")).unwrap();
    symlink("circle", world.path("context/x/circle")).unwrap();
    let check = |line: &str, status: i32, words: &[&str]| {
        world.write(
            "context/Dockerfile",
            format!("FROM scratch AS s\nCOPY x /x\nFROM scratch\n{line}\n"),
        );
        let outcome = world.line("-t a @/context").exits(status);
        words
            .iter()
            .fold(outcome, |outcome, word| outcome.says(word));
    };
    for (line, status) in [
        ("COPY x/* /y/", 4),
        ("COPY x/[f] /y/", 4),
        ("COPY --link x/f* /y/", 4),
        ("ADD x/* /y/", 4),
        ("COPY --from=s x/* /y/", 3),
    ] {
        check(line, status, &["x/", "leads to nothing"]);
    }
    check(
        "COPY x/circl? /y/",
        4,
        &["x/circle", "circle of symbolic links"],
    );
    check("COPY --exclude=f --exclude=circle x/* /y/", 0, &[]);
    assert_eq!(
        Image::open(&world.path("out/a.tar")).paths(),
        ["/y", "/y/h"]
    );
    // Below a directory, and with --parents, a link is copied as a link.
    check("COPY x /y/", 0, &[]);
    check("COPY --parents x/* /y/", 0, &[]);
    assert_eq!(
        Image::open(&world.path("out/a.tar")).paths(),
        ["/y", "/y/x", "/y/x/circle", "/y/x/f", "/y/x/h"]
    );
}

#[test]
fn a_socket_is_an_empty_file_and_named() {
    let world = world();
    world.write("context/d/f", "");
    let _socket = UnixListener::bind(world.path("context/d/run.sock")).unwrap();
    for (line, path) in [
        ("COPY d/run.sock /x", "/x"),
        ("COPY d/*.sock /y/", "/y/run.sock"),
        ("ADD --link d/run.sock /y/", "/y/run.sock"),
    ] {
        world.write("context/Dockerfile", format!("FROM scratch\n{line}\n"));
        for _ in 0..2 {
            let outcome = world.line("-t a @/context").exits(0);
            outcome
                .says("warning")
                .says("is a socket")
                .says("Dockerfile:2");
            assert_eq!(Image::open(&world.path("out/a.tar")).text(path), "");
        }
    }
    world.write("context/Dockerfile", "FROM scratch\nCOPY d /x/\n");
    let image = built(&world, "@/context");
    assert_eq!(image.paths(), ["/x", "/x/f", "/x/run.sock"]);
}

/// A kind of source that brings `a.txt`, `d/b.txt` and `d/c`, or `one.txt`: the line with `~` for the flags, and whether
/// `--exclude` is about it.
fn kinds(git: &str) -> Vec<(String, bool)> {
    [
        ("COPY ~ in /x/", true),
        ("ADD ~ in/ /x/", true),
        ("COPY ~ --from=s in /x/", true),
        ("COPY ~ --from=image . /x/", true),
        ("COPY ~ --from=git . /x/", true),
        ("ADD ~ GIT /x/", true),
        ("ADD ~ --keep-git-dir GIT /x/", true),
        ("ADD ~ GIT in /x/", true),
        ("ADD ~ in.tar /x/", false),
        ("COPY ~ <<one.txt /x/\none\none.txt", false),
        ("COPY ~ one.txt /x/", true),
    ]
    .map(|(line, filtered)| (line.replace("GIT", git), filtered))
    .to_vec()
}

const FLAGS: [&str; 7] = [
    "",
    "--exclude=**/*.txt",
    "--link",
    "--link --exclude=**/*.txt",
    "--chown=7:8",
    "--chmod=0750",
    "--chown=7:8 --chmod=0750 --exclude=**/*.txt",
];

#[test]
fn each_flag_means_the_same_for_every_kind_of_source() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    for folder in ["context/in", "work"] {
        for (name, text) in [("a.txt", "a"), ("d/b.txt", "b"), ("d/c", "c")] {
            world.write(format!("{folder}/{name}"), text);
        }
    }
    let members = [
        Member::file("a.txt", "a"),
        Member::directory("d"),
        Member::file("d/b.txt", "b"),
        Member::file("d/c", "c"),
    ];
    world.write("context/one.txt", "one");
    world.write("context/in.tar", tar(&members));
    Base::new(members.to_vec()).write(&world.path("layout"));
    let (_daemon, url) = serve_work(&world);
    let git = format!("{url}#main");
    let layout = world.path("layout");
    let contexts = format!(
        "--build-context image=oci-layout://{} --build-context git={git}",
        layout.display()
    );
    for (source, filtered) in kinds(&git) {
        for flags in FLAGS {
            let line = source.replace('~', flags);
            let file = format!("FROM scratch AS s\nCOPY in /in\nFROM scratch\n{line}\n");
            world.write("file/Dockerfile", file);
            let image = built(
                &world,
                &format!("-f @/file/Dockerfile {contexts} @/context"),
            );
            check(&image, &line, flags, filtered);
        }
    }
}

/// Fails unless the image holds what the flags leave, as the flags say.
#[track_caller]
fn check(image: &Image, line: &str, flags: &str, filtered: bool) {
    let mut paths = image.paths();
    // `.git` is there where it is asked for; what is in it is another test's.
    let of_git = |path: &String| path == "/x/.git" || path.starts_with("/x/.git/");
    assert_eq!(
        paths.iter().any(of_git),
        line.contains("--keep-git-dir"),
        "{line}"
    );
    paths.retain(|path| path != "/x" && !of_git(path));
    let excluded = filtered && flags.contains("--exclude");
    let expected: &[&str] = match (line.contains("one.txt"), excluded) {
        (true, true) => &[],
        (true, false) => &["/x/one.txt"],
        (false, true) => &["/x/d", "/x/d/c"],
        (false, false) => &["/x/a.txt", "/x/d", "/x/d/b.txt", "/x/d/c"],
    };
    assert_eq!(paths, expected, "{line}");
    let files = image.files();
    for path in expected {
        let found = &files[path.as_bytes()];
        if flags.contains("--chown") {
            assert_eq!((found.uid, found.gid), (7, 8), "{line}: {path}");
        }
        // An archive's members keep their modes.
        if flags.contains("--chmod") && !line.contains("in.tar") {
            assert_eq!(found.mode, 0o750, "{line}: {path}");
        }
    }
}
