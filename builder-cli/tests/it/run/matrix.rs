//! What a command does to owners, modes, links and devices: in each way of RUN as real root does it in a plain chroot.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use tar::EntryType;
use test_support::archive::{Member, tar};
use test_support::tarball::Image;
use test_support::tools::{is_root, require, skip, try_run};
use test_support::{busybox, disk};

use super::{image_of, in_each_way};

/// A name, the user (`uid:gid`), and a script that runs in a directory of its own: `/t/<name>`, open to all.
const ROWS: &[(&str, &str, &str)] = &[
    (
        "chown-r",
        "0:0",
        "cp -a /lower/. a && chown -R 5:6 a && chown -R 7 /lower/sub",
    ),
    (
        "chown-h",
        "0:0",
        "ln -s nowhere l; chown -h 9:8 l; ln -s f m; echo>f; chown 3:4 m; chown -h :77 /lower/link",
    ),
    (
        "suid",
        "0:0",
        "for f in a b c; do echo $f > $f; chmod 6755 $f; done; chown 1 a; chown :2 b; chmod 4711 b",
    ),
    (
        "suid-lower",
        "0:0",
        "chown 5 /lower/suid; chgrp 6 /lower/sgid; chown 5:5 /lower/caps",
    ),
    (
        "setgid",
        "0:0",
        "mkdir d; chown 0:44 d; chmod 2775 d; cd d; mkdir e; touch f e/g; mkfifo p; ln -s x l; mknod n c 1 3",
    ),
    (
        "setgid-lower",
        "0:0",
        "cd /lower/setgid; mkdir e; touch f; su app -c 'touch g; mkdir h; touch h/i'",
    ),
    (
        "setgid-chown",
        "0:0",
        "mkdir d; chown 0:44 d; chmod 2775 d; cd d; touch f g; chown 0:0 f; chgrp 0 g; mkdir s; chmod g-s s; touch s/x",
    ),
    (
        "su",
        "0:0",
        "su app -c 'umask 027; touch f; mkdir d; ln -s f l; mkfifo p; ln f h; touch d/x; chmod 4700 d/x; id > said'",
    ),
    (
        "mknod",
        "0:0",
        "mknod c c 1 3; mknod -m 600 b b 7 9; chown 3:4 c; mv b b2; ln c c2; mknod -m 666 big c 511 70000; cp -a c c3",
    ),
    (
        "tar",
        "0:0",
        "tar cf x -C / lower; mkdir o; tar xpf x -C o; rm x; mkdir p; cd p; tar cf - -C ../o . | tar xf -",
    ),
    (
        "rename",
        "0:0",
        "echo 1 > f; chown 3:4 f; mv f g; ln g h; rm g; echo 2 > g; touch f; chown 5:6 f; rm f; touch f",
    ),
    (
        "cp-a",
        "0:0",
        "cp -a /lower c; cp -p /lower/file d; cp /lower/file e; cp -a c/link c/link2",
    ),
    (
        "whiteout",
        "0:0",
        "rm -r /lower/gone /lower/hard; rm /home/x",
    ),
    (
        "opaque",
        "0:0",
        "rm -r /lower/opaque; mkdir /lower/opaque; echo n > /lower/opaque/new; chown 2:3 /lower/opaque",
    ),
    (
        "kinds",
        "0:0",
        "rm -r /lower/todir /lower/tofile; mkdir /lower/todir; echo f > /lower/tofile; rm /lower/tolink; ln -s x /lower/tolink",
    ),
    (
        "mv-lower",
        "0:0",
        "mv /lower/moved m; mv /lower/movedfile .; mv /lower/fifo .",
    ),
    (
        "sed-i",
        "0:0",
        "sed -i s/lower/upper/ /lower/edit; sed -i s/a/b/ /lower/file",
    ),
    (
        "umask",
        "0:0",
        "umask > u; touch a; umask 077; touch b; mkdir c; umask 0; touch d; mkdir e; mkdir -m 1750 f",
    ),
    (
        "user",
        "1234:2345",
        "id -u > u; touch f; mkdir d; ln -s f l; mkfifo p; echo > /home/app/f; mkdir /home/app/.d; chmod 2750 d; stat -c '%u %g %a' f d > s",
    ),
    (
        "user-number",
        "77:88",
        "id -u > u; id -g >> u; touch f; mkdir d; (umask 077; echo > d/x); chmod 700 f; mv f g",
    ),
    (
        "touch",
        "0:0",
        "touch -d '2001-01-01 00:00:00' /lower/old n; touch -h -d '2001-01-01 00:00:00' /lower/link",
    ),
    (
        "chmod",
        "0:0",
        "chmod 700 /lower/only; chmod 1777 /lower/onlydir; chmod a-x,u+s /lower/sub/a",
    ),
    (
        "install",
        "0:0",
        "mkdir d; chown 3:4 d; chmod 2750 d; cp /lower/file d/f; chown 5 d/f; chmod 4711 d/f; touch d/g",
    ),
    (
        "stat",
        "0:0",
        "cd /lower; stat -c '%n %u %g %a %F %t %T' * . /etc/passwd /home/app > /t/stat/said; stat -c '%n %A %N %h' file link sub/a >> /t/stat/said",
    ),
    (
        "find",
        "0:0",
        "find / -xdev -user 11 > said; find /lower /home -group 2345 | sort >> said; find /lower -perm -4000 >> said; [ -O /lower/file ] || echo no >> said",
    ),
    (
        "copies",
        "0:0",
        "mkdir m; i=0; while [ $i -lt 200 ]; do : > m/$i; chown $i:$((i * 2)) m/$i; i=$((i + 1)); done; mv m n; cp -a n o; rm -r n/1*",
    ),
    (
        "parallel",
        "0:0",
        "for i in 1 2 3 4 5 6 7 8; do (su app -c \"touch a$i\"; touch r$i; chown $i r$i) & done; wait",
    ),
    (
        "swap",
        "0:0",
        "mkdir a b; chown 1:1 a; chown 2:2 b; touch a/x b/y; mv a c; mv b a; mv c b; rmdir /lower/empty; touch /lower/empty",
    ),
    (
        "links",
        "0:0",
        "ln /lower/linked l; echo > a; ln a b; ln b c; chown 8:9 c; rm a; ln -s /lower/file s; ln s t",
    ),
    (
        "names",
        "0:0",
        "touch '.wh' 'a b' 'ä' '-x' \"$(printf 'n\\nl')\"; mkdir 'd '; chown 3 './-x' 'ä'; printf x > \"$(printf '\\377')\"",
    ),
    (
        "write",
        "0:0",
        "dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000 2>&-; echo more >> /lower/append; : > /lower/cut",
    ),
];

/// `CAP_NET_BIND_SERVICE`, permitted and effective, as the kernel keeps it (version 2).
const CAPABILITY: &str = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn member(member: Member, mode: u32, uid: u64, gid: u64) -> Member {
    Member {
        mode,
        uid,
        gid,
        ..member
    }
}

/// A base with owners, modes, links and attributes of its own.
fn base() -> Vec<Member> {
    let (dir, file) = (Member::directory, |name: &str| {
        Member::file(name, "a lower file\n")
    });
    let mut members = vec![
        dir("t"),
        member(dir("home"), 0o755, 0, 0),
        member(file("home/x"), 0o600, 1, 1),
        member(dir("home/app"), 0o700, 1234, 2345),
        member(dir("lower"), 0o755, 10, 20),
        member(file("lower/file"), 0o640, 11, 21),
        member(file("lower/edit"), 0o640, 11, 21),
        member(file("lower/suid"), 0o4755, 0, 0),
        member(file("lower/sgid"), 0o2755, 0, 30),
        Member {
            xattrs: vec![("security.capability".into(), CAPABILITY.into())],
            ..member(file("lower/caps"), 0o755, 0, 0)
        },
        Member {
            xattrs: vec![("security.capability".into(), CAPABILITY.into())],
            ..member(file("lower/keepcaps"), 0o711, 3, 4)
        },
        member(dir("lower/setgid"), 0o2777, 5, 50),
        member(Member::symlink("lower/link", "file"), 0o777, 12, 22),
        member(dir("lower/sub"), 0o750, 13, 23),
        member(file("lower/sub/a"), 0o755, 13, 23),
        member(dir("lower/sub/b"), 0o1777, 14, 24),
        member(file("lower/sub/b/c"), 0o400, 15, 25),
        Member {
            kind: EntryType::Fifo,
            content: Vec::new(),
            ..member(file("lower/fifo"), 0o620, 16, 26)
        },
        member(dir("lower/gone"), 0o755, 1, 2),
        file("lower/gone/x"),
        member(dir("lower/opaque"), 0o700, 3, 2),
        file("lower/opaque/old"),
        member(dir("lower/moved"), 0o2711, 17, 27),
        member(file("lower/moved/x"), 0o600, 18, 28),
        member(Member::symlink("lower/moved/l", "x"), 0o777, 19, 29),
        member(file("lower/movedfile"), 0o604, 18, 28),
        file("lower/todir"),
        member(dir("lower/tofile"), 0o755, 0, 0),
        file("lower/tolink"),
        member(dir("lower/empty"), 0o700, 8, 8),
        member(file("lower/linked"), 0o644, 6, 7),
        file("lower/hard"),
    ];
    members.extend(
        ["old", "only", "append", "cut"]
            .map(|name| member(file(&format!("lower/{name}")), 0o644, 2, 2)),
    );
    members.push(member(dir("lower/onlydir"), 0o755, 2, 2));
    for (name, ..) in ROWS {
        members.push(member(dir(&format!("t/{name}")), 0o777, 0, 0));
    }
    members
}

fn dockerfile() -> String {
    let step = |(name, user, script): &(&str, &str, &str)| {
        format!("USER {user}\nWORKDIR /t/{name}\nRUN <<'END'\n{script}\nEND\n")
    };
    "FROM bb\nADD base.tar /\n".to_owned() + &ROWS.iter().map(step).collect::<String>()
}

/// What real root makes of the rows in a plain chroot.
fn oracle(root: &Path) -> Result<test_support::flatten::Files, String> {
    busybox::base(root, &require("busybox").unwrap(), busybox::MORE);
    disk::write(root, &base());
    let [null, zero] = ["null 3", "zero 5"].map(|text| text.split_once(' ').unwrap());
    for (name, minor) in [null, zero] {
        let path = root.join("dev").join(name);
        try_run(
            Path::new("mknod"),
            &["-m", "666", path.to_str().unwrap(), "c", "1", minor],
        )?;
    }
    for (name, user, script) in ROWS {
        let userspec = format!("--userspec={user}");
        // As a container has it: the user's groups are those of `/etc/group`.
        let groups = if user.starts_with("1234:") {
            "--groups=2345,3456"
        } else {
            "--groups="
        };
        let script = format!("umask 022; cd /t/{name}\n{script}\n");
        let words = [
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "chroot",
            &userspec,
            groups,
            root.to_str().unwrap(),
            "/bin/sh",
            "-c",
            &script,
        ];
        try_run(Path::new("env"), &words).map_err(|said| format!("{name}: {said}"))?;
    }
    fs::remove_dir_all(root.join("dev")).unwrap();
    let mut files = disk::read(root);
    for folder in ["dev", "proc", "sys"] {
        files.remove(format!("/{folder}").as_bytes());
    }
    Ok(files)
}

#[test]
fn every_way_does_what_real_root_does() {
    if !is_root() || require("busybox").is_none() {
        return skip("only root knows what root does");
    }
    let world = crate::world();
    let wanted = oracle(&world.path("oracle")).unwrap();
    let layers: Mutex<Vec<(&str, Value)>> = Mutex::default();
    in_each_way(|way| {
        let world = way.world();
        fs::write(world.path("context/base.tar"), tar(&base())).unwrap();
        let outcome = way
            .build(&world, &dockerfile(), "--source-date-epoch 1")
            .exits(0);
        drop(outcome);
        let image = Image::open(&image_of(&world));
        let mut files = image.files();
        for folder in ["", "dev", "proc", "sys"] {
            files.remove(format!("/{folder}").as_bytes());
        }
        let diff_ids = image.config["rootfs"]["diff_ids"].clone();
        layers.lock().unwrap().push((way.name, diff_ids));
        disk::differences(&files, &wanted, |_| false)
    });
    // One layer of the base, one of the tar, one of each row.
    let layers = layers.into_inner().unwrap();
    let mut found = Vec::new();
    for (name, ids) in &layers {
        for (at, id) in ids.as_array().unwrap().iter().enumerate() {
            if layers[0].1[at] != *id {
                let row = at.checked_sub(2).and_then(|at| ROWS.get(at));
                found.push(format!("{name} and {} differ in {row:?}", layers[0].0));
            }
        }
    }
    assert!(
        layers.len() >= 3 && found.is_empty(),
        "{}",
        found.join("\n")
    );
}
