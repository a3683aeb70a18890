//! Engine C: a chroot behind Landlock, for root in a container that may neither mount nor make namespaces.
//!
//! What other engines mount is moved into its place here, and moved back afterwards. `/proc`, `/sys`, the devices and
//! secrets are served by the supervisor, which stands outside.

use std::fs::Metadata;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, Timestamps};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
};
use rustix::thread::UnshareFlags;

use super::filter::{Notified, Policy};
use super::isolation::Isolation;
use super::mounts::{DEVICES, c_path};
use super::places::{self, Made};
use super::spec::{Doing as _, Failure, Mount, MountKind, Root, RunSpec};
use super::supervisor::{Duty, MemoryFile, VirtualFiles};
use super::sys;
use crate::owners::SideTable;
use crate::store::moved;

/// Directories that the supervisor serves, or that are nobody's business in a layer: a RUN gets empty ones.
const OWN: &[&str] = &["/proc", "/sys", "/dev"];

/// A RUN in a chroot.
pub(super) struct Chroot<'a> {
    spec: &'a RunSpec,
    landlock: i32,
    root: PathBuf,
    /// The root as the command sees it: the same directory, or a mount of it where this process may mount.
    seen: PathBuf,
    /// What was done, in order.
    done: Vec<Done>,
    made: Vec<Made>,
    secrets: Vec<MemoryFile>,
}

/// One thing that must be undone.
#[derive(Debug)]
enum Done {
    /// Something was moved: from where, to where.
    Moved(PathBuf, PathBuf),
    /// Something was put here.
    Put(PathBuf),
    /// This directory was empty, with these permissions, owner and times.
    Lent(PathBuf, Metadata, Timestamps),
}

impl<'a> Chroot<'a> {
    pub(super) fn new(spec: &'a RunSpec, landlock: i32) -> Self {
        let root = match &spec.root {
            Root::Directory(path) => path.as_path().to_owned(),
            Root::Overlay(overlay) => overlay.folder.as_path().join("root"),
        };
        Self {
            spec,
            landlock,
            seen: root.clone(),
            root,
            done: Vec::new(),
            made: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// A free name beside the root.
    fn beside(&self, what: &str) -> PathBuf {
        let folder = self.root.parent().unwrap_or(&self.root);
        folder.join(format!("{what}{}", self.done.len()))
    }

    /// Finds the place for `target`; what is there is moved aside.
    fn clear(&mut self, target: &Path) -> Result<PathBuf, Failure> {
        let what = format!("making the mount point `{}`", target.display());
        let path = places::resolve(&self.root, target).doing(&what)?;
        let parent = path.parent().unwrap_or(&path);
        places::make(&self.root, parent, true, &mut self.made).doing(&what)?;
        let real = places::inside(&self.root, &path);
        if real.symlink_metadata().is_ok() {
            let aside = self.beside("aside");
            self.rename(&real, &aside).doing(&what)?;
        }
        Ok(real)
    }

    /// Moves something, and writes down how to move it back before.
    fn rename(&mut self, from: &Path, to: &Path) -> std::io::Result<()> {
        let moved = self.done.iter().filter_map(|done| match done {
            Done::Moved(from, to) => Some((from.as_path(), to.as_path())),
            Done::Put(..) | Done::Lent(..) => None,
        });
        let moved: Vec<(&Path, &Path)> = moved.chain([(from, to)]).collect();
        moved::write(self.root.parent().unwrap_or(&self.root), &moved)?;
        let parents = [places::parent_of(from), places::parent_of(to)];
        places::keep_times(&parents, || std::fs::rename(from, to))?;
        self.done.push(Done::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Makes something at a path that is free.
    fn put(
        &mut self,
        path: &Path,
        make: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.done.push(Done::Put(path.to_owned()));
        places::keep_times(&[places::parent_of(path)], make)
    }

    /// Lends a directory of the root to the command, if it is empty, as it nearly always is; else another one.
    fn lend(&mut self, path: &Path) -> Result<(), Failure> {
        let real = places::inside(&self.root, path);
        let what = "looking at a directory";
        match real.symlink_metadata() {
            Ok(found) if found.is_dir() && is_empty(&real).doing(what)? => {
                let times = places::times_of(&real).doing(what)?;
                self.done.push(Done::Lent(real, found, times));
                Ok(())
            }
            _ => self.empty_directory(path, 0o755).map(|_| ()),
        }
    }

    fn empty_directory(&mut self, target: &Path, mode: u32) -> Result<PathBuf, Failure> {
        let real = self.clear(target)?;
        self.put(&real, || places::make_directory(&real, mode))
            .doing("making a directory")?;
        Ok(real)
    }

    fn place(&mut self, mount: &Mount) -> Result<(), Failure> {
        let target = mount.target.as_path();
        let what = format!("mounting `{}`", target.display());
        match &mount.kind {
            // It would have to be moved here, and who ends this process would leave it here.
            MountKind::Host { .. } => Err(rustix::io::Errno::NOTSUP)
                .doing("showing a directory of the user's in a chroot"),
            MountKind::Bind { source, .. } => {
                let source = source.as_path();
                let real = self.clear(target)?;
                let socket = source
                    .symlink_metadata()
                    .is_ok_and(|found| found.file_type().is_socket());
                if socket {
                    self.put(&real, || std::fs::hard_link(source, &real))
                        .doing(&what)
                } else {
                    self.rename(source, &real).doing(&what)
                }
            }
            MountKind::Tmpfs { .. } => self.empty_directory(target, 0o1777).map(|_| ()),
            MountKind::Secret {
                content,
                mode,
                uid,
                gid,
            } => {
                let file = sealed(&content.0).doing(&what)?;
                let path = places::resolve(&self.root, target).doing(&what)?;
                self.secrets.push(MemoryFile {
                    path,
                    content: file,
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                });
                Ok(())
            }
            MountKind::Overlay { .. } => Err(rustix::io::Errno::NOTSUP).doing(&what),
        }
    }
}

impl Isolation for Chroot<'_> {
    fn prepare(&mut self) -> Result<(), Failure> {
        if self.spec.read_only {
            let what = "making the root of a chroot read-only";
            return Err(rustix::io::Errno::NOTSUP).doing(what);
        }
        for path in OWN {
            self.lend(Path::new(path))?;
        }
        self.empty_directory(Path::new("/dev/shm"), 0o1777)?;
        for mount in &self.spec.mounts {
            self.place(mount)?;
        }
        if let Some(seen) = wall_off(&self.root) {
            self.seen = seen;
        }
        Ok(())
    }

    fn enter(&self) -> Result<(), Failure> {
        rustix::process::chroot(&self.seen).doing("changing the root")?;
        rustix::process::chdir("/").doing("entering the root")?;
        rustix::thread::set_no_new_privs(true).doing("giving up new privileges")?;
        if self.landlock > 0 {
            sys::landlock::restrict_to_root(self.landlock).doing("putting up the Landlock wall")?;
        }
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::of_run(Notified::Files)
    }

    fn duty(&mut self, _: SideTable, _terminal: Option<u32>) -> Result<Option<Duty>, Failure> {
        let copy = |secret: &MemoryFile| {
            Ok(MemoryFile {
                path: secret.path.clone(),
                content: secret.content.try_clone()?,
                ..*secret
            })
        };
        let files: std::io::Result<Vec<MemoryFile>> = self.secrets.iter().map(copy).collect();
        Ok(Some(Duty::Files(VirtualFiles {
            root: self.seen.clone(),
            files: files.doing("handing over secrets")?,
        })))
    }

    fn has_all_ids(&self) -> bool {
        true
    }

    fn has_own_processes(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Vec<PathBuf> {
        while let Some(done) = self.done.pop() {
            // What can't be undone is in a directory that is thrown away when the build fails over it.
            let _ = match done {
                Done::Moved(from, to) => {
                    let parents = [places::parent_of(&from), places::parent_of(&to)];
                    places::keep_times(&parents, || {
                        if from.starts_with(&self.root) {
                            remove(&from);
                        }
                        std::fs::rename(&to, &from)
                    })
                }
                Done::Put(path) => places::keep_times(&[places::parent_of(&path)], || {
                    remove(&path);
                    Ok(())
                }),
                Done::Lent(path, before, times) => {
                    give_back(&path, &before, &times);
                    Ok(())
                }
            };
        }
        let elsewhere = places::unmake(&self.root, &mut self.made);
        if self.seen != self.root {
            // The mount ends with its namespace, where the directory is a mount point: it goes with the root's folder.
            let _ = rustix::mount::unmount(&self.seen, UnmountFlags::DETACH);
            let _ = std::fs::remove_dir(&self.seen);
        }
        moved::forget(self.root.parent().unwrap_or(&self.root));
        elsewhere
    }
}

/// Where this process may mount after all, because it is root of the machine and not of a container: the root without
/// devices, so that a device that the command makes opens nothing, and the machine's own devices read-only, so that
/// nobody changes their modes. A container's devices are guarded by its runtime. None where nothing may be mounted.
fn wall_off(root: &Path) -> Option<PathBuf> {
    let seen = root.parent()?.join("seen");
    sys::process::unshare(UnshareFlags::NEWNS).ok()?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).ok()?;
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        if device.exists() && mount_bind(&device, &device).is_ok() {
            let _ = sys::mount::make_read_only(&c_path(&device), false);
        }
    }
    std::fs::create_dir(&seen).ok()?;
    mount_bind(root, &seen).ok()?;
    let flags = MountFlags::BIND | MountFlags::NODEV;
    mount_remount(&seen, flags, c"").ok()?;
    Some(seen)
}

fn is_empty(directory: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(directory)?.next().is_none())
}

/// Makes a directory what it was before a command had it. It may be gone: then it is made anew.
fn give_back(path: &Path, before: &Metadata, times: &Timestamps) {
    let whole = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if whole {
        for found in std::fs::read_dir(path).into_iter().flatten().flatten() {
            remove(&found.path());
        }
    } else {
        remove(path);
        let _ = std::fs::create_dir(path);
    }
    let same = |now: Metadata| {
        let look = |one: &Metadata| (one.mode(), one.uid(), one.gid());
        look(&now) == look(before)
    };
    if !std::fs::symlink_metadata(path).is_ok_and(same) {
        let _ = std::os::unix::fs::lchown(path, Some(before.uid()), Some(before.gid()));
        let _ = std::fs::set_permissions(path, before.permissions());
    }
    let _ = places::set_times(path, times);
}

/// Removes whatever a RUN left at a place; links are not followed.
fn remove(path: &Path) {
    let _ = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
}

/// A file in memory that nobody can change any more.
pub(super) fn sealed(content: &[u8]) -> std::io::Result<std::os::fd::OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("secret", flags)?;
    let mut writer = std::fs::File::from(file.try_clone()?);
    writer.write_all(content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Whether this process may change its root at all, tried in a directory.
pub(super) fn try_chroot(path: &Path) -> Result<(), Failure> {
    rustix::process::chroot(path).doing("changing the root")
}

/// Makes sure that a file can be made in a directory: what a trial needs.
pub(super) fn try_write(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    std::fs::remove_file(path)
}
