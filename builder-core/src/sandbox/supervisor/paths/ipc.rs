//! System V objects and message queues of the RUN: where nothing has a namespace of its own, keys and names are the
//! supervisor's, objects of others are not there, and what was made is removed when the RUN ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::ipc::{self, Kind};

/// Questions about all objects of the machine, by their place in a list: `SHM_STAT`, `SHM_STAT_ANY`, `SEM_STAT`,
/// `SEM_STAT_ANY`, `MSG_STAT`, `MSG_STAT_ANY`.
const LISTINGS: &[i32] = &[11, 13, 15, 18, 20];
/// Questions about limits: `IPC_INFO`, `MSG_INFO`, `SHM_INFO`, `SEM_INFO`. An id is no part of them.
const LIMITS: &[i32] = &[3, 12, 14, 19];
/// For programs of the machine's own kind this is set in no command, but it is for those of some libraries.
const IPC_64: i32 = 0x100;

/// An object of the RUN.
struct Object {
    /// The key that it was asked for by, unless it has none.
    key: Option<i32>,
    /// Its size in bytes, or the number of semaphores.
    size: u64,
}

/// What the RUN has made.
#[derive(Default)]
pub(super) struct Ipc {
    objects: BTreeMap<(Kind, i32), Object>,
    keys: BTreeMap<(Kind, i32), i32>,
    /// Message queues, by the names that the kernel has for them.
    queues: BTreeSet<CString>,
}

impl Ipc {
    /// What `shmget(2)` and its relatives give.
    fn get(&mut self, kind: Kind, key: i32, size: u64, flags: i32) -> rustix::io::Result<i32> {
        let key = Some(key).filter(|key| *key != libc::IPC_PRIVATE);
        let known = key.and_then(|key| self.keys.get(&(kind, key)).copied());
        if let Some(id) = known {
            if flags & libc::IPC_CREAT != 0 && flags & libc::IPC_EXCL != 0 {
                return Err(Errno::EXIST);
            }
            let own = self.objects.get(&(kind, id)).map_or(0, |one| one.size);
            return if size > own {
                Err(Errno::INVAL)
            } else {
                Ok(id)
            };
        }
        if key.is_some() && flags & libc::IPC_CREAT == 0 {
            return Err(Errno::NOENT);
        }
        let id = ipc::make(kind, size, flags & 0o777)?;
        self.objects.insert((kind, id), Object { key, size });
        self.keys.extend(key.map(|key| ((kind, key), id)));
        Ok(id)
    }

    fn has(&self, kind: Kind, id: i32) -> bool {
        self.objects.contains_key(&(kind, id))
    }

    /// Forgets an object that is about to be removed.
    fn forget(&mut self, kind: Kind, id: i32) {
        let object = self.objects.remove(&(kind, id));
        if let Some(key) = object.and_then(|object| object.key) {
            self.keys.remove(&(kind, key));
        }
    }
}

impl Drop for Ipc {
    fn drop(&mut self) {
        for (kind, id) in self.objects.keys() {
            ipc::remove(*kind, *id);
        }
        for name in &self.queues {
            // The RUN has removed it, perhaps.
            let _ = ipc::unlink_queue(name);
        }
    }
}

/// The name that the kernel has for a queue of this RUN: no other RUN's, and none of the machine's.
fn queue_name(name: &CString) -> Result<CString> {
    let name = name.to_bytes();
    if name.is_empty() || name.contains(&b'/') {
        return Err(Errno::ACCESS.into());
    }
    let own = format!("/rbuild-{}-", std::process::id());
    CString::new([own.as_bytes(), name].concat()).map_err(|_| Errno::INVAL.into())
}

impl Server {
    /// `shmget`, `semget`, `msgget`, and what is done with their ids; `mq_open`, `mq_unlink`.
    pub(super) fn ipc(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        use Kind::{Memory, Messages, Semaphores};
        let key = caller.descriptor(0);
        match caller.call {
            Call::Shmget => {
                let id = self
                    .ipc
                    .get(Memory, key, caller.argument(1), caller.descriptor(2))?;
                Ok(Reply::Value(id.into()))
            }
            Call::Semget => {
                let count = u64::from(caller.word(1));
                let id = self.ipc.get(Semaphores, key, count, caller.descriptor(2))?;
                Ok(Reply::Value(id.into()))
            }
            Call::Msgget => {
                let id = self.ipc.get(Messages, key, 0, caller.descriptor(1))?;
                Ok(Reply::Value(id.into()))
            }
            Call::Shmat => self.use_object(Memory, key),
            Call::Semop | Call::Semtimedop => self.use_object(Semaphores, key),
            Call::Msgsnd | Call::Msgrcv => self.use_object(Messages, key),
            Call::Shmctl => self.control(Memory, key, caller.descriptor(1)),
            Call::Semctl => self.control(Semaphores, key, caller.descriptor(2)),
            Call::Msgctl => self.control(Messages, key, caller.descriptor(1)),
            Call::MqOpen => self.open_queue(caller),
            _ => {
                let name = queue_name(&caller.string(caller.argument(0))?)?;
                ipc::unlink_queue(&name)?;
                self.ipc.queues.remove(&name);
                Ok(Reply::Value(0))
            }
        }
    }

    /// An id is a number in a register: nobody changes it after this look.
    fn use_object(&self, kind: Kind, id: i32) -> Result<Reply> {
        if self.ipc.has(kind, id) {
            return Ok(Reply::Continue);
        }
        Err(Errno::INVAL.into())
    }

    fn control(&mut self, kind: Kind, id: i32, command: i32) -> Result<Reply> {
        let command = command & !IPC_64;
        if LIMITS.contains(&command) {
            return Ok(Reply::Continue);
        }
        if LISTINGS.contains(&command) {
            return Err(Errno::INVAL.into());
        }
        let reply = self.use_object(kind, id)?;
        if command == libc::IPC_RMID {
            self.ipc.forget(kind, id);
        }
        Ok(reply)
    }

    fn open_queue(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let name = queue_name(&caller.string(caller.argument(0))?)?;
        let flags = caller.descriptor(1);
        let limits = match caller.argument(3) {
            0 => None,
            place => {
                // `mq_attr`: flags, largest number of messages, size of a message, current number.
                let mut words = [0; 24];
                caller.bytes(place, &mut words)?;
                let word = |at: usize| {
                    i64::from_ne_bytes(std::array::from_fn(|byte| words[at * 8 + byte]))
                };
                Some((word(1), word(2)))
            }
        };
        let mode = caller.word(2) & 0o777 & !self.masks.of(caller)?;
        let file = ipc::open_queue(&name, flags, mode, limits)?;
        if flags & libc::O_CREAT != 0 {
            self.ipc.queues.insert(name);
        }
        let cloexec = flags & libc::O_CLOEXEC != 0;
        Ok(Reply::File { file, cloexec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_run_s_own() {
        let mut ipc = Ipc::default();
        let (kind, create) = (Kind::Semaphores, libc::IPC_CREAT | 0o600);
        assert_eq!(ipc.get(kind, 7, 1, 0), Err(Errno::NOENT));
        let id = ipc.get(kind, 7, 2, create).unwrap();
        assert_eq!(ipc.get(kind, 7, 2, create), Ok(id));
        assert_eq!(ipc.get(kind, 7, 0, 0), Ok(id));
        assert_eq!(ipc.get(kind, 7, 3, 0), Err(Errno::INVAL));
        assert_eq!(
            ipc.get(kind, 7, 2, create | libc::IPC_EXCL),
            Err(Errno::EXIST)
        );
        assert_ne!(ipc.get(kind, libc::IPC_PRIVATE, 2, create).unwrap(), id);
        assert!(ipc.has(kind, id) && !ipc.has(Kind::Messages, id));
        // Whoever else has it open sees that it is gone.
        drop(ipc);
        ipc::remove(kind, id);
        let mut again = Ipc::default();
        assert_eq!(again.get(kind, 7, 1, 0), Err(Errno::NOENT));
        let id = again.get(kind, 7, 1, create).unwrap();
        ipc::remove(kind, id);
        again.forget(kind, id);
        assert_eq!(again.get(kind, 7, 1, 0), Err(Errno::NOENT));
    }

    #[test]
    fn queues_have_names_of_their_own() {
        let name = |text: &str| queue_name(&CString::new(text).unwrap());
        assert!(name("q").unwrap().to_bytes().ends_with(b"-q"));
        assert!(name("").is_err() && name("a/b").is_err());
    }
}
