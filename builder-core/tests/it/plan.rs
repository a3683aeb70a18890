//! Plans: what a file means, given its bases' configs.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use builder_core::diagnostic::Diagnostic;
use builder_core::dockerfile::parse::parse;
use builder_core::oci::config::ImageConfig;
use builder_core::plan::{self, Plan, PlanOptions};
use builder_core::platform::Platform;
use builder_core::source::SourceFile;
use serde_json::Value;

use crate::dockerfile::shown;
use crate::golden::{cases, expect};

fn options(case: &Path) -> PlanOptions {
    let mut options = PlanOptions::new(Platform::new("linux", "amd64", ""));
    let Ok(text) = std::fs::read_to_string(case.join("args.json")) else {
        return options;
    };
    let args: Value = serde_json::from_str(&text).unwrap();
    let map = |key: &str| -> BTreeMap<String, String> {
        args.get(key)
            .map(|value| serde_json::from_value(value.clone()).unwrap())
            .unwrap_or_default()
    };
    options.build_args = map("build_args");
    options.labels = map("labels").into_iter().collect();
    options.named_contexts = map("build_contexts").into_keys().collect();
    options.target = args["target"].as_str().map(str::to_owned);
    options.platform = args["platform"].as_str().map(|text| text.parse().unwrap());
    options
}

/// The plan with every base image's config being `base`.
fn plan_of(
    file: &SourceFile,
    options: &PlanOptions,
    base: &ImageConfig,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let (dockerfile, mut found) = parse(file);
    let (graph, more) = plan::graph(file, &dockerfile, options);
    found.extend(more);
    let Some(graph) = graph else {
        return (None, found);
    };
    let bases = graph
        .stages
        .iter()
        .map(|stage| (stage.index, base.clone()))
        .collect();
    let (plan, more) = plan::lower(file, &dockerfile, &graph, &bases, options);
    let again = plan::lower(file, &dockerfile, &graph, &bases, options);
    assert_eq!(
        (&plan, &more),
        (&again.0, &again.1),
        "lowering twice is equal"
    );
    found.extend(more);
    (plan, found)
}

#[test]
fn plans() {
    for case in cases("plan") {
        let file = SourceFile::new(
            "Dockerfile",
            std::fs::read_to_string(case.join("Dockerfile")).unwrap(),
        );
        let base = std::fs::read_to_string(case.join("base.json"))
            .map(|text| serde_json::from_str(&text).unwrap())
            .unwrap_or_default();
        let (plan, found) = plan_of(&file, &options(&case), &base);
        let mut text = plan.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(plan) = &plan {
            text.push_str(&serde_json::to_string_pretty(&plan.config).unwrap());
            text.push('\n');
        }
        text.push_str(&shown(&file, &found));
        expect(&case.join("plan.txt"), &text);
    }
}

#[test]
fn env_overrides_arg_in_every_order() {
    let build = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    for (lines, args, label, warns) in [
        ("ENV a=env\nARG a=arg\n", BTreeMap::new(), "env", true),
        ("ENV a=env\nARG a\n", build("a", "cli"), "env", true),
        ("ENV a=env\nARG a\n", BTreeMap::new(), "env", false),
        ("ENV a=env\nARG a=env\n", BTreeMap::new(), "env", false),
        ("ARG a=arg\nENV a=env\n", build("a", "cli"), "env", false),
        ("ARG a=arg\nENV a=$a\n", build("a", "cli"), "cli", false),
        (
            "ENV a=one\nARG a=arg\nENV a=${a}x\n",
            BTreeMap::new(),
            "onex",
            true,
        ),
        ("ARG a=arg\n", BTreeMap::new(), "arg", false),
        (
            "ARG base=arg\nARG a=$base\n",
            BTreeMap::new(),
            "image",
            true,
        ),
    ] {
        let file = SourceFile::new(
            "Dockerfile",
            format!("FROM image\n{lines}LABEL l=$a\nRUN true\n"),
        );
        let mut options = PlanOptions::new(Platform::new("linux", "amd64", ""));
        options.build_args = args;
        let mut base = ImageConfig::default();
        base.config.env = vec!["base=image".to_owned()];
        let (plan, found) = plan_of(&file, &options, &base);
        let plan = plan.unwrap();
        assert_eq!(plan.config.config.labels["l"], label, "{lines}");
        assert_eq!(
            found.iter().any(|one| one.rule == "env-overrides-arg"),
            warns,
            "{lines}"
        );
    }
}

#[test]
fn arg_path_never_changes_path() {
    let file = SourceFile::new("Dockerfile", "FROM scratch\nARG PATH=/x\nLABEL l=$PATH\n");
    let options = PlanOptions::new(Platform::new("linux", "amd64", ""));
    let (plan, found) = plan_of(&file, &options, &ImageConfig::default());
    assert_eq!(
        plan.unwrap().config.config.labels["l"],
        plan::scope::DEFAULT_PATH
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn triggers_of_a_base_image_may_need_more_stages() {
    let file = SourceFile::new(
        "Dockerfile",
        "FROM scratch AS data\nCOPY f /f\nFROM image\n",
    );
    let (dockerfile, _) = parse(&file);
    let options = PlanOptions::new(Platform::new("linux", "amd64", ""));
    let mut graph = plan::graph(&file, &dockerfile, &options).0.unwrap();
    assert!(!graph.stages[0].reachable);
    let triggers = ["COPY --from=data /f /g".to_owned()];
    assert!(graph.add_triggers(&dockerfile, 1, &triggers));
    assert!(graph.stages[0].reachable);
    assert!(!graph.add_triggers(&dockerfile, 1, &triggers));
}

#[test]
fn ignored_sources_are_named() {
    let file = SourceFile::new("Dockerfile", "FROM scratch\nCOPY a /b/../c d/\n");
    let options = PlanOptions::new(Platform::new("linux", "amd64", ""));
    let plan = plan_of(&file, &options, &ImageConfig::default()).0.unwrap();
    let found = plan::ignored::ignored_sources(&plan, &|path| path == "c");
    assert_eq!(
        found
            .iter()
            .map(|one| file.slice(one.span))
            .collect::<Vec<_>>(),
        ["/b/../c"]
    );
}

#[test]
fn a_default_with_which_from_fails_is_named() {
    for (default, fires) in [("ARG TAG", true), ("ARG TAG=", true), ("ARG TAG=3", false)] {
        let file = SourceFile::new("Dockerfile", format!("{default}\nFROM alpine:$TAG\n"));
        let mut options = PlanOptions::new(Platform::new("linux", "amd64", ""));
        options.build_args.insert("TAG".to_owned(), "9".to_owned());
        let (plan, found) = plan_of(&file, &options, &ImageConfig::default());
        assert!(plan.is_some());
        assert_eq!(
            found
                .iter()
                .any(|one| one.rule == "InvalidDefaultArgInFrom"),
            fires,
            "{default}"
        );
    }
}
