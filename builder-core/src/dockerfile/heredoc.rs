//! Heredocs: finding their markers in a line, and their bodies' text.
//!
//! Follows the Dockerfile reference, "Here-Documents". A marker is a whole shell word: optional digits, `<<`,
//! optional `-`, and the delimiter, any part of which may be quoted.

use std::ops::Range;

use crate::source::Span;

use super::word::Text;

/// A heredoc's marker in an instruction's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The delimiter without its quotes.
    pub name: String,
    /// No part of the delimiter was quoted: variables are expanded.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    /// Blanks stand before the delimiter: a heredoc only if its end is there, and a shell's own business otherwise.
    pub loose: bool,
    /// The marker's bytes in the joined line.
    pub range: Range<usize>,
    /// The marker's place in the file.
    pub span: Span,
}

/// A heredoc with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without its quotes: the name of the file.
    pub name: String,
    /// Variables are expanded in COPY and ADD.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    /// The body as it stands in the file, tabs included, up to the terminator's line.
    pub content: String,
    /// The marker's bytes in the joined line.
    pub range: Range<usize>,
    /// The marker's place in the file.
    pub span: Span,
    /// The body's place in the file.
    pub body: Span,
    /// The terminator's place in the file.
    pub terminator: Span,
}

impl Heredoc {
    /// Joins a marker and its body.
    pub fn new(marker: &Marker, content: String, body: Span, terminator: Span) -> Self {
        Self {
            name: marker.name.clone(),
            expand: marker.expand,
            chomp: marker.chomp,
            content,
            range: marker.range.clone(),
            span: marker.span,
            body,
            terminator,
        }
    }

    /// The body as the file or script gets it: with `<<-`, without the tabs that lead each line.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// The markers in `text`, in order, also those with blanks before the delimiter. A line whose quotes don't match has
/// none.
pub fn markers(text: &Text) -> Vec<Marker> {
    let words = shell_words(text.as_str()).unwrap_or_default();
    let mut found = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(mut range) = words.next() {
        let word = text.slice(range.clone());
        let (loose, parts) = match bare_mark(word) {
            Some(chomp) => {
                let Some(next) = words.peek().cloned() else {
                    break;
                };
                range.end = next.end;
                (true, Some((chomp, text.slice(next))))
            }
            None => (false, marker_parts(word)),
        };
        let Some((chomp, delimiter)) = parts.filter(|(_, delimiter)| !delimiter.contains('<'))
        else {
            continue;
        };
        let (name, quoted) = unquote(delimiter);
        if !name.is_empty() {
            found.push(Marker {
                name,
                expand: !quoted,
                chomp,
                loose,
                span: text.span(range.clone()),
                range,
            });
        }
    }
    found
}

/// Whether `text` is one marker and nothing else.
pub fn is_marker(text: &str) -> bool {
    let words = shell_words(text).unwrap_or_default();
    match &words[..] {
        [_] => marker_parts(text).is_some(),
        [mark, _] => bare_mark(&text[mark.clone()]).is_some(),
        _ => false,
    }
}

/// Whether a word is a marker without its delimiter, and if so, whether leading tabs are removed.
fn bare_mark(word: &str) -> Option<bool> {
    match word.trim_start_matches(|c: char| c.is_ascii_digit()) {
        "<<" => Some(false),
        "<<-" => Some(true),
        _ => None,
    }
}

fn marker_parts(word: &str) -> Option<(bool, &str)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (chomp, delimiter) = match rest.strip_prefix('-') {
        Some(delimiter) => (true, delimiter),
        None => (false, rest),
    };
    (!delimiter.is_empty() && !delimiter.contains('<')).then_some((chomp, delimiter))
}

/// Words as a shell cuts them; the escape character is always the backslash here. None where a quote stays open.
fn shell_words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(first) = start.take() {
                words.push(first..at);
            }
            continue;
        }
        start.get_or_insert(at);
        if c == '\\' && quote != Some('\'') {
            characters.next();
        } else if Some(c) == quote {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    if let Some(first) = start {
        words.push(first..line.len());
    }
    quote.is_none().then_some(words)
}

/// The delimiter without quotes and escapes, and whether there were any.
fn unquote(delimiter: &str) -> (String, bool) {
    let mut name = String::new();
    let mut quote: Option<char> = None;
    let mut characters = delimiter.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quote != Some('\'') => name.extend(characters.next()),
            _ if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ => name.push(c),
        }
    }
    let changed = name != delimiter;
    (name, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_markers() {
        for (line, found) in [
            ("COPY <<EOF /f", vec![("EOF", true, false)]),
            (
                "COPY 3<<-'E F' <<\"B\"c /f",
                vec![("E F", false, true), ("Bc", false, false)],
            ),
            ("COPY << EOF /f", vec![("EOF", true, false)]),
            ("RUN cat 3<<-\t'E F' x", vec![("E F", false, true)]),
            ("RUN echo $((1 << 4)) <<", vec![("4))", true, false)]),
            ("RUN cat <<<x", vec![]),
            ("RUN echo \"<<EOF\"", vec![]),
            ("RUN echo 'open <<EOF", vec![]),
        ] {
            let text = Text::fixed(line, Span::default());
            let shown: Vec<_> = markers(&text)
                .into_iter()
                .map(|one| (one.name, one.expand, one.chomp))
                .collect();
            let found: Vec<_> = found
                .into_iter()
                .map(|(name, expand, chomp)| (name.to_owned(), expand, chomp))
                .collect();
            assert_eq!(shown, found, "{line}");
        }
    }
}
