//! The base of the cases about RUN: a root file system around a statically linked busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::world::{MTIME, set_mode, set_mtime};

/// The applets of the reference cases, as `APPLETS` of `reference.py` lists them.
pub const APPLETS: &str = "sh cat chmod chown cp cut date echo env expr false find grep head hostname id ln ls mkdir \
    mkfifo mv od printenv printf pwd readlink rm rmdir sed sort stat tail test touch tr true umask wc";

/// More of them, for the cases that ask more of a RUN.
pub const MORE: &str = "awk chgrp chroot cmp dd df ip kill ln mknod mount nc ps setsid sleep su \
    tar umount uname unshare xargs";

/// Writes the base into a folder, as `testdata/reference/README.md` describes it.
pub fn base(to: &Path, program: &Path, more: &str) {
    fs::create_dir_all(to).unwrap();
    set_mode(to, 0o755);
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir(to.join(folder)).unwrap();
        set_mode(&to.join(folder), 0o755);
    }
    fs::copy(program, to.join("bin/busybox")).unwrap();
    set_mode(&to.join("bin/busybox"), 0o755);
    for applet in APPLETS.split_whitespace().chain(more.split_whitespace()) {
        let link = to.join("bin").join(applet);
        if link.symlink_metadata().is_err() {
            symlink("busybox", &link).unwrap();
            set_mtime(&link, MTIME);
        }
    }
    let (passwd, group) = (to.join("etc/passwd"), to.join("etc/group"));
    fs::write(
        &passwd,
        "root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345:app:/home/app:/bin/sh\n",
    )
    .unwrap();
    fs::write(&group, "root:x:0:\napp:x:2345:\nextra:x:3456:app\n").unwrap();
    for file in [passwd, group] {
        set_mode(&file, 0o644);
        set_mtime(&file, MTIME);
    }
    set_mode(&to.join("tmp"), 0o1777);
    for path in ["bin/busybox", "bin", "dev", "etc", "proc", "sys", "tmp", ""] {
        set_mtime(&to.join(path), MTIME);
    }
}
