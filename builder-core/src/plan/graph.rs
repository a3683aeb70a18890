//! The stages of a file: what each starts from, which are needed, which base images that takes.
//!
//! Follows the Dockerfile reference, "FROM". FROM lines see the ARGs above the first FROM and the platform names,
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Instruction, InstructionKind};
use crate::dockerfile::mount::MountKey;
use crate::dockerfile::parse::parse_trigger;
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, Stage};
use crate::nearest::nearest;
use crate::platform::Platform;
use crate::source::{SourceFile, Span};

use super::PlanOptions;
use super::from_line::{FromLine, named_context};
use super::globals::{epoch, global_args};
use super::reference_text;
use super::scope::GlobalArgs;
use super::step::{CopyFrom, Spanned, StageBase};

/// All stages of a file and the way between them.
#[derive(Clone, Debug)]
pub struct StageGraph {
    /// All stages, in file order.
    pub stages: Vec<GraphStage>,
    /// The target's index.
    pub target: usize,
    /// The names that FROM lines see, and what a bare ARG imports.
    pub globals: GlobalArgs,
    /// `SOURCE_DATE_EPOCH` in seconds since 1970.
    pub epoch: Option<i64>,
    /// The last stage of each name.
    by_name: BTreeMap<String, usize>,
}

/// One stage as the graph sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphStage {
    /// Its index in the file, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<String>,
    /// What it starts from.
    pub base: StageBase,
    /// Whether the target needs it.
    pub reachable: bool,
    /// Its platform.
    pub platform: Platform,
    /// The FROM line.
    pub span: Span,
    /// A named context stands in for it: its instructions don't count.
    pub replaced: bool,
    /// The stages that it needs directly.
    pub needs: BTreeSet<usize>,
}

impl StageGraph {
    /// The last stage called `name`, in any case.
    pub fn named(&self, name: &str) -> Option<&GraphStage> {
        let place = self.by_name.get(&name.to_lowercase())?;
        self.stages.get(*place)
    }

    /// Marks what the target needs, and what the stages in `more` need.
    fn reach(&mut self, more: &BTreeSet<usize>) {
        let mut open: Vec<usize> = more.iter().copied().chain([self.target]).collect();
        while let Some(index) = open.pop() {
            let Some(stage) = self.stages.get_mut(index) else {
                continue;
            };
            if !stage.reachable {
                stage.reachable = true;
                open.extend(stage.needs.iter().copied());
            }
        }
    }

    /// Marks the stages that triggers of the base images need too. To be called with the `OnBuild` lists of the
    /// bases once they are known; true means that stages became reachable, whose bases must be fetched as well.
    pub fn add_triggers(
        &mut self,
        dockerfile: &Dockerfile,
        index: usize,
        triggers: &[String],
    ) -> bool {
        let Some(stage) = self.stages.get(index) else {
            return false;
        };
        let (span, reachable) = (stage.span, stage.reachable);
        let mut needs = BTreeSet::new();
        for trigger in triggers {
            if let Ok(instruction) = parse_trigger(trigger, dockerfile.directives.escape, span) {
                needs.extend(self.instruction_needs(&instruction, index));
            }
        }
        if let Some(stage) = self.stages.get_mut(index) {
            stage.needs.extend(needs.iter().copied());
        }
        let before = self.stages.iter().filter(|stage| stage.reachable).count();
        if reachable {
            self.reach(&needs);
        }
        before != self.stages.iter().filter(|stage| stage.reachable).count()
    }

    fn instruction_needs(&self, instruction: &Instruction, index: usize) -> Vec<usize> {
        let stage = |word: &Word, numbers: bool| {
            let number = word.text.parse::<usize>().ok().filter(|_| numbers);
            let found = number.or_else(|| self.named(&word.text).map(|stage| stage.index))?;
            (found < index).then_some(found)
        };
        match &instruction.kind {
            InstructionKind::Copy(copy) => copy
                .from
                .iter()
                .filter_map(|from| stage(from, true))
                .collect(),
            InstructionKind::Run(run) => {
                let fields = run.mounts.iter().flat_map(|mount| &mount.fields);
                let from = fields.filter(|field| field.key == MountKey::From);
                from.filter_map(|field| stage(field.value.as_ref()?, false))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Resolves what `--from` or a mount's `from` names, as seen by stage `index`.
    pub fn source(
        &self,
        word: &Word,
        index: usize,
        numbers: bool,
        options: &PlanOptions,
    ) -> Result<CopyFrom, Diagnostic> {
        if word.text.contains('$') {
            let problem =
                Diagnostic::error("from-variable", word.span, "`--from` can't hold a variable");
            return Err(problem.with_help(
                "give the image a name with `FROM image AS name` and copy from that name",
            ));
        }
        let number = word.text.parse::<usize>().ok().filter(|_| numbers);
        let stage = match number {
            Some(number) => Some(
                self.stages
                    .get(number)
                    .ok_or_else(|| self.no_such_index(number, word.span))?,
            ),
            None => self.named(&word.text),
        };
        if let Some(stage) = stage {
            return stage_source(stage, index, word);
        }
        if word.text == "scratch" {
            let message = "`scratch` holds nothing that could be copied or mounted";
            let problem = Diagnostic::error("from-scratch", word.span, message);
            return Err(problem.with_help("name a stage or an image that has the files"));
        }
        let platform = self.stages.get(index).map(|stage| &stage.platform);
        if let Some(name) = named_context(&word.text, platform, options) {
            return Ok(CopyFrom::Named(name));
        }
        if let Some(message) = reference_text::problem(&word.text) {
            let problem = Diagnostic::error(
                "no-such-stage",
                word.span,
                format!("no stage is called `{}`", word.text),
            );
            return Err(self.suggest(problem, &word.text).with_note(message));
        }
        Ok(CopyFrom::Image(Spanned {
            value: word.text.clone(),
            span: word.span,
        }))
    }

    fn suggest(&self, problem: Diagnostic, name: &str) -> Diagnostic {
        let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
        match nearest(name, names) {
            Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
            None => problem,
        }
    }

    fn no_such_index(&self, number: usize, span: Span) -> Diagnostic {
        let last = self.stages.len().saturating_sub(1);
        let message = format!("there is no stage {number}; the last one is {last}");
        Diagnostic::error("no-such-stage", span, message)
            .with_help("stages count from 0; better use their names")
    }
}

fn stage_source(stage: &GraphStage, index: usize, word: &Word) -> Result<CopyFrom, Diagnostic> {
    if stage.index == index {
        let problem = Diagnostic::error("stage-cycle", word.span, "a stage can't copy from itself");
        return Err(problem.with_help("name an earlier stage, or another image"));
    }
    if stage.index > index {
        let message = format!("the stage `{}` starts only further down", word.text);
        let problem = Diagnostic::error("later-stage", word.span, message);
        return Err(problem
            .with_related(stage.span, "it starts here")
            .with_help("move that stage above this one"));
    }
    Ok(match &stage.base {
        StageBase::Named(name) if stage.replaced => CopyFrom::Named(name.clone()),
        _ => CopyFrom::Stage(stage.index),
    })
}

/// Resolves the FROM lines, the target, and what it needs. Without a graph, the diagnostics hold an error; they may
/// hold one beside a graph too.
pub fn graph(
    _file: &SourceFile,
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> (Option<StageGraph>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let globals = global_args(dockerfile, options, true, &mut problems);
    let defaults = global_args(dockerfile, options, false, &mut Vec::new());
    let epoch = epoch(dockerfile, options, &mut problems);
    let mut graph = StageGraph {
        stages: Vec::new(),
        target: 0,
        globals,
        epoch,
        by_name: BTreeMap::new(),
    };
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let found = resolve(
            &graph,
            &defaults,
            dockerfile,
            index,
            stage,
            options,
            &mut problems,
        );
        if let Some(name) = &found.name {
            graph.by_name.insert(name.clone(), index);
        }
        graph.stages.push(found);
    }
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let needs = needs(&graph, dockerfile, index, stage);
        if let Some(stage) = graph.stages.get_mut(index) {
            stage.needs.extend(needs);
        }
    }
    match target(&graph, options) {
        Ok(target) => graph.target = target,
        Err(problem) => {
            problems.push(problem);
            return (None, problems);
        }
    }
    graph.reach(&BTreeSet::new());
    (Some(graph), problems)
}

fn resolve(
    graph: &StageGraph,
    defaults: &GlobalArgs,
    dockerfile: &Dockerfile,
    index: usize,
    stage: &Stage,
    options: &PlanOptions,
    problems: &mut Vec<Diagnostic>,
) -> GraphStage {
    let mut found = GraphStage {
        index,
        name: stage.name(),
        base: StageBase::Scratch,
        reachable: false,
        platform: options.target_platform().clone(),
        span: stage.from.span,
        replaced: false,
        needs: BTreeSet::new(),
    };
    let Some(from) = stage.base() else {
        return found;
    };
    let line = FromLine {
        graph,
        dockerfile,
        options,
        span: stage.from.span,
    };
    let asked = from
        .platform
        .as_ref()
        .and_then(|word| line.platform(word, problems));
    if let Some(platform) = &asked {
        found.platform = platform.clone();
    }
    let context = found
        .name
        .as_deref()
        .and_then(|name| named_context(name, Some(&found.platform), options));
    if let Some(context) = context {
        found.base = StageBase::Named(context);
        found.replaced = true;
        return found;
    }
    let Some(base) = line.base(from, defaults, &found.platform, problems) else {
        return found;
    };
    if let StageBase::Stage(earlier) = base {
        found.needs.insert(earlier);
        if let Some(earlier) = graph.stages.get(earlier) {
            found.platform = earlier.platform.clone();
        }
    }
    if base == StageBase::Scratch {
        // There is no image to choose: what is made from nothing is for what is built for.
        found.platform = options.target_platform().clone();
    }
    found.base = base;
    found
}

/// The stages that a stage needs beside its base: COPY, mounts, and triggers of an earlier stage.
fn needs(
    graph: &StageGraph,
    dockerfile: &Dockerfile,
    index: usize,
    stage: &Stage,
) -> BTreeSet<usize> {
    let mut needs = BTreeSet::new();
    let Some(node) = graph.stages.get(index).filter(|node| !node.replaced) else {
        return needs;
    };
    for instruction in &stage.instructions {
        needs.extend(graph.instruction_needs(instruction, index));
    }
    let StageBase::Stage(base) = node.base else {
        return needs;
    };
    for instruction in dockerfile
        .stages
        .get(base)
        .into_iter()
        .flat_map(|stage| &stage.instructions)
    {
        let InstructionKind::Onbuild(onbuild) = &instruction.kind else {
            continue;
        };
        if let Ok(trigger) =
            parse_trigger(&onbuild.trigger, dockerfile.directives.escape, node.span)
        {
            needs.extend(graph.instruction_needs(&trigger, index));
        }
    }
    needs
}

fn target(graph: &StageGraph, options: &PlanOptions) -> Result<usize, Diagnostic> {
    let Some(name) = options.target.as_deref().filter(|name| !name.is_empty()) else {
        let last = graph.stages.len().checked_sub(1);
        return last.ok_or_else(|| {
            Diagnostic::error("no-stage", Span::default(), "the file has no stage")
        });
    };
    if let Some(stage) = graph.named(name) {
        return Ok(stage.index);
    }
    let span = graph
        .stages
        .last()
        .map(|stage| stage.span)
        .unwrap_or_default();
    let problem = Diagnostic::error(
        "no-such-stage",
        span,
        format!("no stage is called `{name}`, the target"),
    );
    let names: Vec<String> = graph
        .stages
        .iter()
        .filter_map(|stage| stage.name.clone())
        .collect();
    let suggested = graph.suggest(problem, name);
    if suggested.help.is_some() || names.is_empty() {
        return Err(suggested);
    }
    Err(suggested.with_help(format!("stages are `{}`", names.join("`, `"))))
}
