//! Text to [`Dockerfile`]: never fails, reports every problem, goes on with the next instruction.
//!
//! Follows the Dockerfile reference, "Format" and each instruction's section.

use crate::diagnostic::Diagnostic;
use crate::nearest::nearest;
use crate::source::{SourceFile, Span};

use super::bodies::{effective_keyword, take_heredocs};
use super::directive::{self, Directives, Frontend};
use super::flags;
use super::heredoc::Heredoc;
use super::hints;
use super::instruction::{FromInstruction, Instruction, InstructionKind, KEYWORDS};
use super::keyword::{self, Line};
use super::lines::{Lines, LogicalLine};
use super::word::{Text, Word, is_blank};
use super::{Dockerfile, Stage};

pub(crate) use super::keyword_files::is_script;

/// Choices about how a file is read.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// Don't look at `# syntax=`.
    pub ignore_syntax: bool,
    /// The build argument `BUILDKIT_SYNTAX`, which stands in for the directive.
    pub syntax: Option<String>,
}

/// Reads a file with the usual choices. Error-level diagnostics mean that the result lacks the instructions they
/// point at.
pub fn parse(file: &SourceFile) -> (Dockerfile, Vec<Diagnostic>) {
    parse_with(file, &ParseOptions::default())
}

/// Reads a file.
pub fn parse_with(file: &SourceFile, options: &ParseOptions) -> (Dockerfile, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let (directives, position) = directive::read(file, &mut problems);
    if !options.ignore_syntax {
        problems.extend(foreign_syntax(&directives, options));
    }
    let mut lines = Lines::new(&file.text, position, directives.escape);
    let mut reading = Reading {
        file,
        dockerfile: Dockerfile {
            directives,
            ..Dockerfile::default()
        },
        problems,
        end: position,
        torn: false,
    };
    let mut seen = false;
    while let Some(line) = lines.next_line() {
        seen = true;
        if !reading.line(line, &mut lines) {
            break;
        }
    }
    let Reading {
        dockerfile,
        mut problems,
        ..
    } = reading;
    let broken = problems.iter().any(Diagnostic::is_error);
    if dockerfile.stages.is_empty() && !broken {
        problems.push(no_stage(seen, &file.text));
    }
    (dockerfile, problems)
}

/// A file while it is read.
struct Reading<'f> {
    file: &'f SourceFile,
    dockerfile: Dockerfile,
    problems: Vec<Diagnostic>,
    /// Where the last line ended.
    end: usize,
    /// Whether it began with no instruction.
    torn: bool,
}

impl Reading<'_> {
    /// Reads one instruction; false where what follows is no Dockerfile either.
    fn line(&mut self, line: LogicalLine, lines: &mut Lines<'_>) -> bool {
        let escape = self.dockerfile.directives.escape;
        let indented = is_indented_below(&self.file.text, self.end, line.span.start);
        self.end = line.span.end;
        let blanks = line.empty_lines.iter().map(|blank| (*blank, line.span));
        self.dockerfile.style.empty_continuations.extend(blanks);
        let first = self.problems.len();
        let (span, keyword) = (line.span, line.text.span(0..keyword_end(&line.text)));
        let heredocs = take_heredocs(lines, &line, escape, &mut self.problems);
        for hidden in &line.hidden {
            let text = self.file.slice(*hidden);
            let problem = hints::hidden_behind_mark(text, hidden.start);
            self.problems.extend(problem);
        }
        let text = line.text.clone();
        let word = effective_keyword(&text).to_ascii_uppercase();
        let found = match hints::odd_bytes(&text, &word, &heredocs) {
            Some(problem) => {
                self.problems.push(problem);
                None
            }
            None => instruction(line, heredocs, escape, &mut self.problems),
        };
        let found = self.explain(found, &text, &word, first, indented);
        for problem in self.problems.iter_mut().skip(first) {
            super::blame_line(&self.file.text, span, keyword, problem);
        }
        if let Some(instruction) = found.or_else(|| self.meant_as_from(&text, &word, span)) {
            place(&mut self.dockerfile, instruction, &mut self.problems);
        }
        hints::other_language(text.as_str()).is_none()
    }

    /// Makes one error of one fault.
    fn explain(
        &mut self,
        found: Option<Instruction>,
        text: &Text,
        word: &str,
        first: usize,
        indented: bool,
    ) -> Option<Instruction> {
        hints::explain(text, word, &mut self.problems, first);
        let unknown = found.is_none() && !word_is_known(word);
        if unknown && indented && hints::other_language(text.as_str()).is_none() {
            hints::torn_line(&mut self.problems, first, self.torn);
        }
        self.torn = unknown;
        let mut own = self.problems.iter().skip(first);
        let broken_ports = word == "EXPOSE" && own.any(Diagnostic::is_error);
        found.filter(|_| !broken_ports)
    }

    /// Most likely a FROM that is spelt wrong: one mistake, one error.
    fn meant_as_from(&self, text: &Text, word: &str, span: Span) -> Option<Instruction> {
        let none_yet = self.dockerfile.stages.is_empty() && !word_is_known(word);
        none_yet.then(|| stand_in(text.span(0..keyword_end(text)), span))
    }
}

/// Reads one trigger, as ONBUILD stores it in an image. Every place in it is `at`, the FROM line that runs it.
pub fn parse_trigger(text: &str, escape: char, at: Span) -> Result<Instruction, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut lines = Lines::new(text, 0, escape);
    let Some(mut line) = lines.next_line() else {
        return Err(vec![Diagnostic::error(
            "onbuild",
            at,
            "a trigger of the base is empty",
        )]);
    };
    line.text = Text::fixed(line.text.as_str(), at);
    line.span = at;
    let mut heredocs = take_heredocs(&mut lines, &line, escape, &mut problems);
    for heredoc in &mut heredocs {
        (heredoc.span, heredoc.body, heredoc.terminator) = (at, at, at);
    }
    if lines.next_line().is_some() {
        let message = format!(
            "the trigger `{}` of the base holds more than one instruction",
            line.text.as_str()
        );
        problems.push(Diagnostic::error("onbuild", at, message));
    }
    let found = instruction(line, heredocs, escape, &mut problems);
    match found {
        Some(instruction) if !problems.iter().any(Diagnostic::is_error) => Ok(instruction),
        _ => Err(problems
            .into_iter()
            .map(|problem| {
                problem.with_note(format!("in the base's trigger `{}`", text.trim_end()))
            })
            .collect()),
    }
}

fn foreign_syntax(directives: &Directives, options: &ParseOptions) -> Option<Diagnostic> {
    let directive = directives.syntax.as_ref();
    let (value, span) = match (&options.syntax, directive) {
        (Some(value), directive) => (
            value.as_str(),
            directive.map_or(Span::new(0, 0), |word| word.span),
        ),
        (None, Some(word)) => (word.text.as_str(), word.span),
        (None, None) => return None,
    };
    if value.is_empty() {
        return None;
    }
    match directive::frontend(value) {
        Frontend::Official => return None,
        Frontend::Mirrored => {
            let message = format!(
                "the syntax `{value}` is taken for the official `docker/dockerfile`, which is built in"
            );
            let note = Diagnostic::warning("mirrored-syntax", span, message);
            return Some(note.with_help("nothing is fetched for it; the line may go"));
        }
        Frontend::Foreign => {}
    }
    let message = format!("the syntax `{value}` is a frontend image, which rbuild can't run");
    let problem = Diagnostic::error("foreign-syntax", span, message);
    Some(if options.syntax.is_some() {
        problem
            .with_help("leave out the build argument `BUILDKIT_SYNTAX`, or pass `--ignore-syntax`")
    } else {
        problem.with_help(
            "remove the line, or pass `--ignore-syntax` to read the file as a plain Dockerfile",
        )
    })
}

fn no_stage(seen: bool, text: &str) -> Diagnostic {
    let span = Span::new(0, text.lines().next().unwrap_or_default().len());
    let problem = if seen {
        Diagnostic::error("no-stage", span, "the file has no FROM line")
    } else {
        Diagnostic::error("no-stage", span, "the file holds no instruction")
    };
    problem.with_help("start with `FROM image` or `FROM scratch`")
}

/// Puts an instruction where it belongs.
fn place(dockerfile: &mut Dockerfile, instruction: Instruction, problems: &mut Vec<Diagnostic>) {
    match (&instruction.kind, dockerfile.stages.last_mut()) {
        (InstructionKind::From(_), _) => {
            dockerfile.stages.push(Stage {
                from: instruction,
                instructions: Vec::new(),
            });
        }
        (_, Some(stage)) => stage.instructions.push(instruction),
        (InstructionKind::Arg(_), None) => dockerfile.global.push(instruction),
        (kind, None) => {
            let message = format!("{} stands before the first FROM", kind.keyword());
            let problem = Diagnostic::error("before-from", instruction.span, message);
            problems
                .push(problem.with_help("only ARG may stand above FROM; move the line below it"));
        }
    }
}

/// Whether a line that begins at `start` is indented, and the next one behind the line that ends at `end`.
fn is_indented_below(text: &str, end: usize, start: usize) -> bool {
    let between = text.get(end..start).unwrap_or_default();
    let indent = between
        .trim_start_matches(is_blank)
        .trim_start_matches('\r');
    let indent = indent.strip_prefix('\n').unwrap_or_default();
    !indent.is_empty() && indent.chars().all(is_blank)
}

/// The bytes of the keyword, and where the rest starts.
fn keyword_end(text: &Text) -> usize {
    text.as_str().find(is_blank).unwrap_or(text.as_str().len())
}

fn instruction(
    line: LogicalLine,
    heredocs: Vec<Heredoc>,
    escape: char,
    problems: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let text = line.text;
    let end = keyword_end(&text);
    let word = text.word(0..end);
    let name = word.text.to_ascii_uppercase();
    let Some(keyword) = KEYWORDS.into_iter().find(|known| *known == name) else {
        problems.push(unknown_instruction(&word.text, word.span));
        return None;
    };
    let arguments = text.trim(end..text.as_str().len());
    let (flags, start) = flags::split(&text, arguments.clone(), escape);
    let line_of = Line {
        keyword,
        keyword_span: word.span,
        rest: text.trim(start.min(arguments.end)..arguments.end),
        text: &text,
        flags,
        heredocs,
        escape,
    };
    let kind = match keyword::parse(line_of, problems) {
        Some(kind) => kind,
        // A stage starts here all the same: otherwise each of its instructions would be reported as misplaced.
        None if keyword == "FROM" => return Some(stand_in(word.span, line.span)),
        None => return None,
    };
    Some(Instruction {
        keyword: word,
        span: line.span,
        comments: line.comments,
        kind,
    })
}

fn word_is_known(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// What a broken FROM line is taken for; its own problem is reported already.
fn stand_in(keyword: Span, span: Span) -> Instruction {
    let image = Word {
        text: "scratch".to_owned(),
        span: keyword,
    };
    let keyword = Word {
        text: "FROM".to_owned(),
        span: keyword,
    };
    Instruction {
        keyword,
        span,
        comments: Vec::new(),
        kind: InstructionKind::From(Box::new(FromInstruction {
            image,
            platform: None,
            name: None,
            as_keyword: None,
        })),
    }
}

fn unknown_instruction(word: &str, span: Span) -> Diagnostic {
    if let Some((what, help)) = hints::other_language(word) {
        let message = format!("`{word}` is no instruction but {what}");
        return Diagnostic::error("unknown-instruction", span, message).with_help(help);
    }
    if let Some(known) = word
        .strip_suffix(':')
        .filter(|word| word_is_known(&word.to_ascii_uppercase()))
    {
        let message = format!("there is no instruction `{word}`");
        return Diagnostic::error("unknown-instruction", span, message)
            .with_help(format!("write `{known}` without the colon"));
    }
    if let Some((_, c, name)) = hints::invisible(word) {
        let shown = hints::shown(c, name);
        let seen: String = word.chars().take_while(|one| *one != c).collect();
        let message = format!("there is {shown} in `{seen}…`, so this is no instruction");
        return Diagnostic::error("unknown-instruction", span, message)
            .with_help("replace it by an ordinary blank");
    }
    let problem = Diagnostic::error(
        "unknown-instruction",
        span,
        format!("there is no instruction `{word}`"),
    );
    match nearest(word, KEYWORDS) {
        Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
        None => problem.with_help(
            "if it continues the line above, that line must end in the escape character",
        ),
    }
}
