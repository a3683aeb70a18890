//! What beginners type and no error message expects: what is behind a problem, found in the text of its line.

use crate::diagnostic::Diagnostic;
use crate::source::{Span, odd_byte};

use super::heredoc::Heredoc;
use super::word::{Text, blank_separated, is_blank};

/// A character that nobody sees, with its name.
pub(crate) fn invisible(text: &str) -> Option<(usize, char, &'static str)> {
    text.char_indices()
        .find_map(|(at, c)| Some((at, c, invisible_name(c)?)))
}

fn invisible_name(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{a0}' => "a no-break space",
        '\u{ad}' => "a soft hyphen",
        '\u{2000}'..='\u{200a}' => "a typographic space",
        '\u{200b}' => "a zero-width space",
        '\u{200c}' | '\u{200d}' => "a zero-width joiner",
        '\u{200e}' | '\u{200f}' => "a mark of the direction of writing",
        '\u{202f}' => "a narrow no-break space",
        '\u{2060}' => "a word joiner",
        '\u{3000}' => "an ideographic space",
        '\u{feff}' => "a byte order mark",
        _ => return None,
    })
}

/// How a message names such a character.
pub(crate) fn shown(c: char, name: &str) -> String {
    format!("{name} (U+{:04X})", u32::from(c))
}

/// Text without blanks and invisible characters at its end, where an invisible one is among them.
pub(super) fn before_invisible_end(text: &str) -> Option<&str> {
    let trimmed = text.trim_end_matches(|c| is_blank(c) || invisible_name(c).is_some());
    invisible(&text[trimmed.len()..]).map(|_| trimmed)
}

/// The problem of a line that goes on for the eye alone: an invisible character stands behind the mark.
pub(super) fn hidden_behind_mark(text: &str, start: usize) -> Option<Diagnostic> {
    let (at, c, name) = invisible(text)?;
    let span = Span::new(start + at, start + at + c.len_utf8());
    let message = format!(
        "{} stands behind the mark that continues the line",
        shown(c, name)
    );
    let problem = Diagnostic::error("invisible-character", span, message);
    Some(problem.with_help("delete what is behind the mark"))
}

/// Adds to the problems of one line what explains them. Of several errors with one cause the first stays.
pub(super) fn explain(text: &Text, keyword: &str, problems: &mut Vec<Diagnostic>, first: usize) {
    let Some(at) = (first..problems.len()).find(|at| problems[*at].is_error()) else {
        problems.extend(inline_comment(text, keyword).map(|(span, comment)| {
            let message = format!("`{comment}` is no comment but part of the instruction");
            // No word of a comment is a port.
            let problem = if keyword == "EXPOSE" {
                Diagnostic::error("inline-comment", span, message)
            } else {
                Diagnostic::warning("inline-comment", span, message)
            };
            problem.with_help("a comment needs a line of its own")
        }));
        return;
    };
    if let Some(mark) = ["{{", "{%", "<%"]
        .iter()
        .find(|mark| text.as_str().contains(**mark))
        && !text.as_str().starts_with(mark)
    {
        let note = format!("`{mark}` looks like the text of a template");
        let problem = problems[at].clone().with_note(note);
        problems[at] = problem.with_help("fill the template in before the build");
        keep_first_error(problems, at);
    } else if let Some((_, comment)) = inline_comment(text, keyword) {
        let note = format!("`{comment}` is no comment: it is read as part of the instruction");
        let problem = problems[at].clone().with_note(note);
        problems[at] = problem.with_help("a comment needs a line of its own");
        keep_first_error(problems, at);
    } else if problems[at].rule != "unknown-instruction"
        && let Some((place, c, name)) = invisible(text.as_str())
    {
        let span = text.span(place..place + c.len_utf8());
        let note = format!("the line holds {}, which is no blank", shown(c, name));
        let problem = problems[at].clone().with_note(note);
        problems[at] = problem
            .with_related(span, "it is here")
            .with_help("replace it by an ordinary blank");
        keep_first_error(problems, at);
    }
}

/// What an unknown instruction is that stands indented right below another line: its continuation, whose mark was
/// forgotten. Below another such line it is no fault of its own.
pub(super) fn torn_line(problems: &mut Vec<Diagnostic>, first: usize, below_another: bool) {
    let Some(problem) = problems.get(first) else {
        return;
    };
    if below_another {
        problems.truncate(first);
    } else {
        let help = "if it continues the line above, that line must end in the escape character";
        problems[first] = problem.clone().with_help(help);
    }
}

fn keep_first_error(problems: &mut Vec<Diagnostic>, at: usize) {
    let mut number = 0;
    problems.retain(|problem| {
        number += 1;
        number <= at + 1 || !problem.is_error()
    });
}

/// What follows a `#` that is a word of its own, in instructions whose words are not a shell's.
fn inline_comment(text: &Text, keyword: &str) -> Option<(Span, String)> {
    let keywords = [
        "ADD",
        "ARG",
        "COPY",
        "ENV",
        "EXPOSE",
        "FROM",
        "LABEL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    if !keywords.contains(&keyword) {
        return None;
    }
    let end = text.as_str().len();
    let words = blank_separated(text, 0..end);
    let mark = words.into_iter().skip(1).find(|word| {
        let word = text.slice(word.clone());
        // `#main` may be a name; with a blank behind it, it is a comment's beginning.
        word == "#" || word.starts_with("##")
    })?;
    let quotes = text.slice(0..mark.start).matches(['"', '\'']).count();
    if quotes % 2 == 1 {
        return None;
    }
    let whole = text.trim(mark.start..end);
    Some((text.span(whole.clone()), text.slice(whole).to_owned()))
}

/// The problem of bytes that are no UTF-8 where they can't be kept. The config is a JSON document: ENV, LABEL and
/// MAINTAINER have the replacement character there, as from BuildKit. A file's heredoc is bytes.
pub(super) fn odd_bytes(text: &Text, keyword: &str, heredocs: &[Heredoc]) -> Option<Diagnostic> {
    if matches!(keyword, "ENV" | "LABEL" | "MAINTAINER") {
        return None;
    }
    let odd = |text: &str| {
        text.char_indices()
            .find_map(|(at, c)| Some((at, c, odd_byte(c)?)))
    };
    let in_line = odd(text.as_str()).map(|(at, c, byte)| (text.span(at..at + c.len_utf8()), byte));
    let script = heredocs.iter().filter(|_| keyword == "RUN");
    let mut in_script = script.filter_map(|heredoc| {
        let (at, c, byte) = odd(&heredoc.content)?;
        let start = heredoc.body.start + at;
        Some((Span::new(start, start + c.len_utf8()), byte))
    });
    let (span, byte) = in_line.or_else(|| in_script.next())?;
    let message = format!("the byte 0x{byte:02x} is no UTF-8, which {keyword} needs");
    Some(Diagnostic::error("not-utf8", span, message).with_help(
        "save the file as UTF-8; a file whose name is no UTF-8 can be copied with a wildcard",
    ))
}

/// What a file is that is no Dockerfile, from the first word of a line.
pub(super) fn other_language(word: &str) -> Option<(&'static str, &'static str)> {
    let starts = |marks: &[&str]| marks.iter().any(|mark| word.starts_with(mark));
    if starts(&["<<<<<<<", "=======", ">>>>>>>"]) {
        return Some((
            "a mark of a merge conflict",
            "decide which side holds, and delete the marks",
        ));
    }
    if starts(&["{{", "{%", "<%"]) {
        return Some((
            "the text of a template",
            "fill the template in before the build",
        ));
    }
    let lower = word.to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml", "<head"]
        .iter()
        .any(|mark| lower.starts_with(mark))
    {
        return Some((
            "a web page",
            "fetch the file itself: on code hosting sites that is its `raw` address",
        ));
    }
    None
}

/// A word that was meant as a flag: with a dash that is no hyphen, or behind the arguments, where these can't begin so.
/// COPY takes such a word for a file.
pub(super) fn misplaced_flag(
    keyword: &str,
    known: &[&str],
    text: &Text,
    words: &[std::ops::Range<usize>],
) -> Option<Diagnostic> {
    for (number, range) in words.iter().enumerate() {
        let word = text.slice(range.clone());
        let name = |rest: &str| {
            let name = rest.split('=').next().unwrap_or_default().to_owned();
            known.contains(&name.as_str())
        };
        let span = text.span(range.clone());
        if keyword == "FROM" && number > 0 && word.strip_prefix("--").is_some_and(name) {
            let message = format!("the flag `{word}` stands behind the arguments of {keyword}");
            let help = format!("flags stand in front: `{keyword} {word} …`");
            return Some(Diagnostic::error("flag-place", span, message).with_help(help));
        }
        let rest = word.trim_start_matches(is_dash);
        let dashes = &word[..word.len() - rest.len()];
        if let Some(odd) = dashes.chars().find(|c| *c != '-').filter(|_| name(rest)) {
            let message = format!(
                "`{word}` begins with the dash U+{:04X}, and a flag with two hyphens",
                u32::from(odd)
            );
            let help = format!("write `--{rest}`");
            return Some(Diagnostic::error("flag-dash", span, message).with_help(help));
        }
    }
    None
}

fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// Words of COPY and ADD that someone joined with quotes, as a JSON array would have them.
pub(super) fn quoted_sources(
    text: &Text,
    words: &[std::ops::Range<usize>],
) -> Option<(Span, String)> {
    let opens = |word: &str| {
        let quote = word.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        (word.matches(quote).count() == 1).then_some(quote)
    };
    let first = words
        .iter()
        .position(|word| opens(text.slice(word.clone())).is_some())?;
    let quote = opens(text.slice(words[first].clone()))?;
    let last = words
        .iter()
        .skip(first + 1)
        .position(|word| text.slice(word.clone()).ends_with(quote))?;
    let joined = words[first].start..words[first + 1 + last].end;
    let whole = text.slice(words.first()?.start..words.last()?.end);
    let mut array = Vec::new();
    let mut open: Option<char> = None;
    let mut current = String::new();
    for c in whole.chars() {
        match open {
            Some(quote) if c == quote => open = None,
            None if matches!(c, '"' | '\'') => open = Some(c),
            None if is_blank(c) => {
                if !current.is_empty() {
                    array.push(std::mem::take(&mut current));
                }
            }
            _ => current.push(c),
        }
    }
    array.push(current);
    let array = serde_json::to_string(&array)
        .ok()?
        .replace("\",\"", "\", \"");
    Some((text.span(joined), array))
}

/// Whether a text was meant as a JSON array and is none: `[` and a quote, with a comma or a bracket behind the string.
/// A shell's test command has neither: `[ "$A" = b ]`.
pub(super) fn looks_like_json(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[') else {
        return false;
    };
    let string = inner.trim_start();
    let Some(quote) = string.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return text.ends_with(']') && !inner.starts_with([' ', '[']);
    };
    if string.len() == inner.len() {
        return true;
    }
    let behind = string[1..].split_once(quote).map_or("", |(_, rest)| rest);
    behind.trim_start().starts_with(',') || behind.trim() == "]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_none_is_told_from_test_commands() {
        for (text, expected) in [
            ("['a', 'b']", true),
            ("[ 'a' ]", true),
            (r#"["a" "b"]"#, true),
            (r#"[ "a", b ]"#, true),
            (r#"["C:\app", "x"]"#, true),
            ("[a, b]", true),
            (r#"[ "$A" = b ]"#, false),
            (r#"[ "$A" = b ] && echo"#, false),
            (r#"[ "$A" ] && echo"#, false),
            ("[ -f x ]", false),
            ("[[ a = b ]]", false),
            ("echo []", false),
        ] {
            assert_eq!(looks_like_json(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_that_join_words_become_an_array() {
        for (line, expected) in [
            (r#""my file.txt" /x/"#, Some(r#"["my file.txt", "/x/"]"#)),
            ("a 'b c d' /x", Some(r#"["a", "b c d", "/x"]"#)),
            (r#""a" /x"#, None),
            (r#"a"b c"d /x"#, None),
            ("it's /x", None),
        ] {
            let text = Text::fixed(line, Span::default());
            let words = blank_separated(&text, 0..line.len());
            let found = quoted_sources(&text, &words).map(|(_, array)| array);
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
