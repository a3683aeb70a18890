//! What of `/proc` and `/sys` no command sees, because it tells of the whole machine or steers it.
//!
//! The list is that of Docker's default ("masked paths" of the OCI runtime specification, "Masked Paths"): a file reads
//! as empty, a directory has nothing in it.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount, mount_bind};

use super::mounts::c_path;
use super::spec::{Doing as _, Failure};
use super::sys;

/// What of `/proc` is hidden, absolute in the root.
pub(super) const PROC: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// What of `/sys` is hidden; `*` stands for every name.
pub(super) const SYS: &[&str] = &[
    "/sys/devices/system/cpu/*/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Hides `paths` in a root whose `/proc` or `/sys` is mounted. What this machine doesn't have needs no hiding.
pub(super) fn hide(root: &Path, paths: &[&str]) -> Result<(), Failure> {
    for path in paths.iter().flat_map(|path| existing(root, path)) {
        let what = format!("hiding `{}`", path.display());
        if path.is_dir() {
            let flags =
                MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("hidden", &path, "tmpfs", flags, c"size=0k,mode=755").doing(&what)?;
        } else {
            mount_bind("/dev/null", &path).doing(&what)?;
            sys::mount::make_read_only(&c_path(&path), false).doing(&what)?;
        }
    }
    Ok(())
}

/// The places that a path stands for, where they exist.
fn existing(root: &Path, path: &str) -> Vec<PathBuf> {
    let Some((above, below)) = path.split_once("/*/") else {
        let place = root.join(path.trim_start_matches('/'));
        return place.exists().then_some(place).into_iter().collect();
    };
    let above = root.join(above.trim_start_matches('/'));
    let names = std::fs::read_dir(above).into_iter().flatten().flatten();
    let places = names.map(|name| name.path().join(below));
    places.filter(|place| place.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_every_name() {
        let home = tempfile::tempdir().unwrap();
        for name in ["c/0/t", "c/1/t", "c/2/u", "k"] {
            std::fs::create_dir_all(home.path().join(name)).unwrap();
        }
        let found = |path| {
            let mut found = existing(home.path(), path);
            found.sort();
            let short = |place: &PathBuf| place.strip_prefix(home.path()).unwrap().to_owned();
            found.iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(found("/c/*/t"), [Path::new("c/0/t"), Path::new("c/1/t")]);
        assert_eq!(found("/k"), [Path::new("k")]);
        assert!(found("/none").is_empty() && found("/none/*/t").is_empty());
    }
}
