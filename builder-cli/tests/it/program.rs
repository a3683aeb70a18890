//! The command line itself: help, refusals, displays, and the commands that build nothing.

use serde_json::Value;
use test_support::world::World;

use crate::world;

fn with(dockerfile: &str) -> World {
    let world = world();
    world.write("context/Dockerfile", dockerfile);
    world.write("context/a", "a\n");
    world
}

#[test]
fn the_program_describes_itself_on_standard_output() {
    let world = world();
    for (line, words) in [
        ("--help", "Usage: rbuild"),
        ("build --help", "--build-arg"),
        ("--version", "rbuild 0."),
        ("completions bash", "complete -F _rbuild"),
        ("completions zsh", "#compdef rbuild"),
        ("completions fish", "complete -c rbuild"),
        ("manual", ".TH rbuild 1"),
    ] {
        let outcome = world.line(line).exits(0);
        assert!(outcome.text().contains(words), "{line}: {}", outcome.text());
        assert_eq!(outcome.stderr, "", "{line}");
    }
    assert!(
        !world.path("store").exists(),
        "asking for help makes no store"
    );
}

#[test]
fn flags_that_can_not_be_honoured_are_refused_with_a_reason() {
    let world = with("FROM scratch\n");
    for (flags, words) in [
        ("--taag x", "--tag"),
        ("--squash", "stage"),
        ("--secret id=a", "--secret"),
        ("--ssh default", "--ssh"),
        ("--push", "name"),
        ("--pull=perhaps", "--pull"),
        ("--cache-to type=gha", "registry"),
        ("--isolation hyperv", "--isolation"),
        ("--provenance=true", "--provenance=false"),
        ("--call perhaps", "--call"),
        ("--platform linux/amd64,linux/arm64", "one at a time"),
        ("--platform win", "--platform"),
        ("--compression lz4", "gzip"),
        ("--build-arg =x", "--build-arg NAME=VALUE"),
        ("-t UPPER", "`upper`"),
        (
            "-t a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "digest",
        ),
        ("--progress loud", "plain"),
    ] {
        world
            .line(&format!("{flags} @/context"))
            .exits(2)
            .says(words);
    }
    world.line("").exits(2);
    world.line("-t a").exits(2).says("CONTEXT");
}

#[test]
fn flags_that_are_fulfilled_anyway_are_taken_without_a_word() {
    let world = with("FROM scratch\nCOPY a /\n");
    let flags = "--rm --force-rm --provenance=false --sbom=false --no-cache --pull=missing";
    let outcome = world
        .line(&format!("{flags} --progress quiet -t a @/context"))
        .exits(0);
    assert_eq!((outcome.text(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn json_lines_are_versioned_and_tell_the_whole_build() {
    let world = with("FROM scratch\nCOPY a /\nARG UNUSED\n");
    let outcome = world.line("--progress json -t a @/context").exits(0);
    let lines: Vec<Value> = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.iter().all(|line| line["version"] == 1),
        "{}",
        outcome.stderr
    );
    let mut told: Vec<&str> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    told.dedup();
    for event in [
        "planned",
        "stageStarted",
        "stepStarted",
        "stepFinished",
        "imageWritten",
        "outputWritten",
    ] {
        assert!(told.contains(&event), "{event} is missing in {told:?}");
    }
}

#[test]
fn plain_lines_name_each_step_and_carry_no_escapes() {
    let world = with("FROM scratch\nCOPY a /\nCMD [\"/a\"]\n");
    let outcome = world
        .line("--progress plain -t a @/context")
        .exits(0)
        .says("COPY a /")
        .says("CMD")
        .says("sha256:");
    assert!(!outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
    assert!(outcome.stdout.is_empty());
}

#[test]
fn check_reports_all_problems_and_builds_nothing() {
    let world = with("FROM scratch\nCOPPY a b\nCOPY --chwon=1 a /\nENV\nRUN true\n");
    for line in ["check @/context", "--check @/context"] {
        let outcome = world
            .line(line)
            .exits(3)
            .says(":2:1")
            .says("`COPY`")
            .says("`--chown`")
            .says(":3:6")
            .says(":4:1");
        assert!(outcome.stdout.is_empty());
    }
    assert_eq!(std::fs::read_dir(world.path("out")).unwrap().count(), 0);
    // The build says the same, all at once.
    world
        .line("@/context")
        .exits(3)
        .says(":2:1")
        .says(":3:6")
        .says(":4:1");

    world.write("context/Dockerfile", "FROM scratch\nCOPY a /\n");
    world.line("check @/context").exits(0).says("no problems");
}

#[test]
fn plan_prints_the_build_and_does_nothing() {
    let world = with(
        "ARG V=1\nFROM scratch AS one\nCOPY a /a\nFROM scratch\nARG V\nENV W=$V\nCOPY --from=one /a /b\nRUN true\n",
    );
    let outcome = world.line("plan --build-arg V=7 @/context").exits(0);
    for words in ["COPY", "W=7", "RUN", "one"] {
        assert!(
            outcome.text().contains(words),
            "{words} is missing in {}",
            outcome.text()
        );
    }
    assert_eq!(std::fs::read_dir(world.path("out")).unwrap().count(), 0);
    // What plan shows and this version can't do is refused at its line.
    world.line("@/context").exits(6).says(":8:1").says("RUN");
    // A stage that the target doesn't need may hold RUN.
    world.line("--target one @/context").exits(0);
}

#[test]
fn proxies_of_docker_s_configuration_are_build_arguments() {
    let world = with("FROM scratch\nARG HTTP_PROXY\nLABEL proxy=$HTTP_PROXY\nCOPY a /\n");
    world.write(
        "home/.docker/config.json",
        r#"{"proxies":{"default":{"httpProxy":"http://127.0.0.1:9"}}}"#,
    );
    world.line("-t a @/context").exits(0);
    let image = test_support::tarball::Image::open(&world.path("out/a.tar"));
    assert_eq!(
        image.config["config"]["Labels"]["proxy"],
        "http://127.0.0.1:9"
    );
}
