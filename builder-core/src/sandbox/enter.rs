//! The helper process: the same program again, with one thread, so that it may change its namespaces and its root.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::{Signal, WaitOptions};

use super::chroot::Chroot;
use super::namespaces::{self, Namespaces};
use super::paths::Supervised;
use super::spec::{Bytes, Doing as _, Failure, Ids, Job, Mode, Report, RunSpec};
use super::streams::InputKind;
use super::sys::process::Forked;
use super::{init, probe, rights, sys};
use crate::confined::ConfinedDir;
use crate::image_path::ImagePath;

/// The argument by which a program is asked to be the helper.
pub(super) const ARGUMENT: &str = "__sandbox";

/// Becomes the helper of a build, if this process was started as one (`PROGRAM __sandbox`), and never returns then.
/// A program that embeds this library calls it first in `main`, before there is a second thread.
pub fn enter_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT) && arguments.next().is_none() {
        sys::process::exit(serve());
    }
}

/// Does one job, told on standard input, and gives the exit status.
fn serve() -> i32 {
    let Ok((mut control, job, input)) = begin() else {
        // Someone typed it: there is no socket, and nobody to tell.
        return 2;
    };
    let report = match job {
        Job::Probe(folder) => Report::Probed(probe::run(folder.as_path())),
        Job::Capabilities(folder, files) => answer(set_capabilities(folder.as_path(), &files)),
        Job::Run(mode, kind, spec) => match run(mode, &spec, (kind, input), &control) {
            Some(report) => report,
            None => return 0,
        },
    };
    i32::from(say(&mut control, &report).is_err())
}

fn answer(result: Result<(), Failure>) -> Report {
    match result {
        Ok(()) => Report::Done,
        Err(failure) => Report::Failed(failure.what, failure.errno),
    }
}

/// Closes what was inherited, takes the control socket, and reads the job; with it comes the command's end of its input,
/// where it has one.
fn begin() -> std::io::Result<(UnixStream, Job, Option<OwnedFd>)> {
    // First of all: a directory that rbuild's caller left open would be a way out of the root, through
    // `/proc/self/fd/N` (CVE-2024-21626 was that).
    sys::process::close_from(3)?;
    // No terminal of the caller's is this process's own, so that no path leads to one: `/dev/tty` is nobody's. It
    // fails where a session has been begun already, which is as good.
    let _ = rustix::process::setsid();
    let control: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let control = UnixStream::from(control);
    let mut length = [0; 8];
    // So few bytes, sent at once, come at once.
    let (count, input) = rights::receive(&control, &mut length)?;
    if count != length.len() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut text = Vec::new();
    (&control)
        .take(u64::from_le_bytes(length))
        .read_to_end(&mut text)?;
    let job = serde_json::from_slice(&text)?;
    let nothing = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok((control, job, input))
}

fn say(control: &mut UnixStream, report: &Report) -> std::io::Result<()> {
    control.write_all(&serde_json::to_vec(report)?)
}

/// Executes a RUN; none where another process has reported already.
fn run(
    mode: Mode,
    spec: &RunSpec,
    input: (InputKind, Option<OwnedFd>),
    control: &UnixStream,
) -> Option<Report> {
    match mode {
        Mode::Chroot { landlock } => {
            // Orphans of the command become children of this process, which ends them.
            become_subreaper();
            Some(init::run(
                &mut Chroot::new(spec, landlock),
                spec,
                input,
                control,
            ))
        }
        Mode::Paths { landlock } => {
            let mut engine = Supervised::new(spec, landlock);
            in_child(false, control, || {
                init::run(&mut engine, spec, input, control)
            })
        }
        Mode::Namespaces { ids, processes } => {
            if let Err(failure) = namespaces::unshare(ids, processes, spec.no_network) {
                return Some(Report::Failed(failure.what, failure.errno));
            }
            let mut engine = Namespaces::new(spec, ids, processes);
            in_child(processes, control, || {
                init::run(&mut engine, spec, input, control)
            })
        }
    }
}

/// Executes a RUN in a child, which reports itself; the report where it could not. `processes`, whether it is the first
/// one of a process namespace.
fn in_child(processes: bool, control: &UnixStream, run: impl FnOnce() -> Report) -> Option<Report> {
    let waited = fork_and_wait(processes, control, run);
    waited
        .err()
        .map(|failure| Report::Failed(failure.what, failure.errno))
}

fn fork_and_wait(
    processes: bool,
    control: &UnixStream,
    run: impl FnOnce() -> Report,
) -> Result<(), Failure> {
    let what = "starting the first process";
    if !processes {
        // Should the first process be killed, nobody else is left to end what the command began: its orphans become
        // children of this one.
        become_subreaper();
    }
    let child = match sys::process::fork().doing(what)? {
        Forked::Child => {
            if processes {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            } else {
                become_subreaper();
            }
            let report = run();
            let said = control
                .try_clone()
                .and_then(|mut control| say(&mut control, &report));
            sys::process::exit(i32::from(said.is_err()));
        }
        Forked::Parent(child) => child,
    };
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(()),
            Ok(_) | Err(_) => {
                init::end_children();
                let killed = Failure {
                    what: "waiting for the first process, which was killed".to_owned(),
                    errno: libc::ECHILD,
                };
                return Err(killed);
            }
        }
    }
}

/// Makes this process the parent of all orphans among its descendants.
fn become_subreaper() {
    // Known since Linux 3.4.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Sets file capabilities below a folder, from inside a user namespace whose root is the caller.
fn set_capabilities(folder: &Path, files: &[(Bytes, Bytes)]) -> Result<(), Failure> {
    namespaces::unshare_user(Ids::Single)?;
    let folder = ConfinedDir::open(folder).doing("opening a directory of the store")?;
    for (path, value) in files {
        let path = ImagePath::clean(&path.0);
        let what = format!("setting the capabilities of `{path}`");
        let file = folder.open_file(&path).doing(&what)?;
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&file, "security.capability", &value.0, flags).doing(&what)?;
    }
    Ok(())
}
