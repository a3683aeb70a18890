//! What is said where a beginner's file can't be built: the cause and the remedy, once.

use std::fs;
use std::os::unix::fs::symlink;

use test_support::archive::Member;
use test_support::image::Base;
use test_support::world::World;

use crate::world;

/// Builds lines behind `FROM scratch` with a few files in the context.
fn with(lines: &str) -> World {
    let world = world();
    world.write("context/src/app.txt", "app");
    world.write("context/f", "f");
    world.write("context/Dockerfile", lines);
    world
}

#[test]
fn a_message_names_the_cause_and_the_remedy() {
    for (lines, status, words) in [
        (
            "FROM scratch\nCOPY src\\app.txt /x/\n",
            4,
            &["`src/app.txt`", "backslash"][..],
        ),
        (
            "FROM scratch\nCOPY f\u{200b} /x/\n",
            4,
            &["zero-width space (U+200B)"],
        ),
        (
            "FROM scratch\nCOPY f /g # put it there\n",
            4,
            &["comment needs a line of its own"],
        ),
        (
            "FROM scratch # base\nENV A=1 # one\nCOPY f /g\n",
            3,
            &["comment needs a line of its own"],
        ),
        (
            "ARG VERSION=\nFROM example.org/app:${VERSION}\n",
            3,
            &["`VERSION` is empty", "--build-arg VERSION"],
        ),
        (
            "FROM late AS a\nFROM scratch AS late\nENV y=1\nFROM a\n",
            5,
            &["a stage `late` stands below"],
        ),
        (
            "FROM scratch AS a\nFROM 0\n",
            5,
            &["FROM knows stages by name alone"],
        ),
        (
            "FROM scratch\nCOPY --from=scratch /x /x\n",
            3,
            &["`scratch` holds nothing"],
        ),
        (
            "FROM {{ base }} AS x\n",
            3,
            &[
                "`{{` looks like the text of a template",
                "fill the template in",
            ],
        ),
        (
            "FROM scratch\nLABEL a=b\n  c=d\n",
            3,
            &["`c=d`", "must end in the escape character"],
        ),
    ] {
        let world = with(lines);
        let outcome = world.line("-t a --pull=never @/context").exits(status);
        words
            .iter()
            .fold(outcome, |outcome, word| outcome.says(word));
    }
}

#[test]
fn one_fault_is_one_error() {
    for (lines, expected) in [
        (
            "FORM scratch\nRUN true\nCOPY f /\nUSER x\n",
            "1 error, 0 warnings",
        ),
        ("FROM: scratch\nCOPY f /\n", "1 error, 0 warnings"),
        (
            "<<<<<<< HEAD\nFROM scratch\n=======\nFROM x\n>>>>>>> b\n",
            "1 error, 0 warnings",
        ),
        ("<!DOCTYPE html>\n<html>\n<body>\n", "1 error, 0 warnings"),
        (
            "FROM scratch\nCOPY \"my file.txt\" /x/\n",
            "1 error, 0 warnings",
        ),
        (
            "FROM scratch\nEXPOSE 80 # http and more\n",
            "1 error, 0 warnings",
        ),
        (
            "FROM scratch\nLABEL a=b\n  c=d\n  e=f\nUSER x\n",
            "1 error, 0 warnings",
        ),
        (
            "FROM scratch\nRUM a &&\n\tb &&\n\tc\n",
            "1 error, 0 warnings",
        ),
        (
            "FROM scratch\nRUM a\nRUM b\n\n  c\n",
            "3 errors, 0 warnings",
        ),
        (
            "FROM scratch\nENV A=big wide world\n",
            "1 error, 0 warnings",
        ),
        ("FROM {{ base }}\nENV A={{ a }} b\n", "2 errors, 0 warnings"),
        (
            "FROM scratch\nENV\u{a0}A=1\nRUN a && \\\u{a0}\n  b\n",
            "2 errors, 0 warnings",
        ),
    ] {
        let world = with(lines);
        world.line("check @/context").exits(3).says(expected);
    }
}

#[test]
fn a_check_s_status_is_about_errors() {
    let warned = "FROM scratch\nMAINTAINER me\n";
    for (lines, flags, status, words) in [
        ("FROM scratch\n", "", 0, "no problems found"),
        (warned, "", 0, "0 errors, 1 warning"),
        (warned, "--warnings-as-errors", 3, "0 errors, 1 warning"),
        ("FROM scratch\nNOTHING\n", "", 3, "1 error, 0 warnings"),
        (
            "FROM scratch\n",
            "--warnings-as-errors",
            0,
            "no problems found",
        ),
    ] {
        let world = with(lines);
        world
            .line(&format!("check {flags} @/context"))
            .exits(status)
            .says(words);
        world
            .line(&format!("build --check {flags} @/context"))
            .exits(status)
            .says(words);
    }
    let world = with(warned);
    world
        .line("-t a --warnings-as-errors @/context")
        .exits(2)
        .says("check=error=true");
}

#[test]
fn a_dockerfile_that_can_t_be_one_says_why() {
    let world = with("");
    for (bytes, words) in [
        (&b"\xff\xfeF\0R\0O\0M\0"[..], "UTF-16"),
        (b"\xfe\xff\0F\0R\0O\0M", "UTF-16"),
        (b"F\0R\0", "zero bytes"),
    ] {
        world.write("context/Dockerfile", bytes);
        world.line("@/context").exits(3).says(words).says("UTF-8");
    }
    let file = world.path("context/Dockerfile");
    fs::remove_file(&file).unwrap();
    symlink("gone", &file).unwrap();
    world
        .line("@/context")
        .exits(3)
        .says("a link to `gone`, which is not there");
}

#[test]
fn what_a_context_s_link_leads_to_outside_is_not_read() {
    let world = with("FROM scratch\nCOPY f /f\n");
    world.write("host.txt", "first secret\n");
    for (name, flag) in [("Dockerfile", "-f"), (".dockerignore", "--ignorefile")] {
        let path = world.path(format!("context/{name}"));
        let _ = fs::remove_file(&path);
        symlink("../host.txt", &path).unwrap();
        let outcome = world
            .line("-t a @/context")
            .exits(3)
            .says("out of the build context")
            .says(flag);
        assert!(!outcome.stderr.contains("first secret"));
        fs::remove_file(&path).unwrap();
        world.write("context/Dockerfile", "FROM scratch\nCOPY f /f\n");
    }
    // One that stays inside, and one that is named, are read.
    world.write("context/files/App", "FROM scratch\nCOPY f /app\n");
    fs::remove_file(world.path("context/Dockerfile")).unwrap();
    symlink("files/App", world.path("context/Dockerfile")).unwrap();
    world.line("-t a @/context").exits(0);
    world
        .line("-t a -f @/host.txt @/context")
        .exits(3)
        .says("first secret");
}

#[test]
fn a_refused_layer_of_the_base_is_shown_at_from() {
    let world = with("FROM base\nENV A=1\nCOPY f /d/f\n");
    let members = vec![Member::file("x", "x"), Member::file("x/y", "y")];
    Base::new(members).write(&world.path("layout"));
    let layout = world.path("layout");
    let line = format!(
        "-t a --build-context base=oci-layout://{} @/context",
        layout.display()
    );
    world
        .line(&line)
        .exits(5)
        .says("Dockerfile:1:")
        .says("the base `base`");
}

#[test]
fn a_source_that_is_not_there_is_told_with_those_that_may_have_been_meant() {
    for (source, said) in [
        ("src/ap.txt", "did you mean `src/app.txt`?"),
        ("scr/app.txt", "did you mean `src/app.txt`?"),
        ("Src/App.txt", "did you mean `src/app.txt`?"),
        ("app.txt", "did you mean `src/app.txt`?"),
        ("other/f", "did you mean `f`?"),
        ("same", "did you mean `a/same` or `b/same`?"),
        ("nothing/like/it", "root of the build context"),
        ("src/f", "did you mean `f`?"),
    ] {
        let world = with(&format!("FROM scratch\nCOPY {source} /x\n"));
        world.write("context/a/same", "1");
        world.write("context/b/same", "2");
        world.line("-t x @/context").exits(4).says(said);
    }
    // From another stage too, with what it has.
    let world =
        with("FROM scratch AS one\nCOPY src /app\nFROM scratch\nCOPY --from=one /ap/app.txt /\n");
    world
        .line("-t x @/context")
        .exits(3)
        .says("did you mean `app/app.txt`?");
}
