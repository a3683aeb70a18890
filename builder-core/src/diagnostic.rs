//! A problem in the text of a Dockerfile, as data: the program draws it.

use crate::source::Span;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The build goes on.
    Warning,
    /// The build can't start.
    Error,
}

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the build.
    pub severity: Severity,
    /// The rule that was broken: a build check of Docker's such as `StageNameCasing`, a warning of rbuild's own, or
    /// for errors the kebab-case name of the page in `docs/errors.md`.
    pub rule: &'static str,
    /// What is wrong: a lower-case fragment without a full stop, with the thing in backticks.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Facts that explain it, shown below the marked line.
    pub notes: Vec<String>,
    /// What to do, if there is something to say.
    pub help: Option<String>,
    /// A second place that has to do with it, and what it is: the first of two that contradict each other.
    pub related: Option<(Span, String)>,
}

impl Diagnostic {
    /// An error.
    pub fn error(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            message: message.into(),
            span,
            notes: Vec::new(),
            help: None,
            related: None,
        }
    }

    /// A warning.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(rule, span, message)
        }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a fact that explains the problem.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// Whether it stops the build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
