//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the very top of a file.
//!
//! Follows the Dockerfile reference, "Parser directives": the first line that is no known directive ends them.

use crate::diagnostic::Diagnostic;
use crate::source::{SourceFile, Span};

use super::word::Word;

/// What the directives of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the first word of its value.
    pub syntax: Option<Word>,
    /// `escape`: the escape and continuation character; a backslash if the file says nothing.
    pub escape: char,
    /// `check`: its value as written.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// Reads the directives. Returns them with the offset of the first line that is none.
pub fn read(file: &SourceFile, problems: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut directives = Directives::default();
    let mut position = if file.text.starts_with('\u{feff}') {
        3
    } else {
        0
    };
    let mut escape_seen = false;
    while let Some((key, value, length)) = file.text.get(position..).and_then(directive) {
        let value = Word {
            text: value.text,
            span: Span::new(position + value.span.start, position + value.span.end),
        };
        let line = Span::new(position, value.span.end);
        let seen = match key.as_str() {
            "syntax" => directives.syntax.replace(first_word(&value)).is_some(),
            "check" => directives.check.replace(value).is_some(),
            "escape" => {
                set_escape(&mut directives, &value, problems);
                std::mem::replace(&mut escape_seen, true)
            }
            _ => break,
        };
        if seen {
            let problem = Diagnostic::error(
                "duplicate-directive",
                line,
                format!("the directive `{key}` stands here twice"),
            );
            problems.push(problem.with_help("keep one of the two lines"));
        }
        position += length;
    }
    (directives, position)
}

fn first_word(value: &Word) -> Word {
    let text = value.text.split_whitespace().next().unwrap_or_default();
    Word {
        text: text.to_owned(),
        span: Span::new(value.span.start, value.span.start + text.len()),
    }
}

fn set_escape(directives: &mut Directives, value: &Word, problems: &mut Vec<Diagnostic>) {
    match value.text.as_str() {
        "\\" => directives.escape = '\\',
        "`" => directives.escape = '`',
        other => problems.push(
            Diagnostic::error(
                "escape-directive",
                value.span,
                format!("the escape character can't be `{other}`"),
            )
            .with_help("write a backslash or a backquote"),
        ),
    }
}

/// One known directive at the start of `text`: key in lower case, value, and the length of its line.
fn directive(text: &str) -> Option<(String, Word, usize)> {
    let whole = text.split_inclusive('\n').next()?;
    let line = whole.trim_end();
    let after_hash = line.trim_start().strip_prefix('#')?;
    let (key, value) = after_hash.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    if !matches!(key.as_str(), "syntax" | "escape" | "check") {
        return None;
    }
    let start = line.len() - value.trim_start().len();
    let word = Word {
        text: value.trim().to_owned(),
        span: Span::new(start, line.len()),
    };
    Some((key, word, whole.len()))
}

/// What a `syntax` value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend {
    /// The language that rbuild itself speaks.
    Official,
    /// The same by the name of a mirror, as far as the name tells.
    Mirrored,
    /// Something that only BuildKit could run.
    Foreign,
}

/// Tells what a `syntax` value names. A mirror, or a dependency proxy, has the official frontend under its own host and
/// path in front: `mirror.gcr.io/docker/dockerfile:1`.
pub fn frontend(value: &str) -> Frontend {
    let name = value.split('@').next().unwrap_or(value);
    // A colon behind the last slash is a tag's, one before it a port's.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..]
        .find(':')
        .map_or(name.len(), |colon| last + colon);
    let name = &name[..end];
    let official = ["docker/dockerfile", "docker/dockerfile-upstream"];
    if name == "dockerfile.v0"
        || official.contains(&name.strip_prefix("docker.io/").unwrap_or(name))
    {
        return Frontend::Official;
    }
    let mirrored = official.iter().any(|one| {
        name.strip_suffix(one)
            .is_some_and(|rest| rest.ends_with('/'))
    });
    if mirrored {
        Frontend::Mirrored
    } else {
        Frontend::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_frontend_has_many_names() {
        for (value, expected) in [
            ("docker/dockerfile", Frontend::Official),
            ("docker/dockerfile:1.9-labs", Frontend::Official),
            (
                "docker.io/docker/dockerfile-upstream:master@sha256:00",
                Frontend::Official,
            ),
            ("dockerfile.v0", Frontend::Official),
            ("mirror.gcr.io/docker/dockerfile:1", Frontend::Mirrored),
            ("localhost:5000/docker/dockerfile", Frontend::Mirrored),
            (
                "gitlab.example/group/dependency_proxy/containers/docker/dockerfile:1@sha256:00",
                Frontend::Mirrored,
            ),
            ("r.example/docker/dockerfile-upstream", Frontend::Mirrored),
            ("r.example/notdocker/dockerfile", Frontend::Foreign),
            ("docker/dockerfile-other", Frontend::Foreign),
            ("r.example/docker/dockerfile/more:1", Frontend::Foreign),
            ("crazymax/buildkit:1", Frontend::Foreign),
        ] {
            assert_eq!(frontend(value), expected, "{value}");
        }
    }

    #[test]
    fn reads_directives_until_something_else() {
        for (text, escape, syntax, rest) in [
            ("# escape=`\nFROM x", '`', None, "FROM x"),
            (
                "#  EsCape  =  `\r\n# syntax = a/b:1 more\nF",
                '`',
                Some("a/b:1"),
                "F",
            ),
            (
                "# colour=blue\n# escape=`\n",
                '\\',
                None,
                "# colour=blue\n# escape=`\n",
            ),
            ("\n# escape=`\n", '\\', None, "\n# escape=`\n"),
            ("\u{feff}# escape=`\n", '`', None, ""),
        ] {
            let file = SourceFile::new("Dockerfile", text);
            let mut problems = Vec::new();
            let (found, position) = read(&file, &mut problems);
            assert_eq!(found.escape, escape, "{text}");
            assert_eq!(
                found.syntax.map(|word| word.text),
                syntax.map(str::to_owned)
            );
            assert_eq!(&text[position..], rest);
            assert!(problems.is_empty());
        }
    }
}
