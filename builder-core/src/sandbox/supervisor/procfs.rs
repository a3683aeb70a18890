//! What `/proc` says about a process.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result, read};

use crate::sandbox::supervisor::acting::RealIds;
use crate::sandbox::supervisor::identity::{Credentials, Ids};

/// What a process is, from its `status` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Its thread group: the process of a thread.
    pub group: u32,
    /// Its parent.
    pub parent: u32,
    /// The bits that new files don't get.
    pub umask: u32,
    /// Who it is towards the file system.
    pub ids: RealIds,
    /// Its effective capabilities.
    pub capabilities: u64,
    /// Whether no program may give it more.
    pub no_new_privileges: bool,
}

impl Status {
    /// Reads it.
    pub(super) fn read(proc: BorrowedFd<'_>, pid: u32) -> Result<Self> {
        Self::parse(&read_small(proc, &format!("{pid}/status"))?).ok_or(Errno::SRCH)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line[name.len()..].trim())
        };
        // Real, effective, saved and file system id.
        let fourth = |name: &str| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
        Some(Self {
            group: field("Tgid:")?.parse().ok()?,
            parent: field("PPid:")?.parse().ok()?,
            ids: RealIds {
                user: fourth("Uid:")?,
                group: fourth("Gid:")?,
            },
            umask: field("Umask:")
                .and_then(|mask| u32::from_str_radix(mask, 8).ok())
                .unwrap_or(0o022),
            no_new_privileges: field("NoNewPrivs:") == Some("1"),
            capabilities: field("CapEff:")
                .and_then(|set| u64::from_str_radix(set, 16).ok())
                .unwrap_or(0),
        })
    }
}

/// The process, or the thread of one, whose `status` file a path is.
pub(super) fn status_of(path: &str) -> Option<u32> {
    let rest = path.strip_prefix("/proc/")?.strip_suffix("/status")?;
    let mut names = rest.rsplit("/task/");
    let number = names.next()?.parse().ok()?;
    let process = names.next().map(str::parse::<u32>);
    (process.is_none_or(|process| process.is_ok()) && names.next().is_none()).then_some(number)
}

/// A `status` file with the ids that a process plays.
pub(super) fn status_with(text: &str, credentials: &Credentials) -> String {
    let four = |ids: &Ids| {
        let Ids {
            real,
            effective,
            saved,
            file,
        } = ids;
        format!("{real}\t{effective}\t{saved}\t{file}")
    };
    let line = |line: &str| match line.split_once(':').map(|(name, _)| name) {
        Some("Uid") => format!("Uid:\t{}\n", four(&credentials.user)),
        Some("Gid") => format!("Gid:\t{}\n", four(&credentials.group)),
        Some("Groups") => {
            let groups = credentials.groups.iter().map(|group| format!("{group} "));
            format!("Groups:\t{}\n", groups.collect::<String>())
        }
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// More ancestors than any process has that is worth a look.
const DEPTH: usize = 64;

/// Whether a process descends from another one.
pub(super) fn descends(proc: BorrowedFd<'_>, process: u32, ancestor: u32) -> bool {
    let mut process = process;
    for _ in 0..DEPTH {
        match Status::read(proc, process) {
            Ok(status) if status.parent == ancestor => return true,
            Ok(status) if status.parent > 1 => process = status.parent,
            _ => return false,
        }
    }
    false
}

/// Reads a file of a few lines.
pub(super) fn read_small(proc: BorrowedFd<'_>, path: &str) -> Result<String> {
    let file = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; 4096];
    let mut have = 0;
    loop {
        let count = read(&file, &mut bytes[have..])?;
        have += count;
        if count == 0 {
            break;
        }
        if have == bytes.len() {
            bytes.resize(have * 2, 0);
        }
    }
    bytes.truncate(have);
    // Names of processes may be any bytes.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::supervisor::identity::Identity;

    #[test]
    fn a_status_is_read() {
        let text = "Name:\tsh\nUmask:\t0027\nState:\tS (sleeping)\nTgid:\t12\nNgid:\t0\nPid:\t13\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0000000008000000\nNoNewPrivs:\t1\n";
        let expected = Status {
            group: 12,
            parent: 7,
            umask: 0o027,
            ids: RealIds { user: 4, group: 8 },
            capabilities: 1 << 27,
            no_new_privileges: true,
        };
        assert_eq!(Status::parse(text), Some(expected));
        assert_eq!(Status::parse("Tgid:\tx\n"), None);
    }

    #[test]
    fn a_status_shows_the_ids_that_are_played() {
        for (path, expected) in [
            ("/proc/12/status", Some(12)),
            ("/proc/12/task/13/status", Some(13)),
            ("/proc/12/task/13/task/14/status", None),
            ("/proc/net/status", None),
            ("/proc/12/stat", None),
        ] {
            assert_eq!(status_of(path), expected, "{path}");
        }
        let played = Credentials::new(&Identity {
            uid: 5,
            gid: 6,
            groups: vec![6, 10],
        });
        let text = "Name:\tUid: x\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \nVmPeak:\t1 kB\n";
        assert_eq!(
            status_with(text, &played),
            "Name:\tUid: x\nUid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6\nGroups:\t6 10 \nVmPeak:\t1 kB\n"
        );
    }
}
