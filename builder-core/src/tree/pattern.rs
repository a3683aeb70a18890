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

use std::fmt::Write as _;

use regex::bytes::Regex;

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
    pub reason: &'static str,
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
    fn parse(line: &str, number: usize) -> Result<Option<Self>, &'static str> {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Ok(None);
        }
        let (negated, body) = match trimmed.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, trimmed),
        };
        if body.is_empty() {
            return Err("a `!` alone takes nothing back");
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
            Matcher::Regex(regex) => regex.is_match(path),
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
                Ok(Matcher::Regex(regex)) => regex.is_match(name),
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
    fn new(pattern: &str) -> Result<Self, &'static str> {
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
            .map_err(|_| "it can't be translated")
    }
}

/// One character that is not `/`, or one byte that is part of no character.
const ONE: &str = r"(?:[^/]|(?-u:[\x80-\xFF]))";

/// Translates a pattern into an anchored regular expression.
fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut regex = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_none() {
                    regex.push_str("(?-u:.)*");
                } else {
                    regex.push_str("(?:(?-u:.)*/)?");
                }
            }
            '*' => {
                let _ = write!(regex, "{ONE}*");
            }
            '?' => regex.push_str(ONE),
            '[' => push_class(&mut regex, &mut rest)?,
            '\\' => {
                let literal = rest.next().ok_or("it ends in a backslash")?;
                regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
            literal => regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    Ok(regex)
}

/// Translates a class, whose `[` is already read.
fn push_class(
    regex: &mut String,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<(), &'static str> {
    const OPEN: &str = "a `[` is not closed";
    regex.push('[');
    if rest.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut items = 0;
    loop {
        let character = match rest.next().ok_or(OPEN)? {
            ']' if items > 0 => break,
            ']' => return Err("a class is empty"),
            '\\' => rest.next().ok_or(OPEN)?,
            '-' if items > 0 && rest.peek().is_some_and(|next| *next != ']') => {
                regex.push('-');
                items += 1;
                continue;
            }
            other => other,
        };
        let _ = write!(regex, r"\x{{{:x}}}", u32::from(character));
        items += 1;
    }
    regex.push(']');
    Ok(())
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
        ] {
            assert_eq!(check(&[pattern], path), expected, "{pattern} {path}");
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
        fn a_plain_pattern_is_what_go_matches(pattern in "[ab*?]{1,4}(/[ab*?]{1,4})?", path in "[ab]{1,4}(/[ab]{1,4})?") {
            // Without `**`, the two languages say the same about a whole path.
            proptest::prop_assume!(!pattern.contains("**"));
            let list = PatternList::from_patterns([pattern.as_str()]).unwrap();
            let hit = list.enter(&list.root_state(), path.as_bytes()).matched;
            let go = crate::tree::glob::matches(&pattern, path.as_bytes());
            proptest::prop_assert_eq!(Ok(hit), go);
        }
    }
}
