//! Where a session is in a Dockerfile: everything behind that place is cut off, and the session becomes the last
//! instruction.

use super::{Place, usage};
use crate::dockerfile::instruction::{CommandForm, Instruction, InstructionKind, RunInstruction};
use crate::dockerfile::parse::{ParseOptions, parse_with};
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, Stage};
use crate::error::Result;
use crate::nearest::nearest;
use crate::source::{SourceFile, Span};

/// Whether a Dockerfile has a stage of this name or number.
pub fn has_stage(file: &SourceFile, name: &str) -> bool {
    let (parsed, _) = parse_with(file, &ParseOptions::default());
    target_stage(&parsed, Some(name)).is_ok()
}

/// Makes the session the last instruction of the file's last stage, which becomes the target.
///
/// # Errors
/// [`ErrorKind::Usage`] where there is no such stage or line.
pub(crate) fn append(
    parsed: &mut Dockerfile,
    file: &SourceFile,
    place: Place,
    target: Option<&str>,
) -> Result<()> {
    let (stage, kept, run) = match place {
        Place::Image | Place::Target => {
            let stage = target_stage(parsed, target)?;
            let kept = parsed.stages[stage].instructions.len();
            (stage, kept, None)
        }
        Place::Before(line) => {
            let (stage, at) = instruction_at(parsed, file, line)?;
            (stage, at.unwrap_or(0), at)
        }
        Place::After(line) => {
            let (stage, at) = instruction_at(parsed, file, line)?;
            (stage, at.map_or(0, |at| at + 1), at)
        }
    };
    parsed.stages.truncate(stage + 1);
    let stage = &mut parsed.stages[stage];
    let last = run.map_or(&stage.from, |at| &stage.instructions[at]);
    let appended = session_instruction(last);
    stage.instructions.truncate(kept);
    stage.instructions.push(appended);
    Ok(())
}

/// A RUN for the session, with the mounts and the network of `like` where that is one.
fn session_instruction(like: &Instruction) -> Instruction {
    let (mounts, network) = match &like.kind {
        InstructionKind::Run(run) => (run.mounts.clone(), run.network.clone()),
        _ => (Vec::new(), None),
    };
    let word = |text: &str| Word {
        text: text.to_owned(),
        span: like.span,
    };
    Instruction {
        keyword: word("RUN"),
        span: like.span,
        comments: Vec::new(),
        kind: InstructionKind::Run(Box::new(RunInstruction {
            // What is executed in truth is known when the image's config is.
            command: CommandForm::Exec(vec![word("/session")]),
            heredocs: Vec::new(),
            mounts,
            network,
            security: None,
            devices: Vec::new(),
        })),
    }
}

fn target_stage(parsed: &Dockerfile, target: Option<&str>) -> Result<usize> {
    let stages = &parsed.stages;
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return stages
            .len()
            .checked_sub(1)
            .ok_or_else(|| usage("the file has no stage"));
    };
    let name = |stage: &Stage| {
        let name = stage.base().and_then(|from| from.name.as_ref());
        name.map(|name| name.text.to_lowercase())
    };
    let wanted = target.to_lowercase();
    let named = stages
        .iter()
        .rposition(|stage| name(stage).as_ref() == Some(&wanted));
    let numbered = || target.parse().ok().filter(|at| *at < stages.len());
    named.or_else(numbered).ok_or_else(|| {
        let error = usage(format!("no stage is called `{target}`"));
        let names: Vec<String> = stages.iter().filter_map(name).collect();
        match nearest(&wanted, names.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("there is `{near}`")),
            None => error,
        }
    })
}

/// The stage and the instruction that a line belongs to, or the one above it; no instruction for a FROM line.
fn instruction_at(
    parsed: &Dockerfile,
    file: &SourceFile,
    line: usize,
) -> Result<(usize, Option<usize>)> {
    let begins = |span: Span| file.position(span.start).line <= line;
    let last = file.position(file.text.len()).line;
    let stage = parsed
        .stages
        .iter()
        .rposition(|stage| begins(stage.from.span));
    let (Some(stage), 1..) = (stage.filter(|_| line <= last), line) else {
        let shown = &file.name;
        return Err(
            usage(format!("`{shown}` has no instruction at line {line}")).with_help(format!(
                "a stage begins with FROM; the file has {last} lines"
            )),
        );
    };
    let instructions = &parsed.stages[stage].instructions;
    Ok((stage, instructions.iter().rposition(|one| begins(one.span))))
}
