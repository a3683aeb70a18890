//! What a process may do to others of its user, which no path is needed for: signals where no other wall keeps them
//! inside (Landlock's, from ABI 6 on), limits and priorities. To the RUN's own processes alone.

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::procfs::read_small;
use crate::sandbox::supervisor::{Reply, Result};

impl Server {
    /// `kill`, `tkill`, `tgkill`, `pidfd_send_signal`.
    pub(super) fn signal(&self, caller: &Caller<'_>) -> Result<Reply> {
        let target = caller.descriptor(0);
        let process = match caller.call {
            // The own group, which is the RUN's.
            Call::Kill if target == 0 => return Ok(Reply::Continue),
            // Everybody, or a group by its leader.
            Call::Kill => target.unsigned_abs(),
            Call::PidfdSendSignal => process_of(caller, target)?,
            _ => target.unsigned_abs(),
        };
        if process > 1 && self.is_ours(caller, process) {
            return Ok(Reply::Continue);
        }
        Err(Errno::PERM.into())
    }

    /// `prlimit64`, `setpriority`, and their like.
    pub(super) fn govern(&self, caller: &Caller<'_>) -> Result<Reply> {
        // Which kind of target: PRIO_PROCESS is 0, IOPRIO_WHO_PROCESS is 1; then groups of processes, then users.
        let (kind, target) = match caller.call {
            Call::Setpriority => (caller.descriptor(0), caller.word(1)),
            Call::IoprioSet => (caller.descriptor(0) - 1, caller.word(1)),
            _ => (0, caller.word(0)),
        };
        let own = target == 0 || self.is_ours(caller, target);
        if (0..=1).contains(&kind) && own {
            return Ok(Reply::Continue);
        }
        Err(Errno::PERM.into())
    }

    /// `ioctl` with `TIOCGPTPEER`: the other side of a terminal that the RUN has made.
    pub(super) fn terminal_peer(&self, caller: &Caller<'_>) -> Result<Reply> {
        let info = format!("{}/fdinfo/{}", caller.pid(), caller.descriptor(0));
        let text = read_small(caller.proc, &info).map_err(|_| Errno::BADF)?;
        caller.check()?;
        let number = field(&text, "tty-index:").and_then(|number| number.parse::<u32>().ok());
        let number = number.filter(|number| self.terminals.contains(number));
        let number = number.ok_or(Errno::NOTTY)?;
        let flags = OFlags::from_bits_retain(caller.word(2)) & (OFlags::RWMODE | OFlags::NONBLOCK);
        let path = format!("/dev/pts/{number}");
        let added = OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(rustix::fs::CWD, path, flags | added, Mode::empty())?;
        let cloexec = caller.word(2) & OFlags::CLOEXEC.bits() != 0;
        Ok(Reply::File { file, cloexec })
    }
}

/// The process that a descriptor of the caller's names.
fn process_of(caller: &Caller<'_>, descriptor: i32) -> Result<u32> {
    let info = format!("{}/fdinfo/{descriptor}", caller.pid());
    let text = read_small(caller.proc, &info).map_err(|_| Errno::BADF)?;
    let process = field(&text, "Pid:").and_then(|number| number.parse().ok());
    process.ok_or_else(|| Errno::BADF.into())
}

/// A line of a text of `/proc/PID/fdinfo`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name).map(str::trim))
}
