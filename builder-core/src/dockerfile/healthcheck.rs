//! HEALTHCHECK's arguments.
//!
//! Follows the Dockerfile reference, "HEALTHCHECK".

use std::time::Duration;

use crate::diagnostic::Diagnostic;

use super::duration;
use super::flags::{FlagKind, Flags, KnownFlags};
use super::instruction::{CommandForm, HealthcheckInstruction};
use super::keyword::Line;
use super::word::is_blank;

const HEALTHCHECK_FLAGS: KnownFlags = &[
    ("interval", FlagKind::Text),
    ("timeout", FlagKind::Text),
    ("start-period", FlagKind::Text),
    ("start-interval", FlagKind::Text),
    ("retries", FlagKind::Text),
];

/// Reads the flags, the type and the command.
pub(super) fn healthcheck(
    mut line: Line<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<HealthcheckInstruction> {
    let flags = line.check_flags(HEALTHCHECK_FLAGS, problems);
    let rest = line.text.slice(line.rest.clone());
    let kind_end = line.rest.start + rest.find(is_blank).unwrap_or(rest.len());
    let kind = line.text.word(line.rest.start..kind_end);
    let arguments = line.text.trim(kind_end..line.rest.end);
    let mut check = HealthcheckInstruction {
        command: None,
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        start_period: Duration::ZERO,
        start_interval: Duration::ZERO,
        retries: 0,
    };
    match kind.text.to_ascii_uppercase().as_str() {
        "" => {
            line.missing("`NONE` or `CMD`", problems);
            return None;
        }
        "NONE" if arguments.is_empty() => return Some(check),
        "NONE" => {
            let span = line.text.span(arguments);
            problems.push(Diagnostic::error(
                "healthcheck",
                span,
                "HEALTHCHECK NONE takes no arguments",
            ));
            return None;
        }
        "CMD" => {}
        other => {
            let message = format!("HEALTHCHECK has no type `{other}`");
            let problem = Diagnostic::error("healthcheck", kind.span, message);
            problems
                .push(problem.with_help("write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`"));
            return None;
        }
    }
    check.interval = period(&flags, "interval", problems);
    check.timeout = period(&flags, "timeout", problems);
    check.start_period = period(&flags, "start-period", problems);
    check.start_interval = period(&flags, "start-interval", problems);
    check.retries = retries(&flags, problems);
    let command = line.command(arguments.clone(), problems)?;
    let empty =
        matches!(&command, CommandForm::Exec(words) if words.is_empty()) || arguments.is_empty();
    if empty {
        problems.push(Diagnostic::error(
            "healthcheck",
            kind.span,
            "HEALTHCHECK CMD has no command",
        ));
        return None;
    }
    check.command = Some(command);
    Some(check)
}

fn period(flags: &Flags, name: &str, problems: &mut Vec<Diagnostic>) -> Duration {
    let Some(value) = flags.text(name).filter(|value| !value.text.is_empty()) else {
        return Duration::ZERO;
    };
    match duration::parse(&value.text) {
        Ok(found) if found.is_zero() || found >= Duration::from_millis(1) => return found,
        Ok(_) => {
            let message = format!(
                "`--{name}` is less than a millisecond, found `{}`",
                value.text
            );
            problems.push(Diagnostic::error("healthcheck", value.span, message));
        }
        Err(problem) => {
            let problem =
                Diagnostic::error("healthcheck", value.span, format!("`--{name}`: {problem}"));
            problems.push(problem.with_help("write a number with a unit: `500ms`, `30s`, `1m30s`"));
        }
    }
    Duration::ZERO
}

fn retries(flags: &Flags, problems: &mut Vec<Diagnostic>) -> u32 {
    let Some(value) = flags.text("retries").filter(|value| !value.text.is_empty()) else {
        return 0;
    };
    let number = value.text.parse::<i32>().ok();
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or_else(|| {
            let message = format!("`--retries` takes a number from 0, found `{}`", value.text);
            problems.push(Diagnostic::error("healthcheck", value.span, message));
            0
        })
}
