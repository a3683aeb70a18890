//! Which paths are virtual, and what may be done with them. Pure.

use rustix::io::{Errno, Result};

/// Devices that every RUN has.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
/// What a container shows of processes that are not its own: enough for `ps`.
const SHOWN_OF_OTHERS: &[&str] = &["stat", "status", "statm", "cmdline", "comm"];
/// What leads out of `/proc`: nothing may be reached through it.
const LINKS: &[&str] = &["root", "cwd", "exe"];
/// What container runtimes mask.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kallsyms",
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "latency_stats",
    "sched_debug",
    "scsi",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
];

/// The caller, as its own entries in `/proc` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// Its process.
    pub process: u32,
    /// The thread that calls.
    pub thread: u32,
}

/// A path without empty names, `.` and `..`.
pub(super) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Whether a clean path is virtual.
pub(super) fn is_virtual(path: &str) -> bool {
    let Some((top, rest)) = top(path) else {
        return false;
    };
    match top {
        "proc" | "sys" => true,
        "dev" => {
            DEVICES.contains(&rest)
                || rest == "fd"
                || rest.starts_with("fd/")
                || rest.starts_with("pts/")
                || matches!(rest, "stdin" | "stdout" | "stderr")
        }
        _ => false,
    }
}

/// The first name of a clean path, and the others.
fn top(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    Some(path.split_once('/').unwrap_or((path, "")))
}

/// The kernel's path for a virtual one: names that mean whoever asks become the caller's.
pub(super) fn kernel_path(path: &str, own: Own) -> String {
    let process = format!("/proc/{}", own.process);
    let behind = |prefix: &str| {
        path.strip_prefix(prefix)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(rest) = behind("/proc/self") {
        return process + rest;
    }
    if let Some(rest) = behind("/proc/thread-self") {
        return format!("{process}/task/{}{rest}", own.thread);
    }
    for shared in ["/proc/mounts", "/proc/net"] {
        if let Some(rest) = behind(shared) {
            return format!("{process}{}{rest}", &shared["/proc".len()..]);
        }
    }
    if let Some(rest) = behind("/dev/fd") {
        return format!("{process}/fd{rest}");
    }
    match path {
        "/dev/stdin" => process + "/fd/0",
        "/dev/stdout" => process + "/fd/1",
        "/dev/stderr" => process + "/fd/2",
        other => other.to_owned(),
    }
}

/// Where a virtual link leads that means whoever asks.
pub(super) fn own_link(path: &str, own: Own) -> Option<String> {
    Some(match path {
        "/proc/self" => own.process.to_string(),
        "/proc/thread-self" => format!("{}/task/{}", own.process, own.thread),
        "/proc/mounts" => "self/mounts".to_owned(),
        "/proc/net" => "self/net".to_owned(),
        "/dev/fd" => "/proc/self/fd".to_owned(),
        "/dev/stdin" => "/proc/self/fd/0".to_owned(),
        "/dev/stdout" => "/proc/self/fd/1".to_owned(),
        "/dev/stderr" => "/proc/self/fd/2".to_owned(),
        _ => return None,
    })
}

/// Whether a kernel's path may be used, to write too. `is_ours` tells whether a process belongs to the RUN.
pub(super) fn permit(path: &str, write: bool, is_ours: impl Fn(u32) -> bool) -> Result<()> {
    let denied = Err(Errno::ACCESS);
    let Some((top, rest)) = top(path) else {
        return denied;
    };
    let names: Vec<&str> = rest.split('/').filter(|name| !name.is_empty()).collect();
    match top {
        "dev" => return Ok(()),
        "sys" => {
            let masked = names.first() == Some(&"firmware");
            return if write || masked { denied } else { Ok(()) };
        }
        "proc" => {}
        _ => return denied,
    }
    let Some(&first) = names.first() else {
        return if write { denied } else { Ok(()) };
    };
    let Ok(process) = first.parse::<u32>() else {
        return if write || MASKED.contains(&first) {
            denied
        } else {
            Ok(())
        };
    };
    let mut entry = &names[1..];
    if !is_ours(process) {
        let shown = match entry {
            [] => true,
            [name] => SHOWN_OF_OTHERS.contains(name),
            _ => false,
        };
        return if shown && !write { Ok(()) } else { denied };
    }
    // A thread has the entries of a process. Its number must be one of that process: the kernel sees to it.
    if let ["task", _, rest @ ..] = entry {
        entry = rest;
    }
    match entry {
        [link, _, ..] if LINKS.contains(link) => denied,
        ["fd" | "map_files", _, _, ..] => denied,
        _ => Ok(()),
    }
}

/// Whether a kernel's path is a list of mounts: the text that it has here.
pub(super) fn mounts(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix("/proc/")?;
    let (process, mut entry) = rest.split_once('/')?;
    process.parse::<u32>().ok()?;
    if let Some(task) = entry.strip_prefix("task/") {
        entry = task.split_once('/')?.1;
    }
    match entry {
        "mounts" => Some(
            "overlay / overlay rw 0 0\nproc /proc proc rw,nosuid,nodev,noexec 0 0\nsysfs /sys sysfs ro 0 0\n\
             tmpfs /dev tmpfs rw,nosuid 0 0\n",
        ),
        "mountinfo" => Some(
            "1 0 0:90 / / rw - overlay overlay rw\n2 1 0:91 / /proc rw,nosuid,nodev,noexec - proc proc rw\n\
             3 1 0:92 / /sys ro - sysfs sysfs ro\n4 1 0:93 / /dev rw,nosuid - tmpfs tmpfs rw\n",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own {
        process: 12,
        thread: 13,
    };

    #[test]
    fn paths_are_cleaned_and_recognised() {
        for (path, clean_path, expected) in [
            ("/proc//self/./exe", "/proc/self/exe", true),
            ("/usr/../proc", "/proc", true),
            ("/proc/..", "/", false),
            ("/processes", "/processes", false),
            ("/sys/kernel/", "/sys/kernel", true),
            ("/dev/null", "/dev/null", true),
            ("/dev/pts/3", "/dev/pts/3", true),
            ("/dev/fd/3", "/dev/fd/3", true),
            ("/dev/fdx", "/dev/fdx", false),
            ("/dev/shm/x", "/dev/shm/x", false),
            ("/dev", "/dev", false),
        ] {
            assert_eq!(clean(path), clean_path);
            assert_eq!(is_virtual(clean_path), expected, "{path}");
        }
    }

    #[test]
    fn names_of_whoever_asks_become_the_callers() {
        for (path, expected) in [
            ("/proc/self/exe", "/proc/12/exe"),
            ("/proc/self", "/proc/12"),
            ("/proc/selfish", "/proc/selfish"),
            ("/proc/thread-self/stat", "/proc/12/task/13/stat"),
            ("/proc/mounts", "/proc/12/mounts"),
            ("/proc/net/tcp", "/proc/12/net/tcp"),
            ("/dev/fd/5", "/proc/12/fd/5"),
            ("/dev/stdout", "/proc/12/fd/1"),
            ("/dev/null", "/dev/null"),
        ] {
            assert_eq!(kernel_path(path, OWN), expected);
        }
    }

    #[test]
    fn what_is_not_the_runs_own_is_out_of_reach() {
        for (path, write, expected) in [
            ("/proc", false, true),
            ("/proc/cpuinfo", false, true),
            ("/proc/kcore", false, false),
            ("/proc/sys/kernel/osrelease", false, true),
            ("/proc/sys/kernel/core_pattern", true, false),
            ("/proc/sysrq-trigger", true, false),
            ("/proc/1", false, true),
            ("/proc/1/stat", false, true),
            ("/proc/1/environ", false, false),
            ("/proc/1/root", false, false),
            ("/proc/1/task/1/environ", false, false),
            ("/proc/12/environ", false, true),
            ("/proc/12/root", false, true),
            ("/proc/12/root/etc", false, false),
            ("/proc/12/cwd/link", false, false),
            ("/proc/12/task/13/cwd/link", false, false),
            ("/proc/12/fd/3", true, true),
            ("/proc/12/fd/3/x", false, false),
            ("/proc/12/oom_score_adj", true, true),
            ("/sys/kernel", false, true),
            ("/sys/kernel/x", true, false),
            ("/sys/firmware/acpi", false, false),
            ("/dev/null", true, true),
            ("/etc/shadow", false, false),
        ] {
            assert_eq!(
                permit(path, write, |process| process == 12).is_ok(),
                expected,
                "{path} {write}"
            );
        }
    }

    #[test]
    fn lists_of_mounts_are_made_up() {
        assert!(mounts("/proc/12/mounts").is_some());
        assert!(mounts("/proc/12/task/13/mountinfo").is_some());
        assert!(mounts("/proc/mounts/x").is_none());
    }
}
