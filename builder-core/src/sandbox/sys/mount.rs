//! What rustix lacks around mounts and networks: `mount_setattr`, and setting the loopback interface up.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;

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
    if done == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Before Linux 5.12.
        error if error.raw_os_error() == Some(libc::ENOSYS) => remount(path, attribute, recursive),
        error => Err(error),
    }
}

/// The same as a remount of each mount by itself, with the flags that it has: those that are locked may not be left out.
fn remount(path: &CStr, attribute: u64, recursive: bool) -> io::Result<()> {
    let mut paths = vec![path.to_owned()];
    if recursive {
        let list = std::fs::read("/proc/self/mountinfo")?;
        let below = [path.to_bytes(), b"/"].concat();
        let points = list.split(|&byte| byte == b'\n').filter_map(mount_point);
        paths.extend(points.filter(|point| point.to_bytes().starts_with(&below)));
    }
    for path in paths {
        let found = rustix::fs::statvfs(&path)?.f_flag;
        let mut flags = MountFlags::BIND;
        for (has, flag) in [
            (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
            (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
            (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        ] {
            flags.set(flag, found.contains(has));
        }
        // The numbers of these two are those of `mount(2)`'s flags too.
        flags |= MountFlags::from_bits_retain(attribute as u32);
        rustix::mount::mount_remount(&path, flags, c"")?;
    }
    Ok(())
}

/// The mount point of a line of `/proc/self/mountinfo`, in which blanks and backslashes are octal.
fn mount_point(line: &[u8]) -> Option<CString> {
    let mut field = line.split(|&byte| byte == b' ').nth(4)?;
    let mut path = Vec::new();
    while let Some((&byte, rest)) = field.split_first() {
        let octal = field.get(1..4).filter(|_| byte == b'\\');
        let octal = octal.and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                field = &field[4..];
            }
            None => {
                path.push(byte);
                field = rest;
            }
        }
    }
    CString::new(path).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read() {
        for (line, expected) in [
            (
                "36 35 98:0 /r /mnt rw,noatime - ext3 /dev/root rw",
                Some("/mnt"),
            ),
            ("36 35 98:0 / /a\\040b\\134 rw - ext3 x rw", Some("/a b\\")),
            ("36 35 98:0 / /a\\04 rw - ext3 x rw", Some("/a\\04")),
            ("", None),
        ] {
            let found = mount_point(line.as_bytes());
            let found = found.map(|path| path.into_string().unwrap());
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
