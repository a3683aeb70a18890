//! Instructions to steps: pure, given the configs of the base images.
//!
//! Follows the Dockerfile reference. A problem in one instruction doesn't hide problems in the next; a plan is made
//! only if there is none.

mod copy;
mod flags;
mod metadata;
mod mount;
mod run;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Diagnostic;
use crate::dockerfile::expand::{Expanded, Expander};
use crate::dockerfile::instruction::{Instruction, InstructionKind};
use crate::dockerfile::parse::parse_trigger;
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, blame_first_line};
use crate::event::StepId;
use crate::nearest::nearest;
use crate::oci::config::ImageConfig;
use crate::source::{SourceFile, Span};

pub(crate) use flags::{SourceKind, source_kind};
pub(crate) use run::DEFAULT_HOSTNAME;

use start::{Finished, children, start};

use super::graph::{GraphStage, StageGraph};
use super::outline::StageArg;
use super::scope::{self, Scope};
use super::step::Step;
use super::{Plan, PlanOptions, PlannedStage, PlannedStep};

/// Lowers the stages that the target needs.
///
/// `bases` holds the config of the base of each reachable stage whose base is an image, by stage index; a named
/// context that is a directory needs none, or the default one. The plan is none if a diagnostic is an error.
pub fn lower(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    bases: &BTreeMap<usize, ImageConfig>,
    options: &PlanOptions,
) -> (Option<Plan>, Vec<Diagnostic>) {
    lower_stages(file, dockerfile, graph, bases, options, None)
}

/// The same, and tells the ARG lines of the stages.
pub(super) fn lower_telling_args(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    bases: &BTreeMap<usize, ImageConfig>,
    options: &PlanOptions,
    args: &mut Vec<StageArg>,
) -> (Option<Plan>, Vec<Diagnostic>) {
    lower_stages(file, dockerfile, graph, bases, options, Some(args))
}

fn lower_stages(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    bases: &BTreeMap<usize, ImageConfig>,
    options: &PlanOptions,
    mut args: Option<&mut Vec<StageArg>>,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let mut done: BTreeMap<usize, Finished> = BTreeMap::new();
    let mut stages = Vec::new();
    let mut target = ImageConfig::default();
    let mut children = children(graph);
    let mut next_id = 1;
    for node in graph.stages.iter().filter(|stage| stage.reachable) {
        let Some(start) = start(node, &mut done, &mut children, bases, &mut problems) else {
            continue;
        };
        let mut lowering = Lowering::new(file, dockerfile, graph, options, node, start);
        lowering.args = args.as_mut().map(|_| Vec::new());
        lowering.stage(dockerfile);
        let steps = number(std::mem::take(&mut lowering.steps), &mut next_id);
        problems.append(&mut lowering.problems);
        if let Some((all, found)) = args.as_mut().zip(lowering.args.take()) {
            all.extend(found);
        }
        if node.index == graph.target {
            target = lowering.config.clone();
            target.config.env = lowering.scope.config_env();
            let labels = options.labels.iter().cloned();
            target.config.labels.extend(labels);
        }
        if children.contains_key(&node.index) {
            let (config, scope) = (lowering.config, lowering.scope);
            done.insert(node.index, Finished { config, scope });
        }
        stages.push(PlannedStage {
            index: node.index,
            name: node.name.clone(),
            base: node.base.clone(),
            platform: node.platform.clone(),
            span: node.span,
            steps,
        });
    }
    problems.extend(unused_build_args(dockerfile, bases, options));
    let plan = Plan {
        stages,
        target: graph.target,
        config: target,
        epoch: graph.epoch,
    };
    let broken = problems.iter().any(Diagnostic::is_error);
    ((!broken).then_some(plan), problems)
}

fn number(mut steps: Vec<PlannedStep>, next_id: &mut u32) -> Vec<PlannedStep> {
    for step in &mut steps {
        step.id = StepId(*next_id);
        *next_id += 1;
    }
    steps
}

/// So many undefined names of a stage are helped with a name that may have been meant.
const HELPED: usize = 100;

/// One stage while it is lowered.
struct Lowering<'a> {
    file: &'a SourceFile,
    graph: &'a StageGraph,
    options: &'a PlanOptions,
    node: &'a GraphStage,
    escape: char,
    scope: Scope,
    config: ImageConfig,
    /// CMD was set in this very stage: ENTRYPOINT leaves it.
    cmd_set: bool,
    steps: Vec<PlannedStep>,
    problems: Vec<Diagnostic>,
    /// Names that were already warned about in this stage.
    warned: BTreeSet<String>,
    /// The ARG lines, where they are asked for.
    args: Option<Vec<StageArg>>,
}

impl<'a> Lowering<'a> {
    fn new(
        file: &'a SourceFile,
        dockerfile: &Dockerfile,
        graph: &'a StageGraph,
        options: &'a PlanOptions,
        node: &'a GraphStage,
        start: Finished,
    ) -> Self {
        Self {
            file,
            graph,
            options,
            node,
            escape: dockerfile.directives.escape,
            scope: start.scope,
            config: start.config,
            cmd_set: false,
            steps: Vec::new(),
            problems: Vec::new(),
            warned: BTreeSet::new(),
            args: None,
        }
    }

    /// The base's triggers, then the stage's own lines.
    fn stage(&mut self, dockerfile: &Dockerfile) {
        for trigger in std::mem::take(&mut self.config.config.on_build) {
            match parse_trigger(&trigger, self.escape, self.node.span) {
                Ok(instruction) if refused_trigger(&instruction) => {
                    let message =
                        format!("the base's trigger `{}` can't be one", trigger.trim_end());
                    self.problems
                        .push(Diagnostic::error("onbuild", self.node.span, message));
                }
                Ok(instruction) => self.instruction(&instruction),
                Err(problems) => self.problems.extend(problems),
            }
        }
        if self.node.replaced {
            return;
        }
        for instruction in dockerfile
            .stages
            .get(self.node.index)
            .into_iter()
            .flat_map(|stage| &stage.instructions)
        {
            self.instruction(instruction);
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let first = self.problems.len();
        self.lower(instruction);
        for problem in self.problems.iter_mut().skip(first) {
            blame_first_line(&self.file.text, instruction, problem);
        }
    }

    fn lower(&mut self, instruction: &Instruction) {
        let span = instruction.span;
        match &instruction.kind {
            InstructionKind::Add(add) => self.copy(add, true, span),
            InstructionKind::Copy(copy) => self.copy(copy, false, span),
            InstructionKind::Run(run) => self.run(run, span),
            InstructionKind::Arg(arg) => self.arg(arg, span),
            InstructionKind::Cmd(cmd) => self.cmd(cmd, span),
            InstructionKind::Entrypoint(entrypoint) => self.entrypoint(entrypoint, span),
            InstructionKind::Env(env) => self.env(env, span),
            InstructionKind::Expose(expose) => self.expose(expose, span),
            InstructionKind::From(_) => {}
            InstructionKind::Healthcheck(check) => self.healthcheck(check, span),
            InstructionKind::Label(label) => self.label(label, span),
            InstructionKind::Maintainer(maintainer) => self.maintainer(maintainer, span),
            InstructionKind::Onbuild(onbuild) => self.onbuild(onbuild, span),
            InstructionKind::Shell(shell) => self.shell(shell, span),
            InstructionKind::Stopsignal(signal) => self.stopsignal(signal, span),
            InstructionKind::User(user) => self.user(user, span),
            InstructionKind::Volume(volume) => self.volume(volume, span),
            InstructionKind::Workdir(workdir) => self.workdir(workdir, span),
        }
    }

    /// A word's value in the stage's scope; none where it is wrong, which is reported.
    fn expand(&mut self, word: &Word) -> Option<String> {
        let scope = &self.scope;
        let lookup = |name: &str| scope.lookup(name);
        let expanded = Expander {
            escape: self.escape,
            lookup: &lookup,
        }
        .word(word);
        self.take(expanded, word.span)
    }

    /// The same for the body of a heredoc.
    fn expand_heredoc(&mut self, body: &str, span: Span) -> Option<String> {
        let scope = &self.scope;
        let lookup = |name: &str| scope.lookup(name);
        let expanded = Expander {
            escape: self.escape,
            lookup: &lookup,
        }
        .heredoc(body, span);
        self.take(expanded, span)
    }

    fn take(&mut self, expanded: Result<Expanded, Diagnostic>, span: Span) -> Option<String> {
        match expanded {
            Ok(expanded) => {
                for name in expanded.unset {
                    self.undefined(&name, span);
                }
                Some(expanded.value)
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn undefined(&mut self, name: &str, span: Span) {
        let special = !name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if special || self.scope.declares(name) || !self.warned.insert(name.to_owned()) {
            return;
        }
        let message = format!("`{name}` is used, but neither ARG nor ENV sets it");
        let warning = Diagnostic::warning("UndefinedVar", span, message);
        // A file with more of them than anyone reads is not worth the search.
        let searched = self.warned.len() <= HELPED;
        let meant = searched.then(|| self.scope.nearest(name)).flatten();
        let warning = match meant {
            Some(meant) => warning.with_help(format!("did you mean `{meant}`?")),
            None if self.graph.globals.lookup(name).is_some() => warning.with_help(format!(
                "add `ARG {name}` to the stage to see the value from above FROM"
            )),
            None => warning,
        };
        self.problems.push(warning);
    }

    /// Adds a step that changes the config alone.
    fn config_step(&mut self, span: Span, text: String) {
        self.push(span, text, Step::Config);
    }

    fn push(&mut self, span: Span, text: String, step: Step) {
        let empty_layer = step == Step::Config;
        self.steps.push(PlannedStep {
            id: StepId(0),
            span,
            text,
            in_history: true,
            empty_layer,
            step,
        });
    }
}

fn refused_trigger(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        InstructionKind::From(_) | InstructionKind::Maintainer(_) | InstructionKind::Onbuild(_)
    )
}

/// A warning for each build argument that no ARG anywhere takes.
fn unused_build_args(
    dockerfile: &Dockerfile,
    bases: &BTreeMap<usize, ImageConfig>,
    options: &PlanOptions,
) -> Vec<Diagnostic> {
    let escape = dockerfile.directives.escape;
    let stored = dockerfile
        .instructions()
        .filter_map(|instruction| match &instruction.kind {
            InstructionKind::Onbuild(onbuild) => Some(&onbuild.trigger),
            _ => None,
        });
    let triggers = stored.chain(bases.values().flat_map(|base| &base.config.on_build));
    let triggers: Vec<Instruction> = triggers
        .filter_map(|trigger| parse_trigger(trigger, escape, Span::default()).ok())
        .collect();
    let mut declared: BTreeSet<&str> = BTreeSet::new();
    for instruction in dockerfile.instructions().chain(&triggers) {
        if let InstructionKind::Arg(arg) = &instruction.kind {
            declared.extend(arg.args.iter().map(|one| one.name.text.as_str()));
        }
    }
    let span = dockerfile
        .stages
        .first()
        .map(|stage| stage.from.span)
        .unwrap_or_default();
    let given = options.build_args.keys().map(String::as_str);
    given
        .filter(|name| !declared.contains(name) && !scope::is_predefined(name))
        .map(|name| {
            let message = format!("`--build-arg {name}=…` has no effect: no ARG declares `{name}`");
            let warning = Diagnostic::warning("unused-build-arg", span, message);
            let known = scope::BUILDER_OPTIONS
                .into_iter()
                .filter(|_| name.starts_with("BUILDKIT_"));
            match nearest(name, known.chain(declared.iter().copied())) {
                Some(meant) => warning.with_help(format!("did you mean `{meant}`?")),
                None => warning.with_help(format!("add `ARG {name}` to the stage that uses it")),
            }
        })
        .collect()
}
