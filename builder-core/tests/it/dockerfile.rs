//! The language: parsing, refusals, expansion, checks.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use builder_core::diagnostic::Diagnostic;
use builder_core::dockerfile::Dockerfile;
use builder_core::dockerfile::expand::Expander;
use builder_core::dockerfile::lint::{self, CheckSettings, OWN_WARNINGS, RULES};
use builder_core::dockerfile::parse::{ParseOptions, parse, parse_trigger, parse_with};
use builder_core::dockerfile::word::Word;
use builder_core::plan::{self, PlanOptions};
use builder_core::platform::Platform;
use builder_core::source::{SourceFile, Span};

use crate::golden::{cases, expect, testdata};

fn read(case: &Path) -> SourceFile {
    SourceFile::from_bytes(
        "Dockerfile",
        std::fs::read(case.join("Dockerfile")).unwrap(),
    )
}

/// Everything known of a file, one instruction a line, spans as lines and columns.
fn tree(file: &SourceFile, dockerfile: &Dockerfile) -> String {
    let mut text = format!("{:?}\n", dockerfile.directives);
    for instruction in dockerfile.instructions() {
        let _ = write!(text, "{:?} {:?}", instruction.keyword, instruction.kind);
        for comment in &instruction.comments {
            let _ = write!(text, " # {}", comment.text);
        }
        text.push('\n');
    }
    let span = regex::Regex::new(r"Span \{ start: (\d+), end: (\d+) \}").unwrap();
    let text = span.replace_all(&text, |found: &regex::Captures<'_>| {
        let place = |index: usize| file.position(found[index].parse().unwrap());
        let (start, end) = (place(1), place(2));
        format!(
            "{}:{}-{}:{}",
            start.line, start.column, end.line, end.column
        )
    });
    let word =
        regex::Regex::new(r#"Word \{ text: ("(?:[^"\\]|\\.)*"), span: ([0-9:-]+) \}"#).unwrap();
    word.replace_all(&text, "$1@$2").into_owned()
}

/// Diagnostics as lines of text.
pub(crate) fn shown(file: &SourceFile, diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for one in diagnostics {
        let level = if one.is_error() { "error" } else { "warning" };
        let (start, end) = (file.position(one.span.start), file.position(one.span.end));
        let _ = writeln!(
            text,
            "{level} {}:{}-{}:{} {}: {}",
            start.line, start.column, end.line, end.column, one.rule, one.message
        );
        for note in &one.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        if let Some((span, label)) = &one.related {
            let _ = writeln!(text, "  {}: {label}", file.position(span.start).line);
        }
        if let Some(help) = &one.help {
            let _ = writeln!(text, "  help: {help}");
        }
    }
    text
}

#[test]
fn parses() {
    for case in cases("dockerfile/parse") {
        let file = read(&case);
        let (dockerfile, problems) = parse(&file);
        let text = format!("{}{}", tree(&file, &dockerfile), shown(&file, &problems));
        expect(&case.join("tree.txt"), &text);
    }
}

/// All problems of a file without base images: parse, graph, lower, checks.
fn problems(file: &SourceFile) -> Vec<Diagnostic> {
    let (dockerfile, mut found) = parse(file);
    let options = PlanOptions::new(Platform::new("linux", "amd64", ""));
    let (graph, more) = plan::graph(file, &dockerfile, &options);
    found.extend(more);
    if let Some(graph) = graph {
        found.extend(plan::lower(file, &dockerfile, &graph, &BTreeMap::new(), &options).1);
    }
    found.extend(lint::check(&dockerfile));
    CheckSettings::new(&dockerfile, None).apply(&dockerfile, found)
}

#[test]
fn rejects_with_all_problems() {
    for case in cases("dockerfile/reject") {
        let file = read(&case);
        let found = problems(&file);
        assert!(!found.is_empty(), "{}", case.display());
        expect(&case.join("diagnostics.txt"), &shown(&file, &found));
    }
}

/// `expand.txt`: `let NAME=value` and `escape C` set the scene, `WORD => VALUE` is a case.
#[test]
fn expands() {
    let path = testdata("dockerfile/expand.txt");
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut escape = '\\';
    let mut text = String::new();
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        if let Some((name, value)) = line
            .strip_prefix("let ")
            .and_then(|rest| rest.split_once('='))
        {
            names.insert(name.to_owned(), value.to_owned());
        } else if let Some(c) = line.strip_prefix("escape ") {
            escape = c.chars().next().unwrap();
        } else if let Some(end) = line.find("=>").filter(|_| !line.starts_with('#')) {
            let word = line[..end].trim_end();
            let lookup = |name: &str| names.get(name).cloned();
            let word = Word {
                text: word.to_owned(),
                span: Span::new(0, word.len()),
            };
            let result = match (Expander {
                escape,
                lookup: &lookup,
            })
            .word(&word)
            {
                Ok(found) if found.unset.is_empty() => format!("`{}`", found.value),
                Ok(found) => format!("`{}` unset {}", found.value, found.unset.join(" ")),
                Err(problem) => format!("error at {}: {}", problem.span.start, problem.message),
            };
            let _ = writeln!(text, "{} => {result}", word.text);
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    expect(&path, &text);
}

#[test]
fn every_rule_has_a_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnostics");
    let rules: Vec<&str> = RULES
        .iter()
        .map(|(name, _)| *name)
        .chain(OWN_WARNINGS)
        .collect();
    for rule in &rules {
        let page = std::fs::read_to_string(docs.join(format!("{rule}.md"))).unwrap_or_default();
        assert!(
            page.starts_with(&format!("# {rule}\n")),
            "docs/diagnostics/{rule}.md"
        );
        assert!(
            page.matches("```dockerfile").count() >= 2,
            "{rule}: one example that fails and one that passes"
        );
    }
    for entry in std::fs::read_dir(docs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let rule = name.trim_end_matches(".md");
        assert!(
            rule == "README" || rules.contains(&rule),
            "docs/diagnostics/{name} is the page of no rule"
        );
    }
}

/// The first example of a page must break its rule, the second must not.
#[test]
fn the_examples_on_the_pages_are_true() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnostics");
    let elsewhere = [
        "CopyIgnoredFile",
        "InvalidDefaultArgInFrom",
        "InvalidBaseImagePlatform",
        "unused-build-arg",
    ];
    for (rule, _) in RULES.iter().filter(|(rule, _)| !elsewhere.contains(rule)) {
        let page = std::fs::read_to_string(docs.join(format!("{rule}.md"))).unwrap();
        let blocks: Vec<&str> = page
            .split("```dockerfile\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        let breaks = |text: &str| {
            let file = SourceFile::new("Dockerfile", text);
            let (dockerfile, _) = parse(&file);
            let mut found = problems(&file);
            if *rule == "InvalidDefinitionDescription" {
                found.extend(lint::check(&dockerfile));
            }
            found.iter().any(|one| one.rule == *rule)
        };
        assert!(
            breaks(blocks[0]),
            "{rule}: the first example is fine\n{}",
            blocks[0]
        );
        assert!(
            !breaks(blocks[1]),
            "{rule}: the second example breaks it\n{}",
            blocks[1]
        );
    }
}

#[test]
fn checks_can_be_turned_off() {
    for (text, fires) in [
        ("FROM scratch AS A\n", true),
        ("# check=skip=StageNameCasing\nFROM scratch AS A\n", false),
        ("# check=skip=all\nFROM scratch AS A\n", false),
        (
            "ARG x=1\n# check=skip=StageNameCasing\nFROM scratch AS A\n",
            false,
        ),
        (
            "ARG x=1\n# check=skip=FromAsCasing\nFROM scratch AS A\n",
            true,
        ),
    ] {
        let found = problems(&SourceFile::new("Dockerfile", text));
        assert_eq!(
            found.iter().any(|one| one.rule == "StageNameCasing"),
            fires,
            "{text}"
        );
    }
    let file = SourceFile::new("Dockerfile", "# check=error=true\nFROM scratch AS A\n");
    assert!(problems(&file).iter().all(Diagnostic::is_error));
    let (dockerfile, _) = parse(&file);
    let settings = CheckSettings::new(&dockerfile, Some("skip=all"));
    assert!(
        settings
            .apply(&dockerfile, lint::check(&dockerfile))
            .is_empty()
    );
}

#[test]
fn a_foreign_syntax_is_refused_unless_ignored() {
    let file = SourceFile::new("Dockerfile", "# syntax=example.com/other:1\nFROM scratch\n");
    let refused = |options: &ParseOptions| {
        parse_with(&file, options)
            .1
            .iter()
            .any(|one| one.rule == "foreign-syntax")
    };
    assert!(refused(&ParseOptions::default()));
    assert!(!refused(&ParseOptions {
        ignore_syntax: true,
        syntax: None
    }));
    assert!(!refused(&ParseOptions {
        ignore_syntax: false,
        syntax: Some("docker/dockerfile:1".to_owned())
    }));
}

#[test]
fn triggers_are_one_instruction() {
    let at = Span::new(3, 9);
    let found = parse_trigger("COPY <<E /x\nbody\nE", '\\', at).unwrap();
    assert_eq!((found.span, found.keyword.span), (at, at));
    for text in ["", "LABEL a=1\nLABEL b=1", "COPY one", "NOPE x"] {
        assert!(parse_trigger(text, '\\', at).is_err(), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "([A-Za-z]{0,6}|[ \\\\`\"'$#<=\\-\\[\\]{}:/,\r\n\té]|FROM x|COPY |RUN |<<E|--mount=|ENV a=){0,40}") {
        problems(&SourceFile::new("Dockerfile", text));
    }

    #[test]
    fn parsing_prefixed_text_never_panics(text in "(COPY|RUN|ENV|ARG|ONBUILD|LABEL|EXPOSE|HEALTHCHECK|ADD|FROM|VOLUME|SHELL) [ -~\\\\é]{0,40}") {
        problems(&SourceFile::new("Dockerfile", format!("FROM scratch\n{text}\nLABEL a=1\n")));
    }
}

/// Nothing that reads a file goes deeper with each word of it.
#[test]
fn many_triggers_in_one_another_are_one_problem() {
    let text = format!("FROM scratch\n{}RUN x <<E\nE\n", "ONBUILD ".repeat(200_000));
    let (_, problems) = parse(&SourceFile::new("Dockerfile", text));
    assert!(problems.iter().any(Diagnostic::is_error));
}
