//! One function a keyword: the arguments of a line become the keyword's struct.
//!
//! Follows the Dockerfile reference, each instruction's section. FROM, COPY, ADD and RUN are in `keyword_files`,
//! HEALTHCHECK in `healthcheck`.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

use super::flags::{Flag, Flags, KnownFlags};
use super::healthcheck;
use super::heredoc::Heredoc;
use super::hints;
use super::instruction::{
    ArgDeclaration, ArgInstruction, CmdInstruction, CommandForm, EntrypointInstruction,
    EnvInstruction, ExposeInstruction, InstructionKind, KeyValue, LabelInstruction,
    MaintainerInstruction, OnbuildInstruction, ShellInstruction, StopsignalInstruction,
    UserInstruction, VolumeInstruction, WorkdirInstruction,
};
use super::keyword_files;
use super::word::{JsonForm, Text, Word, blank_separated, is_blank, json_form, quoted_words};

/// A line that is cut into keyword, flags and the rest.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) keyword: &'static str,
    pub(super) keyword_span: Span,
    pub(super) text: &'a Text,
    /// The arguments behind the flags, trimmed.
    pub(super) rest: Range<usize>,
    pub(super) flags: Vec<Flag>,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) escape: char,
}

impl Line<'_> {
    /// The rest of the line as one word.
    pub(super) fn rest_word(&self) -> Word {
        self.text.word(self.rest.clone())
    }

    /// The words of the rest, blanks between them.
    pub(super) fn words(&self) -> Vec<Range<usize>> {
        blank_separated(self.text, self.rest.clone())
    }

    /// Checks the flags; a problem with them doesn't hide problems with the arguments.
    pub(super) fn check_flags(
        &mut self,
        known: KnownFlags,
        problems: &mut Vec<Diagnostic>,
    ) -> Flags {
        Flags::check(
            self.keyword,
            std::mem::take(&mut self.flags),
            known,
            problems,
        )
    }

    /// Reports that the instruction has no arguments.
    pub(super) fn missing(&self, what: &str, problems: &mut Vec<Diagnostic>) {
        let message = format!("{} needs {what}", self.keyword);
        problems.push(Diagnostic::error(
            "missing-argument",
            self.keyword_span,
            message,
        ));
    }

    /// JSON strings, or none with `Err` where the array holds other things.
    pub(super) fn json(
        &self,
        range: Range<usize>,
        problems: &mut Vec<Diagnostic>,
    ) -> Result<Option<Vec<Word>>, ()> {
        match json_form(self.text, range.clone()) {
            JsonForm::No => Ok(None),
            JsonForm::Strings(words) => Ok(Some(words)),
            JsonForm::Mixed => {
                let message = format!("the array of {} may hold only strings", self.keyword);
                let problem = Diagnostic::error(
                    "json-strings",
                    self.text.span(self.text.trim(range)),
                    message,
                );
                problems.push(problem.with_help("put every element in double quotes"));
                Err(())
            }
        }
    }

    /// The warning that arguments look like JSON and are not.
    fn not_json(&self, word: &Word, so: &str) -> Diagnostic {
        let message = format!(
            "the arguments of {} look like JSON but are not, so {so}",
            self.keyword
        );
        let warning = Diagnostic::warning("not-json", word.span, message);
        warning.with_help(
            "write a JSON array of strings in double quotes, with `\\\\` for a backslash",
        )
    }

    /// Exec or shell form.
    pub(super) fn command(
        &self,
        range: Range<usize>,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<CommandForm> {
        let range = self.text.trim(range);
        if let Some(words) = self.json(range.clone(), problems).ok()? {
            return Some(CommandForm::Exec(words));
        }
        let word = self.text.word(range);
        if hints::looks_like_json(&word.text) {
            problems.push(self.not_json(&word, "a shell gets them"));
        }
        Some(CommandForm::Shell(word))
    }
}

/// The struct of the line's keyword; none if a problem leaves nothing to make it of.
pub(super) fn parse(mut line: Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    match line.keyword {
        "ADD" => {
            return keyword_files::copy(line, true, problems)
                .map(Box::new)
                .map(InstructionKind::Add);
        }
        "COPY" => {
            return keyword_files::copy(line, false, problems)
                .map(Box::new)
                .map(InstructionKind::Copy);
        }
        "FROM" => {
            return keyword_files::from(line, problems)
                .map(Box::new)
                .map(InstructionKind::From);
        }
        "RUN" => {
            return keyword_files::run(line, problems)
                .map(Box::new)
                .map(InstructionKind::Run);
        }
        "HEALTHCHECK" => {
            return healthcheck::healthcheck(line, problems)
                .map(Box::new)
                .map(InstructionKind::Healthcheck);
        }
        _ => {}
    }
    line.check_flags(&[], problems);
    let whole = |kind: fn(Word) -> InstructionKind, problems: &mut Vec<Diagnostic>| {
        if line.rest.is_empty() {
            line.missing("an argument", problems);
            return None;
        }
        Some(kind(line.rest_word()))
    };
    match line.keyword {
        "MAINTAINER" => whole(
            |author| InstructionKind::Maintainer(MaintainerInstruction { author }),
            problems,
        ),
        "STOPSIGNAL" => whole(
            |signal| InstructionKind::Stopsignal(StopsignalInstruction { signal }),
            problems,
        ),
        "USER" => whole(
            |user| InstructionKind::User(UserInstruction { user }),
            problems,
        ),
        "WORKDIR" => whole(
            |path| InstructionKind::Workdir(WorkdirInstruction { path }),
            problems,
        ),
        "ARG" => arg(&line, problems).map(InstructionKind::Arg),
        "CMD" => line
            .command(line.rest.clone(), problems)
            .map(|command| InstructionKind::Cmd(CmdInstruction { command })),
        "ENTRYPOINT" => line
            .command(line.rest.clone(), problems)
            .map(|command| InstructionKind::Entrypoint(EntrypointInstruction { command })),
        "ENV" => pairs(&line, problems)
            .map(|(pairs, legacy)| InstructionKind::Env(EnvInstruction { pairs, legacy })),
        "LABEL" => pairs(&line, problems)
            .map(|(pairs, legacy)| InstructionKind::Label(LabelInstruction { pairs, legacy })),
        "EXPOSE" => expose(&line, problems).map(InstructionKind::Expose),
        "ONBUILD" => onbuild(&line, problems).map(InstructionKind::Onbuild),
        "SHELL" => shell(&line, problems).map(InstructionKind::Shell),
        "VOLUME" => volume(&line, problems).map(InstructionKind::Volume),
        _ => None,
    }
}

fn arg(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<ArgInstruction> {
    let words = quoted_words(line.text, line.rest.clone(), line.escape);
    if words.is_empty() {
        line.missing("a name", problems);
        return None;
    }
    let mut args = Vec::new();
    for range in words {
        let text = line.text.slice(range.clone());
        let equals = text.find('=');
        let name = line
            .text
            .word(range.start..range.start + equals.unwrap_or(text.len()));
        if name.text.is_empty() {
            problems.push(Diagnostic::error(
                "blank-name",
                line.text.span(range),
                "the name of an ARG is empty",
            ));
            continue;
        }
        let default = equals.map(|at| line.text.word(range.start + at + 1..range.end));
        args.push(ArgDeclaration { name, default });
    }
    Some(ArgInstruction { args })
}

/// `KEY=value…`, or `KEY rest of the line` (true).
fn pairs(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<(Vec<KeyValue>, bool)> {
    let words = quoted_words(line.text, line.rest.clone(), line.escape);
    let Some(first) = words.first() else {
        line.missing("a name and a value", problems);
        return None;
    };
    if !line.text.slice(first.clone()).contains('=') {
        return legacy_pair(line, problems).map(|pair| (vec![pair], true));
    }
    // Most lines have one: a list that grows by itself has room for four.
    let mut pairs = Vec::with_capacity(words.len());
    for range in words {
        let text = line.text.slice(range.clone());
        let Some(at) = text.find('=') else {
            let message = format!("expected `name=value`, found `{text}`");
            let problem = Diagnostic::error("key-value", line.text.span(range.clone()), message);
            problems.push(problem.with_help("put a value with blanks in double quotes"));
            // The words behind are most likely of the same value.
            return None;
        };
        let key = line.text.word(range.start..range.start + at);
        if key.text.is_empty() {
            let message = format!("a name of {} is empty", line.keyword);
            problems.push(Diagnostic::error(
                "blank-name",
                line.text.span(range),
                message,
            ));
            continue;
        }
        pairs.push(KeyValue {
            key,
            value: line.text.word(range.start + at + 1..range.end),
        });
    }
    Some((pairs, false))
}

fn legacy_pair(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<KeyValue> {
    let rest = line.text.slice(line.rest.clone());
    let Some(blank) = rest.find(is_blank) else {
        let message = format!("{} `{rest}` has no value", line.keyword);
        let problem = Diagnostic::error("key-value", line.text.span(line.rest.clone()), message);
        problems.push(problem.with_help(format!("write `{} {rest}=value`", line.keyword)));
        return None;
    };
    let value = line.text.trim(line.rest.start + blank..line.rest.end);
    Some(KeyValue {
        key: line.text.word(line.rest.start..line.rest.start + blank),
        value: line.text.word(value),
    })
}

fn expose(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<ExposeInstruction> {
    let ports: Vec<Word> = line
        .words()
        .into_iter()
        .map(|range| line.text.word(range))
        .collect();
    if ports.is_empty() {
        line.missing("a port", problems);
        return None;
    }
    Some(ExposeInstruction { ports })
}

fn volume(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<VolumeInstruction> {
    let json = line.json(line.rest.clone(), problems).ok()?;
    let rest = line.rest_word();
    if json.is_none() && hints::looks_like_json(&rest.text) {
        problems.push(line.not_json(&rest, "they are taken as paths"));
    }
    let paths = json.unwrap_or_else(|| {
        line.words()
            .into_iter()
            .map(|range| line.text.word(range))
            .collect()
    });
    if paths.is_empty() {
        line.missing("a path", problems);
        return None;
    }
    if let Some(empty) = paths.iter().find(|path| path.text.is_empty()) {
        problems.push(Diagnostic::error(
            "empty-volume",
            empty.span,
            "the path of a volume is empty",
        ));
        return None;
    }
    Some(VolumeInstruction { paths })
}

fn shell(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<ShellInstruction> {
    match line.json(line.rest.clone(), problems).ok()? {
        Some(shell) if !shell.is_empty() => Some(ShellInstruction { shell }),
        Some(_) => {
            line.missing("a program", problems);
            None
        }
        None => {
            let span = line.keyword_span.to(line.text.span(line.rest.clone()));
            let problem =
                Diagnostic::error("shell-json", span, "SHELL takes its words as a JSON array");
            problems.push(problem.with_help("write it like `SHELL [\"/bin/bash\", \"-c\"]`"));
            None
        }
    }
}

fn onbuild(line: &Line<'_>, problems: &mut Vec<Diagnostic>) -> Option<OnbuildInstruction> {
    if line.rest.is_empty() {
        line.missing("an instruction", problems);
        return None;
    }
    let word = line.rest_word();
    let name = word
        .text
        .split(is_blank)
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    if matches!(name.as_str(), "FROM" | "MAINTAINER" | "ONBUILD") {
        let message = format!("{name} can't be a trigger of ONBUILD");
        problems.push(Diagnostic::error("onbuild", word.span, message));
        return None;
    }
    let mut trigger = word.text.clone();
    for heredoc in &line.heredocs {
        trigger.push('\n');
        trigger.push_str(&heredoc.content);
        trigger.push_str(&heredoc.name);
    }
    Some(OnbuildInstruction {
        trigger,
        trigger_keyword: name,
        span: word.span,
    })
}
