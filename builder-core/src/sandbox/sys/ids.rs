//! Ids of the calling thread alone. The C library's functions of these names change all threads.

#![expect(
    unsafe_code,
    reason = "the ids of a single thread are set by the raw calls only"
)]

use rustix::io::{Errno, Result};

/// Leaves an id as it is.
pub(crate) const SAME: u32 = u32::MAX;

/// `setresuid(2)` for this thread.
pub(crate) fn set_user_ids(real: u32, effective: u32, saved: u32) -> Result<()> {
    // SAFETY: the call takes three integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) })
}

/// `setresgid(2)` for this thread.
pub(crate) fn set_group_ids(real: u32, effective: u32, saved: u32) -> Result<()> {
    // SAFETY: the call takes three integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, real, effective, saved) })
}

/// `setfsuid(2)` for this thread; it can't fail, it returns the old id.
pub(crate) fn set_file_user(id: u32) -> u32 {
    // SAFETY: the call takes an integer.
    let old = unsafe { libc::syscall(libc::SYS_setfsuid, id) };
    old.cast_unsigned() as u32
}

/// `setfsgid(2)` for this thread; it can't fail, it returns the old id.
pub(crate) fn set_file_group(id: u32) -> u32 {
    // SAFETY: the call takes an integer.
    let old = unsafe { libc::syscall(libc::SYS_setfsgid, id) };
    old.cast_unsigned() as u32
}

fn check(result: libc::c_long) -> Result<()> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}
