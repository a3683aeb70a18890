//! The wildcards of COPY and ADD sources: Go's `filepath.Match`, as the Dockerfile reference names it.
//!
//! `*` is a run without `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` a class, a backslash takes the next
//! character literally. There is no `**` and there are no braces. A pattern is compared with a whole relative path.
//!
//! The patterns of ignore files and flags have more ([`pattern`](super::pattern)), but their parts are these: both are
//! read here.

/// A pattern that is not well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a `[` is not closed, a range is incomplete, or the last backslash escapes nothing")]
pub struct BadPattern;

/// Whether `word` holds a wildcard at all. An escaped one counts as none.
pub fn has_wildcard(word: &str) -> bool {
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether `pattern` matches the whole of `name`.
///
/// # Errors
/// [`BadPattern`], whether or not the broken part would have been reached.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, BadPattern> {
    let tokens = compile(pattern)?;
    Ok(match_tokens(&tokens, &characters(name)))
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `*`
    Run,
    /// `?`
    One,
    /// A character that means itself.
    Literal(char),
    /// `[…]`
    Class {
        /// `[^…]`
        negated: bool,
        /// The characters, from and to.
        ranges: Vec<(char, char)>,
    },
}

/// A character, or a byte that is part of none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Character {
    Text(char),
    Byte(u8),
}

fn characters(name: &[u8]) -> Vec<Character> {
    let mut found = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        found.extend(chunk.valid().chars().map(Character::Text));
        found.extend(chunk.invalid().iter().copied().map(Character::Byte));
    }
    found
}

/// Reads a pattern.
pub(super) fn compile(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' => Token::Run,
            '?' => Token::One,
            '[' => class(&mut rest)?,
            '\\' => Token::Literal(rest.next().ok_or(BadPattern)?),
            literal => Token::Literal(literal),
        });
    }
    Ok(tokens)
}

fn class(rest: &mut std::str::Chars<'_>) -> Result<Token, BadPattern> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') {
            rest.next();
            high = class_character(rest)?;
        }
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Result<char, BadPattern> {
    match rest.next().ok_or(BadPattern)? {
        '-' | ']' => Err(BadPattern),
        '\\' => rest.next().ok_or(BadPattern),
        character => Ok(character),
    }
}

/// Matches greedily, going back to the last `*` only: a `*` never has to give back for an earlier one.
fn match_tokens(tokens: &[Token], name: &[Character]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::Run) => {
                retry = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(single)
                if name
                    .get(at)
                    .is_some_and(|character| fits(single, *character)) =>
            {
                token += 1;
                at += 1;
                continue;
            }
            None if at == name.len() => return true,
            _ => {}
        }
        let Some((after, from)) = retry else {
            return false;
        };
        if name
            .get(from)
            .is_none_or(|skipped| *skipped == Character::Text('/'))
        {
            return false;
        }
        retry = Some((after, from + 1));
        token = after;
        at = from + 1;
    }
}

fn fits(token: &Token, character: Character) -> bool {
    match token {
        Token::Run => false,
        Token::One => character != Character::Text('/'),
        Token::Literal(literal) => character == Character::Text(*literal),
        Token::Class { negated, ranges } => match character {
            Character::Text('/') => false,
            Character::Text(text) => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&text))
                    != *negated
            }
            Character::Byte(_) => *negated,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*/b", "a/c/b", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[^b-d]", "abc", Ok(false)),
            (r"a\*b", "a*b", Ok(true)),
            (r"a\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("a?b", "a/b", Ok(false)),
            (r"[\]a]", "]", Ok(true)),
            (r"[\-x]", "-", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            (r"a\", "a", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
        ] {
            assert_eq!(
                matches(pattern, name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        assert_eq!(matches("a?", b"a\xff"), Ok(true));
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a*"));
        assert!(has_wildcard("[a]"));
        assert!(!has_wildcard(r"a\*"));
    }
}
