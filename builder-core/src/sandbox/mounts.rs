//! The root of a RUN in namespaces: overlay, `/proc`, `/dev`, `/sys`, and what the step asks for.
//!
//! Everything is mounted in a mount namespace of its own, which ends with its last process; so no mount is ever left.
//! Follows the OCI runtime specification, "Default Filesystems" and "Default Devices".

use std::ffi::CString;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};

use super::masks;
use super::places::{self, Made};
use super::spec::{Doing as _, Failure, Ids, Mount, MountKind, Overlay, Root, RunSpec};
use super::sys;
use crate::owners::{ATTRIBUTE, OwnerRecord};

/// Device files that every container has, taken from the host: making them needs more than a user namespace gives.
pub(super) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev`, each with its target.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The size of `/dev/shm` where none is given, as in Docker.
const SHM_SIZE: u64 = 64 << 20;

/// Parts of `/proc` that tell of the whole machine: nothing may be written there.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// What is mounted in a root, so that it can be taken away again.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    /// Mount points in the order in which they were mounted, absolute in the root.
    points: Vec<PathBuf>,
    /// Mount points that did not exist before.
    made: Vec<Made>,
}

/// Makes the root and everything in it; gives its path, in which nothing is hidden yet.
pub(super) fn make_root(
    spec: &RunSpec,
    ids: Ids,
    own_processes: bool,
    mounted: &mut Mounted,
) -> Result<PathBuf, Failure> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).doing("making mounts private")?;
    let path = match &spec.root {
        Root::Overlay(overlay) => mount_overlay(overlay)?,
        Root::Directory(path) => {
            let path = path.as_path().to_owned();
            mount_bind_recursive(&path, &path).doing("mounting the root")?;
            forbid_devices(&path)?;
            path
        }
    };
    mount_proc(&path, own_processes, mounted)?;
    mount_sys(&path, mounted)?;
    mount_dev(&path, ids, spec.limits.shm_size, mounted)?;
    Ok(path)
}

/// Mounts an overlay of which nothing else is wanted but whether it works.
pub(super) fn try_overlay(root: &Root) -> Result<PathBuf, Failure> {
    match root {
        Root::Overlay(overlay) => mount_overlay(overlay),
        Root::Directory(path) => Ok(path.as_path().to_owned()),
    }
}

/// The options of an overlay must fit a page (mount(2)), with what else is in them.
const OPTIONS: usize = 3900;

/// Mounts an overlay; gives its root.
fn mount_overlay(overlay: &Overlay) -> Result<PathBuf, Failure> {
    let folder = overlay.folder.as_path();
    let naming = "naming the layers of the overlay";
    let lowers = match short_names(overlay) {
        Some(names) => names.doing(naming)?,
        None => numbered_names(overlay).doing(naming)?,
    };
    let option = format!("lowerdir={lowers},upperdir=upper,workdir=work,userxattr");
    let before = rustix::process::getcwd(Vec::new()).doing("asking for the working directory")?;
    rustix::process::chdir(folder).doing("entering the overlay's directory")?;
    // What a build writes is not flushed to the disk before it is a layer: a killed build leaves nothing anyway.
    let attempt = |option: &str| {
        let option = CString::new(option).unwrap_or_default();
        let option = option.as_c_str();
        mount("overlay", "root", "overlay", MountFlags::empty(), option)
    };
    let done = attempt(&format!("{option},volatile")).or_else(|_| attempt(&option));
    rustix::process::chdir(&before).doing("going back")?;
    done.doing("mounting the overlay")?;
    Ok(folder.join("root"))
}

/// The lower directories, the top first, by the names that they have in the one directory where all of them lie; a
/// link leads there. None where they lie elsewhere, have special characters, or are too many.
fn short_names(overlay: &Overlay) -> Option<std::io::Result<String>> {
    let above = overlay.lowers.first()?.as_path().parent()?.parent()?;
    let mut names = Vec::new();
    for lower in overlay.lowers.iter().rev() {
        let name = lower.as_path().strip_prefix(above).ok()?.to_str()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'/';
        if !name.bytes().all(plain) {
            return None;
        }
        names.push(format!("l/{name}"));
    }
    let all = names.join(":");
    let link = overlay.folder.as_path().join("l");
    (all.len() < OPTIONS).then(|| symlink(above, link).map(|()| all))
}

/// The lower directories, the top first, by links that are numbers: names as short as can be.
fn numbered_names(overlay: &Overlay) -> std::io::Result<String> {
    let names = overlay.folder.as_path().join("l");
    places::make_directory(&names, 0o755)?;
    if overlay.lowers.is_empty() {
        places::make_directory(&names.join("e"), 0o755)?;
        return Ok("l/e".to_owned());
    }
    let mut all = Vec::new();
    for (number, lower) in overlay.lowers.iter().enumerate().rev() {
        symlink(lower.as_path(), names.join(number.to_string()))?;
        all.push(format!("l/{number}"));
    }
    Ok(all.join(":"))
}

/// Finds the place for a mount, and makes it if it is missing.
fn place(
    root: &Path,
    target: &Path,
    directory: bool,
    mounted: &mut Mounted,
) -> Result<PathBuf, Failure> {
    let what = || format!("making the mount point `{}`", target.display());
    let path = places::resolve(root, target).doing(&what())?;
    places::make(root, &path, directory, &mut mounted.made).doing(&what())?;
    mounted.points.push(path.clone());
    Ok(places::inside(root, &path))
}

fn mount_proc(root: &Path, own_processes: bool, mounted: &mut Mounted) -> Result<(), Failure> {
    let proc = place(root, Path::new("/proc"), true, mounted)?;
    if own_processes {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", &proc, "proc", flags, None).doing("mounting /proc")?;
        for name in READ_ONLY {
            let path = proc.join(name);
            if path.exists() && mount_bind(&path, &path).is_ok() {
                // The kernel refuses such writes of an ordinary user's namespace anyway.
                let _ = sys::mount::make_read_only(&c_path(&path), false);
            }
        }
    } else {
        mount_bind_recursive("/proc", &proc).doing("mounting /proc of the container")?;
    }
    masks::hide(root, masks::PROC)
}

fn mount_sys(root: &Path, mounted: &mut Mounted) -> Result<(), Failure> {
    let sys = place(root, Path::new("/sys"), true, mounted)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    // A new one is for those alone who have a network of their own, whose devices it shows.
    if mount("sysfs", &sys, "sysfs", flags, None).is_err()
        && mount_bind_recursive("/sys", &sys).is_ok()
    {
        let _ = sys::mount::make_read_only(&c_path(&sys), true);
    }
    masks::hide(root, masks::SYS)
}

fn mount_dev(
    root: &Path,
    ids: Ids,
    shm_size: Option<u64>,
    mounted: &mut Mounted,
) -> Result<(), Failure> {
    let dev = place(root, Path::new("/dev"), true, mounted)?;
    // Not sticky: in a sticky directory that all may write, the kernel refuses to open other people's files to write.
    let tmpfs = c"mode=755,size=64m";
    mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID, tmpfs).doing("mounting /dev")?;
    for name in DEVICES {
        let (host, own) = (Path::new("/dev").join(name), dev.join(name));
        if host.exists() {
            std::fs::File::create(&own).doing("making a device")?;
            let what = format!("mounting the device `{name}`");
            mount_bind(&host, &own).doing(&what)?;
            // It is the machine's own: root could change its mode and owner. Reading and writing is not its mount's
            // business.
            sys::mount::make_read_only(&c_path(&own), false).doing(&what)?;
        }
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).doing("making a link in /dev")?;
    }
    let (pts, shm, mqueue) = (dev.join("pts"), dev.join("shm"), dev.join("mqueue"));
    for path in [&pts, &shm, &mqueue] {
        places::make_directory(path, 0o755).doing("making a directory in /dev")?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = match ids {
        // The group of terminals, 5, doesn't exist where there is one id.
        Ids::Single => c"newinstance,ptmxmode=0666,mode=620",
        Ids::Range => c"newinstance,ptmxmode=0666,mode=620,gid=5",
    };
    mount("devpts", &pts, "devpts", quiet, options).doing("mounting /dev/pts")?;
    let size = shm_size.unwrap_or(SHM_SIZE);
    let options = CString::new(format!("mode=1777,size={size}")).unwrap_or_default();
    let (quiet, options) = (quiet | MountFlags::NODEV, options.as_c_str());
    mount("shm", &shm, "tmpfs", quiet, options).doing("mounting /dev/shm")?;
    // Few programs want it, and not every container allows it.
    let _ = mount("mqueue", &mqueue, "mqueue", quiet, None);
    Ok(())
}

/// Mounts what the step asks for, in order; read-only only when all are there, because one may lie in another.
pub(super) fn mount_all(
    root: &Path,
    mounts: &[Mount],
    folder: &Path,
    mounted: &mut Mounted,
) -> Result<(), Failure> {
    let mut read_only = Vec::new();
    for (number, one) in mounts.iter().enumerate() {
        let target = one.target.as_path();
        let what = format!("mounting `{}`", target.display());
        match &one.kind {
            MountKind::Host {
                source,
                read_only: wanted,
            }
            | MountKind::Bind {
                source,
                read_only: wanted,
            } => {
                let source = source.as_path();
                let place = place(root, target, source.is_dir(), mounted)?;
                mount_bind(source, &place).doing(&what)?;
                forbid_devices(&place)?;
                read_only.extend(wanted.then_some(place));
            }
            MountKind::Overlay {
                overlay,
                source,
                read_only: wanted,
            } => {
                let tree = mount_overlay(overlay)?;
                let source = places::resolve(&tree, source.as_path()).doing(&what)?;
                let source = places::inside(&tree, &source);
                let place = place(root, target, source.is_dir(), mounted)?;
                mount_bind(&source, &place).doing(&what)?;
                read_only.extend(wanted.then_some(place));
            }
            MountKind::Tmpfs { size } => {
                let place = place(root, target, true, mounted)?;
                let size = size.map_or_else(String::new, |size| format!(",size={size}"));
                let options = CString::new(format!("mode=1777{size}")).unwrap_or_default();
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                mount("tmpfs", &place, "tmpfs", flags, options.as_c_str()).doing(&what)?;
            }
            MountKind::Secret { .. } => {
                let place = place(root, target, false, mounted)?;
                let file = secret_file(&one.kind, &folder.join(format!("secret{number}")))?;
                mount_bind(&file, &place).doing(&what)?;
                read_only.push(place);
            }
        }
    }
    for place in read_only {
        sys::mount::make_read_only(&c_path(&place), true).doing("making a mount read-only")?;
    }
    Ok(())
}

/// A file in memory with a secret: a file system of its own, which only its mount point keeps alive.
fn secret_file(kind: &MountKind, folder: &Path) -> Result<PathBuf, Failure> {
    let MountKind::Secret {
        content,
        mode,
        uid,
        gid,
    } = kind
    else {
        return Ok(folder.to_owned());
    };
    places::make_directory(folder, 0o700).doing("making a place for a secret")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("secret", folder, "tmpfs", flags, c"mode=700").doing("mounting memory for a secret")?;
    let path = folder.join("value");
    std::fs::write(&path, &content.0).doing("writing a secret")?;
    if std::os::unix::fs::chown(&path, Some(*uid), Some(*gid)).is_err() {
        // In a namespace with one id, root stands for all. Memory takes the attribute since Linux 6.6.
        let owner = OwnerRecord::owner(*uid, *gid).to_text();
        let flags = rustix::fs::XattrFlags::empty();
        let _ = rustix::fs::setxattr(&path, ATTRIBUTE, owner.as_bytes(), flags);
    }
    std::fs::set_permissions(&path, Permissions::from_mode(*mode)).doing("writing a secret")?;
    Ok(path)
}

/// Makes `root` this process's root and forgets the old one.
pub(super) fn enter_root(root: &Path, read_only: bool) -> Result<(), Failure> {
    if read_only {
        sys::mount::make_read_only(&c_path(root), false).doing("making the root read-only")?;
    }
    rustix::process::chdir(root).doing("entering the root")?;
    // Old and new root in one place: no directory for the old one is needed, which would end up in the layer.
    rustix::process::pivot_root(".", ".").doing("changing the root")?;
    unmount(".", UnmountFlags::DETACH).doing("leaving the old root")?;
    rustix::process::chdir("/").doing("entering the new root")
}

/// Takes everything out of the root again, of which this process is the only one left; the paths of mount points that
/// were made and are somewhere else by now.
pub(super) fn unmount_all(mounted: &mut Mounted) -> Vec<PathBuf> {
    while let Some(point) = mounted.points.pop() {
        // The command may have moved a directory above it, and put a link in its place: a mount that isn't found ends
        // with the namespace.
        let _ = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    places::unmake(Path::new("/"), &mut mounted.made)
}

/// A device file of a base image, a context or a cache is one to look at, never to open: only those of `/dev` are for
/// use. (An overlay that an ordinary user mounts has none anyway.)
fn forbid_devices(place: &Path) -> Result<(), Failure> {
    sys::mount::forbid_devices(&c_path(place)).doing("forbidding device files in a mount")
}

pub(super) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
