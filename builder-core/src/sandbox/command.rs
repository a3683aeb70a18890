//! The command of a RUN, from the fork to its program: session, root, filter, capabilities, user, working directory.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::Mode;
use rustix::process::{Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::filter;
use super::handover;
use super::init::c_string;
use super::isolation::Isolation;
use super::spec::{Doing as _, Failure, Report, Resource, ResourceLimit, RunSpec};
use super::sys;
use super::sys::seccomp::Listener;
use super::terminal::Standard;

/// The capabilities of a container by Docker's default: the command never has more.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes the command. What keeps it from that is written to `socket`.
pub(super) fn start(
    engine: &dyn Isolation,
    spec: &RunSpec,
    standard: Standard,
    socket: &OwnedFd,
) -> ! {
    let mut sent = false;
    let Err(report) = become_command(engine, spec, standard, (socket, &mut sent));
    if !sent {
        // Where nobody listens any more, nobody needs to know.
        let _ = handover::send_none(socket);
    }
    let text = serde_json::to_vec(&report).unwrap_or_default();
    let _ = rustix::io::write(socket, &text);
    sys::process::exit(127)
}

fn become_command(
    engine: &dyn Isolation,
    spec: &RunSpec,
    standard: Standard,
    handing_over: (&OwnedFd, &mut bool),
) -> Result<Infallible, Report> {
    let prepared = prepare(engine, spec, standard, handing_over);
    prepared.map_err(|failure| Report::Failed(failure.what, failure.errno))?;
    let error = exec(spec).map_err(|failure| Report::Failed(failure.what, failure.errno))?;
    let program = spec.argv.first().cloned().unwrap_or_default();
    Err(Report::NotStarted(program, error))
}

fn prepare(
    engine: &dyn Isolation,
    spec: &RunSpec,
    standard: Standard,
    (socket, sent): (&OwnedFd, &mut bool),
) -> Result<(), Failure> {
    rustix::process::setsid().doing("starting a session")?;
    standard.connect()?;
    sys::process::reset_signals();
    // Where the helper is killed, so is the command; its children are left where they have no namespace of their own.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    engine.enter()?;
    let policy = engine.policy();
    let program = filter::program(policy);
    let listener = sys::seccomp::install(&program, true).doing("installing the seccomp filter")?;
    let listener = listener.map(|listener| Listener {
        hears_of_sending: policy.addresses,
        ..listener
    });
    handover::send(socket, listener).doing("handing over the supervisor's descriptor")?;
    *sent = true;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    set_limits(&spec.limits.resources)?;
    enter_directory(engine, spec)?;
    let user = &spec.user;
    if engine.has_all_ids() {
        become_user(spec)?;
    }
    // A user other than root has lost them with its id; in a namespace with one id there is root alone.
    if !engine.has_all_ids() || user.uid == 0 {
        limit_capabilities()?;
    }
    Ok(())
}

/// Changes to the working directory, which is made where it is missing, for the user.
fn enter_directory(engine: &dyn Isolation, spec: &RunSpec) -> Result<(), Failure> {
    let path = std::path::Path::new(&spec.cwd);
    let what = format!("entering the working directory `{}`", spec.cwd);
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == std::io::ErrorKind::NotFound
    {
        let mut missing: Vec<_> = path.ancestors().take_while(|one| !one.exists()).collect();
        while let Some(one) = missing.pop() {
            std::fs::create_dir(one).doing(&what)?;
            if engine.has_all_ids() {
                let (uid, gid) = (Some(spec.user.uid), Some(spec.user.gid));
                std::os::unix::fs::chown(one, uid, gid).doing(&what)?;
            }
        }
    }
    rustix::process::chdir(path).doing(&what)?;
    inside_root(&what)
}

/// Fails where the working directory lies outside the root, whatever way led there: through a magic link of `/proc`,
/// say. The kernel then gives a path that doesn't begin with `/` (getcwd(2), "(unreachable)").
fn inside_root(what: &str) -> Result<(), Failure> {
    let found = rustix::process::getcwd(Vec::new()).doing(what)?;
    if found.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(rustix::io::Errno::XDEV).doing(&format!("{what}, which lies outside the root,"))
}

/// Becomes the user of the step.
fn become_user(spec: &RunSpec) -> Result<(), Failure> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(spec.user.uid),
        rustix::fs::Gid::from_raw(spec.user.gid),
    );
    let what = format!("becoming user {} of group {}", spec.user.uid, spec.user.gid);
    if spec.user.uid != 0 {
        limit_bounding_set();
    }
    for stream in [1, 2] {
        // The user may open its own output again, as `/dev/stdout`. A file that can't be given away stays as it is.
        let stream = match stream {
            1 => std::io::stdout().as_fd().try_clone_to_owned(),
            _ => std::io::stderr().as_fd().try_clone_to_owned(),
        };
        if let Ok(stream) = stream {
            let _ = rustix::fs::fchown(&stream, Some(uid), Some(gid));
        }
    }
    let groups = spec.user.groups.iter();
    let groups: Vec<_> = groups.map(|gid| rustix::fs::Gid::from_raw(*gid)).collect();
    let set = rustix::thread::set_thread_groups(&groups);
    // Root of a container that may not change groups still does what it did before.
    if spec.user.uid != 0 || groups != [gid] {
        set.doing(&what)?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing(&what)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(&what)
}

/// Sets the limits that hold for the command.
fn set_limits(limits: &[ResourceLimit]) -> Result<(), Failure> {
    for limit in limits {
        let name = limit.resource.name();
        let what =
            format!("setting the limit `{name}`, whose hard value the caller may not raise,");
        let values = Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        rustix::process::setrlimit(kernels(limit.resource), values).doing(&what)?;
    }
    Ok(())
}

fn kernels(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernels;
    match resource {
        Resource::Core => Kernels::Core,
        Resource::Cpu => Kernels::Cpu,
        Resource::Data => Kernels::Data,
        Resource::Fsize => Kernels::Fsize,
        Resource::Locks => Kernels::Locks,
        Resource::Memlock => Kernels::Memlock,
        Resource::Msgqueue => Kernels::Msgqueue,
        Resource::Nice => Kernels::Nice,
        Resource::Nofile => Kernels::Nofile,
        Resource::Nproc => Kernels::Nproc,
        Resource::Rss => Kernels::Rss,
        Resource::Rtprio => Kernels::Rtprio,
        Resource::Rttime => Kernels::Rttime,
        Resource::Sigpending => Kernels::Sigpending,
        Resource::Stack => Kernels::Stack,
    }
}

fn limit_bounding_set() {
    for capability in CapabilitySet::all().iter() {
        if !CAPABILITIES.contains(capability) {
            // One that this kernel doesn't know, or that this process may not give up, it can't use either.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
}

/// Gives up all capabilities beyond those of a container.
fn limit_capabilities() -> Result<(), Failure> {
    let what = "giving up capabilities";
    limit_bounding_set();
    let _ = rustix::thread::clear_ambient_capability_set();
    let now = rustix::thread::capabilities(None).doing(what)?;
    let kept = now.permitted & CAPABILITIES;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).doing(what)
}

/// Replaces this program by the command's; gives the error number where that fails. A name without `/` is looked for
/// as execvp(3) does.
fn exec(spec: &RunSpec) -> Result<i32, Failure> {
    let strings = |texts: &mut dyn Iterator<Item = String>| -> Result<Vec<CString>, Failure> {
        texts.map(|text| c_string(&text)).collect()
    };
    let argv = strings(&mut spec.argv.iter().cloned())?;
    let variable = |(name, value): &(String, String)| format!("{name}={value}");
    let env = strings(&mut spec.env.iter().map(variable))?;
    let program = spec.argv.first().map(String::as_str).unwrap_or_default();
    if program.contains('/') {
        let error = sys::process::execve(&c_string(program)?, &argv, &env);
        return Ok(error.raw_os_error().unwrap_or(libc::EIO));
    }
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
    let mut found = libc::ENOENT;
    for folder in path.map_or("", |(_, value)| value).split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = c_string(&format!("{folder}/{program}"))?;
        match sys::process::execve(&candidate, &argv, &env).raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => found = libc::EACCES,
            other => return Ok(other.unwrap_or(libc::EIO)),
        }
    }
    Ok(found)
}
