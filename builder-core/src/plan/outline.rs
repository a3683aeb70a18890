//! What a build takes from outside: the targets that a file has, and the arguments, secrets and agents of one of them.
//!
//! Follows BuildKit's subrequests `outline` and `targets`.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Diagnostic;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{ArgDeclaration, Instruction, InstructionKind};
use crate::dockerfile::lines::Comment;
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, Stage};
use crate::oci::config::ImageConfig;
use crate::source::{SourceFile, Span};

use super::graph::StageGraph;
use super::lower::lower_telling_args;
use super::step::{RunMountKind, Step};
use super::{Plan, PlanOptions};

/// A stage that may be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case.
    pub name: Option<String>,
    /// What the comment above it says of its name.
    pub description: Option<String>,
    /// The base as written.
    pub base: String,
    /// `--platform` as written.
    pub platform: Option<String>,
    /// Whether it is built where none is named.
    pub default: bool,
    /// The FROM line.
    pub span: Span,
}

/// What a target takes from outside, each list in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above it says of its name.
    pub description: Option<String>,
    /// The build arguments.
    pub args: Vec<Argument>,
    /// The secrets that RUNs mount.
    pub secrets: Vec<Mounted>,
    /// The agents that RUNs mount.
    pub ssh: Vec<Mounted>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value: what was given, or the default after expansion.
    pub value: Option<String>,
    /// What the comment above it says of its name.
    pub description: Option<String>,
    /// The ARG line.
    pub span: Span,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Its id.
    pub id: String,
    /// Whether a build without it fails.
    pub required: bool,
    /// The first RUN that mounts it.
    pub span: Span,
}

/// An ARG line of a stage, as lowering found it.
#[derive(Debug)]
pub(super) struct StageArg {
    /// The stage.
    pub(super) stage: usize,
    /// The name.
    pub(super) name: String,
    /// The value in force.
    pub(super) value: Option<String>,
    /// Whether the value comes from above FROM.
    pub(super) inherited: bool,
    /// The ARG line.
    pub(super) span: Span,
}

/// All targets, in the order of the file.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    let target = |(index, stage): (usize, &Stage)| {
        let from = stage.base();
        let text = |word: &Word| word.text.clone();
        Target {
            name: stage.name(),
            description: description(stage),
            base: from.map(|from| text(&from.image)).unwrap_or_default(),
            platform: from.and_then(|from| from.platform.as_ref().map(text)),
            default: index == last,
            span: stage.from.span,
        }
    };
    stages.map(target).collect()
}

fn description(stage: &Stage) -> Option<String> {
    about(&stage.from.comments, &stage.name()?)
}

/// What a comment says of `name`: one that begins with it.
fn about(comments: &[Comment], name: &str) -> Option<String> {
    let said = |comment: &Comment| {
        let rest = comment.text.strip_prefix(name)?.strip_prefix(' ')?;
        Some(rest.to_owned())
    };
    comments.iter().find_map(said)
}

/// The outline of the graph's target. None if a diagnostic is an error.
pub fn outline(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    bases: &BTreeMap<usize, ImageConfig>,
    options: &PlanOptions,
) -> (Option<Outline>, Vec<Diagnostic>) {
    let mut args = Vec::new();
    let (plan, problems) = lower_telling_args(file, dockerfile, graph, bases, options, &mut args);
    let Some(plan) = plan else {
        return (None, problems);
    };
    let target = dockerfile.stages.get(plan.target);
    let mut found = Outline {
        name: target.and_then(Stage::name),
        description: target.and_then(description),
        ..Outline::default()
    };
    found.args = arguments(dockerfile, graph, args);
    (found.secrets, found.ssh) = mounted(&plan);
    (Some(found), problems)
}

/// The arguments of the stages, and those above FROM that they or their FROM lines use.
fn arguments(dockerfile: &Dockerfile, graph: &StageGraph, args: Vec<StageArg>) -> Vec<Argument> {
    let above = Above::of(dockerfile);
    let mut used: BTreeSet<String> = BTreeSet::new();
    let reachable = graph.stages.iter().filter(|stage| stage.reachable);
    for stage in reachable.filter_map(|node| dockerfile.stages.get(node.index)) {
        let from = stage.base();
        let words = from
            .into_iter()
            .flat_map(|from| from.platform.iter().chain([&from.image]));
        used.extend(words.flat_map(|word| above.names_in(word)));
    }
    let mut found: BTreeMap<String, Argument> = BTreeMap::new();
    for arg in args {
        if arg.inherited && above.lines.contains_key(arg.name.as_str()) {
            used.insert(arg.name);
            continue;
        }
        let stage = dockerfile.stages.get(arg.stage);
        let lines = stage.into_iter().flat_map(|stage| &stage.instructions);
        let mut lines = lines.filter(|line| line.span == arg.span);
        let description = lines
            .next()
            .and_then(|line| about(&line.comments, &arg.name));
        let argument = Argument {
            name: arg.name.clone(),
            value: arg.value,
            description,
            span: arg.span,
        };
        // The platform's names are there in any case, and a stage that asks for one gives it no other value.
        if !arg.inherited || graph.globals.lookup(&arg.name).is_none() {
            found.insert(arg.name, argument);
        }
    }
    let mut open: Vec<String> = used.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let Some((line, declaration)) = above.lines.get(name.as_str()) else {
            continue;
        };
        let default = declaration.default.iter();
        let more: Vec<String> = default.flat_map(|word| above.names_in(word)).collect();
        open.extend(more.into_iter().filter(|name| used.insert(name.clone())));
        found.entry(name.clone()).or_insert_with(|| Argument {
            value: graph.globals.lookup(&name),
            description: about(&line.comments, &name),
            span: line.span,
            name,
        });
    }
    let mut found: Vec<Argument> = found.into_values().collect();
    found.sort_by_key(|one| one.span);
    found
}

/// The last ARG above FROM of each name.
struct Above<'a> {
    lines: BTreeMap<&'a str, (&'a Instruction, &'a ArgDeclaration)>,
    escape: char,
}

impl<'a> Above<'a> {
    fn of(dockerfile: &'a Dockerfile) -> Self {
        let mut lines = BTreeMap::new();
        for line in &dockerfile.global {
            let InstructionKind::Arg(arg) = &line.kind else {
                continue;
            };
            for declaration in &arg.args {
                lines.insert(declaration.name.text.as_str(), (line, declaration));
            }
        }
        Self {
            lines,
            escape: dockerfile.directives.escape,
        }
    }

    /// The names of these lines that a word uses.
    fn names_in(&self, word: &Word) -> Vec<String> {
        let expander = Expander {
            escape: self.escape,
            lookup: &|_| None,
        };
        // What is wrong in the word was said already.
        let used = expander
            .word(word)
            .map_or_else(|_| Vec::new(), |expanded| expanded.used);
        let known = used
            .into_iter()
            .filter(|name| self.lines.contains_key(name.as_str()));
        known.collect()
    }
}

/// The secrets and the agents of a plan, each where it is mounted first.
fn mounted(plan: &Plan) -> (Vec<Mounted>, Vec<Mounted>) {
    let (mut secrets, mut ssh) = (Vec::new(), Vec::new());
    let mut known = BTreeSet::new();
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    for step in steps {
        let Step::Run(run) = &step.step else {
            continue;
        };
        for mount in &run.mounts {
            let (list, id, required) = match &mount.kind {
                RunMountKind::Secret { id, required, .. } => (&mut secrets, id, *required),
                RunMountKind::Ssh { id, required, .. } => (&mut ssh, id, *required),
                _ => continue,
            };
            let is_secret = matches!(mount.kind, RunMountKind::Secret { .. });
            if known.insert((is_secret, id)) {
                list.push(Mounted {
                    id: id.clone(),
                    required,
                    span: step.span,
                });
            }
        }
    }
    (secrets, ssh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse::parse;
    use crate::plan::graph::graph;
    use crate::platform::Platform;

    const FILE: &str = "\
# V the version
ARG V=1.2
ARG BASE=img:${V}
ARG UNUSED=1
# build makes it
FROM scratch AS build
# FLAGS what the compiler gets
# OTHER nothing
ARG FLAGS=-O$TWO OTHER
ARG V
ARG TARGETARCH
RUN --mount=type=secret,id=token,required --mount=type=ssh true
FROM $BASE AS base
FROM scratch
COPY --from=build /a /
RUN --mount=type=secret,target=/x/netrc --mount=type=secret,id=token true
";

    fn outline_of(target: Option<&str>, given: &[(&str, &str)]) -> Outline {
        let file = SourceFile::new("Dockerfile", FILE);
        let (parsed, problems) = parse(&file);
        assert!(problems.is_empty(), "{problems:?}");
        let mut options = PlanOptions::new(Platform::host());
        options.target = target.map(str::to_owned);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        options.build_args = given.iter().map(owned).collect();
        let (graph, _) = graph(&file, &parsed, &options);
        let graph = graph.unwrap();
        let reachable = graph.stages.iter().filter(|stage| stage.reachable);
        let bases = reachable.map(|one| (one.index, ImageConfig::for_platform(&one.platform)));
        let (found, problems) = outline(&file, &parsed, &graph, &bases.collect(), &options);
        found.unwrap_or_else(|| panic!("{problems:?}"))
    }

    fn listed(outline: &Outline) -> Vec<String> {
        let args = outline.args.iter().map(|arg| {
            let (value, about) = (arg.value.as_deref(), arg.description.as_deref());
            format!(
                "{}={} ({})",
                arg.name,
                value.unwrap_or("-"),
                about.unwrap_or("")
            )
        });
        let mounts = [("secret", &outline.secrets), ("ssh", &outline.ssh)];
        let mounts = mounts.into_iter().flat_map(|(kind, list)| {
            let shown = move |one: &Mounted| format!("{kind} {} {}", one.id, one.required);
            list.iter().map(shown)
        });
        args.chain(mounts).collect()
    }

    #[test]
    fn what_a_target_takes() {
        let default = outline_of(None, &[("FLAGS", "-g")]);
        assert_eq!(
            (default.name.clone(), default.description.clone()),
            (None, None)
        );
        assert_eq!(
            listed(&default),
            [
                "V=1.2 (the version)",
                "FLAGS=-g (what the compiler gets)",
                "OTHER=- (nothing)",
                "secret token true",
                "secret netrc false",
                "ssh default false"
            ]
        );
        let base = outline_of(Some("BASE"), &[("V", "7")]);
        assert_eq!(base.name.as_deref(), Some("base"));
        assert_eq!(listed(&base), ["V=7 (the version)", "BASE=img:7 ()"]);
        let build = outline_of(Some("build"), &[]);
        assert_eq!(build.description.as_deref(), Some("makes it"));
    }

    #[test]
    fn all_targets() {
        let (parsed, _) = parse(&SourceFile::new("Dockerfile", FILE));
        let found: Vec<_> = targets(&parsed)
            .into_iter()
            .map(|one| (one.name, one.description, one.base, one.default))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                (text("build"), text("makes it"), "scratch".to_owned(), false),
                (text("base"), None, "$BASE".to_owned(), false),
                (None, None, "scratch".to_owned(), true),
            ]
        );
    }
}
