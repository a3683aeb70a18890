//! Engine P: a RUN without any privilege. Nothing is mounted, no root is changed, no id: the command stands in its root
//! directory, may open nothing (Landlock), and every call that takes a path is done by the supervisor.
//!
//! What others mount is a table of the supervisor's. Where something is mounted, the root has a stub without permissions,
//! which the kernel walks through for nobody but who may override them; the supervisor gives that power up.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::chroot::sealed;
use super::filter::{Notified, Policy};
use super::isolation::Isolation;
use super::mounts::DEVICES;
use super::places::{self, Made};
use super::spec::{Doing as _, Failure, Mount, MountKind, Root, RunSpec};
use super::supervisor::{Duty, Identity, Kind, MemoryFile, Mounted, Paths};
use super::sys;
use super::sys::landlock;
use crate::owners::{ATTRIBUTE, OwnerRecord, SideTable, disk_mode};

/// Links in `/dev`, each with its target.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A RUN behind a supervisor of paths.
pub(super) struct Supervised<'a> {
    spec: &'a RunSpec,
    landlock: i32,
    root: PathBuf,
    /// What belongs to this RUN alone and to no layer: `/dev`, memory that is none.
    world: PathBuf,
    shown: Vec<Shown>,
}

/// Something that is shown, and what was done for it in the directory that it is shown in.
struct Shown {
    target: PathBuf,
    /// The directory of the host that files below `target` lie in, if it is one.
    host: Option<PathBuf>,
    kind: Option<Kind>,
    stub: Option<Stub>,
}

/// A stub, and what to undo.
struct Stub {
    path: PathBuf,
    /// The top directory in which it was made.
    top: PathBuf,
    made: Vec<Made>,
    /// The file and its permissions before.
    file: OwnedFd,
    mode: u32,
}

impl<'a> Supervised<'a> {
    pub(super) fn new(spec: &'a RunSpec, landlock: i32) -> Self {
        let root = match &spec.root {
            Root::Directory(path) => path.as_path().to_owned(),
            Root::Overlay(overlay) => overlay.folder.as_path().join("root"),
        };
        Self {
            spec,
            landlock,
            world: spec.root.folder().join("world"),
            root,
            shown: Vec::new(),
        }
    }

    /// Whether a directory of the host is one that the user named.
    fn is_users(&self, top: &Path) -> bool {
        self.spec.mounts.iter().any(|mount| {
            matches!(&mount.kind, MountKind::Host { source, .. } if source.as_path() == top)
        })
    }

    /// Where on the host a path of the root is, through what is shown so far: the directory that it lies in, and the rest.
    fn host_of(&self, path: &Path) -> (PathBuf, PathBuf) {
        let above = self.shown.iter().rev().filter_map(|one| {
            let host = one.host.as_ref()?;
            // A mount point lies in the tree above it.
            let rest = path.strip_prefix(&one.target).ok()?;
            let inside = one.stub.is_none() || !rest.as_os_str().is_empty();
            inside.then(|| (host.clone(), Path::new("/").join(rest)))
        });
        let deepest = above.min_by_key(|(_, rest)| rest.components().count());
        deepest.unwrap_or_else(|| (self.root.clone(), path.to_owned()))
    }

    /// Shows something at a path of the root, where links are followed. `directory`, whether it is one.
    fn show(
        &mut self,
        target: &Path,
        directory: bool,
        host: Option<PathBuf>,
        kind: Kind,
    ) -> Result<(), Failure> {
        let what = format!("making the mount point `{}`", target.display());
        let inside = |path: &Path| {
            let (top, rest) = self.host_of(path);
            places::inside(&top, &rest)
        };
        let target = places::resolve_by(&inside, target).doing(&what)?;
        let (top, rest) = self.host_of(&target);
        if self.is_users(&top) {
            // A stub there would be seen by others, and be left if this process were killed.
            return Err(rustix::io::Errno::BUSY)
                .doing(&format!("{what}, which lies in a directory of the user's,"));
        }
        let mut made = Vec::new();
        places::make(&top, &rest, directory, &mut made).doing(&what)?;
        let path = places::inside(&top, &rest);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty()).doing(&what)?;
        let found = path.symlink_metadata().doing(&what)?;
        if found.is_dir() != directory {
            let errno = if directory {
                rustix::io::Errno::NOTDIR
            } else {
                rustix::io::Errno::ISDIR
            };
            return Err(errno).doing(&what);
        }
        let mode = found.mode() & 0o7777;
        let nothing = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(&path, nothing).doing(&what)?;
        self.shown.push(Shown {
            target,
            host,
            kind: Some(kind),
            stub: Some(Stub {
                path,
                top,
                made,
                file,
                mode,
            }),
        });
        Ok(())
    }

    /// `/dev`: a directory of this RUN's own, with stubs of the devices that a container has.
    fn show_devices(&mut self) -> Result<(), Failure> {
        let dev = self.world.join("dev");
        make_recorded(&dev, 0o755)?;
        for (name, target) in LINKS {
            symlink(target, dev.join(name)).doing("making a link in /dev")?;
        }
        make_recorded(&dev.join("shm"), 0o1777)?;
        make_recorded(&dev.join("mqueue"), 0o1777)?;
        let files = Kind::Files {
            host: dev.clone(),
            read_only: false,
        };
        self.show(Path::new("/dev"), true, Some(dev), files)?;
        for name in DEVICES.iter().chain(&["ptmx"]) {
            let host = Path::new("/dev").join(name);
            if host.exists() {
                self.show(&host, false, None, Kind::Device(host.clone()))?;
            }
        }
        let listing = self.world.join("pts");
        make_recorded(&listing, 0o755)?;
        let terminals = Kind::Terminals(listing);
        self.show(Path::new("/dev/pts"), true, None, terminals)
    }

    fn show_mount(&mut self, number: usize, mount: &Mount) -> Result<(), Failure> {
        let target = mount.target.as_path();
        let what = format!("mounting `{}`", target.display());
        match &mount.kind {
            MountKind::Host { source, read_only } | MountKind::Bind { source, read_only } => {
                let host = source.as_path().to_owned();
                let directory = host.is_dir();
                let kind = Kind::Files {
                    host: host.clone(),
                    read_only: *read_only,
                };
                self.show(target, directory, directory.then_some(host), kind)
            }
            MountKind::Tmpfs { .. } => {
                let host = self.world.join(format!("tmpfs{number}"));
                make_recorded(&host, 0o1777)?;
                let kind = Kind::Files {
                    host: host.clone(),
                    read_only: false,
                };
                self.show(target, true, Some(host), kind)
            }
            MountKind::Secret {
                content,
                mode,
                uid,
                gid,
            } => {
                let file = MemoryFile {
                    path: target.to_owned(),
                    content: sealed(&content.0).doing(&what)?,
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                };
                self.show(target, false, None, Kind::Memory(file))
            }
            MountKind::Overlay { .. } => Err(rustix::io::Errno::NOTSUP).doing(&what),
        }
    }

    /// What the command may really do, whoever it plays: open a low port, and ping.
    fn limit_power(kept: CapabilitySet) -> Result<(), Failure> {
        let what = "giving up capabilities";
        let now = rustix::thread::capabilities(None).doing(what)?;
        let kept = now.permitted & kept;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        let _ = rustix::thread::clear_ambient_capability_set();
        rustix::thread::set_capabilities(None, sets).doing(what)
    }
}

/// A directory of this RUN's own, with these permissions as the command sees them.
fn make_recorded(path: &Path, mode: u32) -> Result<(), Failure> {
    let what = format!("making `{}`", path.display());
    places::make_directory(path, disk_mode(true, mode)).doing(&what)?;
    if disk_mode(true, mode) != mode {
        let record = OwnerRecord {
            mode: Some(mode),
            ..OwnerRecord::default()
        };
        let text = record.to_text();
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(path, ATTRIBUTE, text.as_bytes(), flags).doing(&what)?;
    }
    Ok(())
}

impl Isolation for Supervised<'_> {
    fn prepare(&mut self) -> Result<(), Failure> {
        // What a killed helper left.
        let _ = crate::store::remove_tree(&self.world);
        places::make_directory(&self.world, 0o700).doing("making a directory for the RUN")?;
        self.root = self.root.canonicalize().doing("looking at the root")?;
        self.shown.push(Shown {
            target: PathBuf::from("/"),
            host: Some(self.root.clone()),
            kind: Some(Kind::Files {
                host: self.root.clone(),
                read_only: self.spec.read_only,
            }),
            stub: None,
        });
        self.show(Path::new("/proc"), true, None, Kind::Proc)?;
        self.show(Path::new("/sys"), true, None, Kind::Sys)?;
        self.show_devices()?;
        for (number, mount) in self.spec.mounts.iter().enumerate() {
            self.show_mount(number, mount)?;
        }
        // From here on permissions hold for this process too.
        let kept =
            CapabilitySet::all() - CapabilitySet::DAC_OVERRIDE - CapabilitySet::DAC_READ_SEARCH;
        Self::limit_power(kept)
    }

    fn enter(&self) -> Result<(), Failure> {
        sys::loader::map_scratch().doing("making room for the loader")?;
        rustix::process::chdir(&self.root).doing("entering the root")?;
        Self::limit_power(CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_RAW)?;
        rustix::thread::set_no_new_privs(true).doing("giving up new privileges")?;
        landlock::restrict_everything(self.landlock).doing("putting up the Landlock wall")
    }

    fn policy(&self) -> Policy {
        Policy::of_run(Notified::Paths {
            signals: self.landlock < landlock::SCOPES_ABI,
        })
    }

    fn duty(&mut self, table: SideTable, terminal: Option<u32>) -> Result<Option<Duty>, Failure> {
        let user = &self.spec.user;
        let mounts = self.shown.iter_mut().filter_map(|one| {
            Some(Mounted {
                target: one.target.clone(),
                stub: one.stub.as_ref().map(|stub| stub.path.clone()),
                kind: one.kind.take()?,
            })
        });
        Ok(Some(Duty::Paths(Paths {
            identity: Identity {
                uid: user.uid,
                gid: user.gid,
                groups: user.groups.clone(),
            },
            table,
            mounts: mounts.collect(),
            terminal,
        })))
    }

    fn has_all_ids(&self) -> bool {
        false
    }

    fn has_own_processes(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Vec<PathBuf> {
        let mut elsewhere = Vec::new();
        while let Some(one) = self.shown.pop() {
            let Some(mut stub) = one.stub else {
                continue;
            };
            // By the descriptor: wherever it is now, and whatever has its name.
            let path = format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&stub.file)
            );
            let _ = rustix::fs::chmod(path, Mode::from_raw_mode(stub.mode));
            let inside = places::unmake(&stub.top, &mut stub.made);
            if stub.top == self.root {
                elsewhere.extend(inside);
            }
        }
        let _ = crate::store::remove_tree(&self.world);
        elsewhere
    }
}
