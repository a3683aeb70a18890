//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?`, backslash; no brackets.
//!
//! Follows the Dockerfile reference, "Environment replacement"; a dot does not match a line feed.

use regex::Regex;

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Literal(char),
}

fn parts(pattern: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        parts.push(match c {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => match characters.next() {
                Some(next @ ('*' | '?' | '\\' | '/' | '}')) => Part::Literal(next),
                Some(next) => {
                    return Err(format!(
                        "the pattern escapes `{next}`; only `*`, `?` and `\\` can be"
                    ));
                }
                None => return Err("the pattern ends in an escape character".to_owned()),
            },
            other => Part::Literal(other),
        });
    }
    Ok(parts)
}

fn regex(parts: &[Part], anchored: bool, greedy: bool) -> Result<Regex, String> {
    let mut source = String::from(if anchored { r"\A" } else { "" });
    for part in parts {
        match part {
            Part::Any => source.push_str(if greedy { ".*" } else { ".*?" }),
            Part::One => source.push('.'),
            Part::Literal(c) => source.push_str(&regex::escape(&c.to_string())),
        }
    }
    Regex::new(&source).map_err(|_| "the pattern is too long".to_owned())
}

/// `value` without its start (or its end) that matches the pattern; a doubled mark, which still leads `word`, asks
/// for the longest match.
pub(super) fn trim(value: &str, word: &str, at_end: bool) -> Result<String, String> {
    let mark = if at_end { '%' } else { '#' };
    let (greedy, pattern) = match word.strip_prefix(mark) {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let mut parts = parts(pattern)?;
    if !at_end {
        let found = regex(&parts, true, greedy)?
            .find(value)
            .map_or(0, |found| found.end());
        return Ok(value.get(found..).unwrap_or_default().to_owned());
    }
    // The shortest match at the end is the shortest at the start of everything turned round.
    parts.reverse();
    let turned: String = value.chars().rev().collect();
    let found = regex(&parts, true, greedy)?
        .find(&turned)
        .map_or(0, |found| found.end());
    Ok(turned
        .get(found..)
        .unwrap_or_default()
        .chars()
        .rev()
        .collect())
}

/// `value` with the first match, or all matches, replaced; a match is as long as it can be.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    all: bool,
) -> Result<String, String> {
    let parts = parts(pattern)?;
    if parts.is_empty() {
        return Ok(value.to_owned());
    }
    let regex = regex(&parts, false, true)?;
    let literal = regex::NoExpand(replacement);
    Ok(if all {
        regex.replace_all(value, literal)
    } else {
        regex.replace(value, literal)
    }
    .into_owned())
}
