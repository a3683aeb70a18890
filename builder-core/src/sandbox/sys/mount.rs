//! What rustix lacks around mounts and networks: `mount_setattr`, and setting the loopback interface up.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `mount_attr` (`mount_setattr(2)`).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NODEV: u64 = 4;

/// Makes a mount read-only, and what is mounted below it where `recursive`. Flags that are locked stay as they are.
pub(crate) fn make_read_only(path: &CStr, recursive: bool) -> io::Result<()> {
    set(path, MOUNT_ATTR_RDONLY, recursive)
}

/// Forbids to open device files in a mount, and in what is mounted below it.
pub(crate) fn forbid_devices(path: &CStr) -> io::Result<()> {
    set(path, MOUNT_ATTR_NODEV, true)
}

fn set(path: &CStr, attribute: u64, recursive: bool) -> io::Result<()> {
    let attributes = MountAttributes {
        set: attribute,
        ..MountAttributes::default()
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and structure outlive the call, and the size is the structure's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets the interface `lo` up, in a network namespace of one's own.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: a call without memory.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all bytes zero is a valid request; its name is shorter than the field.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (at, byte) in b"lo".iter().enumerate() {
        request.ifr_name[at] = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is what SIOCSIFFLAGS reads, and outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
