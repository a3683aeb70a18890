//! The keywords about files and processes: FROM, COPY, ADD, RUN.
//!
//! Follows the Dockerfile reference, each instruction's section.

use std::ops::Range;

use crate::diagnostic::Diagnostic;

use super::flags::{FlagKind, KnownFlags};
use super::heredoc::{self, Heredoc};
use super::hints;
use super::instruction::{CommandForm, CopyInstruction, FromInstruction, RunInstruction};
use super::keyword::Line;
use super::mount;
use super::word::Word;
use crate::nearest::nearest;

const FROM_FLAGS: KnownFlags = &[("platform", FlagKind::Text)];

const COPY_FLAGS: KnownFlags = &[
    ("from", FlagKind::Text),
    ("chown", FlagKind::Text),
    ("chmod", FlagKind::Text),
    ("link", FlagKind::Switch),
    ("parents", FlagKind::Switch),
    ("exclude", FlagKind::List),
];

const ADD_FLAGS: KnownFlags = &[
    ("chown", FlagKind::Text),
    ("chmod", FlagKind::Text),
    ("link", FlagKind::Switch),
    ("keep-git-dir", FlagKind::Switch),
    ("checksum", FlagKind::Text),
    ("unpack", FlagKind::Switch),
    ("exclude", FlagKind::List),
];

const RUN_FLAGS: KnownFlags = &[
    ("mount", FlagKind::List),
    ("network", FlagKind::Text),
    ("security", FlagKind::Text),
    ("device", FlagKind::List),
];

pub(super) fn from(mut line: Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<FromInstruction> {
    let flags = line.check_flags(FROM_FLAGS, problems);
    let words: Vec<Word> = line
        .words()
        .into_iter()
        .map(|range| line.text.word(range))
        .collect();
    let platform = flags.text("platform");
    let mut words = words.into_iter();
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(image), None, _, _) => Some(FromInstruction {
            image,
            platform,
            name: None,
            as_keyword: None,
        }),
        (Some(image), Some(keyword), Some(name), None)
            if keyword.text.eq_ignore_ascii_case("as") =>
        {
            let known = valid_stage_name(&name.text);
            if !known {
                let message = format!("`{}` can't name a stage", name.text);
                let problem = Diagnostic::error("stage-name", name.span, message);
                problems.push(
                    problem.with_help(
                        "start with a letter, then use letters, digits, `-`, `_` and `.`",
                    ),
                );
            }
            Some(FromInstruction {
                image,
                platform,
                name: known.then_some(name),
                as_keyword: Some(keyword),
            })
        }
        _ => {
            let flags = hints::misplaced_flag("FROM", &["platform"], line.text, &line.words());
            if let Some(problem) = flags {
                problems.push(problem);
                return None;
            }
            let span = line.keyword_span.to(line.text.span(line.rest.clone()));
            let problem = Diagnostic::error(
                "from-arguments",
                span,
                "FROM takes one word, or three with `AS`",
            );
            problems.push(problem.with_help("write `FROM image` or `FROM image AS name`"));
            None
        }
    }
}

fn valid_stage_name(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

pub(super) fn copy(
    mut line: Line<'_>,
    add: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<CopyInstruction> {
    let flags = line.check_flags(if add { ADD_FLAGS } else { COPY_FLAGS }, problems);
    let (mut words, heredocs) = copy_words(&mut line, problems)?;
    let Some(destination) = words.pop() else {
        too_few(&line, problems);
        return None;
    };
    if words.is_empty() && heredocs.is_empty() {
        too_few(&line, problems);
        return None;
    }
    if let Some(last) = heredocs
        .last()
        .filter(|last| last.span.start > destination.span.start)
    {
        let message = format!("a heredoc can't be the destination of {}", line.keyword);
        problems.push(Diagnostic::error("heredoc-destination", last.span, message));
        return None;
    }
    Some(CopyInstruction {
        sources: words,
        heredocs,
        destination,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

/// The plain words, and the heredocs whose markers stand among them.
fn copy_words(
    line: &mut Line<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Vec<Word>, Vec<Heredoc>)> {
    if let Some(words) = line.json(line.rest.clone(), problems).ok()? {
        return Some((words, Vec::new()));
    }
    let words = line.words();
    if let Some(problem) = meant_otherwise(line, &words) {
        problems.push(problem);
        return None;
    }
    let heredocs = std::mem::take(&mut line.heredocs);
    let ranges = words.into_iter();
    let outside = ranges.filter(|word| {
        let inside =
            |heredoc: &Heredoc| heredoc.range.start <= word.start && word.start < heredoc.range.end;
        !heredocs.iter().any(inside)
    });
    let words: Vec<Word> = outside.map(|range| line.text.word(range)).collect();
    Some((words, heredocs))
}

/// What the words of COPY or ADD were meant to be: JSON, words joined by quotes, flags.
fn meant_otherwise(line: &Line<'_>, words: &[Range<usize>]) -> Option<Diagnostic> {
    let known = if line.keyword == "ADD" {
        ADD_FLAGS
    } else {
        COPY_FLAGS
    };
    let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    if let Some(problem) = hints::misplaced_flag(line.keyword, &known, line.text, words) {
        return Some(problem);
    }
    let rest = line.rest_word();
    let quoted = rest.text.strip_prefix('[').map(str::trim_start);
    if quoted.is_some_and(|inner| inner.starts_with(['"', '\'']))
        && hints::looks_like_json(&rest.text)
    {
        let message = format!(
            "the arguments of {} look like JSON but are not",
            line.keyword
        );
        return Some(Diagnostic::error("not-json", rest.span, message).with_help(
            "JSON takes double quotes, commas between the strings, and `\\\\` for a backslash",
        ));
    }
    let (span, array) = hints::quoted_sources(line.text, words)?;
    let message = format!("quotes don't join words in {}", line.keyword);
    let help = format!("write `{} {array}`", line.keyword);
    Some(Diagnostic::error("quoted-words", span, message).with_help(help))
}

fn too_few(line: &Line<'_>, problems: &mut Vec<Diagnostic>) {
    let span = line.keyword_span.to(line.text.span(line.rest.clone()));
    let message = format!("{} needs a source and a destination", line.keyword);
    let problem = Diagnostic::error("missing-argument", span, message);
    problems.push(problem.with_help(format!("write `{} source destination`", line.keyword)));
}

pub(super) fn run(mut line: Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<RunInstruction> {
    let flags = line.check_flags(RUN_FLAGS, problems);
    let mounts = flags
        .list("mount")
        .iter()
        .map(|value| mount::parse(value, problems))
        .collect();
    let network = one_of(
        flags.text("network"),
        "network",
        &["default", "none", "host"],
        problems,
    );
    let security = one_of(
        flags.text("security"),
        "security",
        &["sandbox", "insecure"],
        problems,
    );
    let command = line.command(line.rest.clone(), problems)?;
    let empty = match &command {
        CommandForm::Exec(words) => words.is_empty(),
        CommandForm::Shell(text) => text.text.is_empty(),
    };
    if empty {
        let problem =
            Diagnostic::error("missing-argument", line.keyword_span, "RUN needs a command");
        problems.push(problem);
        return None;
    }
    Some(RunInstruction {
        command,
        heredocs: std::mem::take(&mut line.heredocs),
        mounts,
        network,
        security,
        devices: flags.list("device"),
    })
}

fn one_of(
    value: Option<Word>,
    flag: &str,
    known: &[&str],
    problems: &mut Vec<Diagnostic>,
) -> Option<Word> {
    let value = value?;
    if known.contains(&value.text.as_str()) {
        return Some(value);
    }
    let list: Vec<String> = known.iter().map(|one| format!("`{one}`")).collect();
    let message = format!(
        "`--{flag}` takes {}, found `{}`",
        list.join(", "),
        value.text
    );
    let problem = Diagnostic::error("flag-value", value.span, message);
    problems.push(match nearest(&value.text, known.iter().copied()) {
        Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
        None => problem,
    });
    None
}

/// Whether a RUN is one heredoc and nothing else: its body is the script.
pub(crate) fn is_script(run: &RunInstruction) -> bool {
    matches!(&run.command, CommandForm::Shell(text) if run.heredocs.len() == 1 && heredoc::is_marker(&text.text))
}
