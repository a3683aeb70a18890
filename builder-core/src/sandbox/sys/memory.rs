//! Memory of another process, and kernel structures as bytes: `process_vm_readv(2)`.

#![expect(unsafe_code, reason = "no safe wrapper covers process_vm_readv(2)")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

/// Longest path, with its NUL.
pub(crate) const PATH_MAX: usize = 4096;
/// A boundary that every page size is a multiple of: a read never spans more than what is mapped.
const PAGE: u64 = 4096;

/// Reads memory of a thread's process; how much there was.
pub(crate) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    // Split at page boundaries: what is mapped arrives even if the next page isn't.
    let mut remote = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; 18];
    let (mut at, mut left, mut parts) = (address, buffer.len(), 0);
    while left > 0 && parts < remote.len() {
        let page = usize::try_from(PAGE - at % PAGE).unwrap_or(left);
        let length = if parts + 1 == remote.len() {
            left
        } else {
            left.min(page)
        };
        remote[parts] = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(at as usize),
            iov_len: length,
        };
        at = at.wrapping_add(length as u64);
        left -= length;
        parts += 1;
    }
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `local` is `buffer`, which outlives the call; the remote addresses are checked by the kernel.
    let count = unsafe {
        libc::process_vm_readv(
            pid.cast_signed(),
            &raw const local,
            1,
            remote.as_ptr(),
            parts as libc::c_ulong,
            0,
        )
    };
    usize::try_from(count).or_else(|_| match last_error() {
        Errno::PERM | Errno::NOSYS => read_file(pid, address, buffer),
        error => Err(error),
    })
}

/// The memory of a thread's process as a file, which is to be had where the calls for it are not: containerd's default
/// profile before 1.6.9 allows `ptrace(2)`, and denies these. Where neither is, the error is theirs.
fn file(pid: u32, flags: OFlags) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/mem");
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|_| Errno::PERM)
}

fn read_file(pid: u32, address: u64, buffer: &mut [u8]) -> Result<usize> {
    let file = file(pid, OFlags::RDONLY)?;
    match rustix::io::pread(&file, &mut buffer[..], address) {
        Err(Errno::IO) => Err(Errno::FAULT),
        other => other,
    }
}

fn write_file(pid: u32, address: u64, bytes: &[u8]) -> Result<()> {
    let file = file(pid, OFlags::WRONLY)?;
    match rustix::io::pwrite(&file, bytes, address) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) | Err(Errno::IO) => Err(Errno::FAULT),
        Err(error) => Err(error),
    }
}

/// Reads exactly as much.
pub(crate) fn read_exact(pid: u32, address: u64, buffer: &mut [u8]) -> Result<()> {
    if read(pid, address, buffer)? == buffer.len() {
        Ok(())
    } else {
        Err(Errno::FAULT)
    }
}

/// Reads a NUL-terminated string of at most [`PATH_MAX`] bytes with the NUL; longer is `ENAMETOOLONG`.
pub(crate) fn read_string(pid: u32, address: u64) -> Result<CString> {
    // Most paths are short: one small read, then the rest.
    let mut bytes = vec![0; 256];
    let mut have = read(pid, address, &mut bytes)?;
    if !bytes[..have].contains(&0) && have == bytes.len() {
        bytes.resize(PATH_MAX, 0);
        have += read(pid, address.wrapping_add(have as u64), &mut bytes[256..])?;
    }
    match bytes[..have].iter().position(|&byte| byte == 0) {
        Some(end) => {
            bytes.truncate(end);
            CString::new(bytes).map_err(|_| Errno::FAULT)
        }
        None if have == PATH_MAX => Err(Errno::NAMETOOLONG),
        None => Err(Errno::FAULT),
    }
}

/// Writes memory of a thread's process; `EFAULT` where not all of it can be written.
pub(crate) fn write(pid: u32, address: u64, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: bytes.len(),
    };
    // SAFETY: the kernel only reads `local`, which is `bytes`; it checks the remote address.
    let count = unsafe {
        libc::process_vm_writev(
            pid.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    match usize::try_from(count) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => match last_error() {
            Errno::PERM | Errno::NOSYS => write_file(pid, address, bytes),
            error => Err(error),
        },
    }
}

/// The structure that `newfstatat(2)` fills, as this machine's kernel lays it out.
pub(crate) fn stat(dirfd: BorrowedFd<'_>, path: &std::ffi::CStr, flags: i32) -> Result<libc::stat> {
    // SAFETY: all bit patterns are valid for the integers of `stat`, zero too.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, and the kernel writes one `stat` through the pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            dirfd.as_raw_fd(),
            path.as_ptr(),
            &raw mut stat,
            flags,
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(stat)
    }
}

/// Its bytes.
pub(crate) fn stat_bytes(stat: &libc::stat) -> &[u8] {
    // SAFETY: the structure came zeroed, so that its padding is initialised too, and it is plain integers.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast(), size_of::<libc::stat>()) }
}

/// The structure that `statx(2)` fills.
pub(crate) fn statx(
    dirfd: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    flags: i32,
    mask: u32,
) -> Result<libc::statx> {
    // SAFETY: all bit patterns are valid for the integers of `statx`, zero too.
    let mut statx: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, and the kernel writes one `statx` through the pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            dirfd.as_raw_fd(),
            path.as_ptr(),
            flags,
            mask,
            &raw mut statx,
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(statx)
    }
}

/// Its bytes.
pub(crate) fn statx_bytes(statx: &libc::statx) -> &[u8] {
    // SAFETY: the structure came zeroed, so that its padding is initialised too, and it is plain integers.
    unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(statx).cast(), size_of::<libc::statx>())
    }
}

/// The structure that `fstatfs(2)` fills.
pub(crate) fn statfs(file: BorrowedFd<'_>) -> Result<libc::statfs> {
    // SAFETY: all bit patterns are valid for the integers of `statfs`, zero too.
    let mut statfs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `statfs` through the pointer.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut statfs) };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(statfs)
    }
}

/// Its bytes.
pub(crate) fn statfs_bytes(statfs: &libc::statfs) -> &[u8] {
    // SAFETY: the structure came zeroed, so that its padding is initialised too, and it is plain integers.
    unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(statfs).cast(), size_of::<libc::statfs>())
    }
}

/// Binds a socket to an address as the bytes of it stand in the caller's memory.
pub(crate) fn bind(socket: impl AsFd, address: &[u8]) -> Result<()> {
    let length = libc::socklen_t::try_from(address.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads `length` bytes of the address, which are there, and copies them before use.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), length) };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_nul_and_not_before() {
        let pid = std::process::id();
        let long = [vec![b'x'; 4095], vec![0], vec![b'y'; 300]].concat();
        assert_eq!(
            read_string(pid, long.as_ptr() as u64)
                .unwrap()
                .as_bytes()
                .len(),
            4095
        );
        assert_eq!(
            read_string(pid, long[4090..].as_ptr() as u64)
                .unwrap()
                .as_bytes(),
            b"xxxxx"
        );
        let endless = vec![b'x'; 8192];
        assert_eq!(
            read_string(pid, endless.as_ptr() as u64),
            Err(Errno::NAMETOOLONG)
        );
        assert_eq!(read_string(pid, 16), Err(Errno::FAULT));
    }

    #[test]
    fn memory_is_written_and_read() {
        let pid = std::process::id();
        let mut place = vec![0_u8; 9000];
        write(pid, place.as_mut_ptr() as u64, &[7; 9000]).unwrap();
        let mut copy = vec![0; 9000];
        read_exact(pid, place.as_ptr() as u64, &mut copy).unwrap();
        assert_eq!(copy, [7; 9000]);
        assert_eq!(write(pid, 16, b"x"), Err(Errno::FAULT));
    }

    #[test]
    fn memory_is_a_file_too() {
        let pid = std::process::id();
        let mut place = vec![0_u8; 9000];
        write_file(pid, place.as_mut_ptr() as u64, &[7; 9000]).unwrap();
        let mut copy = vec![0; 9000];
        assert_eq!(read_file(pid, place.as_ptr() as u64, &mut copy), Ok(9000));
        assert_eq!(copy, [7; 9000]);
        assert_eq!(write_file(pid, 16, b"x"), Err(Errno::FAULT));
        assert_eq!(read_file(pid, 16, &mut copy), Err(Errno::FAULT));
    }
}
