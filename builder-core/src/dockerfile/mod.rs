//! The Dockerfile language: text to instructions, words still raw.
//!
//! Follows the Dockerfile reference. Nothing here expands a variable of its own accord or knows a base image; that is
//! `plan`'s part, which uses [`expand`].
#![allow(
    clippy::result_large_err,
    reason = "an error here is a diagnostic, made at most once an instruction"
)]

mod bodies;
pub mod directive;
pub mod duration;
pub mod expand;
pub mod flags;
mod healthcheck;
pub mod heredoc;
pub(crate) mod hints;
pub mod instruction;
mod keyword;
mod keyword_files;
pub mod lines;
pub mod lint;
pub mod mount;
pub mod parse;
mod pattern;
pub mod word;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

use directive::Directives;
use instruction::{FromInstruction, Instruction, InstructionKind};

/// A parsed file: what could be understood of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives.
    pub directives: Directives,
    /// ARG lines above the first FROM.
    pub global: Vec<Instruction>,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Every instruction's keyword in order, and blank lines inside continuations: what the checks on style look at.
    pub style: Style,
}

/// One FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The FROM line; its kind is always [`InstructionKind::From`].
    pub from: Instruction,
    /// The other instructions.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// What the FROM line says.
    pub fn base(&self) -> Option<&FromInstruction> {
        match &self.from.kind {
            InstructionKind::From(from) => Some(from),
            _ => None,
        }
    }

    /// The name after `AS` in lower case.
    pub fn name(&self) -> Option<String> {
        let name = self.base()?.name.as_ref()?;
        Some(name.text.to_lowercase())
    }
}

/// Facts about a file's form that the instructions don't hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Blank lines inside continuations, with the span of their instruction.
    pub empty_continuations: Vec<(Span, Span)>,
}

impl Dockerfile {
    /// All instructions in file order, FROM lines included.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let stages = self.stages.iter();
        self.global
            .iter()
            .chain(stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions)))
    }
}

/// Lets a problem inside a continued instruction or a heredoc's body blame the instruction's first line, and marks the
/// exact place beside it.
pub(crate) fn blame_first_line(text: &str, instruction: &Instruction, problem: &mut Diagnostic) {
    blame_line(text, instruction.span, instruction.keyword.span, problem);
}

/// The same for an instruction that isn't read yet.
fn blame_line(text: &str, instruction: Span, keyword: Span, problem: &mut Diagnostic) {
    let between = text.get(instruction.start..problem.span.start);
    if between.is_some_and(|between| between.contains('\n')) && problem.related.is_none() {
        problem.related = Some((problem.span, "here".to_owned()));
        problem.span = keyword;
    }
}
