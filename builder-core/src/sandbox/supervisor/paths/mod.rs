//! The duty of paths: every call that takes one is done here, below the RUN's root, with what the RUN may do; the kernel
//! resolves nothing for it.
//!
//! The caller's strings are read once, and what they lead to is a descriptor of this process: no second thread can change
//! it between looking and doing. What nobody can do for another process (start a program, change the working directory)
//! is done by a visit to it, by descriptor.

mod answers;
mod attributes;
mod change;
mod directory;
mod elf;
mod execute;
mod ipc;
mod kernel_files;
mod look;
mod make;
mod masks;
mod mount_list;
mod open;
mod peers;
mod permission;
mod plan;
mod power;
mod program;
mod remove;
mod resolve;
mod roots;
mod signals;
mod sockets;
mod stand_ins;
mod trees;
mod unix_names;
mod walk;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

pub(crate) use crate::sandbox::supervisor::paths::trees::{Kind, Mounted, Paths};

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::owners::{Keeper, Owners};
use crate::sandbox::supervisor::paths::execute::Starts;
use crate::sandbox::supervisor::paths::ipc::Ipc;
use crate::sandbox::supervisor::paths::masks::Masks;
use crate::sandbox::supervisor::paths::peers::Peers;
use crate::sandbox::supervisor::paths::roots::Roots;
use crate::sandbox::supervisor::paths::sockets::Sockets;
use crate::sandbox::supervisor::paths::stand_ins::StandIns;
use crate::sandbox::supervisor::paths::trees::Trees;
use crate::sandbox::supervisor::paths::walk::{Found, Here};
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::ptrace::Wait;

/// Resolves paths, and does what is asked there.
pub(super) struct Server {
    keeper: Keeper,
    trees: Trees,
    masks: Masks,
    stand_ins: StandIns,
    sockets: Sockets,
    peers: Peers,
    ipc: Ipc,
    roots: Roots,
    starts: Starts,
    /// Terminals that the RUN has made.
    terminals: BTreeSet<u32>,
    /// All processes of the RUN descend from this one, which adopts orphans.
    supervisor: u32,
    /// The host's user and group, who own every file on the disk.
    user: u32,
    group: u32,
    /// Who the caller is that is being answered.
    current: Rc<Credentials>,
    /// Whether it is traced already.
    traced: bool,
    /// What a visit heard of processes that ended.
    missed: Vec<(u32, Wait)>,
}

impl Server {
    /// Starts to serve.
    pub(super) fn new(paths: Paths) -> std::io::Result<Self> {
        let keeper = Keeper::new(Owners {
            identity: paths.identity,
            table: paths.table,
            native: false,
        });
        Ok(Self {
            current: keeper.processes.initial(),
            keeper,
            trees: Trees::open(paths.mounts)?,
            masks: Masks::default(),
            stand_ins: StandIns::default(),
            sockets: Sockets::default(),
            peers: Peers::default(),
            ipc: Ipc::default(),
            roots: Roots::default(),
            starts: Starts::new()?,
            terminals: paths.terminal.into_iter().collect(),
            supervisor: std::process::id(),
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            traced: false,
            missed: Vec::new(),
        })
    }

    /// Records of the files that take no attributes.
    pub(super) fn table(&self) -> &crate::owners::SideTable {
        self.keeper.table()
    }

    /// What visits heard of processes that ended.
    pub(super) fn take_missed(&mut self) -> Vec<(u32, Wait)> {
        std::mem::take(&mut self.missed)
    }

    /// The caller's credentials.
    fn who(&self) -> Rc<Credentials> {
        Rc::clone(&self.current)
    }

    /// What is at a place that a process has open.
    fn end_of(&self, caller: &Caller<'_>, here: Here) -> Result<Found> {
        match here {
            Here::Tree(object, tree) => Ok(Found::File(object, tree)),
            Here::Leaf(found) => Ok(found),
            Here::Kernel(path) => self.kernel_file(caller, path),
        }
    }

    /// Answers a call; `traced`, whether this process traces its thread already.
    pub(super) fn answer(&mut self, caller: &Caller<'_>, traced: bool) -> Result<Reply> {
        self.traced = traced;
        self.current = self.keeper.processes.of(caller.proc, caller.pid());
        match caller.call {
            Call::Stat | Call::Lstat | Call::Fstat | Call::Newfstatat | Call::Statx => {
                self.stat(caller)
            }
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open(caller),
            Call::Readlink | Call::Readlinkat => self.read_link(caller),
            Call::Access | Call::Faccessat | Call::Faccessat2 => self.access(caller),
            Call::Execve | Call::Execveat => self.execute(caller),
            Call::Chdir => self.change_directory(caller),
            Call::Chroot => self.change_root(caller),
            Call::Getcwd => self.working_directory(caller),
            Call::Mkdir | Call::Mkdirat => self.make_directory(caller),
            Call::Symlink | Call::Symlinkat => self.make_link(caller),
            Call::Mknod | Call::Mknodat => self.make_node(caller),
            Call::Link | Call::Linkat => self.link(caller),
            Call::Unlink | Call::Unlinkat | Call::Rmdir => self.unlink(caller),
            Call::Rename | Call::Renameat | Call::Renameat2 => self.rename(caller),
            Call::Chmod | Call::Fchmod | Call::Fchmodat | Call::Fchmodat2 => {
                self.change_mode(caller)
            }
            Call::Chown | Call::Lchown | Call::Fchown | Call::Fchownat => self.change_owner(caller),
            Call::Utime | Call::Utimes | Call::Futimesat | Call::Utimensat => {
                self.change_times(caller)
            }
            Call::Truncate => self.truncate(caller),
            Call::Statfs => self.statfs(caller),
            // Programs that watch fall back to looking again.
            Call::InotifyAddWatch => Err(Errno::NOSPC.into()),
            Call::Umask => {
                self.masks.set(caller);
                Ok(Reply::Continue)
            }
            _ => self.answer_other(caller),
        }
    }

    /// Calls without a path.
    fn answer_other(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        match caller.call {
            Call::Socket => self.socket(caller),
            Call::Socketpair => sockets::socket_pair(caller),
            Call::Connect => self.connect(caller),
            Call::Bind => self.bind(caller),
            Call::Ioctl => self.terminal_peer(caller),
            Call::Prctl | Call::Capset | Call::Capget => self.power(caller),
            Call::Kill | Call::Tkill | Call::Tgkill | Call::PidfdSendSignal => self.signal(caller),
            Call::Prlimit64
            | Call::Setpriority
            | Call::IoprioSet
            | Call::SchedSetaffinity
            | Call::SchedSetscheduler
            | Call::SchedSetparam
            | Call::SchedSetattr => self.govern(caller),
            Call::ExitGroup => {
                self.keeper.processes.exit(caller.proc, caller.pid());
                Ok(Reply::Continue)
            }
            Call::Getuid
            | Call::Geteuid
            | Call::Getgid
            | Call::Getegid
            | Call::Getresuid
            | Call::Getresgid
            | Call::Getgroups => self.keeper.tell_ids(caller),
            Call::Setuid
            | Call::Setgid
            | Call::Setreuid
            | Call::Setregid
            | Call::Setresuid
            | Call::Setresgid
            | Call::Setfsuid
            | Call::Setfsgid
            | Call::Setgroups => self.keeper.set_ids(caller),
            Call::Getsockopt => self.peer(caller),
            Call::Shmget
            | Call::Shmat
            | Call::Shmctl
            | Call::Semget
            | Call::Semop
            | Call::Semtimedop
            | Call::Semctl
            | Call::Msgget
            | Call::Msgsnd
            | Call::Msgrcv
            | Call::Msgctl
            | Call::MqOpen
            | Call::MqUnlink => self.ipc(caller),
            _ => self.attributes(caller),
        }
    }
}

/// A file in memory that says something, and that nobody can change.
fn text_file(text: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"text", flags)?;
    let mut left = text;
    while !left.is_empty() {
        let count = rustix::io::write(&file, left)?;
        left = &left[count..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}
