//! One FROM line: its platform and its base, after expansion.
//!
//! Follows the Dockerfile reference, "FROM". A name that was never declared above the first FROM is the likeliest
//! mistake, so it is named as the cause.

use crate::diagnostic::Diagnostic;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::expand::{Expanded, Expander};
use crate::dockerfile::instruction::{FromInstruction, InstructionKind};
use crate::dockerfile::word::Word;
use crate::nearest::nearest;
use crate::platform::Platform;
use crate::source::Span;

use super::PlanOptions;
use super::graph::StageGraph;
use super::reference_text;
use super::scope::GlobalArgs;
use super::step::{Spanned, StageBase};

/// What is needed to read one FROM line.
pub(super) struct FromLine<'a> {
    pub(super) graph: &'a StageGraph,
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    pub(super) span: Span,
}

impl FromLine<'_> {
    fn expand(&self, word: &Word, globals: &GlobalArgs) -> Result<Expanded, Diagnostic> {
        let lookup = |name: &str| globals.lookup(name);
        Expander {
            escape: self.dockerfile.directives.escape,
            lookup: &lookup,
        }
        .word(word)
    }

    /// The value of `--platform`; none where it is wrong, which is reported.
    pub(super) fn platform(&self, word: &Word, problems: &mut Vec<Diagnostic>) -> Option<Platform> {
        let expanded = match self.expand(word, &self.graph.globals) {
            Ok(expanded) => expanded,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        if expanded.value.is_empty() && expanded.unset.is_empty() {
            return None;
        }
        match expanded.value.parse() {
            Ok(platform) => {
                self.warn_unset(&expanded, word, problems);
                Some(platform)
            }
            Err(problem) => {
                let problem = Diagnostic::error("platform", word.span, format!("{problem}"));
                problems.push(self.explain_unset(problem, &expanded));
                None
            }
        }
    }

    /// What the line starts from; none where it is wrong, which is reported.
    pub(super) fn base(
        &self,
        from: &FromInstruction,
        defaults: &GlobalArgs,
        platform: &Platform,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<StageBase> {
        let word = &from.image;
        let expanded = match self.expand(word, &self.graph.globals) {
            Ok(expanded) => expanded,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        let text = expanded.value.clone();
        let earlier = self
            .graph
            .stages
            .iter()
            .rev()
            .find(|stage| stage.name.as_deref() == Some(text.as_str()));
        let base = match earlier {
            Some(stage) => match &stage.base {
                StageBase::Named(name) if stage.replaced => StageBase::Named(name.clone()),
                _ => StageBase::Stage(stage.index),
            },
            None if text == "scratch" => StageBase::Scratch,
            None => {
                if let Some(name) = named_context(&text, Some(platform), self.options) {
                    StageBase::Named(name)
                } else {
                    if let Some(problem) = self.reference_problem(&text, word) {
                        problems.push(self.explain_unset(problem, &expanded));
                        return None;
                    }
                    let reference = Spanned {
                        value: text,
                        span: word.span,
                    };
                    StageBase::Image {
                        reference,
                        platform: platform.clone(),
                    }
                }
            }
        };
        self.warn_unset(&expanded, word, problems);
        problems.extend(self.bad_default(word, defaults));
        Some(base)
    }

    fn reference_problem(&self, text: &str, word: &Word) -> Option<Diagnostic> {
        if text.is_empty() {
            let message = format!("the base `{}` comes out empty", word.text);
            return Some(Diagnostic::error("empty-base", word.span, message));
        }
        let message = reference_text::problem(text)?;
        let problem = Diagnostic::error("image-reference", word.span, message);
        let lower = text.to_lowercase();
        let problem = if lower != *text && reference_text::problem(&lower).is_none() {
            problem.with_help(format!("write `FROM {lower}`"))
        } else {
            problem
        };
        Some(match self.graph.named(text) {
            Some(stage) => problem
                .with_related(stage.span, "the stage of that name starts here")
                .with_help(format!(
                    "write `FROM {}`: stage names are in lower case here",
                    text.to_lowercase()
                )),
            None => problem,
        })
    }

    /// Makes a name that was never declared above FROM the cause.
    fn explain_unset(&self, problem: Diagnostic, expanded: &Expanded) -> Diagnostic {
        let Some(name) = expanded.unset.first() else {
            return self.explain_empty(problem, expanded);
        };
        let given = self.options.build_args.contains_key(name);
        if self.graph.globals.declared(name).is_some() {
            let help = format!("pass `--build-arg {name}=…`, or give `ARG {name}` a default");
            return Diagnostic {
                message: format!("`{name}` has no value at FROM"),
                ..problem
            }
            .with_help(help);
        }
        let mut found = Diagnostic::error(
            "undeclared-in-from",
            problem.span,
            format!("`{name}` is not declared before FROM; add `ARG {name}` above it"),
        );
        found.notes.push(problem.message);
        if given {
            found.notes.push(format!(
                "`--build-arg {name}=…` reaches FROM only through such a line"
            ));
        }
        if self.declared_in_stage(name) {
            found
                .notes
                .push("an ARG inside a stage does not count for FROM".to_owned());
        }
        found.with_help(format!("add `ARG {name}` above the first FROM"))
    }

    /// Makes a name that has an empty value the cause.
    fn explain_empty(&self, problem: Diagnostic, expanded: &Expanded) -> Diagnostic {
        let empty = |name: &&String| {
            self.graph
                .globals
                .lookup(name)
                .is_some_and(|value| value.is_empty())
        };
        let Some(name) = expanded.used.iter().find(empty) else {
            return problem;
        };
        let mut found = Diagnostic {
            message: format!("`{name}` is empty at FROM"),
            ..problem.clone()
        };
        found.notes.push(problem.message);
        found.with_help(format!(
            "pass `--build-arg {name}=…`, or give `ARG {name}` a default above FROM"
        ))
    }

    fn declared_in_stage(&self, name: &str) -> bool {
        let instructions = self
            .dockerfile
            .stages
            .iter()
            .flat_map(|stage| &stage.instructions);
        let mut args = instructions.filter_map(|instruction| match &instruction.kind {
            InstructionKind::Arg(arg) => Some(arg),
            _ => None,
        });
        args.any(|arg| arg.args.iter().any(|one| one.name.text == *name))
    }

    fn warn_unset(&self, expanded: &Expanded, word: &Word, problems: &mut Vec<Diagnostic>) {
        for name in &expanded.unset {
            if self.graph.globals.declared(name).is_some() {
                continue;
            }
            let message = format!("FROM uses `{name}`, which no ARG above it declares");
            let warning = Diagnostic::warning("UndefinedArgInFrom", word.span, message);
            problems.push(match nearest(name, self.graph.globals.names()) {
                Some(meant) => warning.with_help(format!("did you mean `{meant}`?")),
                None => warning.with_help(format!("add `ARG {name}` above the first FROM")),
            });
        }
    }

    /// The check that a base is fine without any build argument.
    fn bad_default(&self, word: &Word, defaults: &GlobalArgs) -> Option<Diagnostic> {
        let expanded = self.expand(word, defaults).ok()?;
        let names = self
            .graph
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_deref());
        let fine = names.into_iter().any(|name| name == expanded.value)
            || reference_text::problem(&expanded.value).is_none();
        if fine || expanded.used.is_empty() {
            return None;
        }
        let message = format!(
            "the default of the ARG makes the base `{}`, which is no image",
            expanded.value
        );
        let warning =
            Diagnostic::warning("InvalidDefaultArgInFrom", word.span.to(self.span), message);
        Some(warning.with_help("give the ARG a default with which the line works"))
    }
}

/// The `--build-context` name that stands for `name`, as typed; one with this platform wins.
pub(super) fn named_context(
    name: &str,
    platform: Option<&Platform>,
    options: &PlanOptions,
) -> Option<String> {
    if matches!(name, "scratch" | "context" | "") {
        return None;
    }
    let wanted = reference_text::familiar(name).to_lowercase();
    let matching = |with_platform: bool| {
        options.named_contexts.iter().find(|typed| {
            let (typed, for_platform) = match typed.split_once("::") {
                Some((typed, text)) => (typed, Some(text)),
                None => (typed.as_str(), None),
            };
            let fits = match for_platform {
                Some(text) => with_platform && text.parse().ok().as_ref() == platform,
                None => !with_platform,
            };
            fits && reference_text::familiar(typed).to_lowercase() == wanted
        })
    };
    matching(true).or_else(|| matching(false)).cloned()
}
