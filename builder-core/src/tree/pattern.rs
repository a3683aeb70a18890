//! Docker's path patterns, as `.dockerignore`, `--exclude` and `--parents` use them.
//!
//! The rules, which are not those of gitignore:
//! - A pattern is cleaned lexically (`a/../b` is `b`, `./x` is `x`, a trailing `/` is dropped), and one leading `/` is
//!   removed. It is compared with whole paths from the root of the tree; there is no match by base name.
//! - `*` is any run without `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` a class. `**/` is any number of
//!   directories, also none; `**` at the end is everything below. A backslash takes the next character literally.
//! - A literal followed by `**` is a prefix of the path as text (`foo**` matches `foobar/x`), `**` followed by a
//!   literal a suffix (`**.log`).
//! - A pattern that hit a directory hits everything below it. The last pattern that hits decides, `!` patterns take
//!   back. A pattern is compared only where it could change the state: a plain one while nothing is ignored, a `!`
//!   one while something is. See [`PatternList::enter`].

use std::borrow::Cow;
use std::fmt::Write as _;

use regex::Regex;

use super::glob::{self, Token};

/// The patterns of one file or one instruction, in order.
#[derive(Clone, Debug, Default)]
pub struct PatternList {
    patterns: Vec<Pattern>,
}

/// One pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The pattern as it was written.
    pub text: String,
    /// The line in its file, from 1.
    pub line: usize,
    /// Whether it began with `!`.
    pub negated: bool,
    cleaned: Vec<u8>,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    Prefix(String),
    Suffix { literal: String, at_component: bool },
    Regex(Regex),
}

/// A pattern that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern: {reason}")]
pub struct PatternError {
    /// The pattern as it was written.
    pub text: String,
    /// The line in its file, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// What the patterns said about a directory, and so what holds below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchState {
    /// Which patterns hit the path or a directory above it.
    hits: Vec<bool>,
    /// Whether the path is matched in the end.
    pub matched: bool,
    /// The pattern that decided, by its index; none where none hit.
    pub decided_by: Option<usize>,
}

impl PatternList {
    /// Reads an ignore file: one pattern a line; `#` in the first column is a comment, blank lines are skipped.
    /// Broken patterns are returned all at once.
    pub fn parse_file(text: &str) -> Result<Self, Vec<PatternError>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::build(
            text.lines()
                .enumerate()
                .filter(|(_, line)| !line.starts_with('#')),
        )
    }

    /// Takes patterns one by one, as flags give them. `#` has no meaning here.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Vec<PatternError>> {
        Self::build(patterns.into_iter().enumerate())
    }

    fn build<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, Vec<PatternError>> {
        let (mut patterns, mut errors) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            match Pattern::parse(line, number + 1) {
                Ok(pattern) => patterns.extend(pattern),
                Err(reason) => errors.push(PatternError {
                    text: line.trim().to_owned(),
                    line: number + 1,
                    reason,
                }),
            }
        }
        if errors.is_empty() {
            Ok(Self { patterns })
        } else {
            Err(errors)
        }
    }

    /// Takes clean relative paths that mean exactly themselves, whatever characters they hold.
    pub fn from_literals<'a>(
        paths: impl IntoIterator<Item = &'a crate::image_path::ImagePath>,
    ) -> Self {
        let literal = |path: &crate::image_path::ImagePath| {
            let cleaned = path.as_relative().to_vec();
            Pattern {
                text: path.to_string(),
                line: 0,
                negated: false,
                cleaned,
                matcher: Matcher::Exact,
            }
        };
        Self {
            patterns: paths.into_iter().map(literal).collect(),
        }
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern takes back what others matched.
    pub fn has_negation(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// The pattern with an index of [`MatchState::decided_by`].
    pub fn get(&self, index: usize) -> Option<&Pattern> {
        self.patterns.get(index)
    }

    /// The state at the root: nothing is matched there.
    pub fn root_state(&self) -> MatchState {
        MatchState {
            hits: vec![false; self.patterns.len()],
            matched: false,
            decided_by: None,
        }
    }

    /// The state of `path`, a clean relative path, from the state of the directory that holds it.
    #[must_use]
    pub fn enter(&self, parent: &MatchState, path: &[u8]) -> MatchState {
        let mut state = self.root_state();
        for (index, pattern) in self.patterns.iter().enumerate() {
            let hit = parent.hits.get(index).copied().unwrap_or(false)
                || (pattern.negated == state.matched && pattern.is_match(path));
            if hit {
                state.hits[index] = true;
                state.matched = !pattern.negated;
                state.decided_by = Some(index);
            }
        }
        state
    }

    /// The state of a path from the root downwards.
    pub fn state_of(&self, path: &crate::image_path::ImagePath) -> MatchState {
        let mut state = self.root_state();
        if self.patterns.is_empty() {
            return state;
        }
        let bytes = path.as_relative();
        let ends = bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        for end in ends.chain([bytes.len()]) {
            if end > 0 {
                state = self.enter(&state, &bytes[..end]);
            }
        }
        state
    }

    /// Whether a pattern that would change the verdict might match something below the directory `path`: a `!`
    /// pattern where `state.matched`, a plain one elsewhere. May say yes where nothing matches, never no where
    /// something does.
    pub fn may_change_below(&self, state: &MatchState, path: &[u8]) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.negated == state.matched && pattern.may_match_below(path))
    }
}

impl Pattern {
    /// Reads one line; none for a blank one.
    fn parse(line: &str, number: usize) -> Result<Option<Self>, String> {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Ok(None);
        }
        let (negated, body) = match trimmed.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, trimmed),
        };
        if body.is_empty() {
            return Err("a `!` alone takes nothing back".to_owned());
        }
        let mut cleaned = clean(body);
        if cleaned.len() > 1 && cleaned.starts_with('/') {
            cleaned.remove(0);
        }
        let matcher = Matcher::new(&cleaned)?;
        Ok(Some(Self {
            text: trimmed.to_owned(),
            line: number,
            negated,
            cleaned: cleaned.into_bytes(),
            matcher,
        }))
    }

    fn is_match(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact => self.cleaned == path,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Matcher::Suffix {
                literal,
                at_component,
            } => path
                .strip_suffix(literal.as_bytes())
                .is_some_and(|rest| !at_component || rest.is_empty() || rest.ends_with(b"/")),
            Matcher::Regex(regex) => regex.is_match(&text(path)),
        }
    }

    /// Compares component by component, until a `**` could be anything.
    fn may_match_below(&self, directory: &[u8]) -> bool {
        if !matches!(self.matcher, Matcher::Exact | Matcher::Regex(_)) {
            return match &self.matcher {
                Matcher::Prefix(prefix) => {
                    prefix.as_bytes().starts_with(directory)
                        || directory.starts_with(prefix.as_bytes())
                }
                _ => true,
            };
        }
        let cleaned = String::from_utf8_lossy(&self.cleaned);
        let mut wanted = cleaned.split('/');
        for name in directory.split(|byte| *byte == b'/') {
            let Some(component) = wanted.next() else {
                return false;
            };
            if component.contains("**") {
                return true;
            }
            let fits = match Matcher::new(component) {
                Ok(Matcher::Exact) => component.as_bytes() == name,
                Ok(Matcher::Regex(regex)) => regex.is_match(&text(name)),
                _ => true,
            };
            if !fits {
                return false;
            }
        }
        wanted.next().is_some()
    }
}

impl Matcher {
    fn new(pattern: &str) -> Result<Self, String> {
        let special = |text: &str| text.contains(['*', '?', '[', '\\']);
        if !special(pattern) {
            return Ok(Self::Exact);
        }
        if let Some(prefix) = pattern.strip_suffix("**")
            && !special(prefix)
        {
            return Ok(Self::Prefix(prefix.to_owned()));
        }
        if let Some(suffix) = pattern.strip_prefix("**")
            && !special(suffix)
        {
            return Ok(match suffix.strip_prefix('/') {
                Some(literal) => Self::Suffix {
                    literal: literal.to_owned(),
                    at_component: true,
                },
                None => Self::Suffix {
                    literal: suffix.to_owned(),
                    at_component: false,
                },
            });
        }
        let regex = translate(pattern)?;
        Regex::new(&regex)
            .map(Self::Regex)
            .map_err(|_| "it is too long".to_owned())
    }
}

/// Translates a pattern into an anchored regular expression over [`text`].
fn translate(pattern: &str) -> Result<String, String> {
    let tokens = glob::compile(pattern).map_err(|problem| problem.to_string())?;
    let mut regex = String::from("(?s)^");
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            Token::Run if rest.next_if_eq(&Token::Run).is_some() => {
                rest.next_if_eq(&Token::Literal('/'));
                let end = rest.peek().is_none();
                regex.push_str(if end { ".*" } else { "(?:.*/)?" });
            }
            Token::Run => regex.push_str("[^/]*"),
            Token::One => regex.push_str("[^/]"),
            Token::Literal(literal) => {
                regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
            Token::Class { negated, ranges } => push_class(&mut regex, negated, &ranges),
        }
    }
    regex.push('$');
    Ok(regex)
}

/// Translates a class. As in Docker's, one that is negated takes a `/` too.
fn push_class(regex: &mut String, negated: bool, ranges: &[(char, char)]) {
    // One that ends before it begins has no character; a class of none is none.
    let ranges: Vec<_> = ranges.iter().filter(|(low, high)| low <= high).collect();
    if ranges.is_empty() {
        regex.push_str(if negated { "." } else { "[^\\s\\S]" });
        return;
    }
    regex.push_str(if negated { "[^" } else { "[" });
    for (low, high) in ranges {
        let (low, high) = (u32::from(*low), u32::from(*high));
        let _ = write!(regex, r"\x{{{low:x}}}-\x{{{high:x}}}");
    }
    regex.push(']');
}

/// A path as characters. A byte that is part of none is one that no name has, so that `?` counts it as one.
fn text(path: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(path) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        let odd = chunk.invalid().iter();
        text.extend(odd.filter_map(|byte| char::from_u32(0x0010_ff00 + u32::from(*byte))));
    }
    Cow::Owned(text)
}

/// Cleans a path lexically as Go's `filepath.Clean` does: relative paths keep leading `..`, an empty one is `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if rooted => {}
            name => kept.push(name),
        }
    }
    match (rooted, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_path::ImagePath;

    fn check(patterns: &[&str], path: &str) -> bool {
        let list = PatternList::from_patterns(patterns.iter().copied()).unwrap();
        list.state_of(&ImagePath::clean(path)).matched
    }

    #[test]
    fn matches_as_docker_does() {
        for (pattern, path, expected) in [
            ("docs", "docs", true),
            ("docs/", "docs/a", true),
            ("/docs", "docs", true),
            ("docs", "a/docs", false),
            ("*.md", "a.md", true),
            ("*.md", "x/a.md", false),
            ("**/*.md", "a.md", true),
            ("**/*.md", "x/y/a.md", true),
            ("*/temp*", "a/temporary", true),
            ("*/*/temp*", "a/temporary", false),
            ("foo**", "foobar/x", true),
            ("**foo", "xfoo", true),
            ("**/foo", "xfoo", false),
            ("**/foo", "a/foo", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**", "a/x/y", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("a.b", "axb", false),
            ("a/../b", "b", true),
            ("/", "a", false),
            (".", "a", false),
            ("?", "é", true),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a*b", "a☺b", true),
            ("[☺x]", "☺", true),
            ("[a-ζ]*", "α", true),
            ("[^☺]", "☺", false),
            (r"[\]a]", "]", true),
            (r"[\-x]", "-", true),
            ("[c-a]", "b", false),
            ("[^c-a]", "b", true),
        ] {
            assert_eq!(check(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_byte_that_is_no_character_counts_as_one() {
        for (pattern, path, expected) in [
            ("a?", &b"a\xff"[..], true),
            ("a??", b"a\xff", false),
            ("a*", b"a\xff\xfe", true),
            ("[^a]", b"\xff", true),
            ("\u{fffd}?", b"\xff\xff", false),
            ("**/x", b"\xff/x", true),
        ] {
            let list = PatternList::from_patterns([pattern]).unwrap();
            let found = list.enter(&list.root_state(), path).matched;
            assert_eq!(found, expected, "{pattern} {}", path.escape_ascii());
        }
    }

    #[test]
    fn both_languages_refuse_the_same() {
        for pattern in [
            "[", "a[", "[]", "[]a]", "[^]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[a", "[a-", r"a\",
            r"[a\", "q[x-]",
        ] {
            assert!(glob::matches(pattern, b"").is_err(), "{pattern}");
            assert!(PatternList::from_patterns([pattern]).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_last_hit_decides_and_idle_patterns_are_not_compared() {
        assert!(check(&["*", "!keep", "keep/x"], "keep/x/y"));
        assert!(!check(&["*", "!keep"], "keep/a"));
        assert!(check(&["**/*.o", "!src/lib"], "src/lib/a.o"));
        assert!(!check(&["a", "!a/b", "a"], "a/b"));
        assert!(!check(&["*.md", "!README.md"], "README.md"));
    }

    #[test]
    fn refuses_broken_patterns_with_their_lines() {
        let errors = PatternList::parse_file("a\n# c\n!\n[b\nc\\\n").unwrap_err();
        assert_eq!(
            errors.iter().map(|error| error.line).collect::<Vec<_>>(),
            [3, 4, 5]
        );
    }

    #[test]
    fn a_walk_is_pruned_only_where_nothing_can_match() {
        let list = PatternList::from_patterns(["*", "!src/*/keep", "!**/x"]).unwrap();
        let state = list.state_of(&ImagePath::clean("src"));
        assert!(list.may_change_below(&state, b"src"));
        let list = PatternList::from_patterns(["*", "!src/*/keep"]).unwrap();
        for (directory, expected) in [
            ("src", true),
            ("src/a", true),
            ("src/a/keep", false),
            ("other", false),
        ] {
            let state = list.state_of(&ImagePath::clean(directory));
            let below = state.matched && list.may_change_below(&state, directory.as_bytes());
            assert_eq!(below, expected, "{directory}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", path in "[a-c/.*]{0,12}") {
            if let Ok(list) = PatternList::parse_file(&text) {
                list.state_of(&ImagePath::clean(path));
            }
        }

        #[test]
        fn pruning_never_hides_a_match(
            patterns in proptest::collection::vec("!?[ab*?]{1,3}(/[ab*?]{1,3}){0,2}", 1..4),
            path in "[ab](/[ab]{1,2}){1,3}",
        ) {
            let Ok(list) = PatternList::from_patterns(patterns.iter().map(String::as_str)) else {
                return Ok(());
            };
            let path = ImagePath::clean(path);
            let verdict = list.state_of(&path).matched;
            for directory in path.ancestors().into_iter().skip(1) {
                let state = list.state_of(&directory);
                if state.matched != verdict {
                    proptest::prop_assert!(
                        list.may_change_below(&state, directory.as_relative()),
                        "{directory} {path} {patterns:?}"
                    );
                }
            }
        }

        #[test]
        fn a_plain_pattern_is_what_go_matches(
            pattern in r"[abé*?\[\]\\^-]{1,6}(/[abé*?\[\]\\^-]{1,4})?",
            path in "[abé]{1,4}(/[abé]{1,4})?",
        ) {
            // Without `**`, and where no negated class meets a `/`, the two languages say the same about a whole path.
            proptest::prop_assume!(!pattern.contains("**"));
            proptest::prop_assume!(!(pattern.contains("[^") && path.contains('/')));
            let go = glob::matches(&pattern, path.as_bytes());
            let list = PatternList::from_patterns([pattern.as_str()]);
            let hit = list.map(|list| list.enter(&list.root_state(), path.as_bytes()).matched);
            proptest::prop_assert_eq!(hit.ok(), go.ok());
        }
    }
}
