//! Which process has which credentials: kept by thread group, inherited from the nearest known ancestor.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sandbox::supervisor::identity::{Credentials, Identity};
use crate::sandbox::supervisor::procfs::{Status, read_small};

/// More ancestors than any process has that is worth a look.
const DEPTH: usize = 64;

/// A process whose credentials are known.
struct Known {
    /// Tells whether the process is still the one that had this number.
    process: OwnedFd,
    credentials: Rc<Credentials>,
}

/// The credentials of all processes.
pub(super) struct Processes {
    initial: Rc<Credentials>,
    known: HashMap<u32, Known>,
    /// Whether a process ever changed its credentials: until then all have the initial ones.
    changed: bool,
    /// At this number of known processes the dead are forgotten.
    room: usize,
}

/// So many processes may be known before the dead among them are looked for: each holds a descriptor, and the
/// supervisor needs some for its answers.
const ROOM: usize = 128;

impl Processes {
    /// All processes have this identity.
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            initial: Rc::new(Credentials::new(identity)),
            known: HashMap::new(),
            changed: false,
            room: ROOM,
        }
    }

    /// Those that a RUN starts with.
    pub(super) fn initial(&self) -> Rc<Credentials> {
        Rc::clone(&self.initial)
    }

    /// The credentials of the process that a thread belongs to.
    pub(super) fn of(&mut self, proc: BorrowedFd<'_>, thread: u32) -> Rc<Credentials> {
        if !self.changed {
            return Rc::clone(&self.initial);
        }
        if let Some(credentials) = self.known(thread) {
            return credentials;
        }
        let Ok(status) = Status::read(proc, thread) else {
            return Rc::clone(&self.initial);
        };
        if let Some(credentials) = self.known(status.group) {
            return credentials;
        }
        let credentials = self.inherited(proc, status.parent);
        self.insert(status.group, &credentials);
        credentials
    }

    fn inherited(&mut self, proc: BorrowedFd<'_>, parent: u32) -> Rc<Credentials> {
        let mut ancestor = parent;
        for _ in 0..DEPTH {
            if ancestor <= 1 {
                break;
            }
            if let Some(credentials) = self.known(ancestor) {
                return credentials;
            }
            match Status::read(proc, ancestor) {
                Ok(status) => ancestor = status.parent,
                Err(_) => break,
            }
        }
        Rc::clone(&self.initial)
    }

    fn known(&mut self, group: u32) -> Option<Rc<Credentials>> {
        let known = self.known.get(&group)?;
        if is_alive(&known.process) {
            return Some(Rc::clone(&known.credentials));
        }
        self.known.remove(&group);
        None
    }

    fn insert(&mut self, group: u32, credentials: &Rc<Credentials>) {
        if self.known.len() >= self.room {
            self.known.retain(|_, known| is_alive(&known.process));
            self.room = ROOM.max(2 * self.known.len());
        }
        let process = Pid::from_raw(group.cast_signed());
        let Some(process) = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return;
        };
        let credentials = Rc::clone(credentials);
        self.known.insert(
            group,
            Known {
                process,
                credentials,
            },
        );
    }

    /// Gives a process other credentials. Its children keep those that it had when they were born.
    pub(super) fn change(&mut self, proc: BorrowedFd<'_>, thread: u32, credentials: Credentials) {
        let old = self.of(proc, thread);
        if *old == credentials {
            return;
        }
        let group = Status::read(proc, thread).map_or(thread, |status| status.group);
        self.changed = true;
        self.settle_children(proc, group, &old);
        self.insert(group, &Rc::new(credentials));
    }

    /// A process ends: its children lose the ancestor that they would inherit from.
    pub(super) fn exit(&mut self, proc: BorrowedFd<'_>, thread: u32) {
        if !self.changed {
            return;
        }
        let credentials = self.of(proc, thread);
        if *credentials != *self.initial {
            let group = Status::read(proc, thread).map_or(thread, |status| status.group);
            self.settle_children(proc, group, &credentials);
        }
    }

    /// Writes down what the children have inherited so far.
    fn settle_children(&mut self, proc: BorrowedFd<'_>, group: u32, credentials: &Rc<Credentials>) {
        let tasks = openat(
            proc,
            format!("{group}/task"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let Ok(tasks) = tasks.and_then(Dir::new) else {
            return;
        };
        for task in tasks.flatten() {
            let Ok(task) = task.file_name().to_str() else {
                continue;
            };
            let Ok(children) = read_small(proc, &format!("{group}/task/{task}/children")) else {
                continue;
            };
            for child in children.split_ascii_whitespace() {
                if let Ok(child) = child.parse()
                    && self.known(child).is_none()
                {
                    self.insert(child, credentials);
                }
            }
        }
    }
}

fn is_alive(process: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(process, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut descriptors, Some(&now)), Ok(0))
}
