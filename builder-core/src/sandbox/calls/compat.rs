//! Numbers of the calls of 32-bit programs.

use super::Call;

/// Numbers of 32-bit programs: i386.
///
/// Only calls whose arguments mean the same; `stat64` and the calls of 16-bit ids, which nothing uses any more, go to
/// the kernel.
#[cfg(target_arch = "x86_64")]
pub(crate) const COMPAT: &[(u32, Call)] = &[
    (295, Call::Openat),
    (296, Call::Mkdirat),
    (297, Call::Mknodat),
    (306, Call::Fchmodat),
    (298, Call::Fchownat),
    (302, Call::Renameat),
    (303, Call::Linkat),
    (304, Call::Symlinkat),
    (305, Call::Readlinkat),
    (307, Call::Faccessat),
    (320, Call::Utimensat),
    (353, Call::Renameat2),
    (358, Call::Execveat),
    (361, Call::Bind),
    (362, Call::Connect),
    (369, Call::Sendto),
    (370, Call::Sendmsg),
    (345, Call::Sendmmsg),
    (383, Call::Statx),
];

/// Numbers of 32-bit programs: arm.
///
/// Only calls whose arguments mean the same; `stat64` and the calls of 16-bit ids, which nothing uses any more, go to
/// the kernel.
#[cfg(target_arch = "aarch64")]
pub(crate) const COMPAT: &[(u32, Call)] = &[
    (322, Call::Openat),
    (323, Call::Mkdirat),
    (324, Call::Mknodat),
    (325, Call::Fchownat),
    (329, Call::Renameat),
    (330, Call::Linkat),
    (331, Call::Symlinkat),
    (332, Call::Readlinkat),
    (333, Call::Fchmodat),
    (334, Call::Faccessat),
    (348, Call::Utimensat),
    (382, Call::Renameat2),
    (387, Call::Execveat),
    (282, Call::Bind),
    (283, Call::Connect),
    (290, Call::Sendto),
    (296, Call::Sendmsg),
    (374, Call::Sendmmsg),
    (397, Call::Statx),
];

/// Numbers that i386 and arm share.
pub(crate) const COMPAT_COMMON: &[(u32, Call)] = &[
    (5, Call::Open),
    (8, Call::Creat),
    (9, Call::Link),
    (11, Call::Execve),
    (14, Call::Mknod),
    (15, Call::Chmod),
    (26, Call::Ptrace),
    (33, Call::Access),
    (38, Call::Rename),
    (39, Call::Mkdir),
    (61, Call::Chroot),
    (83, Call::Symlink),
    (85, Call::Readlink),
    (172, Call::Prctl),
    (174, Call::RtSigaction),
    (185, Call::Capset),
    (198, Call::Lchown),
    (199, Call::Getuid),
    (200, Call::Getgid),
    (201, Call::Geteuid),
    (202, Call::Getegid),
    (203, Call::Setreuid),
    (204, Call::Setregid),
    (205, Call::Getgroups),
    (206, Call::Setgroups),
    (207, Call::Fchown),
    (208, Call::Setresuid),
    (209, Call::Getresuid),
    (210, Call::Setresgid),
    (211, Call::Getresgid),
    (212, Call::Chown),
    (213, Call::Setuid),
    (214, Call::Setgid),
    (215, Call::Setfsuid),
    (216, Call::Setfsgid),
    (226, Call::Setxattr),
    (227, Call::Lsetxattr),
    (228, Call::Fsetxattr),
    (229, Call::Getxattr),
    (230, Call::Lgetxattr),
    (231, Call::Fgetxattr),
    (232, Call::Listxattr),
    (233, Call::Llistxattr),
    (234, Call::Flistxattr),
    (235, Call::Removexattr),
    (236, Call::Lremovexattr),
    (237, Call::Fremovexattr),
    (437, Call::Openat2),
    (439, Call::Faccessat2),
];
