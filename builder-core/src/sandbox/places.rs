//! Mount points in a root file system: found with links followed inside it, made where they are missing, taken away
//! again without a trace.
//!
//! It is used while nothing else runs in the root, so that looking before acting is safe.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

/// More links on one way are a loop (`path_resolution(7)`).
const LINKS: usize = 40;

/// A file or directory that was made to mount something on: where, absolute in the root.
#[derive(Debug)]
pub(super) struct Made(PathBuf);

/// The path in `root` that `target` leads to, absolute in the root and free of links. Its end need not exist.
pub(super) fn resolve(root: &Path, target: &Path) -> io::Result<PathBuf> {
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
        match std::fs::read_link(inside(root, &next)) {
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
                return std::fs::create_dir(&real);
            }
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(&real).map(|_| ())
        })?;
        made.push(Made(place.to_owned()));
    }
    Ok(())
}

/// Takes away what [`make`] made, the last first; a directory in which something is left stays. What the command did
/// in a directory above shows in its time, and keeps it.
pub(super) fn unmake(root: &Path, made: &mut Vec<Made>) {
    while let Some(Made(path)) = made.pop() {
        let real = inside(root, &path);
        let Ok(found) = real.symlink_metadata() else {
            continue;
        };
        // What is not empty any more is the command's.
        let _ = keep_times(&[parent_of(&real)], || {
            if found.is_dir() {
                std::fs::remove_dir(&real)
            } else if found.is_file() && found.len() == 0 {
                std::fs::remove_file(&real)
            } else {
                Ok(())
            }
        });
    }
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
        let before = times_of(&root.join("etc")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut made = Vec::new();
        make(root, Path::new("/etc/a/b"), true, &mut made).unwrap();
        make(root, Path::new("/etc/f"), false, &mut made).unwrap();
        make(root, Path::new("/etc"), true, &mut made).unwrap();
        assert!(root.join("etc/a/b").is_dir() && root.join("etc/f").is_file());
        std::fs::write(root.join("etc/a/kept"), "x").unwrap();
        unmake(root, &mut made);
        assert!(root.join("etc/a/kept").exists() && !root.join("etc/a/b").exists());
        std::fs::remove_dir_all(root.join("etc/a")).unwrap();
        make(root, Path::new("/etc/a/b"), true, &mut made).unwrap();
        std::fs::write(root.join("etc/new"), "").unwrap();
        let written = times_of(&root.join("etc")).unwrap();
        assert_ne!(written.last_modification, before.last_modification);
        std::thread::sleep(std::time::Duration::from_millis(20));
        unmake(root, &mut made);
        assert_eq!(std::fs::read_dir(root.join("etc")).unwrap().count(), 1);
        let after = times_of(&root.join("etc")).unwrap();
        assert_eq!(after.last_modification, written.last_modification);
    }
}
