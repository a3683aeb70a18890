//! Which lines have heredocs, and their bodies.

use crate::diagnostic::Diagnostic;

use super::flags;
use super::heredoc::{self, Heredoc, Marker};
use super::lines::{Lines, LogicalLine};
use super::word::{JsonForm, Text, is_blank, json_form};

/// Whether the line may hold heredocs: COPY, ADD, RUN, not in JSON form, also as a trigger.
fn holds_heredocs(text: &Text, escape: char) -> bool {
    let end = text.as_str().len();
    let mut start = 0;
    loop {
        let rest = text.slice(start..end);
        let word_end = start + rest.find(is_blank).unwrap_or(rest.len());
        let word = text.slice(start..word_end).to_ascii_uppercase();
        let arguments = text.trim(word_end..end);
        match word.as_str() {
            "ONBUILD" if arguments.is_empty() => return false,
            "ONBUILD" => start = arguments.start,
            "RUN" | "COPY" | "ADD" => {
                let (_, rest) = flags::split(text, arguments, escape);
                return json_form(text, rest..end) == JsonForm::No;
            }
            _ => return false,
        }
    }
}

/// Takes the bodies of a line's heredocs from the lines that follow.
pub(super) fn take_heredocs(
    lines: &mut Lines<'_>,
    line: &LogicalLine,
    escape: char,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Heredoc> {
    if !line.text.as_str().contains("<<") || !holds_heredocs(&line.text, escape) {
        return Vec::new();
    }
    let run = effective_keyword(&line.text).eq_ignore_ascii_case("RUN");
    let mut heredocs = Vec::new();
    for marker in heredoc::markers(&line.text) {
        if let Some(heredoc) = lines.take_heredoc(&marker) {
            if marker.loose && !run {
                problems.push(blank_in_marker(&line.text, &marker));
            }
            heredocs.push(heredoc);
        } else if marker.loose {
            // In RUN it is a shell's own business: `$((1 << 4))`.
            problems.extend((!run).then(|| blank_in_marker(&line.text, &marker)));
        } else {
            let message = format!("the heredoc `{}` has no end", marker.name);
            let problem = Diagnostic::error("heredoc-unterminated", marker.span, message);
            problems.push(problem.with_help(format!(
                "end it with a line that holds only `{}`",
                marker.name
            )));
            // What follows is most likely the body: reading it as instructions would only make noise.
            while lines.next_line().is_some() {}
        }
    }
    heredocs
}

/// The keyword of a line, or of the trigger in it.
pub(super) fn effective_keyword(text: &Text) -> &str {
    let mut words = text
        .as_str()
        .split(is_blank)
        .filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    if first.eq_ignore_ascii_case("ONBUILD") {
        words.next().unwrap_or_default()
    } else {
        first
    }
}

/// Reports `<< EOF` in COPY and ADD, where it is no marker. Its body is taken all the same, so that it isn't read as
/// instructions.
fn blank_in_marker(text: &Text, marker: &Marker) -> Diagnostic {
    let written = text.slice(marker.range.clone());
    let joined: String = written.split_whitespace().collect();
    let (mark, _) = joined.split_at(
        joined
            .find(|c: char| !matches!(c, '<' | '-' | '0'..='9'))
            .unwrap_or(0),
    );
    let message = format!(
        "a blank stands between `{mark}` and `{}`, so this is no heredoc",
        marker.name
    );
    Diagnostic::error("heredoc-blank", marker.span, message).with_help(format!("write `{joined}`"))
}
