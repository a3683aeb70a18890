//! The list of mounts that a RUN is told: its table of trees, in the forms of `/proc/PID/mounts` and
//! `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`), with the device numbers that `stat(2)` tells.

use std::fmt::Write as _;

use crate::sandbox::supervisor::paths::look::device_of;
use crate::sandbox::supervisor::paths::trees::{Kind, Tree, Trees};

/// What one of the two files says; none for another file of `/proc`.
pub(super) fn text(trees: &Trees, path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/proc/")?.split('/');
    parts.next()?.parse::<u32>().ok()?;
    let mut name = parts.next()?;
    if name == "task" {
        name = parts.nth(1)?;
    }
    if parts.next().is_some() {
        return None;
    }
    let mut text = String::new();
    let all = trees.iter().enumerate();
    for (number, tree) in all {
        let (target, kind) = (escaped(&tree.target), file_system(tree));
        let access = if is_read_only(tree) { "ro" } else { "rw" };
        // Writing to a string can't fail.
        let _ = match name {
            "mounts" => writeln!(text, "{kind} {target} {kind} {access} 0 0"),
            "mountinfo" => {
                let device = device_of(tree.top_key.0, number);
                let (major, minor) = (libc::major(device), libc::minor(device));
                let above = tree.above.as_ref().map_or(0, |(_, above)| above + 1);
                let id = number + 1;
                writeln!(
                    text,
                    "{id} {above} {major}:{minor} / {target} {access} - {kind} {kind} {access}"
                )
            }
            _ => return None,
        };
    }
    Some(text)
}

fn is_read_only(tree: &Tree) -> bool {
    // The mode and owner of a device are the machine's.
    tree.is_read_only() || matches!(tree.kind, Kind::Sys | Kind::Memory(_) | Kind::Device(_))
}

/// The name of a file system that would be mounted in this place.
fn file_system(tree: &Tree) -> &'static str {
    match &tree.kind {
        Kind::Files { .. } if tree.target == b"/dev" => "tmpfs",
        Kind::Files { .. } => "overlay",
        Kind::Proc => "proc",
        Kind::Sys => "sysfs",
        Kind::Device(_) => "devtmpfs",
        Kind::Terminals(_) => "devpts",
        Kind::Memory(_) => "tmpfs",
    }
}

/// A path as these files write it: blanks and backslashes are octal.
fn escaped(path: &[u8]) -> String {
    let mut text = String::new();
    for &byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                // Writing to a string can't fail.
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::supervisor::paths::trees::Mounted;

    #[test]
    fn the_list_is_the_table() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("root/a b")).unwrap();
        std::fs::create_dir_all(home.join("cache")).unwrap();
        let files = |host: &str, read_only| Kind::Files {
            host: home.join(host),
            read_only,
        };
        let mounts = vec![
            Mounted {
                target: "/".into(),
                stub: None,
                kind: files("root", false),
            },
            Mounted {
                target: "/a b".into(),
                stub: Some(home.join("root/a b")),
                kind: files("cache", true),
            },
        ];
        let trees = Trees::open(mounts).unwrap();
        let expected = "overlay / overlay rw 0 0\noverlay /a\\040b overlay ro 0 0\n";
        assert_eq!(text(&trees, "/proc/1/mounts").as_deref(), Some(expected));
        let list = text(&trees, "/proc/1/task/2/mountinfo").unwrap();
        let last = list.lines().last().unwrap();
        assert_eq!(last, "2 1 0:524289 / /a\\040b ro - overlay overlay ro");
        for other in ["/proc/mounts/x", "/proc/1/maps", "/proc/1/task/mounts"] {
            assert_eq!(text(&trees, other), None, "{other}");
        }
    }
}
