//! Landlock: walls that a process puts up for itself and all its children (landlock(7)).
#![expect(unsafe_code, reason = "Landlock has no wrapper in the C library")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// `landlock_ruleset_attr`, as of ABI 6; older kernels take a shorter one.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Below it, a rename between directories would be refused.
pub(crate) const LOWEST_ABI: i32 = 2;

const VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

/// The kernel's Landlock version; 0 where it has none.
pub(crate) fn abi() -> i32 {
    let nothing = std::ptr::null::<Ruleset>();
    // SAFETY: asked for the version, the kernel reads no memory.
    let found = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) };
    i32::try_from(found).unwrap_or(0).max(0)
}

/// The rights on files that an ABI knows.
fn access(abi: i32) -> u64 {
    let known = match abi {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << known) - 1
}

/// The first version that keeps a process from abstract sockets and signals of others.
pub(crate) const SCOPES_ABI: i32 = 6;

/// Lets this process and its children reach files below `/` alone, which is the build's root by now, and signal
/// nobody outside (ABI 6). Needs `no_new_privs`.
pub(crate) fn restrict_to_root(abi: i32) -> io::Result<()> {
    let handled = access(abi);
    let scoped = if abi >= SCOPES_ABI {
        SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    } else {
        0
    };
    let ruleset = ruleset(abi, handled, scoped)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    allow(&ruleset, &root, handled)?;
    restrict(&ruleset)
}

/// Lets this process and its children open, execute and make no file at all, and signal nobody outside (ABI 6): what
/// they have open they were given. Needs `no_new_privs`.
pub(crate) fn restrict_everything(abi: i32) -> io::Result<()> {
    let scoped = if abi >= SCOPES_ABI {
        SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    } else {
        0
    };
    restrict(&ruleset(abi, access(abi), scoped)?)
}

/// Keeps this process and its children from abstract unix sockets (unix(7)) that others have bound, and on request
/// from signalling others. Needs ABI [`SCOPES_ABI`], and `no_new_privs` or `CAP_SYS_ADMIN` in the user namespace.
pub(crate) fn restrict_scope(abi: i32, signals: bool) -> io::Result<()> {
    let signals = if signals { SCOPE_SIGNAL } else { 0 };
    restrict(&ruleset(abi, 0, SCOPE_ABSTRACT_UNIX_SOCKET | signals)?)
}

fn ruleset(abi: i32, handled: u64, scoped: u64) -> io::Result<OwnedFd> {
    let attribute = Ruleset {
        handled_access_fs: handled,
        handled_access_net: 0,
        scoped,
    };
    let size = match abi {
        ..4 => 8_usize,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the structure is at least `size` bytes long and outlives the call.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attribute,
            size,
            0,
        )
    };
    let raw = i32::try_from(raw).unwrap_or(-1);
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: a call with a descriptor and no memory.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn allow(ruleset: &OwnedFd, root: &impl std::os::fd::AsFd, access: u64) -> io::Result<()> {
    let parent: BorrowedFd<'_> = root.as_fd();
    let rule = PathBeneath {
        allowed_access: access,
        parent_fd: parent.as_raw_fd(),
    };
    // SAFETY: the structure is what this type of rule wants, and outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
