//! Which engine a build uses: from what was probed and what was asked for to one choice, or a refusal that teaches.

use super::probe::{Outcome, Probe, Step};
use super::spec::{Ids, Mode};
use super::sys::landlock::LOWEST_ABI;
use crate::error::{Error, ErrorKind, Result};

/// `--run-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunMode {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// Namespaces, or nothing.
    Userns,
    /// A supervisor that resolves every path, or nothing.
    Paths,
    /// A chroot, or nothing; also without Landlock.
    Chroot,
    /// RUN is refused.
    None,
}

/// `--run-ids`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunIds {
    /// All ids for root, one for everybody else.
    #[default]
    Auto,
    /// One id; all others are emulated.
    Single,
    /// All ids that the caller has.
    Range,
}

/// How RUN is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The isolation.
    pub mode: Mode,
    /// Whether a root is an overlay; otherwise one directory that is walked after each RUN.
    pub overlay: bool,
}

impl Choice {
    /// The choice in a few words, for people.
    pub fn describe(&self) -> String {
        let root = if self.overlay {
            "overlay"
        } else {
            "a copy of the root"
        };
        match self.mode {
            Mode::Namespaces { ids, processes } => {
                let ids = match ids {
                    Ids::Single => "one id, the others emulated",
                    Ids::Range => "all ids",
                };
                let processes = if processes {
                    ""
                } else {
                    ", the container's processes visible"
                };
                format!("userns: namespaces with {ids}, {root}{processes}")
            }
            Mode::Paths { landlock } => {
                format!("paths: every path resolved by a supervisor, behind Landlock {landlock}")
            }
            Mode::Chroot { landlock: 0 } => "chroot: without Landlock".to_owned(),
            Mode::Chroot { landlock } => format!("chroot: behind Landlock {landlock}"),
        }
    }
}

/// Chooses.
///
/// # Errors
/// [`ErrorKind::Run`] where nothing that was asked for works: which step failed with which error, and the remedies in
/// the order of least privilege.
pub fn choose(probes: &[Probe], mode: RunMode, ids: RunIds) -> Result<Choice> {
    let namespaces = namespaces(probes, ids);
    let chroot = chroot(probes, mode == RunMode::Chroot);
    match mode {
        RunMode::None => {
            return Err(Error::new(
                ErrorKind::Run,
                "RUN is not executed, because `--run-mode=none` says so",
            )
            .with_help("leave `--run-mode` out, or build a `--target` that needs no RUN"));
        }
        // The chroot is for machines that the loader of the other is not written for.
        RunMode::Auto => namespaces.or_else(|| paths(probes)).or(chroot),
        RunMode::Userns => namespaces,
        RunMode::Paths => paths(probes),
        RunMode::Chroot => chroot,
    }
    .ok_or_else(|| refusal(probes, mode))
}

fn find(probes: &[Probe], step: Step) -> Option<&Outcome> {
    probes
        .iter()
        .find(|probe| probe.step == step)
        .map(|probe| &probe.outcome)
}

fn works(probes: &[Probe], step: Step) -> bool {
    matches!(find(probes, step), Some(Outcome::Works(_)))
}

fn namespaces(probes: &[Probe], ids: RunIds) -> Option<Choice> {
    let range = works(probes, Step::AllIds) && ids != RunIds::Single;
    let single = works(probes, Step::OneId) || works(probes, Step::AllIds);
    // The filter of namespaces is tried before that of the chroot.
    let usable = works(probes, Step::Mounts) && works(probes, Step::Seccomp);
    if !usable || !(range || single) || (ids == RunIds::Range && !range) {
        return None;
    }
    Some(Choice {
        mode: Mode::Namespaces {
            ids: if range { Ids::Range } else { Ids::Single },
            processes: works(probes, Step::Processes),
        },
        overlay: works(probes, Step::Overlay),
    })
}

fn paths(probes: &[Probe]) -> Option<Choice> {
    let landlock = match find(probes, Step::Landlock) {
        Some(Outcome::Works(Some(abi))) if *abi > 0 => *abi,
        _ => return None,
    };
    works(probes, Step::Paths).then_some(Choice {
        mode: Mode::Paths { landlock },
        overlay: false,
    })
}

fn chroot(probes: &[Probe], asked: bool) -> Option<Choice> {
    let usable = works(probes, Step::Chroot) && works(probes, Step::OtherUsers);
    let supervised = probes
        .iter()
        .rfind(|probe| probe.step == Step::Seccomp)
        .is_some_and(|probe| matches!(probe.outcome, Outcome::Works(_)));
    let landlock = match find(probes, Step::Landlock) {
        Some(Outcome::Works(Some(abi))) if *abi >= LOWEST_ABI => *abi,
        _ => 0,
    };
    if !usable || !supervised || (landlock == 0 && !asked) {
        return None;
    }
    Some(Choice {
        mode: Mode::Chroot { landlock },
        overlay: false,
    })
}

/// A failed step as one line: what, and why.
pub fn describe_failure(probe: &Probe) -> Option<String> {
    let Outcome::Fails(what, errno) = &probe.outcome else {
        return None;
    };
    let cause = std::io::Error::from_raw_os_error(*errno);
    Some(format!("{what}: {cause}"))
}

fn refusal(probes: &[Probe], mode: RunMode) -> Error {
    let message = match mode {
        RunMode::Userns => {
            "this machine allows no user namespaces, which `--run-mode=userns` asks for"
        }
        RunMode::Paths => {
            "this machine lets no supervisor resolve paths, which `--run-mode=paths` asks for"
        }
        RunMode::Chroot => "this machine allows no chroot, which `--run-mode=chroot` asks for",
        _ => "this machine does not let RUN be executed",
    };
    let mut error = Error::new(ErrorKind::Run, message);
    for failure in probes.iter().filter_map(describe_failure) {
        error = error.with_note(failure);
    }
    error
        .with_note("Dockerfiles without RUN build here")
        .with_help(remedy(probes))
}

/// What to change so that RUN works, the least privilege first.
pub fn remedy(probes: &[Probe]) -> &'static str {
    if !works(probes, Step::Landlock) {
        return "switch Landlock on, which is enough: Linux 5.13 and up, `landlock` in the list `lsm=` of the kernel's \
                command line; or allow user namespaces: in a container by its seccomp profile, on Ubuntu by the sysctl \
                `kernel.apparmor_restrict_unprivileged_userns=0`; `rbuild doctor` shows each step";
    }
    "allow one of two: that a process traces its own children and supervises their system calls (a seccomp profile as \
     Docker's default, `kernel.yama.ptrace_scope` below 2), or user namespaces (in a container by its seccomp profile, on \
     Ubuntu by the sysctl `kernel.apparmor_restrict_unprivileged_userns=0`); `rbuild doctor` shows each step"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters: r all ids, o one id, m mounts, v overlay, p processes, s seccomp, c chroot, u users, l Landlock,
    /// S the chroot's seccomp, t paths; a capital of the others (or `!`) is a failure.
    fn probes(text: &str) -> Vec<Probe> {
        let step = |letter: char| {
            let step = match letter.to_ascii_lowercase() {
                'r' => Step::AllIds,
                'o' => Step::OneId,
                'm' => Step::Mounts,
                'v' => Step::Overlay,
                'p' => Step::Processes,
                's' => Step::Seccomp,
                'c' => Step::Chroot,
                'u' => Step::OtherUsers,
                't' => Step::Paths,
                _ => Step::Landlock,
            };
            let outcome = if letter.is_lowercase() {
                Outcome::Works((step == Step::Landlock).then_some(7))
            } else {
                Outcome::Fails("trying".to_owned(), libc::EPERM)
            };
            Probe { step, outcome }
        };
        text.chars().map(step).collect()
    }

    fn check(text: &str, mode: RunMode, ids: RunIds, expected: Option<&str>) {
        let found = choose(&probes(text), mode, ids);
        let found = found.as_ref().map(Choice::describe).ok();
        assert_eq!(found.as_deref(), expected, "{text} {mode:?} {ids:?}");
    }

    #[test]
    fn the_table_of_environments() {
        let single = "userns: namespaces with one id, the others emulated, overlay";
        let range = "userns: namespaces with all ids, overlay";
        let bound = "userns: namespaces with one id, the others emulated, overlay, the container's processes visible";
        let copied = "userns: namespaces with one id, the others emulated, a copy of the root";
        let chroot = "chroot: behind Landlock 7";
        let paths = "paths: every path resolved by a supervisor, behind Landlock 7";
        let (auto, all) = (RunMode::Auto, RunIds::Auto);
        check("OltC", auto, all, Some(paths));
        check("ROltcus", auto, all, Some(paths));
        check("ROltcus", RunMode::Chroot, all, Some(chroot));
        check("omvpslt", auto, all, Some(single));
        check("omvpslt", RunMode::Paths, all, Some(paths));
        check("OLtC", auto, all, None);
        check("OlTC", RunMode::Paths, all, None);
        check("omvpsC", auto, all, Some(single));
        check("rmvpsculs", auto, all, Some(range));
        check("rmvpsculs", auto, RunIds::Single, Some(single));
        check("ROculs", auto, all, Some(chroot));
        check("rmvpsculs", RunMode::Chroot, all, Some(chroot));
        check("ROculs", RunMode::Userns, all, None);
        check("omvPsC", auto, all, Some(bound));
        check("omVpsC", auto, all, Some(copied));
        check("OC", auto, all, None);
        check("oMC", auto, all, None);
        check("omvpsC", auto, RunIds::Range, None);
        check("ROcuLs", auto, all, None);
        check(
            "ROcuLs",
            RunMode::Chroot,
            all,
            Some("chroot: without Landlock"),
        );
        check("omvpsC", RunMode::None, all, None);
    }

    #[test]
    fn a_refusal_says_what_failed_and_what_to_do() {
        let refused = |text| choose(&probes(text), RunMode::Auto, RunIds::Auto).unwrap_err();
        let error = refused("OLC");
        assert!(error.notes()[0].contains("trying: Operation not permitted"));
        assert!(error.help().unwrap().contains("Landlock"));
        assert!(refused("oMlTC").help().unwrap().contains("ptrace_scope"));
    }
}
