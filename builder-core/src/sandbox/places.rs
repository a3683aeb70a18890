//! Mount points in a root file system: found with links followed inside it, made where they are missing, taken away
//! again without a trace.
//!
//! It is used while nothing else runs in the root, so that looking before acting is safe. But between making and taking
//! away the command had the root: what is taken away is looked for below one open directory, through no link, and goes
//! only if it is the very file that was made.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::confined::ConfinedDir;
use crate::image_path::ImagePath;

/// More links on one way are a loop (`path_resolution(7)`).
const LINKS: usize = 40;

/// A file or directory that was made to mount something on.
#[derive(Debug)]
pub(super) struct Made {
    /// Where, absolute in the root.
    path: PathBuf,
    /// Its device and inode number.
    inode: (u64, u64),
    /// Whether it is a directory.
    directory: bool,
}

/// The permissions of a directory that is made for a mount point, whatever the mask of this process: those that
/// container runtimes give it. It stays where the command puts something beside the mount.
const DIRECTORY: u32 = 0o755;

/// The path in `root` that `target` leads to, absolute in the root and free of links. Its end need not exist.
pub(super) fn resolve(root: &Path, target: &Path) -> io::Result<PathBuf> {
    resolve_by(&|path| inside(root, path), target)
}

/// The same where `inside` knows where a path of the root is for this process.
pub(super) fn resolve_by(inside: &dyn Fn(&Path) -> PathBuf, target: &Path) -> io::Result<PathBuf> {
    let mut todo: Vec<OsString> = components(target);
    todo.reverse();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        match std::fs::read_link(inside(&next)) {
            Ok(link) => {
                links += 1;
                if links > LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if link.is_absolute() {
                    here = PathBuf::from("/");
                }
                todo.extend(components(&link).into_iter().rev());
            }
            // Not a link, or nothing there.
            Err(_) => here = next,
        }
    }
    Ok(here)
}

/// The names in a path; `..` is one of them.
fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// Where a path of the root is for this process.
pub(super) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes `path`, which [`resolve`] gave, and the directories above it where they are missing; what was made is added
/// to `made`.
pub(super) fn make(
    root: &Path,
    path: &Path,
    directory: bool,
    made: &mut Vec<Made>,
) -> io::Result<()> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    for place in above {
        let real = inside(root, place);
        if real.symlink_metadata().is_ok() {
            continue;
        }
        keep_times(&[parent_of(&real)], || {
            if directory || place != path {
                let mut builder = std::fs::DirBuilder::new();
                return builder.mode(DIRECTORY).create(&real);
            }
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(&real).map(|_| ())
        })?;
        let found = real.symlink_metadata()?;
        made.push(Made {
            path: place.to_owned(),
            inode: (found.dev(), found.ino()),
            directory: found.is_dir(),
        });
    }
    Ok(())
}

/// What became of a mount point that was made.
enum Fate {
    /// It is gone, or stays because something was put into it.
    Settled,
    /// It is not where it was made.
    Elsewhere,
}

/// Takes away what [`make`] made, the last first; a directory in which something is left stays. What isn't there any
/// more is not searched for: its path is returned.
pub(super) fn unmake(root: &Path, made: &mut Vec<Made>) -> Vec<PathBuf> {
    let root = ConfinedDir::open(root);
    let mut elsewhere = Vec::new();
    while let Some(one) = made.pop() {
        let fate = match &root {
            Ok(root) => remove(root, &one),
            Err(_) => Ok(Fate::Elsewhere),
        };
        if !matches!(fate, Ok(Fate::Settled)) {
            elsewhere.push(one.path);
        }
    }
    elsewhere
}

/// Removes one thing that was made, and leaves its directory with the times that it has now: those that it had before,
/// or that the command gave it.
fn remove(root: &ConfinedDir, one: &Made) -> io::Result<Fate> {
    let path = ImagePath::clean(one.path.as_os_str().as_bytes());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Fate::Settled);
    };
    let parent = root.open_directory(&parent)?;
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let flags = match kind {
        _ if (found.st_dev, found.st_ino) != one.inode => return Ok(Fate::Elsewhere),
        FileType::Directory if one.directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if one.directory => return Ok(Fate::Elsewhere),
        FileType::RegularFile if found.st_size == 0 => AtFlags::empty(),
        FileType::RegularFile => return Ok(Fate::Settled),
        _ => return Ok(Fate::Elsewhere),
    };
    let times = times_of_open(&parent)?;
    if rustix::fs::unlinkat(&parent, name, flags).is_ok() {
        // Where the directory can't have its time back, a time is wrong, and nothing else.
        let _ = rustix::fs::utimensat(&parent, ".", &times, AtFlags::empty());
    }
    Ok(Fate::Settled)
}

fn times_of_open(directory: impl AsFd) -> rustix::io::Result<Timestamps> {
    let found = rustix::fs::fstat(directory)?;
    let time = |tv_sec: i64, tv_nsec: u64| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(tv_nsec).unwrap_or(0),
    };
    Ok(Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec),
        last_modification: time(found.st_mtime, found.st_mtime_nsec),
    })
}

/// The directory that a path is in; the root is in itself.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Does something in directories that leaves no trace in their times.
pub(super) fn keep_times<T>(
    directories: &[&Path],
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let before: Vec<_> = directories.iter().map(|path| times_of(path)).collect();
    let done = work()?;
    for (path, times) in directories.iter().zip(before) {
        // One that is not there has no time; where one can't have its time back, a time is wrong, and nothing else.
        if let Ok(times) = times {
            let _ = set_times(path, &times);
        }
    }
    Ok(done)
}

/// Access and modification time of a directory.
pub(super) fn times_of(path: &Path) -> io::Result<Timestamps> {
    let found = path.symlink_metadata()?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Ok(Timestamps {
        last_access: time(found.atime(), found.atime_nsec()),
        last_modification: time(found.mtime(), found.mtime_nsec()),
    })
}

/// Gives a directory its times back.
pub(super) fn set_times(path: &Path, times: &Timestamps) -> io::Result<()> {
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Makes a directory with exactly these permissions, given that the process masks none.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(path, Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        std::fs::create_dir_all(root.join("run/x")).unwrap();
        std::fs::create_dir_all(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../../etc", root.join("var/up")).unwrap();
        symlink("../run/systemd/resolv.conf", root.join("var/resolv")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (target, found) in [
            ("/var/run/x/y", "/run/x/y"),
            ("/var/up/passwd", "/etc/passwd"),
            ("/var/resolv", "/run/systemd/resolv.conf"),
            ("/a/../b//c/.", "/b/c"),
            ("/../..", "/"),
        ] {
            assert_eq!(resolve(root, Path::new(target)).unwrap(), Path::new(found));
        }
        assert!(resolve(root, Path::new("/loop/x")).is_err());
    }

    #[test]
    fn what_was_made_goes_without_a_trace() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        std::fs::create_dir(root.join("etc")).unwrap();
        let before = std::fs::metadata(root.join("etc"))
            .unwrap()
            .modified()
            .unwrap();
        let mut made = Vec::new();
        make(root, Path::new("/etc/a/b"), true, &mut made).unwrap();
        make(root, Path::new("/etc/f"), false, &mut made).unwrap();
        make(root, Path::new("/etc"), true, &mut made).unwrap();
        assert!(root.join("etc/a/b").is_dir() && root.join("etc/f").is_file());
        assert!(unmake(root, &mut made).is_empty());
        assert_eq!(std::fs::read_dir(root.join("etc")).unwrap().count(), 0);
        let after = std::fs::metadata(root.join("etc"))
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(after, before);
    }

    #[test]
    fn what_the_command_put_beside_a_mount_stays_with_its_time() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let mut made = Vec::new();
        make(root, Path::new("/a/b/c"), true, &mut made).unwrap();
        std::fs::write(root.join("a/b/kept"), "x").unwrap();
        let given = Timestamps {
            last_access: Timespec {
                tv_sec: 5,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: 7,
                tv_nsec: 0,
            },
        };
        set_times(&root.join("a/b"), &given).unwrap();
        assert!(unmake(root, &mut made).is_empty());
        assert!(root.join("a/b/kept").exists() && !root.join("a/b/c").exists());
        let found = std::fs::metadata(root.join("a/b")).unwrap();
        assert_eq!((found.mtime(), found.mode() & 0o7777), (7, 0o755));
    }

    /// What a command may do to the way that leads to a mount point: nothing outside is touched, nothing but what was
    /// made goes, and what is elsewhere is told.
    #[test]
    fn no_link_leads_away_from_what_was_made() {
        type Act = fn(&Path, &Path);
        let acts: &[(&str, Act, bool)] = &[
            (
                "a link in place of the directory",
                |root, out| {
                    std::fs::rename(root.join("a"), root.join("moved")).unwrap();
                    symlink(out, root.join("a")).unwrap();
                },
                true,
            ),
            (
                "a link inside the root",
                |root, _| {
                    std::fs::rename(root.join("a"), root.join("moved")).unwrap();
                    symlink("moved", root.join("a")).unwrap();
                },
                true,
            ),
            (
                "a link in place of the file",
                |root, out| {
                    std::fs::remove_file(root.join("a/f")).unwrap();
                    symlink(out.join("f"), root.join("a/f")).unwrap();
                },
                true,
            ),
            (
                "another file of the same name",
                |root, _| {
                    std::fs::rename(root.join("a/f"), root.join("a/g")).unwrap();
                    std::fs::write(root.join("a/f"), "").unwrap();
                },
                true,
            ),
            (
                "something in the file",
                |root, _| {
                    std::fs::write(root.join("a/f"), "x").unwrap();
                },
                false,
            ),
            ("nothing", |_, _| (), false),
        ];
        for (name, act, told) in acts {
            let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (root, out) = (home.path(), out.path());
            std::fs::write(out.join("f"), "").unwrap();
            std::fs::create_dir(root.join("a")).unwrap();
            let mut made = Vec::new();
            make(root, Path::new("/a/f"), false, &mut made).unwrap();
            act(root, out);
            let elsewhere = unmake(root, &mut made);
            assert_eq!(elsewhere.is_empty(), !told, "{name}");
            assert!(out.join("f").exists(), "{name}");
            let other = std::fs::read(root.join("a/f"));
            assert!(
                *name == "nothing" || root.join("moved").exists() || other.is_ok(),
                "{name}"
            );
        }
    }
}
