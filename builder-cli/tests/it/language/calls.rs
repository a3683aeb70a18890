//! `--call`: questions about a file instead of a build.

use serde_json::Value;
use test_support::world::World;

use crate::world;

const FILE: &str = "\
# V the version
ARG V=1.2
# build makes the program
FROM scratch AS build
ARG V
# FLAGS for the <compiler>
ARG FLAGS=\"-O $V\"
RUN --mount=type=secret,id=token,required \\
    --mount=type=ssh true
FROM --platform=$BUILDPLATFORM nowhere.invalid/base:${V} AS other
FROM scratch
COPY --from=build /a /
";

fn with_file() -> World {
    let world = world();
    world.write("context/Dockerfile", FILE);
    world
}

fn json(world: &World, line: &str) -> Value {
    let outcome = world.line(line).exits(0);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[test]
fn the_parameters_of_a_target() {
    let world = with_file();
    let line = "build --call=outline --target build --build-arg FLAGS=-g @/context";
    let outcome = world.line(line).exits(0);
    assert_eq!(
        String::from_utf8(outcome.stdout).unwrap(),
        "\
TARGET:      build
DESCRIPTION: makes the program

BUILD ARG   VALUE   DESCRIPTION
V           1.2     the version
FLAGS       -g      for the <compiler>

SECRET   REQUIRED
token    true

SSH       REQUIRED
default

"
    );
    let found = json(&world, "--call outline,format=json @/context");
    assert_eq!(found.get("name"), None);
    assert_eq!(found["args"][1]["value"], "-O 1.2");
    let line = serde_json::json!({"ranges": [
        {"start": {"line": 8}, "end": {"line": 8}}, {"start": {"line": 9}, "end": {"line": 9}}]});
    assert_eq!(found["secrets"][0]["location"], line);
    assert_eq!(
        found["ssh"][0],
        serde_json::json!({"name": "default", "location": line})
    );
    let source = builder_core::registry::base64(FILE.as_bytes());
    assert_eq!(found["sources"], serde_json::json!([source]));
    // No registry is asked for a base.
    let outcome = world
        .line("--call=outline --target=other --build-arg V=2 @/context")
        .exits(0);
    assert!(
        String::from_utf8(outcome.stdout)
            .unwrap()
            .contains("V           2       the version")
    );
}

#[test]
fn the_targets() {
    let world = with_file();
    let outcome = world.line("--call=targets @/context").exits(0);
    assert_eq!(
        String::from_utf8(outcome.stdout).unwrap(),
        "\
TARGET    DESCRIPTION
build     makes the program
other
(default)
"
    );
    let found = json(&world, "build --call=targets,format=json @/context");
    let at = |line: u32| serde_json::json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]});
    assert_eq!(
        found["targets"],
        serde_json::json!([
            {"name": "build", "description": "makes the program", "base": "scratch", "location": at(4)},
            {"name": "other", "base": "nowhere.invalid/base:${V}", "platform": "$BUILDPLATFORM", "location": at(10)},
            {"default": true, "base": "scratch", "location": at(11)},
        ])
    );
}

#[test]
fn all_problems_as_json() {
    let world = world();
    world.write("context/Dockerfile", "from scratch AS A\nCOPY\n");
    let outcome = world.line("--call=check,format=json @/context").exits(3);
    let found: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let mut rules = found["warnings"].as_array().unwrap().iter();
    assert!(
        rules.any(|one| one["ruleName"] == "StageNameCasing"),
        "{found}"
    );
    assert_eq!(
        found["buildError"]["location"]["ranges"][0]["start"]["line"],
        2
    );
    assert_eq!(found["sources"][0]["filename"], "Dockerfile");
    world
        .line("--call=check,format=json,ignorestatus=true @/context")
        .exits(0);
    world
        .line("--call=check @/context")
        .exits(3)
        .says("1 error");
    world.line("--call=check,ignorestatus=1 @/context").exits(0);
}

#[test]
fn what_is_no_question_is_refused() {
    let world = with_file();
    for (call, words) in [
        ("nothing", "`nothing` is unknown"),
        ("outline,targets", "`targets` is unknown"),
        ("outline,format=yaml", "`format=yaml` is unknown"),
        ("check,ignorestatus=x", "`ignorestatus=x` is unknown"),
    ] {
        world
            .line(&format!("--call={call} @/context"))
            .exits(2)
            .says(words);
    }
    world.write("context/Dockerfile", "FROM scratch\nCOPY\nFOO bar\n");
    for call in ["outline", "targets"] {
        world
            .line(&format!("--call={call} @/context"))
            .exits(3)
            .says("FOO");
    }
    world.write("context/Dockerfile", "FROM scratch\n");
    world.line("--call=build -t a @/context").exits(0);
}
