//! What RUN mounts: each kind in each way of executing it, with what must and what must not be left.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use test_support::tarball::{Image, digest};
use test_support::world::World;

use super::isolation::helper;
use super::{Way, image_of, in_each_way};

/// Flags of a RUN, and a script that fails where something isn't as it should be.
const ROWS: &[(&str, &str)] = &[
    (
        "--mount=target=/m",
        "[ \"$(cat /m/seen)\" = seen ] && [ ! -e /m/ignored ]",
    ),
    (
        "--mount=target=/m,rw",
        "echo changed > /m/seen && [ \"$(cat /m/seen)\" = changed ] && touch /m/new",
    ),
    (
        "--mount=target=/m",
        "[ \"$(cat /m/seen)\" = seen ] && [ ! -e /m/new ]",
    ),
    (
        "--mount=source=sub,target=/m/deep/er",
        "[ \"$(cat /m/deep/er/x)\" = x ]",
    ),
    (
        "--mount=source=sub/x,target=/keep/file",
        "[ \"$(cat /keep/file)\" = x ] && [ \"$(cat /keep/own)\" = own ]",
    ),
    (
        "--mount=from=one,source=/data,target=/keep",
        "[ \"$(cat /keep/f)\" = one ] && [ ! -e /keep/own ]",
    ),
    (
        "",
        "[ \"$(cat /keep/own)\" = own ] && [ ! -e /keep/f ] && [ ! -e /keep/file ] && [ ! -e /m ]",
    ),
    (
        "--mount=from=one,source=/data/f,target=/f",
        "[ \"$(cat /f)\" = one ]",
    ),
    (
        "--mount=from=image,target=/i",
        "[ \"$(cat /i/in/image)\" = image ]",
    ),
    (
        "--mount=from=named,target=/i --mount=target=/m",
        "[ \"$(cat /i/n)\" = named ] && [ -e /m/seen ]",
    ),
    (
        "--mount=type=cache,target=/c,id=@k,mode=0750,uid=5,gid=6",
        "[ \"$(stat -c '%a %u %g' /c)\" = '750 5 6' ] && echo 1 > /c/n && chown 7:8 /c/n && ln -s n /c/l && chown -h 9:9 /c/l",
    ),
    (
        "--mount=type=cache,target=/d,id=@k,gid=6,uid=5,mode=750",
        "[ \"$(stat -c '%u %g' /d/n)\" = '7 8' ] && [ \"$(stat -c '%u' /d/l)\" = 9 ]",
    ),
    (
        "--mount=type=cache,target=/c,id=@k,sharing=locked,mode=0750,uid=5,gid=6",
        "[ \"$(cat /c/n)\" = 1 ]",
    ),
    (
        "--mount=type=cache,target=/c,id=@k",
        "[ \"$(stat -c '%a %u %g' /c)\" = '755 0 0' ] && [ ! -e /c/n ]",
    ),
    (
        "--mount=type=cache,target=/c,id=@p,sharing=private",
        "[ ! -e /c/n ] && echo private > /c/n",
    ),
    (
        "--mount=type=cache,target=/c,id=@f,from=one,source=/data",
        "[ \"$(cat /c/f)\" = one ] && echo two > /c/f",
    ),
    (
        "--mount=type=cache,target=/c,id=@f,from=one,source=/data",
        "[ \"$(cat /c/f)\" = two ]",
    ),
    (
        "--mount=type=cache,target=/c",
        "[ \"$(stat -c %a /c)\" = 755 ]",
    ),
    (
        "--mount=type=tmpfs,target=/t",
        "[ -z \"$(ls -A /t)\" ] && echo x > /t/x && mkdir /t/y",
    ),
    (
        "--mount=type=tmpfs,target=/keep",
        "[ ! -e /keep/own ] && echo x > /keep/x",
    ),
    (
        "--mount=type=secret,id=s",
        "[ \"$(sha256sum < /run/secrets/s)\" = '@HASH  -' ] && [ \"$(stat -c '%a %u' /run/secrets/s)\" = '400 0' ]",
    ),
    (
        "--mount=type=secret,id=s,target=/keep/s,mode=0440,uid=5,gid=6",
        "[ \"$(sha256sum < /keep/s)\" = '@HASH  -' ] && [ \"$(stat -c '%a %u %g' /keep/s)\" = '440 5 6' ]",
    ),
    (
        "--mount=type=secret,id=s,env=TOKEN",
        "[ \"$(printf %s \"$TOKEN\" | sha256sum)\" = '@HASH  -' ] && [ ! -e /run/secrets/s ]",
    ),
    (
        "--mount=type=secret,id=other",
        "[ ! -e /run/secrets/other ] && [ -z \"$TOKEN\" ]",
    ),
    (
        "--mount=type=ssh,mode=0666",
        "[ -S \"$SSH_AUTH_SOCK\" ] && [ \"$(helper ask \"$SSH_AUTH_SOCK\")\" = 'hello yourself' ]",
    ),
    (
        "--mount=type=ssh,target=/keep/agent",
        "[ -S /keep/agent ] && [ \"$(helper ask /keep/agent)\" = 'hello yourself' ]",
    ),
    (
        "",
        "grep -q '^10.1.2.3[[:space:]]*db$' /etc/hosts && echo 1.2.3.4 mine >> /etc/hosts && echo nameserver 9.9.9.9 > /etc/resolv.conf",
    ),
    (
        "",
        "! grep -q mine /etc/hosts && ! grep -q 9.9.9.9 /etc/resolv.conf",
    ),
    (
        "",
        "[ -z \"$SSH_AUTH_SOCK\" ] && [ \"$(echo /run /c /d /t /i /f /m)\" = '/run /c /d /t /i /f /m' ] && ! ls -d /run /c /d /t /i /f /m 2>&-",
    ),
];

/// What a chroot can't hold: mounts that are read-only.
const READ_ONLY: &[(&str, &str)] = &[
    (
        "--mount=target=/m",
        "! sh -c 'echo x > /m/seen' 2>&- && ! touch /m/new 2>&- && ! rm /m/seen 2>&-",
    ),
    (
        "--mount=type=bind,from=one,target=/m,readonly",
        "! touch /m/x 2>&- && ! chmod 600 /m/f 2>&- && ! ln /m/f /m/g 2>&- && ! mv /m/f /f 2>&-",
    ),
];

/// What needs namespaces: a limit of memory, and a network of its own.
const NAMESPACES: &[(&str, &str)] = &[
    (
        "--mount=type=tmpfs,target=/t,size=65536",
        "! dd if=/dev/zero of=/t/x bs=1024 count=1000 2>&-",
    ),
    (
        "--network=none",
        "[ \"$(ls /sys/class/net)\" = lo ] && grep -q '^ *lo:' /proc/net/dev && [ $(wc -l < /proc/net/dev) = 3 ]",
    ),
];

const SECRET: &str = "very-secret-0c6be1f2";

fn dockerfile(rows: &[&[(&str, &str)]], cache: &str) -> String {
    let hash = &digest(SECRET.as_bytes())[7..];
    let step = |(flags, script): &(&str, &str)| {
        let step = format!("RUN {flags} <<'END'\nset -e\n{script}\nEND\n");
        step.replace("@HASH", hash)
            .replace("id=@", &format!("id={cache}"))
    };
    let steps: String = rows.iter().copied().flatten().map(step).collect();
    format!("FROM scratch AS one\nCOPY one /data/f\nFROM bb\nCOPY keep /keep/\n{steps}")
}

/// An agent that answers whatever it is told; it ends with the test.
fn agent(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    test_support::world::set_mode(path, 0o666);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut text) = (stream.unwrap(), [0; 5]);
            // Who only tries whether somebody is there says nothing.
            if stream.read_exact(&mut text).is_ok() {
                let _ = stream.write_all(&[&text, &b" yourself"[..]].concat());
            }
        }
    });
}

fn world_of(way: Way) -> Option<World> {
    let world = way.world();
    helper(&world.path("bb/bin/helper"))?;
    std::os::unix::fs::symlink("busybox", world.path("bb/bin/sha256sum")).unwrap();
    for (path, text) in [
        ("seen", "seen"),
        ("ignored", "x"),
        (".dockerignore", "ignored\n"),
        ("sub/x", "x"),
        ("one", "one"),
        ("keep/own", "own"),
    ] {
        world.write(format!("context/{path}"), text);
    }
    world.write("named/n", "named");
    world.write("secret", SECRET);
    world.write("image/Dockerfile", "FROM scratch\nCOPY image /in/\n");
    world.write("image/image", "image");
    let flags = "-t image -o type=oci,dest=@/out/image.tar @/image";
    world.line(flags).exits(0);
    agent(&world.path("agent"));
    Some(world)
}

/// The files below a folder that hold some bytes.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.extend(holding(&path, bytes));
        } else if kind.is_file()
            && fs::read(&path)
                .unwrap()
                .windows(bytes.len())
                .any(|part| part == bytes)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

const FLAGS: &str = "--no-cache --build-context named=@/named --secret id=s,src=@/secret --ssh default=@/agent --add-host db:10.1.2.3";

#[test]
fn each_kind_is_seen_and_leaves_nothing() {
    in_each_way(|way| {
        let Some(world) = world_of(way) else {
            return Vec::new();
        };
        let rows: &[&[(&str, &str)]] = if way.cuts_network() {
            &[ROWS, READ_ONLY, NAMESPACES]
        } else if way.is_chroot() {
            &[ROWS]
        } else {
            &[ROWS, READ_ONLY]
        };
        let outcome = way.build(
            &world,
            &dockerfile(rows, "a"),
            &format!("{FLAGS} --compression none"),
        );
        let mut found = Vec::new();
        if outcome.status != 0 {
            return vec![outcome.stderr];
        }
        // Nothing but the base and what was copied: no layer of a RUN holds anything.
        let image = Image::open(&image_of(&world));
        let files = image.files();
        for path in files.keys() {
            let path = String::from_utf8_lossy(path);
            let known = [
                "/bin", "/dev", "/etc", "/keep", "/proc", "/sys", "/tmp", "/",
            ];
            let top = path.split('/').nth(1).unwrap_or_default();
            if !known.contains(&format!("/{top}").as_str())
                || (path.starts_with("/keep/") && path != "/keep/own")
            {
                found.push(format!("{path} is left"));
            }
            if ["/etc/hosts", "/etc/resolv.conf", "/dev/pipes"].contains(&&*path) {
                found.push(format!("{path} is left"));
            }
        }
        for (at, layer) in image.layers.iter().enumerate().skip(2) {
            let mut tree = test_support::flatten::Tree::default();
            if tree.apply(layer).unwrap() != 0 {
                let paths = test_support::tarball::paths(&tree.files());
                found.push(format!("layer {at} isn't empty: {paths:?}"));
            }
        }
        for folder in ["store", "out", "tmp", "home"] {
            let holding = holding(&world.path(folder), SECRET.as_bytes());
            found.extend(
                holding
                    .into_iter()
                    .map(|path| format!("{path} holds the secret")),
            );
        }
        if outcome.stderr.contains(SECRET) {
            found.push("the secret was shown".into());
        }
        // A second build finds the caches as they were left.
        let line = "RUN --mount=type=cache,target=/c,id=ak,mode=0750,uid=5,gid=6 [ \"$(stat -c '%u %g' /c/n) $(stat -c %u /c/l) $(cat /c/n)\" = '7 8 9 1' ]";
        let again = way.build(&world, &format!("FROM bb\n{line}\n"), "--no-cache");
        if again.status != 0 {
            found.push(again.stderr);
        }
        found
    });
}

/// What is refused, with the exit status and words.
const REFUSED: &[(&str, i32, &str)] = &[
    (
        "RUN --mount=type=secret,id=none,required true",
        6,
        "the secret `none` is required",
    ),
    (
        "RUN --mount=type=ssh,id=none,required true",
        6,
        "`none` is required",
    ),
    (
        "RUN --mount=from=bb,source=/nothing,target=/m true",
        6,
        "/nothing",
    ),
    ("RUN --mount=source=ignored,target=/m true", 6, "ignored"),
];

#[test]
fn what_is_not_there_is_refused() {
    in_each_way(|way| {
        let world = way.world();
        world.write("context/ignored", "x");
        world.write("context/.dockerignore", "ignored\n");
        let mut found = Vec::new();
        let mut rows = REFUSED.to_vec();
        if !way.cuts_network() {
            rows.push(("RUN --network=none true", 6, "network"));
        }
        for (line, status, words) in rows {
            let outcome = way.start(&world, &format!("FROM bb\n{line}\n"), "").wait();
            if outcome.status != status
                || !outcome.stderr.contains(words)
                || !outcome.stderr.contains("Dockerfile:2")
            {
                found.push(format!("{line}: {} {}", outcome.status, outcome.stderr));
            }
        }
        found
    });
}

/// Flags of a RUN, and the directory whose time it changes: the parent of a mount point that is made for it.
const PARENTS: &[(&str, &str)] = &[
    ("--mount=target=/keep/made", "/keep"),
    ("--mount=type=cache,target=/keep/made", "/keep"),
    ("--mount=type=cache,target=/deep/er/made", "/deep/er"),
    ("--mount=type=tmpfs,target=/keep/made", "/keep"),
    ("--mount=type=secret,id=s,target=/keep/made", "/keep"),
    ("--mount=type=secret,id=s", "/run"),
    ("--mount=from=one,source=/f,target=/keep/made", "/keep"),
    ("", "/etc"),
];

#[test]
fn the_parent_of_a_mount_point_keeps_the_time_that_the_command_gave_it() {
    in_each_way(|way| {
        let world = way.world();
        let secret = world.write("secret", "s");
        let mut file = String::from(
            "FROM bb AS one\nCOPY <<f /\nf\nFROM bb\nRUN mkdir -p /keep /run /deep/er\n",
        );
        for (number, (flags, parent)) in PARENTS.iter().enumerate() {
            let (look, stamp) = (
                format!("stat -c %y {parent}"),
                format!("/tmp/stamp{number}"),
            );
            // The pauses make a time that rbuild changes differ from the command's.
            let change =
                format!("sleep 0.02; touch {parent}/new{number}; {look} > {stamp}; sleep 0.02");
            writeln!(file, "RUN {flags} {change}").unwrap();
            writeln!(
                file,
                "RUN [ \"$({look})\" = \"$(cat {stamp})\" ] || {{ echo {parent}; exit 1; }}"
            )
            .unwrap();
        }
        let flag = format!("--secret id=s,src={}", secret.display());
        let outcome = way.build(&world, &file, &flag);
        if outcome.status == 0 {
            Vec::new()
        } else {
            vec![outcome.stderr]
        }
    });
}
