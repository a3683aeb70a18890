//! `execve(2)`: the caller is made to start the loader, which asks what to map.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, openat};
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::Seen;
use crate::sandbox::supervisor::paths::program::Chosen;
use crate::sandbox::supervisor::{NoAnswer, Reply, Result};
use crate::sandbox::sys::loader::{self, QUESTION, SCRATCH, SCRATCH_SIZE};
use crate::sandbox::sys::{memory, seccomp};

/// An empty string in the scratch memory of a process: the path of what is a descriptor.
const EMPTY: u64 = SCRATCH;
/// Where the arguments of scripts are put together.
const SLOTS: u64 = SCRATCH + 0x1_0000;
/// More than start at a time.
const MOST_STARTS: usize = 1024;
/// More than the arguments of any call (`MAX_ARG_STRINGS` is beyond what fits a stack).
const MOST_ARGUMENTS: usize = 200_000;

/// A program that is being started.
pub(super) struct Start {
    /// The caller's descriptor of the loader.
    descriptor: u64,
    pub(super) chosen: Chosen,
    /// What the process is called (`comm`).
    pub(super) name: Vec<u8>,
    /// Who it is from then on.
    pub(super) who: Credentials,
    /// Whether the program has more rights than who starts it.
    pub(super) secure: bool,
}

/// The programs that are being started, by thread, and the loader.
pub(super) struct Starts {
    loader: OwnedFd,
    waiting: HashMap<u32, Box<Start>>,
    /// Where the next arguments go.
    slot: u64,
}

impl Starts {
    /// Puts the loader into memory.
    pub(super) fn new() -> std::io::Result<Self> {
        let program = loader::program().ok_or(Errno::NOSYS)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Where programs in memory must be asked for (vm.memfd_noexec, Linux 6.3).
        let file = match rustix::fs::memfd_create(c"loader", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"loader", flags),
            other => other,
        }?;
        rustix::io::write(&file, &program)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self {
            loader: file,
            waiting: HashMap::new(),
            slot: 0,
        })
    }

    fn wait(&mut self, thread: u32, start: Box<Start>) {
        // Those that were killed meanwhile never ask.
        if self.waiting.len() >= MOST_STARTS {
            self.waiting.clear();
        }
        self.waiting.insert(thread, start);
    }

    /// What a process that runs the loader is to become.
    pub(super) fn take(&mut self, process: u32) -> Option<Box<Start>> {
        self.waiting.remove(&process)
    }

    /// A place in scratch memory that nothing which is starting uses.
    fn place(&mut self, length: u64) -> Result<u64> {
        let room = SCRATCH_SIZE - (SLOTS - SCRATCH);
        if length > room {
            return Err(Errno::TOOBIG.into());
        }
        if self.slot + length > room {
            self.slot = 0;
        }
        let place = SLOTS + self.slot;
        self.slot += length.next_multiple_of(64);
        Ok(place)
    }
}

impl Server {
    /// `execve`, `execveat`.
    pub(super) fn execute(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let at = caller.call == Call::Execveat;
        if at && caller.descriptor(0) == QUESTION {
            return self.plan(caller);
        }
        if let Some(start) = self.starts.take(caller.pid())
            && at
            && caller.argument(0) == start.descriptor
            && caller.argument(1) == EMPTY
        {
            // The call that it was made to make. The process will be called by its leader's number.
            let process = caller.status()?.group;
            self.starts.wait(process, start);
            return Ok(Reply::Continue);
        }
        let first = usize::from(at);
        let (arguments, environment) = (caller.argument(first + 1), caller.argument(first + 2));
        let (start, arguments) = self.begin(caller, at, arguments)?;
        let visit = match self.visit(caller) {
            Ok(Some(visit)) => visit,
            Ok(None) => return Ok(Reply::Sent),
            // The RUN's own debugger has it.
            Err(error) if error == Errno::PERM.into() => return self.execute_traced(caller, start),
            Err(error) => return Err(error),
        };
        let call = [
            start.descriptor,
            EMPTY,
            arguments,
            environment,
            libc::AT_EMPTY_PATH as u64,
        ];
        self.starts.wait(caller.pid(), Box::new(start));
        // One that was killed meanwhile needs nothing more.
        let _ = visit.call_instead(libc::SYS_execveat.cast_unsigned(), call);
        Ok(Reply::Sent)
    }

    /// Starts a program in a process that another one traces, whose registers are out of reach: the path in its memory
    /// is written over with the loader's, and the kernel reads it. Whatever a second thread writes there meanwhile, the
    /// kernel executes no file (Landlock). A script's arguments can't be put together so.
    fn execute_traced(&mut self, caller: &Caller<'_>, start: Start) -> Result<Reply> {
        if caller.call != Call::Execve || !start.chosen.before.is_empty() {
            return Err(Errno::PERM.into());
        }
        let path = format!("/proc/self/fd/{}\0", start.descriptor);
        let memory = format!("{}/mem", caller.pid());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let memory = openat(caller.proc, memory, flags, Mode::empty())?;
        caller.check()?;
        rustix::io::pwrite(&memory, path.as_bytes(), caller.argument(0))?;
        let process = caller.status()?.group;
        self.starts.wait(process, Box::new(start));
        Ok(Reply::Continue)
    }

    /// Finds the program, and gives the caller the loader; with the address of its arguments.
    fn begin(&mut self, caller: &Caller<'_>, at: bool, arguments: u64) -> Result<(Start, u64)> {
        let who = self.who();
        let (start, path) = caller.path()?;
        let flags = if at { caller.descriptor(4) } else { 0 };
        let (found, given) = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            let name = CString::new(format!("/dev/fd/{start}")).map_err(|_| Errno::INVAL)?;
            (self.opened(caller, start)?, name)
        } else {
            let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
            let found = self.resolve(caller, &who, (start, &path), follow)?;
            (found, path)
        };
        let chosen = self.choose(caller, &who, &found, &given)?;
        let arguments = self.arguments(caller, &chosen.before, arguments)?;
        let (new, secure) = becomes(
            &who,
            chosen.program.seen.as_ref(),
            !chosen.before.is_empty(),
        );
        let id = caller.notification.id;
        let loader = self.starts.loader.as_fd();
        let number = seccomp::add_fd(caller.listener, id, loader, None, true)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let name = given.to_bytes().rsplit(|&byte| byte == b'/').next();
        let start = Start {
            descriptor: u64::from(number.cast_unsigned()),
            chosen,
            name: name.unwrap_or_default().to_vec(),
            who: new,
            secure,
        };
        Ok((start, arguments))
    }

    /// The arguments of a script's interpreter, in the caller's scratch memory: what comes before, and the caller's own
    /// from the second on.
    fn arguments(&mut self, caller: &Caller<'_>, before: &[Vec<u8>], own: u64) -> Result<u64> {
        if before.is_empty() {
            return Ok(own);
        }
        let mut text = Vec::new();
        let mut places = Vec::new();
        for word in before {
            places.push(text.len() as u64);
            text.extend_from_slice(word);
            text.push(0);
        }
        let place = self.starts.place(text.len() as u64)?;
        caller.write(place, &text)?;
        let mut words: Vec<u64> = places.iter().map(|offset| place + offset).collect();
        words.extend(pointers(caller, own)?.into_iter().skip(1));
        words.push(0);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let place = self.starts.place(bytes.len() as u64)?;
        caller.write(place, &bytes)?;
        Ok(place)
    }
}

/// An array of addresses in the caller's memory, up to the null that ends it.
fn pointers(caller: &Caller<'_>, mut place: u64) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    if place == 0 {
        return Ok(all);
    }
    loop {
        // What is mapped arrives even if the next page isn't.
        let mut bytes = [0; 4096];
        let have = memory::read(caller.pid(), place, &mut bytes)?;
        let (words, _) = bytes[..have].as_chunks();
        if words.is_empty() {
            return Err(Errno::FAULT.into());
        }
        let words = words.iter().copied().map(u64::from_ne_bytes);
        let before = all.len();
        all.extend(words.take_while(|word| *word != 0));
        let taken = all.len() - before;
        if taken < have / 8 {
            caller.check()?;
            return Ok(all);
        }
        if all.len() > MOST_ARGUMENTS {
            return Err(NoAnswer::from(Errno::TOOBIG));
        }
        place += 8 * taken as u64;
    }
}

/// Who somebody is who starts a program, and whether it has more rights than before: `execve(2)`, "set-user-ID".
fn becomes(who: &Credentials, program: Option<&Seen>, script: bool) -> (Credentials, bool) {
    let mut new = who.clone();
    let mode = program.map_or(0, Seen::permissions);
    let by_user = mode & libc::S_ISUID != 0 && !script;
    // Without the right to execute, the bit of the group means something else.
    let by_group = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && !script;
    let record = program.map(|seen| seen.record).unwrap_or_default();
    new.execute(
        by_user.then_some(record.uid),
        by_group.then_some(record.gid),
    );
    let differs = |ids: &crate::sandbox::supervisor::identity::Ids| ids.real != ids.effective;
    let secure = (by_user || by_group) && (differs(&new.user) || differs(&new.group));
    (new, secure)
}
