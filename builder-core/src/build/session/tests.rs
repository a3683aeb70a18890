//! Tables of what a session starts, and where in a file it stands.

use super::*;
use crate::dockerfile::instruction::InstructionKind;
use crate::dockerfile::parse::{ParseOptions, parse_with};
use crate::source::SourceFile;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn entrypoint_and_cmd_are_docker_s() {
    type Words<'a> = &'a [&'a str];
    type Case<'a> = (
        Words<'a>,
        Words<'a>,
        Option<Words<'a>>,
        Words<'a>,
        Option<Words<'a>>,
    );
    let table: [Case<'_>; 8] = [
        (&["e"], &["c"], None, &[], Some(&["e", "c"])),
        (&["e"], &["c"], None, &["x"], Some(&["e", "x"])),
        (&[], &["c"], None, &[], Some(&["c"])),
        (&[], &["c"], None, &["x", "y"], Some(&["x", "y"])),
        (&["e"], &["c"], Some(&["o"]), &[], Some(&["o"])),
        (&["e"], &["c"], Some(&["o"]), &["x"], Some(&["o", "x"])),
        (&["e"], &["c"], Some(&[]), &["x"], Some(&["x"])),
        (&["e"], &["c"], Some(&[]), &[], None),
    ];
    for (entrypoint, cmd, given, arguments, expected) in table {
        let config = RunConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..RunConfig::default()
        };
        let found = program(given.map(words).as_deref(), &words(arguments), &config);
        assert_eq!(found.ok(), expected.map(words), "{given:?} {arguments:?}");
    }
}

/// What is left of a file with a session in it: the keywords of the last stage.
fn appended(place: Place, target: Option<&str>) -> Option<String> {
    let text = "FROM a AS one\nENV A=1\n\nRUN --mount=type=tmpfs,target=/t \\\n  x\nFROM one AS two\nRUN y\n";
    let file = SourceFile::new("Dockerfile", text);
    let (mut parsed, _) = parse_with(&file, &ParseOptions::default());
    append(&mut parsed, &file, place, target).ok()?;
    let stage = parsed.stages.last()?;
    let words: Vec<String> = stage
        .instructions
        .iter()
        .map(|one| match &one.kind {
            InstructionKind::Run(run) => format!("RUN{}", run.mounts.len()),
            _ => one.keyword.text.clone(),
        })
        .collect();
    Some(format!("{}: {}", parsed.stages.len(), words.join(" ")))
}

#[test]
fn a_session_is_the_last_instruction() {
    for (place, target, expected) in [
        (Place::Target, None, Some("2: RUN0 RUN0")),
        (Place::Target, Some("ONE"), Some("1: ENV RUN1 RUN0")),
        (Place::Target, Some("0"), Some("1: ENV RUN1 RUN0")),
        (Place::Target, Some("three"), None),
        (Place::Before(0), None, None),
        (Place::Before(1), None, Some("1: RUN0")),
        (Place::After(1), None, Some("1: RUN0")),
        (Place::After(2), None, Some("1: ENV RUN0")),
        (Place::After(3), None, Some("1: ENV RUN0")),
        (Place::Before(4), None, Some("1: ENV RUN1")),
        (Place::Before(5), None, Some("1: ENV RUN1")),
        (Place::After(5), None, Some("1: ENV RUN1 RUN1")),
        (Place::After(6), None, Some("2: RUN0")),
        (Place::Before(7), None, Some("2: RUN0")),
        (Place::After(7), None, Some("2: RUN0 RUN0")),
        (Place::After(99), None, None),
    ] {
        let found = appended(place, target);
        assert_eq!(found.as_deref(), expected, "{place:?} {target:?}");
    }
}
