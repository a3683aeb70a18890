//! A command that failed: its status in words, its last lines, and what to do about it.

use std::collections::VecDeque;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::sandbox::spec::Ended;

/// So many of the last lines are shown.
const LINES: usize = 10;
/// No more bytes of a line are kept: 1 KiB.
const WIDTH: usize = 1024;

/// The last lines that a command printed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    /// Whether the last line has ended.
    ended: bool,
}

impl Tail {
    /// Takes what was printed.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.ended || self.lines.is_empty() {
                self.lines.push_back(Vec::new());
            }
            self.ended = part.ends_with(b"\n");
            if let Some(line) = self.lines.back_mut() {
                let room = WIDTH.saturating_sub(line.len()).min(part.len());
                line.extend_from_slice(&part[..room]);
            }
            if self.lines.len() > LINES {
                self.lines.pop_front();
            }
        }
    }

    /// The lines as text, without empty ones at the end.
    fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| String::from_utf8_lossy(line));
        let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned()
    }
}

/// Says beside a failure that the disk is full where the command's files are.
pub(super) fn with_room(error: Error, folder: &Path) -> Error {
    /// Less is as good as nothing, in bytes.
    const NOTHING: u64 = 256 * 1024;
    match rustix::fs::statvfs(folder) {
        Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < NOTHING => error
            .with_note(format!(
                "the disk is full where the store is, at `{}`",
                folder.display()
            ))
            .with_help("make room (`rbuild prune --all`), or name another store with `--root`"),
        _ => error,
    }
}

/// The error of a command that ended badly; `honours_setuid` as the engine's capabilities have it.
pub(super) fn of(status: Ended, tail: &Tail, honours_setuid: bool) -> Error {
    let message = match status {
        Ended::Status(status) => format!("the command failed with exit status {status}"),
        Ended::Signal(signal) => {
            let name = name(signal).map_or_else(String::new, |name| format!(" ({name})"));
            format!("the command was ended by signal {signal}{name}")
        }
    };
    let mut error = Error::new(ErrorKind::Run, message);
    let text = tail.text();
    if !text.is_empty() {
        error = error.with_note(format!("its last lines were\n{text}"));
    }
    let without_setuid = !honours_setuid
        && [
            "setuid",
            "effective uid",
            "must be run from a terminal",
            "no new privileges",
        ]
        .iter()
        .any(|words| text.contains(words));
    let help = match status {
        _ if without_setuid => {
            "programs with the set-user-ID bit, such as sudo, gain nothing in a chroot without CAP_SYS_ADMIN: use \
             USER, or su from root; see docs/sandbox.md"
        }
        Ended::Status(127) => {
            "a shell says 127 for a command that it does not find, and for a script whose first line names an interpreter \
             that is missing or ends in a carriage return, as files with Windows line ends have it: install it in an \
             earlier step"
        }
        Ended::Status(126) => "a shell says 126 for a file that it can't execute: `chmod +x` it",
        Ended::Signal(9) | Ended::Status(137) => {
            "something killed it, most often the kernel for want of memory"
        }
        _ => return error,
    };
    error.with_help(help)
}

/// The names of the signals that end programs (signal(7)).
pub(super) fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut tail = Tail::default();
        for number in 0..30 {
            tail.push(b"li");
            tail.push(format!("ne {number}\n\n").as_bytes());
        }
        assert!(tail.text().ends_with("line 28\n\nline 29"));
        assert_eq!(tail.lines.len(), LINES);
    }

    #[test]
    fn statuses_have_words() {
        let mut tail = Tail::default();
        let error = of(Ended::Signal(11), &tail, false);
        assert_eq!(
            error.message(),
            "the command was ended by signal 11 (SIGSEGV)"
        );
        tail.push(b"sudo: effective uid is not 0\n");
        assert!(
            of(Ended::Status(1), &tail, false)
                .help()
                .unwrap()
                .contains("sudo")
        );
    }
}
