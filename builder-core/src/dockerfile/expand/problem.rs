//! What can be wrong in a word.

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// What is wrong in a word, at a byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    at: usize,
    message: String,
    help: Option<String>,
}

/// The problem at its place in the file: behind the part that is wrong, where the word stands there as it is.
pub(super) fn diagnostic(problem: Problem, text: &str, span: Span) -> Diagnostic {
    let exact = span.end.saturating_sub(span.start) == text.len();
    let span = if exact {
        Span::new((span.start + problem.at).min(span.end), span.end)
    } else {
        span
    };
    let found = Diagnostic::error("expansion", span, problem.message);
    match problem.help {
        Some(help) => found.with_help(help),
        None => found,
    }
}

/// A problem without a remedy.
pub(super) fn problem(at: usize, message: impl Into<String>) -> Problem {
    Problem {
        at,
        message: message.into(),
        help: None,
    }
}

/// A `${` that ends with the word.
pub(super) fn unclosed(stop: char, opened: usize) -> Problem {
    problem(opened, format!("`${{` is not closed, expected `{stop}`"))
}

/// An operator that there isn't.
pub(super) fn unsupported(name: &str, colon: bool, operator: char, opened: usize) -> Problem {
    let colon = if colon { ":" } else { "" };
    let mut found = problem(
        opened,
        format!("`${{{name}{colon}{operator}…}}` is no substitution that Dockerfiles know"),
    );
    found.help =
        Some("the forms are `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` and `//`".to_owned());
    found
}

/// `${name:?message}` of a name without a value.
pub(super) fn required(name: &str, message: &str, set: bool, opened: usize) -> Problem {
    let state = if set { "is empty" } else { "is not set" };
    if message.is_empty() {
        return problem(
            opened,
            format!("`{name}` {state}, and the line requires a value"),
        );
    }
    problem(opened, format!("`{name}` {state}: {message}"))
}
