//! System calls by name, and their numbers: the machine's own, and those of its 32-bit programs.

mod compat;

pub(crate) use compat::{COMPAT, COMPAT_COMMON};

/// Declares the calls, with the number each has natively (as the libc crate names it) and for 32-bit programs.
macro_rules! calls {
    ($(#[doc = $doc:literal] $name:ident = $number:ident;)* legacy: $(#[doc = $old_doc:literal] $old:ident = $old_number:ident;)*) => {
        /// A system call that a supervisor answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Call {
            $(#[doc = $doc] $name,)*
            $(#[doc = $old_doc] $old,)*
        }

        /// Numbers of the machine's own programs.
        pub(crate) const NATIVE: &[(u32, Call)] = &[
            $((libc::$number as u32, Call::$name),)*
            // Newer machines have only the forms that take a directory; libc doesn't name all of them.
            #[cfg(target_arch = "aarch64")] (38, Call::Renameat),
            $(#[cfg(target_arch = "x86_64")] (libc::$old_number as u32, Call::$old),)*
        ];
    };
}

calls! {
    /// `fchown(2)`
    Fchown = SYS_fchown;
    /// `fchownat(2)`
    Fchownat = SYS_fchownat;
    /// `setuid(2)`
    Setuid = SYS_setuid;
    /// `setgid(2)`
    Setgid = SYS_setgid;
    /// `setreuid(2)`
    Setreuid = SYS_setreuid;
    /// `setregid(2)`
    Setregid = SYS_setregid;
    /// `setresuid(2)`
    Setresuid = SYS_setresuid;
    /// `setresgid(2)`
    Setresgid = SYS_setresgid;
    /// `setfsuid(2)`
    Setfsuid = SYS_setfsuid;
    /// `setfsgid(2)`
    Setfsgid = SYS_setfsgid;
    /// `setgroups(2)`
    Setgroups = SYS_setgroups;
    /// `prctl(2)`
    Prctl = SYS_prctl;
    /// `capset(2)`
    Capset = SYS_capset;
    /// `getuid(2)`
    Getuid = SYS_getuid;
    /// `geteuid(2)`
    Geteuid = SYS_geteuid;
    /// `getgid(2)`
    Getgid = SYS_getgid;
    /// `getegid(2)`
    Getegid = SYS_getegid;
    /// `getresuid(2)`
    Getresuid = SYS_getresuid;
    /// `getresgid(2)`
    Getresgid = SYS_getresgid;
    /// `getgroups(2)`
    Getgroups = SYS_getgroups;
    /// `fstat(2)`
    Fstat = SYS_fstat;
    /// `newfstatat(2)`
    Newfstatat = SYS_newfstatat;
    /// `statx(2)`
    Statx = SYS_statx;
    /// `openat(2)`
    Openat = SYS_openat;
    /// `openat2(2)`
    Openat2 = SYS_openat2;
    /// `mkdirat(2)`
    Mkdirat = SYS_mkdirat;
    /// `symlinkat(2)`
    Symlinkat = SYS_symlinkat;
    /// `mknodat(2)`
    Mknodat = SYS_mknodat;
    /// `bind(2)`
    Bind = SYS_bind;
    /// `connect(2)`
    Connect = SYS_connect;
    /// `sendto(2)`
    Sendto = SYS_sendto;
    /// `sendmsg(2)`
    Sendmsg = SYS_sendmsg;
    /// `sendmmsg(2)`
    Sendmmsg = SYS_sendmmsg;
    /// `renameat2(2)`
    Renameat2 = SYS_renameat2;
    /// `linkat(2)`
    Linkat = SYS_linkat;
    /// `utimensat(2)`
    Utimensat = SYS_utimensat;
    /// `execve(2)`
    Execve = SYS_execve;
    /// `execveat(2)`
    Execveat = SYS_execveat;
    /// `setxattr(2)`
    Setxattr = SYS_setxattr;
    /// `lsetxattr(2)`
    Lsetxattr = SYS_lsetxattr;
    /// `fsetxattr(2)`
    Fsetxattr = SYS_fsetxattr;
    /// `getxattr(2)`
    Getxattr = SYS_getxattr;
    /// `lgetxattr(2)`
    Lgetxattr = SYS_lgetxattr;
    /// `fgetxattr(2)`
    Fgetxattr = SYS_fgetxattr;
    /// `listxattr(2)`
    Listxattr = SYS_listxattr;
    /// `llistxattr(2)`
    Llistxattr = SYS_llistxattr;
    /// `flistxattr(2)`
    Flistxattr = SYS_flistxattr;
    /// `removexattr(2)`
    Removexattr = SYS_removexattr;
    /// `lremovexattr(2)`
    Lremovexattr = SYS_lremovexattr;
    /// `fremovexattr(2)`
    Fremovexattr = SYS_fremovexattr;
    /// `chroot(2)`
    Chroot = SYS_chroot;
    /// `ptrace(2)`
    Ptrace = SYS_ptrace;
    /// `rt_sigaction(2)`
    RtSigaction = SYS_rt_sigaction;
    /// `exit_group(2)`
    ExitGroup = SYS_exit_group;
    /// `readlinkat(2)`
    Readlinkat = SYS_readlinkat;
    /// `faccessat(2)`
    Faccessat = SYS_faccessat;
    /// `faccessat2(2)`
    Faccessat2 = SYS_faccessat2;
    /// `fchmodat(2)`
    Fchmodat = SYS_fchmodat;
    /// `unlinkat(2)`
    Unlinkat = SYS_unlinkat;
    /// `fchmod(2)`
    Fchmod = SYS_fchmod;
    /// `fchmodat2(2)`
    Fchmodat2 = SYS_fchmodat2;
    /// `getcwd(2)`
    Getcwd = SYS_getcwd;
    /// `umask(2)`
    Umask = SYS_umask;
    /// `chdir(2)`
    Chdir = SYS_chdir;
    /// `truncate(2)`
    Truncate = SYS_truncate;
    /// `statfs(2)`
    Statfs = SYS_statfs;
    /// `inotify_add_watch(2)`
    InotifyAddWatch = SYS_inotify_add_watch;
    /// `capget(2)`
    Capget = SYS_capget;
    /// `socket(2)`
    Socket = SYS_socket;
    /// `socketpair(2)`
    Socketpair = SYS_socketpair;
    /// `getsockopt(2)`
    Getsockopt = SYS_getsockopt;
    /// `ioctl(2)`
    Ioctl = SYS_ioctl;
    /// `kill(2)`
    Kill = SYS_kill;
    /// `tkill(2)`
    Tkill = SYS_tkill;
    /// `tgkill(2)`
    Tgkill = SYS_tgkill;
    /// `pidfd_send_signal(2)`
    PidfdSendSignal = SYS_pidfd_send_signal;
    /// `prlimit(2)`
    Prlimit64 = SYS_prlimit64;
    /// `setpriority(2)`
    Setpriority = SYS_setpriority;
    /// `ioprio_set(2)`
    IoprioSet = SYS_ioprio_set;
    /// `sched_setaffinity(2)`
    SchedSetaffinity = SYS_sched_setaffinity;
    /// `sched_setscheduler(2)`
    SchedSetscheduler = SYS_sched_setscheduler;
    /// `sched_setparam(2)`
    SchedSetparam = SYS_sched_setparam;
    /// `sched_setattr(2)`
    SchedSetattr = SYS_sched_setattr;
    /// `shmget(2)`
    Shmget = SYS_shmget;
    /// `shmat(2)`
    Shmat = SYS_shmat;
    /// `shmctl(2)`
    Shmctl = SYS_shmctl;
    /// `semget(2)`
    Semget = SYS_semget;
    /// `semop(2)`
    Semop = SYS_semop;
    /// `semtimedop(2)`
    Semtimedop = SYS_semtimedop;
    /// `semctl(2)`
    Semctl = SYS_semctl;
    /// `msgget(2)`
    Msgget = SYS_msgget;
    /// `msgsnd(2)`
    Msgsnd = SYS_msgsnd;
    /// `msgrcv(2)`
    Msgrcv = SYS_msgrcv;
    /// `msgctl(2)`
    Msgctl = SYS_msgctl;
    /// `mq_open(2)`
    MqOpen = SYS_mq_open;
    /// `mq_unlink(2)`
    MqUnlink = SYS_mq_unlink;
    legacy:
    /// `chown(2)`
    Chown = SYS_chown;
    /// `lchown(2)`
    Lchown = SYS_lchown;
    /// `chmod(2)`
    Chmod = SYS_chmod;
    /// `stat(2)`
    Stat = SYS_stat;
    /// `lstat(2)`
    Lstat = SYS_lstat;
    /// `open(2)`
    Open = SYS_open;
    /// `creat(2)`
    Creat = SYS_creat;
    /// `mkdir(2)`
    Mkdir = SYS_mkdir;
    /// `symlink(2)`
    Symlink = SYS_symlink;
    /// `mknod(2)`
    Mknod = SYS_mknod;
    /// `rename(2)`
    Rename = SYS_rename;
    /// `renameat(2)`
    Renameat = SYS_renameat;
    /// `link(2)`
    Link = SYS_link;
    /// `readlink(2)`
    Readlink = SYS_readlink;
    /// `access(2)`
    Access = SYS_access;
    /// `rmdir(2)`
    Rmdir = SYS_rmdir;
    /// `unlink(2)`
    Unlink = SYS_unlink;
    /// `utime(2)`
    Utime = SYS_utime;
    /// `utimes(2)`
    Utimes = SYS_utimes;
    /// `futimesat(2)`
    Futimesat = SYS_futimesat;
}

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`: the machine's own programs.
pub(crate) const NATIVE_ARCH: u32 = if cfg!(target_arch = "x86_64") {
    0xC000_003E
} else {
    0xC000_00B7
};
/// `AUDIT_ARCH_I386`, `AUDIT_ARCH_ARM`: its 32-bit programs.
pub(crate) const COMPAT_ARCH: u32 = if cfg!(target_arch = "x86_64") {
    0x4000_0003
} else {
    0x4000_0028
};

/// The call behind a number.
pub(crate) fn call(arch: u32, number: u32) -> Option<Call> {
    let named = |table: &[(u32, Call)]| {
        table
            .iter()
            .find(|entry| entry.0 == number)
            .map(|entry| entry.1)
    };
    match arch {
        NATIVE_ARCH => named(NATIVE),
        COMPAT_ARCH => named(COMPAT_COMMON).or_else(|| named(COMPAT)),
        _ => None,
    }
}

impl Call {
    /// Whether it is told only where every path is resolved by the supervisor.
    pub(crate) fn is_of_paths_alone(self) -> bool {
        matches!(
            self,
            Self::Unlinkat
                | Self::Fchmod
                | Self::Fchmodat2
                | Self::Getcwd
                | Self::Umask
                | Self::Chdir
                | Self::Truncate
                | Self::Statfs
                | Self::InotifyAddWatch
                | Self::Capget
                | Self::Socket
                | Self::Socketpair
                | Self::Getsockopt
                | Self::Ioctl
                | Self::Kill
                | Self::Tkill
                | Self::Tgkill
                | Self::PidfdSendSignal
                | Self::Prlimit64
                | Self::Setpriority
                | Self::IoprioSet
                | Self::SchedSetaffinity
                | Self::SchedSetscheduler
                | Self::SchedSetparam
                | Self::SchedSetattr
                | Self::Shmget
                | Self::Shmat
                | Self::Shmctl
                | Self::Semget
                | Self::Semop
                | Self::Semtimedop
                | Self::Semctl
                | Self::Msgget
                | Self::Msgsnd
                | Self::Msgrcv
                | Self::Msgctl
                | Self::MqOpen
                | Self::MqUnlink
                | Self::Rmdir
                | Self::Unlink
                | Self::Utime
                | Self::Utimes
                | Self::Futimesat
        )
    }

    /// Which argument names the directory that a path starts from, and which the path. None for calls without a path.
    pub(crate) fn path_arguments(self) -> Option<(Option<usize>, usize)> {
        match self {
            Self::Fchownat
            | Self::Fchmodat
            | Self::Newfstatat
            | Self::Statx
            | Self::Openat
            | Self::Openat2
            | Self::Mkdirat
            | Self::Mknodat
            | Self::Renameat
            | Self::Renameat2
            | Self::Linkat
            | Self::Utimensat
            | Self::Execveat
            | Self::Readlinkat
            | Self::Faccessat
            | Self::Faccessat2
            | Self::Unlinkat
            | Self::Fchmodat2
            | Self::Futimesat => Some((Some(0), 1)),
            Self::Symlinkat => Some((Some(1), 2)),
            Self::Symlink | Self::InotifyAddWatch => Some((None, 1)),
            Self::Chown
            | Self::Chmod
            | Self::Lchown
            | Self::Stat
            | Self::Lstat
            | Self::Open
            | Self::Creat
            | Self::Mkdir
            | Self::Mknod
            | Self::Rename
            | Self::Link
            | Self::Readlink
            | Self::Access
            | Self::Execve
            | Self::Chroot
            | Self::Setxattr
            | Self::Lsetxattr
            | Self::Getxattr
            | Self::Lgetxattr
            | Self::Listxattr
            | Self::Llistxattr
            | Self::Removexattr
            | Self::Lremovexattr
            | Self::Rmdir
            | Self::Unlink
            | Self::Utime
            | Self::Utimes
            | Self::Chdir
            | Self::Truncate
            | Self::Statfs => Some((None, 0)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_one_call_each() {
        let compat = [COMPAT_COMMON, COMPAT].concat();
        for table in [NATIVE, &compat] {
            let mut numbers: Vec<u32> = table.iter().map(|entry| entry.0).collect();
            numbers.sort_unstable();
            let all = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), all);
        }
        assert_eq!(call(COMPAT_ARCH, 212), Some(Call::Chown));
        assert_eq!(
            call(NATIVE_ARCH, libc::SYS_fchownat as u32),
            Some(Call::Fchownat)
        );
        assert_eq!(call(1, 1), None);
    }
}
