//! What this machine allows: each step is really tried, in a child process, as far as it goes.
//!
//! Nothing is concluded from names of systems, versions or settings. A user namespace that can be made but not used
//! is found out by using it.

use std::io::{Read as _, Write as _};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::filter::{self, Notified, Policy};
use super::paths::Supervised;
use super::spec::{
    Bytes, Doing as _, Ended, Failure, Ids, Limits, Overlay, Report, Root, RunSpec, UserIds,
};
use super::streams::InputKind;
use super::sys::process::Forked;
use super::{chroot, init, mounts, namespaces, places, sys};

/// One step that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Which.
    pub step: Step,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It works; with a version where it has one.
    Works(Option<i32>),
    /// It fails: what was being done, and the error number.
    Fails(String, i32),
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// A user namespace that has all ids; tried by root only.
    AllIds,
    /// A user namespace that has the caller's id.
    OneId,
    /// Namespaces for mounts, IPC and the host name in it.
    Mounts,
    /// An overlay mount in the store, in that namespace.
    Overlay,
    /// A process namespace, and a `/proc` of its own.
    Processes,
    /// A seccomp filter with a supervisor.
    Seccomp,
    /// A supervisor that resolves every path: a program is started in a root of its own.
    Paths,
    /// Changing the root.
    Chroot,
    /// Becoming another user.
    OtherUsers,
    /// Landlock, with its version.
    Landlock,
}

/// Tries everything; `folder` is an empty directory in the store.
pub(super) fn run(folder: &Path) -> Vec<Probe> {
    let mut probes = Vec::new();
    if rustix::process::geteuid().is_root() {
        probes.extend(in_child(&|told| try_namespaces(folder, Ids::Range, told)));
    }
    let ranged = probes.iter().any(|one| one.step == Step::Mounts);
    if !ranged {
        probes.extend(in_child(&|told| try_namespaces(folder, Ids::Single, told)));
    }
    let landlock = sys::landlock::abi();
    probes.push(Probe {
        step: Step::Landlock,
        outcome: match landlock {
            0 => Outcome::Fails("asking for Landlock".to_owned(), libc::ENOSYS),
            abi => Outcome::Works(Some(abi)),
        },
    });
    if landlock > 0 {
        probes.extend(in_child(&|told| {
            told(Step::Paths, try_paths(folder, landlock).map(|()| None));
        }));
    }
    probes.extend(in_child(&|told| try_chroot(folder, told)));
    probes
}

/// Tells how steps ended.
type Tell<'a> = &'a mut dyn FnMut(Step, Result<Option<i32>, Failure>) -> bool;

/// Runs trials in a child process; what they told until they ended.
fn in_child(trials: &dyn Fn(Tell<'_>)) -> Vec<Probe> {
    let Ok((read, write)) = rustix::pipe::pipe() else {
        return Vec::new();
    };
    let child = match sys::process::fork() {
        Ok(Forked::Parent(child)) => child,
        Ok(Forked::Child) => {
            drop(read);
            let mut pipe = std::fs::File::from(write);
            trials(&mut |step, result| {
                let works = result.is_ok();
                let outcome = match result {
                    Ok(version) => Outcome::Works(version),
                    Err(failure) => Outcome::Fails(failure.what, failure.errno),
                };
                let text = serde_json::to_string(&Probe { step, outcome }).unwrap_or_default();
                // A parent that is gone needs no answer.
                let _ = writeln!(pipe, "{text}");
                works
            });
            sys::process::exit(0);
        }
        Err(_) => return Vec::new(),
    };
    drop(write);
    let mut text = String::new();
    // A child that dies has told what it could.
    let _ = std::fs::File::from(read).read_to_string(&mut text);
    let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn try_namespaces(folder: &Path, ids: Ids, tell: Tell<'_>) {
    let step = match ids {
        Ids::Range => Step::AllIds,
        Ids::Single => Step::OneId,
    };
    if !tell(step, namespaces::unshare_user(ids).map(|()| None)) {
        return;
    }
    let others = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    let mounts = sys::process::unshare(others)
        .doing("making namespaces for mounts")
        .and_then(|()| mount_change("/", private).doing("making mounts private"))
        .and_then(|()| try_tmpfs(folder));
    if !tell(Step::Mounts, mounts.map(|()| None)) {
        return;
    }
    tell(Step::Overlay, try_overlay(folder).map(|()| None));
    tell(Step::Processes, try_processes(folder).map(|()| None));
    tell(Step::Seccomp, try_seccomp(Notified::Owners).map(|()| None));
}

fn try_tmpfs(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("tmpfs");
    // Another trial may have made it before.
    let _ = places::make_directory(&path, 0o755);
    mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"mode=755").doing("mounting a tmpfs")
}

fn try_overlay(folder: &Path) -> Result<(), Failure> {
    let folder = folder.join("overlay");
    for path in ["", "lower", "upper", "work", "root"] {
        places::make_directory(&folder.join(path), 0o755).doing("making a directory")?;
    }
    let overlay = Overlay {
        lowers: vec![folder.join("lower").into()],
        folder: Bytes::from(folder.clone()),
    };
    let root = mounts::try_overlay(&Root::Overlay(overlay))?;
    chroot::try_write(&root.join("file")).doing("writing to the overlay")
}

fn try_processes(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("tmpfs/proc");
    sys::process::unshare(UnshareFlags::NEWPID).doing("making a process namespace")?;
    places::make_directory(&path, 0o755).doing("making a directory")?;
    let what = "mounting /proc";
    match sys::process::fork().doing(what)? {
        Forked::Child => {
            let mounted = mount("proc", &path, "proc", MountFlags::empty(), None);
            sys::process::exit(mounted.err().map_or(0, rustix::io::Errno::raw_os_error));
        }
        Forked::Parent(child) => {
            let ended = rustix::process::waitpid(Some(child), WaitOptions::empty()).doing(what)?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(std::io::Error::from_raw_os_error(errno)).doing(what),
                None => Err(rustix::io::Errno::CHILD).doing(what),
            }
        }
    }
}

fn try_seccomp(notified: Notified) -> Result<(), Failure> {
    let deny = false;
    let program = filter::program(Policy {
        deny,
        ..Policy::of_run(notified)
    });
    sys::seccomp::install(&program, true)
        .map(|_| ())
        .doing("installing a seccomp filter with a supervisor")
}

/// Starts a program that does nothing, in a root that holds nothing else, with all that a RUN has.
fn try_paths(folder: &Path, landlock: i32) -> Result<(), Failure> {
    let root = folder.join("paths/root");
    for path in [folder.join("paths"), root.clone()] {
        places::make_directory(&path, 0o755).doing("making a directory")?;
    }
    let program = root.join("trial");
    let written = std::fs::write(&program, sys::loader::trial());
    written.doing("writing a program")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).doing("writing a program")?;
    let spec = RunSpec {
        argv: vec!["/trial".to_owned()],
        env: Vec::new(),
        cwd: "/work".to_owned(),
        user: UserIds::default(),
        root: Root::Directory(root.into()),
        mounts: Vec::new(),
        no_network: false,
        hostname: String::new(),
        tables: Vec::new(),
        read_only: false,
        stop_signal: libc::SIGTERM,
        limits: Limits::default(),
    };
    let what = "starting a program behind a supervisor of paths";
    let (control, _nobody) = std::os::unix::net::UnixStream::pair().doing(what)?;
    let mut engine = Supervised::new(&spec, landlock);
    let status = Ended::Status(sys::loader::TRIAL_STATUS);
    match init::run(&mut engine, &spec, (InputKind::Nothing, None), &control) {
        Report::Ended { status: ended, .. } if ended == status => Ok(()),
        Report::Failed(what, errno) => Err(Failure { what, errno }),
        Report::NotStarted(_, errno) => Err(std::io::Error::from_raw_os_error(errno)).doing(what),
        _ => Err(rustix::io::Errno::NOEXEC).doing(what),
    }
}

fn try_chroot(folder: &Path, tell: Tell<'_>) {
    if !tell(Step::Chroot, chroot::try_chroot(folder).map(|()| None)) {
        return;
    }
    let users = sys::process::try_other_user().doing("becoming another user and root again");
    tell(Step::OtherUsers, users.map(|()| None));
    let seccomp = rustix::thread::set_no_new_privs(true)
        .doing("giving up new privileges")
        .and_then(|()| try_seccomp(Notified::Files));
    tell(Step::Seccomp, seccomp.map(|()| None));
}
