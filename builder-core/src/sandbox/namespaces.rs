//! Engine U: user, mount, process, IPC, host name and perhaps network namespaces (namespaces(7)), made without any
//! privilege.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use super::filter::{Notified, Policy};
use super::isolation::Isolation;
use super::mounts::{self, Mounted};
use super::spec::{Doing as _, Failure, Ids, RunSpec};
use super::supervisor::{Duty, Identity, Owners};
use super::sys;
use super::sys::landlock;
use super::sys::process::Forked;
use crate::owners::SideTable;

/// A RUN in namespaces.
#[derive(Debug)]
pub(super) struct Namespaces<'a> {
    spec: &'a RunSpec,
    ids: Ids,
    processes: bool,
    /// Landlock's version; 0 for none.
    landlock: i32,
    mounted: Mounted,
}

impl<'a> Namespaces<'a> {
    pub(super) fn new(spec: &'a RunSpec, ids: Ids, processes: bool) -> Self {
        Self {
            spec,
            ids,
            processes,
            landlock: landlock::abi(),
            mounted: Mounted::default(),
        }
    }

    /// Whether abstract sockets of the machine are there: they belong to its network.
    fn shares_sockets(&self) -> bool {
        !self.spec.no_network
    }
}

impl Isolation for Namespaces<'_> {
    fn prepare(&mut self) -> Result<(), Failure> {
        if self.spec.no_network {
            sys::mount::loopback_up().doing("setting up the loopback interface")?;
        }
        // A container may have forbidden it; the name is of no importance.
        let _ = rustix::system::sethostname(self.spec.hostname.as_bytes());
        let mounted = &mut self.mounted;
        let root = mounts::make_root(self.spec, self.ids, self.processes, mounted)?;
        let folder = self.spec.root.folder();
        mounts::mount_all(&root, &self.spec.mounts, folder, &mut self.mounted)?;
        mounts::enter_root(&root, self.spec.read_only)
    }

    /// The root is entered already. The network is the caller's, and with it every abstract socket of the machine;
    /// where the processes are too, so are those that could be signalled.
    fn enter(&self) -> Result<(), Failure> {
        if self.landlock < landlock::SCOPES_ABI || self.processes && !self.shares_sockets() {
            return Ok(());
        }
        landlock::restrict_scope(self.landlock, !self.processes).doing("restricting sockets")
    }

    fn policy(&self) -> Policy {
        let notified = match self.ids {
            Ids::Single => Notified::Owners,
            Ids::Range => Notified::Devices,
        };
        Policy {
            addresses: self.shares_sockets() && self.landlock < landlock::SCOPES_ABI,
            ..Policy::of_run(notified)
        }
    }

    fn duty(&mut self, table: SideTable, _terminal: Option<u32>) -> Result<Option<Duty>, Failure> {
        let user = &self.spec.user;
        Ok(Some(Duty::Owners(Owners {
            identity: Identity {
                uid: user.uid,
                gid: user.gid,
                groups: user.groups.clone(),
            },
            table,
            native: self.ids == Ids::Range,
        })))
    }

    fn has_all_ids(&self) -> bool {
        self.ids == Ids::Range
    }

    fn has_own_processes(&self) -> bool {
        self.processes
    }

    fn finish(&mut self) -> Vec<PathBuf> {
        mounts::unmount_all(&mut self.mounted)
    }
}

/// Moves this process into new namespaces. The next process that it makes is the first one of a process namespace,
/// where that is wanted.
pub(super) fn unshare(ids: Ids, processes: bool, network: bool) -> Result<(), Failure> {
    unshare_user(ids)?;
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if processes {
        flags |= UnshareFlags::NEWPID;
    }
    if network {
        flags |= UnshareFlags::NEWNET;
    }
    sys::process::unshare(flags).doing("making namespaces for mounts and processes")
}

/// Moves this process into a new user namespace, in which it is root.
pub(super) fn unshare_user(ids: Ids) -> Result<(), Failure> {
    match ids {
        Ids::Single => {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            sys::process::unshare(UnshareFlags::NEWUSER).doing("making a user namespace")?;
            // Without it the kernel lets nobody map a group (user_namespaces(7)).
            write("/proc/self/setgroups", "deny")?;
            write("/proc/self/uid_map", &format!("0 {} 1\n", uid.as_raw()))?;
            write("/proc/self/gid_map", &format!("0 {} 1\n", gid.as_raw()))
        }
        Ids::Range => unshare_with_all_ids(),
    }
}

/// Only a process that is still outside may map more than one id: a child writes the maps and ends.
fn unshare_with_all_ids() -> Result<(), Failure> {
    let making = "making a user namespace";
    let (uids, gids) = (map_of("uid_map")?, map_of("gid_map")?);
    let (wait, go): (OwnedFd, OwnedFd) = rustix::pipe::pipe().doing(making)?;
    let own = rustix::process::getpid().as_raw_nonzero();
    let child = match sys::process::fork().doing(making)? {
        Forked::Parent(child) => child,
        Forked::Child => {
            drop(go);
            let begun = std::fs::File::from(wait).read(&mut [0]);
            let mapped = begun.is_ok_and(|read| read == 1)
                && write(&format!("/proc/{own}/uid_map"), &uids).is_ok()
                && write(&format!("/proc/{own}/gid_map"), &gids).is_ok();
            sys::process::exit(i32::from(!mapped));
        }
    };
    drop(wait);
    let unshared = sys::process::unshare(UnshareFlags::NEWUSER).doing(making);
    let mut go = std::fs::File::from(go);
    if unshared.is_ok() {
        // A child that is gone is seen below.
        let _ = go.write_all(b"1");
    }
    drop(go);
    let ended = rustix::process::waitpid(Some(child), WaitOptions::empty());
    unshared?;
    let ended = ended.doing(making)?;
    if ended.is_some_and(|(_, status)| status.exit_status() == Some(0)) {
        return Ok(());
    }
    Err(rustix::io::Errno::PERM).doing("mapping the ids of the user namespace")
}

/// A map of all ids of this namespace to themselves.
fn map_of(name: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(format!("/proc/self/{name}")).doing("reading id maps")?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace();
        let (inside, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn write(path: &str, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.doing(&format!("writing `{path}`"))
}
