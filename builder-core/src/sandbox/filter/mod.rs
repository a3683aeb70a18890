//! The seccomp program of a RUN: what it may not call, and what its supervisor answers. Pure: it only computes.

mod program;

use libc::sock_filter;

use program::{Rule, Test, compile, jump, load, statement, verdict};

use crate::sandbox::calls::{COMPAT, COMPAT_ARCH, COMPAT_COMMON, Call, NATIVE, NATIVE_ARCH};

/// What a program decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Which calls a supervisor answers.
    pub notified: Notified,
    /// Whether it hears of addresses of sockets as well: no other wall keeps the RUN from abstract ones.
    pub addresses: bool,
    /// Whether calls that no build needs fail, as under a container runtime, and calls that flush do nothing.
    pub deny: bool,
}

/// Which calls a supervisor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    /// Ids, owners and devices: one user id stands for all.
    Owners,
    /// Devices alone: ids are real.
    Devices,
    /// Paths below `/proc`, `/sys` and `/dev`, which a root without mounts has not.
    Files,
    /// Every call that takes a path, or the name of a local socket, and all ids: the kernel resolves nothing.
    Paths {
        /// Signals too: no other wall keeps the RUN from processes that are not its own.
        signals: bool,
    },
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// Success without a call.
const DONE: u32 = libc::SECCOMP_RET_ERRNO;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Namespaces that `clone(2)` makes; `CLONE_NEWTIME` overlaps with its exit signal.
const CLONE_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
/// Namespaces that `unshare(2)` makes.
const UNSHARE_NAMESPACES: u32 = CLONE_NAMESPACES | 0x80;

/// Calls that fail with `EPERM`, by the machine's own numbers.
const DENIED: &[libc::c_long] = &[
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_quotactl,
    QUOTACTL_FD,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
];
// Numbers that libc doesn't name everywhere.
const KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "x86_64") {
    320
} else {
    294
};
const OPEN_TREE_ATTR: libc::c_long = 467;
const QUOTACTL_FD: libc::c_long = 443;

/// The same for 32-bit programs; what i386 and arm share first.
const COMPAT_DENIED: &[u32] = &[
    21, 52, 51, 79, 87, 88, 115, 128, 129, 131, 169, 404, 428, 429, 430, 431, 432, 433, 442, 443,
    467,
];
#[cfg(target_arch = "x86_64")]
const COMPAT_DENIED_MORE: &[u32] = &[
    22, 25, 217, 253, 264, 283, 286, 287, 288, 336, 342, 346, 350, 357, 374,
];
#[cfg(target_arch = "aarch64")]
const COMPAT_DENIED_MORE: &[u32] = &[
    218, 249, 262, 309, 310, 311, 347, 364, 371, 375, 379, 386, 388, 401,
];
/// `unshare(2)` of 32-bit programs.
const COMPAT_UNSHARE: u32 = if cfg!(target_arch = "x86_64") {
    310
} else {
    337
};
/// `clone(2)` of 32-bit programs.
const COMPAT_CLONE: u32 = 120;
/// `socketcall(2)` of i386.
const SOCKETCALL: u32 = 102;
/// `io_uring_setup`, `io_uring_enter`, `io_uring_register` and `clone3`, whose numbers are the same everywhere.
///
/// Work in an `io_uring` escapes the filter, and the flags of `clone3` are in memory, where no filter can read them:
/// programs fall back to other calls on `ENOSYS`.
const ABSENT: &[u32] = &[425, 426, 427, 435];

/// What fails with `ENOSYS` where every path is told: file handles, and the first of the calls that came later than
/// those which are known here (`setxattrat`, Linux 6.13): one of them may take a path.
const UNTOLD: &[libc::c_long] = &[libc::SYS_name_to_handle_at];
const FIRST_UNKNOWN: u32 = 463;
/// What fails with `EPERM` there: watching whole mounts, and lists of the machine's mounts.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // statmount, listmount
    457,
    458,
];

/// Calls that flush to the disk: they succeed and do nothing. What a RUN writes is a layer when it has ended well, and
/// nothing before; package managers flush after every file.
const FLUSHING: &[libc::c_long] = &[
    libc::SYS_sync,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
];
/// The same for 32-bit programs: `sync`, `fsync` and `fdatasync`.
const COMPAT_FLUSHING: &[u32] = &[36, 118, 148];

/// The program of a policy.
pub(crate) fn program(policy: Policy) -> Vec<sock_filter> {
    let paths = matches!(policy.notified, Notified::Paths { .. });
    let native = compile(&native_rules(policy), paths.then_some(FIRST_UNKNOWN));
    // Where all calls with a path must be known, 32-bit programs have none.
    let compat = if paths {
        vec![verdict(ENOSYS)]
    } else {
        compile(&compat_rules(policy), None)
    };
    let mut program = vec![load(4)];
    // A block is entered where its architecture matches; jumps over blocks may be long, so they are unconditional.
    for (arch, block) in [(NATIVE_ARCH, native), (COMPAT_ARCH, compat)] {
        program.push(jump(libc::BPF_JEQ, arch, 1, 0));
        program.push(statement(libc::BPF_JMP | libc::BPF_JA, block.len() as u32));
        program.extend(block);
    }
    program.push(verdict(ALLOW));
    program
}

impl Policy {
    /// That of a RUN.
    pub(crate) fn of_run(notified: Notified) -> Self {
        Self {
            notified,
            addresses: false,
            deny: true,
        }
    }

    /// Whether a call is one that the supervisor answers.
    pub(crate) fn notifies(self, arch: u32, number: u32, arguments: &[u64; 6]) -> bool {
        let rules = match arch {
            NATIVE_ARCH => native_rules(self),
            COMPAT_ARCH => compat_rules(self),
            _ => return false,
        };
        let rule = rules.iter().find(|rule| rule.number == number);
        rule.is_some_and(|rule| rule.verdict == NOTIFY && rule.test.holds(arguments))
    }
}

fn native_rules(policy: Policy) -> Vec<Rule> {
    let mut rules = Vec::new();
    if policy.deny {
        rules.extend(
            DENIED
                .iter()
                .map(|&number| always(number.cast_unsigned() as u32, EPERM)),
        );
        rules.extend(ABSENT.iter().map(|&number| always(number, ENOSYS)));
        let flushing = FLUSHING.iter();
        rules.extend(flushing.map(|&number| always(number.cast_unsigned() as u32, DONE)));
        rules.push(any(libc::SYS_unshare as u32, UNSHARE_NAMESPACES));
        rules.push(any(libc::SYS_clone as u32, CLONE_NAMESPACES));
    }
    if matches!(policy.notified, Notified::Paths { .. }) {
        let number = |call: &libc::c_long| call.cast_unsigned() as u32;
        rules.extend(UNTOLD.iter().map(|call| always(number(call), ENOSYS)));
        rules.extend(FORBIDDEN.iter().map(|call| always(number(call), EPERM)));
    }
    notify(policy, NATIVE, &mut rules);
    rules
}

fn compat_rules(policy: Policy) -> Vec<Rule> {
    let mut rules = Vec::new();
    if matches!(policy.notified, Notified::Paths { .. }) {
        return rules;
    }
    if policy.deny {
        let denied = COMPAT_DENIED.iter().chain(COMPAT_DENIED_MORE);
        rules.extend(denied.map(|&number| always(number, EPERM)));
        rules.extend(ABSENT.iter().map(|&number| always(number, ENOSYS)));
        let flushing = COMPAT_FLUSHING.iter();
        rules.extend(flushing.map(|&number| always(number, DONE)));
        rules.push(any(COMPAT_UNSHARE, UNSHARE_NAMESPACES));
        rules.push(any(COMPAT_CLONE, CLONE_NAMESPACES));
    }
    if policy.addresses && cfg!(target_arch = "x86_64") {
        // One call for all that is done with sockets; its arguments are in memory, where no filter reads them.
        rules.push(always(SOCKETCALL, ENOSYS));
    }
    notify(policy, COMPAT_COMMON, &mut rules);
    notify(policy, COMPAT, &mut rules);
    rules
}

fn always(number: u32, verdict: u32) -> Rule {
    Rule {
        number,
        test: Test::Always,
        verdict,
    }
}

fn any(number: u32, flags: u32) -> Rule {
    Rule {
        number,
        test: Test::Any(0, flags),
        verdict: EPERM,
    }
}

fn notify(policy: Policy, table: &[(u32, Call)], rules: &mut Vec<Rule>) {
    let test = |call| match policy.notified {
        Notified::Paths { signals } => paths(call, signals),
        _ if Call::is_of_paths_alone(call) => None,
        Notified::Owners => owners(call),
        Notified::Devices => devices(call),
        Notified::Files => files(call),
    };
    let all_paths = matches!(policy.notified, Notified::Paths { .. });
    for &(number, call) in table {
        let test = match call {
            Call::Connect if all_paths => Some(Test::Always),
            Call::Connect | Call::Sendto | Call::Sendmsg | Call::Sendmmsg => {
                policy.addresses.then(|| addresses(call))
            }
            _ => tracing(call).or_else(|| test(call)),
        };
        if let Some(test) = test {
            rules.push(Rule {
                number,
                test,
                verdict: NOTIFY,
            });
        }
    }
}

/// What the supervisor hears of whatever its duty, so that no call is interrupted: a handler that is set, and a process
/// that wants to be, or have, a tracer.
fn tracing(call: Call) -> Option<Test> {
    const REQUESTS: &[u32] = &[
        libc::PTRACE_TRACEME,
        libc::PTRACE_ATTACH,
        libc::PTRACE_SEIZE,
    ];
    match call {
        Call::RtSigaction => Some(Test::Any(1, u32::MAX)),
        Call::Ptrace => Some(Test::OneOf(0, REQUESTS)),
        _ => None,
    }
}

/// Calls with the address of a socket.
fn addresses(call: Call) -> Test {
    match call {
        Call::Sendto => Test::Any(4, u32::MAX),
        _ => Test::Always,
    }
}

fn owners(call: Call) -> Option<Test> {
    Some(match call {
        Call::Open => Test::Any(1, libc::O_CREAT as u32),
        Call::Openat => Test::Any(2, libc::O_CREAT as u32),
        Call::Prctl => Test::OneOf(
            0,
            &[libc::PR_SET_KEEPCAPS as u32, libc::PR_SET_SECUREBITS as u32],
        ),
        Call::Utimensat => Test::Any(3, libc::AT_SYMLINK_NOFOLLOW as u32),
        Call::Readlink
        | Call::Readlinkat
        | Call::Access
        | Call::Faccessat
        | Call::Faccessat2
        | Call::Chmod
        | Call::Fchmodat => return None,
        _ => Test::Always,
    })
}

fn paths(call: Call, signals: bool) -> Option<Test> {
    const TERMINAL_PEER: u32 = 0x5441;
    // SOCK_DGRAM with its flags: SOCK_NONBLOCK, SOCK_CLOEXEC.
    const DATAGRAM: &[u32] = &[2, 0x802, 0x8_0002, 0x8_0802];
    const POWER: &[u32] = &[
        libc::PR_SET_KEEPCAPS as u32,
        libc::PR_SET_SECUREBITS as u32,
        libc::PR_SET_DUMPABLE as u32,
        libc::PR_CAPBSET_READ as u32,
        libc::PR_CAPBSET_DROP as u32,
        libc::PR_CAP_AMBIENT as u32,
    ];
    Some(match call {
        Call::Prctl => Test::OneOf(0, POWER),
        Call::Socket => Test::OneOf(0, &[libc::AF_UNIX as u32]),
        Call::Socketpair => Test::OneOf(1, DATAGRAM),
        Call::Getsockopt => Test::OneOf(2, &[libc::SO_PEERCRED as u32]),
        Call::Ioctl => Test::OneOf(1, &[TERMINAL_PEER]),
        Call::Kill | Call::Tkill | Call::Tgkill | Call::PidfdSendSignal => {
            return signals.then_some(Test::Always);
        }
        // Limits and priorities: the caller's own need no look.
        Call::Prlimit64
        | Call::SchedSetaffinity
        | Call::SchedSetscheduler
        | Call::SchedSetparam
        | Call::SchedSetattr => Test::Any(0, u32::MAX),
        _ => Test::Always,
    })
}

fn devices(call: Call) -> Option<Test> {
    let shown = matches!(
        call,
        Call::Stat | Call::Lstat | Call::Fstat | Call::Newfstatat | Call::Statx
    );
    (shown || matches!(call, Call::Mknod | Call::Mknodat)).then_some(Test::Always)
}

fn files(call: Call) -> Option<Test> {
    Some(match call {
        // Of a descriptor, which is real.
        Call::Newfstatat => Test::None(3, libc::AT_EMPTY_PATH as u32),
        Call::Statx => Test::None(2, libc::AT_EMPTY_PATH as u32),
        Call::Open
        | Call::Openat
        | Call::Openat2
        | Call::Creat
        | Call::Stat
        | Call::Lstat
        | Call::Readlink
        | Call::Readlinkat
        | Call::Access
        | Call::Faccessat
        | Call::Faccessat2
        | Call::Chmod
        | Call::Fchmodat
        | Call::Getxattr
        | Call::Lgetxattr
        | Call::Listxattr
        | Call::Llistxattr => Test::Always,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes a program as the kernel would.
    fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            low if (low - 16).is_multiple_of(8) => args[(low as usize - 16) / 8] as u32,
            other => panic!("offset {other}"),
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            let (code, k) = (u32::from(step.code), step.k);
            at += 1;
            let test = match code & 0xf7 {
                code if code == libc::BPF_LD | libc::BPF_ABS => {
                    a = word(k);
                    continue;
                }
                code if code == libc::BPF_RET => return k,
                code if code == libc::BPF_JMP | libc::BPF_JA => {
                    at += k as usize;
                    continue;
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ => a == k,
                code if code == libc::BPF_JMP | libc::BPF_JGE => a >= k,
                code if code == libc::BPF_JMP | libc::BPF_JSET => a & k != 0,
                other => panic!("code {other}"),
            };
            at += usize::from(if test { step.jt } else { step.jf });
        }
    }

    #[track_caller]
    fn check(notified: Notified, arch: u32, number: libc::c_long, args: &[u64], expected: u32) {
        let program = program(Policy::of_run(notified));
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        assert_eq!(
            run(&program, arch, number.cast_unsigned() as u32, all),
            expected,
            "call {number} {args:?}"
        );
    }

    #[test]
    fn what_no_build_needs_fails() {
        const SIGCHLD: u64 = libc::SIGCHLD as u64;
        let ns = libc::CLONE_NEWNS as u64;
        for (number, args, expected) in [
            (libc::SYS_mount, [0, 0], EPERM),
            (libc::SYS_bpf, [0, 0], EPERM),
            (libc::SYS_setns, [0, 0], EPERM),
            (libc::SYS_unshare, [ns, 0], EPERM),
            (libc::SYS_unshare, [0x80, 0], EPERM),
            (libc::SYS_unshare, [0, 0], ALLOW),
            (
                libc::SYS_unshare,
                [libc::CLONE_FS as u64 | libc::CLONE_FILES as u64, 0],
                ALLOW,
            ),
            (
                libc::SYS_clone,
                [libc::CLONE_NEWUSER as u64 | SIGCHLD, 0],
                EPERM,
            ),
            (
                libc::SYS_clone,
                [libc::CLONE_VM as u64 | SIGCHLD, ns],
                ALLOW,
            ),
            (libc::SYS_clone3, [0, 0], ENOSYS),
            (libc::SYS_io_uring_setup, [0, 0], ENOSYS),
            (libc::SYS_ptrace, [0, 0], NOTIFY),
            (libc::SYS_ptrace, [1, 0], ALLOW),
            (libc::SYS_ptrace, [0x4206, 0], NOTIFY),
            (libc::SYS_rt_sigaction, [17, 0], ALLOW),
            (libc::SYS_rt_sigaction, [17, 4096], NOTIFY),
            (libc::SYS_sethostname, [0, 0], ALLOW),
            (libc::SYS_read, [0, 0], ALLOW),
            (libc::SYS_fsync, [0, 0], DONE),
            (libc::SYS_msync, [0, 0], ALLOW),
            (libc::SYS_seccomp, [1, 8], ALLOW),
        ] {
            check(Notified::Devices, NATIVE_ARCH, number, &args, expected);
        }
        for (number, args, expected) in [
            (21, [0], EPERM),
            (i64::from(COMPAT_UNSHARE), [ns], EPERM),
            (120, [ns], EPERM),
            (120, [17], ALLOW),
            (435, [0], ENOSYS),
            (212, [0], ALLOW),
        ] {
            check(Notified::Devices, COMPAT_ARCH, number, &args, expected);
        }
    }

    /// What is said of a call by its registers is what the program says: a signal that is held back for a call which
    /// nobody hears of would never come.
    #[test]
    fn the_supervisor_knows_which_calls_it_hears_of() {
        let flags = [
            0,
            1,
            0x40,
            0x100,
            0x1000,
            u64::from(u32::MAX),
            u64::MAX,
            16,
            28,
            0x4206,
        ];
        for notified in [
            Notified::Owners,
            Notified::Devices,
            Notified::Files,
            Notified::Paths { signals: true },
        ] {
            let policy = Policy {
                addresses: notified == Notified::Devices,
                ..Policy::of_run(notified)
            };
            let program = program(policy);
            for (arch, numbers) in [(NATIVE_ARCH, 0..480), (COMPAT_ARCH, 0..480), (7, 0..9)] {
                for number in numbers {
                    for flag in flags {
                        let arguments = [flag; 6];
                        let said = policy.notifies(arch, number, &arguments);
                        let verdict = run(&program, arch, number, arguments);
                        assert_eq!(
                            said,
                            verdict == NOTIFY,
                            "{notified:?} {arch:x} {number} {flag}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_architectures_are_left_alone() {
        check(Notified::Owners, 0x8000_0016, libc::SYS_mount, &[], ALLOW);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_programs_have_no_calls() {
        check(
            Notified::Owners,
            NATIVE_ARCH,
            0x4000_0000 + 165,
            &[],
            ENOSYS,
        );
        check(Notified::Owners, NATIVE_ARCH, 0xFFFF_FFFF, &[], ALLOW);
    }

    #[test]
    fn each_duty_hears_of_its_calls() {
        let (create, nofollow) = (libc::O_CREAT as u64, libc::AT_SYMLINK_NOFOLLOW as u64);
        let empty = libc::AT_EMPTY_PATH as u64;
        for (notified, number, args, expected) in [
            (Notified::Owners, libc::SYS_openat, [0, 0, 0, 0], ALLOW),
            (
                Notified::Owners,
                libc::SYS_openat,
                [0, 0, create | 1, 0],
                NOTIFY,
            ),
            (Notified::Owners, libc::SYS_fchownat, [0, 0, 0, 0], NOTIFY),
            (Notified::Owners, libc::SYS_prctl, [8, 0, 0, 0], NOTIFY),
            (Notified::Owners, libc::SYS_prctl, [28, 0, 0, 0], NOTIFY),
            (Notified::Owners, libc::SYS_prctl, [15, 0, 0, 0], ALLOW),
            (Notified::Owners, libc::SYS_utimensat, [0, 0, 0, 0], ALLOW),
            (
                Notified::Owners,
                libc::SYS_utimensat,
                [0, 0, 0, nofollow],
                NOTIFY,
            ),
            (Notified::Owners, libc::SYS_readlinkat, [0, 0, 0, 0], ALLOW),
            (Notified::Owners, libc::SYS_fstat, [0, 0, 0, 0], NOTIFY),
            (Notified::Owners, libc::SYS_mount, [0, 0, 0, 0], EPERM),
            (Notified::Devices, libc::SYS_mknodat, [0, 0, 0, 0], NOTIFY),
            (Notified::Devices, libc::SYS_statx, [0, 0, 0, 0], NOTIFY),
            (Notified::Devices, libc::SYS_fchownat, [0, 0, 0, 0], ALLOW),
            (Notified::Files, libc::SYS_openat, [0, 0, 0, 0], NOTIFY),
            (
                Notified::Files,
                libc::SYS_newfstatat,
                [0, 0, 0, empty],
                ALLOW,
            ),
            (
                Notified::Files,
                libc::SYS_newfstatat,
                [0, 0, 0, nofollow],
                NOTIFY,
            ),
            (Notified::Files, libc::SYS_statx, [0, 0, empty, 0], ALLOW),
            (Notified::Files, libc::SYS_fchownat, [0, 0, 0, 0], ALLOW),
            (Notified::Devices, libc::SYS_fchownat, [0, 0, 0, 0], ALLOW),
        ] {
            check(notified, NATIVE_ARCH, number, &args, expected);
        }
        check(Notified::Owners, COMPAT_ARCH, 212, &[], NOTIFY);
        check(Notified::Owners, COMPAT_ARCH, 199, &[], NOTIFY);
    }

    #[test]
    fn the_longest_program_fits() {
        let program = program(Policy::of_run(Notified::Owners));
        // BPF_MAXINSNS
        assert!(program.len() < 4096, "{}", program.len());
    }
}
