//! The one error of this library: opaque outside, made by the rooms inside.
//!
//! Each room has its own small enum; its conversion into [`Error`] chooses the [`ErrorKind`], which decides the
//! exit status of a program. The message is a lower-case fragment that doesn't repeat its cause; the cause is
//! [`std::error::Error::source`]; the remedy is data beside it ([`Error::help`]), not words glued to the message.

use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::source::{SourceFile, Span};

/// What went wrong, in the terms that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself makes no sense: contradicting options, an output that can't be.
    Usage,
    /// The Dockerfile, or what it asks for at a line, is wrong.
    Dockerfile,
    /// The build context: missing, unreadable, or a file in it that can't be copied.
    Context,
    /// A base image: not found, or not understood.
    BaseImage,
    /// A registry refused or could not be reached.
    Registry,
    /// A RUN step failed.
    Run,
    /// The program of a RUN or a session could not be started: it isn't there, or, where the error has a source, it is no
    /// program.
    NotStarted,
    /// The local store: unreadable, full, or damaged.
    Store,
    /// An output could not be written.
    Output,
    /// The build was interrupted.
    Interrupted,
    /// A bug in rbuild.
    Internal,
}

/// Why a build failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<(SourceFile, Span)>,
    notes: Vec<String>,
    help: Option<String>,
    diagnostics: Vec<Diagnostic>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with a lower-case message that names the thing in backticks.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            place: None,
            notes: Vec::new(),
            help: None,
            diagnostics: Vec::new(),
            source: None,
        }))
    }

    /// An error that is a list of problems in a Dockerfile; the first error-level one gives the message.
    pub fn from_diagnostics(file: &SourceFile, diagnostics: Vec<Diagnostic>) -> Self {
        let first = diagnostics.iter().find(|one| one.is_error());
        let message = first.map_or_else(
            || "the Dockerfile has problems".to_owned(),
            |one| one.message.clone(),
        );
        let mut error = Self::new(ErrorKind::Dockerfile, message);
        error.0.place = first.map(|one| (file.clone(), one.span));
        error.0.diagnostics = diagnostics;
        error
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds the remedy, unless there is one already: the room nearest to the cause knows best.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Adds a fact that explains the cause, shown below the marked line.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.0.notes.push(note.into());
        self
    }

    /// Adds the place in the Dockerfile, unless there is one already.
    #[must_use]
    pub fn at(mut self, file: &SourceFile, span: Span) -> Self {
        // Who stops a build knows why; no line is to blame.
        if self.0.kind != ErrorKind::Interrupted {
            self.0.place.get_or_insert_with(|| (file.clone(), span));
        }
        self
    }

    /// The same error at another place: where what is to blame stands, and not where it was found.
    #[must_use]
    pub fn moved_to(mut self, file: &SourceFile, span: Span) -> Self {
        self.0.place = Some((file.clone(), span));
        self
    }

    /// The same error at no place: the file was made up, and nobody could look there.
    #[must_use]
    pub fn without_place(mut self) -> Self {
        self.0.place = None;
        self
    }

    /// The kind, which decides the exit status.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without place and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file and the span to blame, if a line is to blame.
    pub fn place(&self) -> Option<(&SourceFile, Span)> {
        self.0.place.as_ref().map(|(file, span)| (file, *span))
    }

    /// Facts that explain the cause.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// All problems found in the Dockerfile, where that is what failed.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown
            .field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if let Some((file, span)) = &self.0.place {
            shown.field("line", &file.position(span.start).line);
        }
        shown
            .field("help", &self.0.help)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_help_and_place_win() {
        let file = SourceFile::new("Dockerfile", "FROM x\nCOPY a b\n");
        let error = Error::new(ErrorKind::Context, "no `a`")
            .with_help("near")
            .with_help("far")
            .at(&file, Span::new(12, 13))
            .at(&file, Span::new(7, 15));
        assert_eq!(error.help(), Some("near"));
        assert_eq!(error.place().map(|(_, span)| span), Some(Span::new(12, 13)));
        assert_eq!(error.to_string(), "no `a`");
    }
}
