//! `SOURCE_DATE_EPOCH` that names what says the time: the context, a named one, a stage.

use std::fs;

use test_support::archive::{Member, tar};
use test_support::tarball::Image;
use test_support::tools::{require, run};
use test_support::world::{MTIME, World};

use crate::remote::{serve, serve_work};
use crate::world;

/// What `/f.txt` of [`serve`] says: `Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT`.
const MODIFIED: &str = "1994-11-06T08:49:37Z";
/// A program that shows what the argument became.
const SHOWS: &str = "ARG SOURCE_DATE_EPOCH\nLABEL epoch=$SOURCE_DATE_EPOCH\n";

/// The image's `created`, and its label.
fn built(world: &World) -> (String, String) {
    let image = Image::open(&world.path("out/a.tar"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let label = text(&image.config["config"]["Labels"]["epoch"]);
    (text(&image.config["created"]), label)
}

fn context_tar() -> Vec<u8> {
    let file = format!("FROM scratch\n{SHOWS}COPY f /\n");
    let mut members = [
        Member::file("Dockerfile", &file),
        Member::file("f", "one"),
        Member::directory("later"),
    ];
    for (member, time) in members
        .iter_mut()
        .zip([500_000_000, 784_111_777, 800_000_000])
    {
        member.mtime = time;
    }
    tar(&members)
}

#[test]
fn a_directory_has_no_time_of_its_own() {
    let mut world = world();
    world.write("context/Dockerfile", format!("FROM scratch\n{SHOWS}"));
    world.set("SOURCE_DATE_EPOCH", "7");
    world
        .line("-t a --build-arg SOURCE_DATE_EPOCH=context @/context")
        .exits(0);
    let (created, label) = built(&world);
    assert_eq!(label, "");
    assert!(created.starts_with("20"), "{created}");
}

#[test]
fn what_was_given_outside_comes_before_the_default_of_the_file() {
    let mut world = world();
    world.write(
        "context/Dockerfile",
        format!("ARG SOURCE_DATE_EPOCH=784111777\nFROM scratch\n{SHOWS}"),
    );
    world.line("-t a @/context").exits(0);
    assert_eq!(built(&world), (MODIFIED.to_owned(), "784111777".to_owned()));
    world.set("SOURCE_DATE_EPOCH", "7");
    world.line("-t a @/context").exits(0);
    assert_eq!(
        built(&world),
        ("1970-01-01T00:00:07Z".to_owned(), "7".to_owned())
    );
    world
        .line("-t a --build-arg SOURCE_DATE_EPOCH= @/context")
        .exits(0);
    assert_eq!(built(&world).1, "");
}

#[test]
fn an_archive_is_as_old_as_its_newest_file() {
    let world = world();
    for flag in ["--source-date-epoch", "--build-arg"] {
        let value = if flag == "--build-arg" {
            "SOURCE_DATE_EPOCH=context"
        } else {
            "context"
        };
        world
            .line_with_input(&format!("-t a {flag} {value} -"), context_tar())
            .exits(0);
        assert_eq!(
            built(&world),
            (MODIFIED.to_owned(), "784111777".to_owned()),
            "{flag}"
        );
    }
}

#[test]
fn a_server_says_how_old_a_file_is() {
    let (mut world, server) = (world(), serve());
    let stage = |url: &str| {
        format!("FROM scratch AS Src\nADD {url} /\nFROM scratch\n{SHOWS}COPY --from=src / /\n")
    };
    world.write("context/Dockerfile", stage(&format!("{server}/f.txt")));
    world.set("SOURCE_DATE_EPOCH", "src");
    world.line("-t a @/context").exits(0);
    assert_eq!(built(&world), (MODIFIED.to_owned(), "784111777".to_owned()));
    // Where the server says nothing, an archive's newest file does, and any other file has no time.
    for (path, known) in [("c.tar", true), ("c.tar.gz", true), ("empty", false)] {
        world.write("context/Dockerfile", stage(&format!("{server}/{path}")));
        world.line("-t a @/context").exits(0);
        assert_eq!(built(&world).1.is_empty(), !known, "{path}");
    }
    world.set("SOURCE_DATE_EPOCH", "base");
    world.write("context/Dockerfile", format!("FROM scratch\n{SHOWS}"));
    let line = format!("-t a --build-context base={server}/c.tar @/context");
    world.line(&line).exits(0);
    assert_eq!(built(&world).1, MTIME.to_string());
    world
        .line("-t a @/context")
        .exits(3)
        .says("no context and no stage");
}

#[test]
fn a_commit_says_how_old_a_repository_is() {
    let Some(git) = require("git") else {
        return;
    };
    let mut world = world();
    world.write("work/Dockerfile", format!("FROM scratch\n{SHOWS}"));
    let (_daemon, url) = serve_work(&world);
    let work = world.path("work");
    let shown = run(
        &git,
        &["-C", work.to_str().unwrap(), "log", "-1", "--format=%ct"],
    );
    let time = String::from_utf8(shown.stdout).unwrap().trim().to_owned();
    world.set("SOURCE_DATE_EPOCH", "context");
    world.line(&format!("-t a {url}#main")).exits(0);
    assert_eq!(built(&world).1, time);
    let file = format!("FROM scratch AS src\nADD {url}#main /\nFROM scratch\n{SHOWS}");
    world.write("context/Dockerfile", file);
    world.set("SOURCE_DATE_EPOCH", "src");
    world.line("-t a @/context").exits(0);
    assert_eq!(built(&world).1, time);
}

#[test]
fn a_stage_that_does_more_is_refused() {
    let world = world();
    for (stage, words) in [
        (
            "FROM scratch AS s\nADD x /\n",
            "neither a URL nor a repository",
        ),
        ("FROM scratch AS s\nENV A=b\n", "has a ENV"),
    ] {
        world.write("context/Dockerfile", format!("{stage}FROM scratch\n"));
        let line = "-t a --build-arg SOURCE_DATE_EPOCH=s @/context";
        world.line(line).exits(3).says(words);
        world
            .line(&format!("check {}", line.replace("-t a ", "")))
            .exits(3)
            .says(words);
    }
    assert!(!fs::exists(world.path("out/a.tar")).unwrap());
}
