//! What a RUN can't reach: files and processes of the machine, what the program that builds has open and knows.

use std::fs;
use std::path::Path;

use test_support::tools::{require, run};
use test_support::world::{World, set_mode};

use super::{Way, in_each_way};
use crate::testdata;

const CANARY: &str = "canary-7f3a";

/// A name, and a script that must fail. `@CANARY` is a file of the machine, `@PID` a process of it.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("the file by its path", "cat @CANARY"),
    (
        "the file upwards",
        "cd /; cat ../../../../../../../../@CANARY",
    ),
    ("the file through a link", "ln -s @CANARY /l; cat /l"),
    (
        "the root of others",
        "cat /proc/1/root@CANARY || cat /proc/$PPID/root@CANARY || cat /proc/self/root@CANARY",
    ),
    (
        "the directories of others",
        "for p in /proc/[0-9]*; do cat $p/root@CANARY $p/cwd/../../../../../..@CANARY; done 2>&- | grep .",
    ),
    (
        "the environment of others",
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>&- | grep SECRETVARIABLE=",
    ),
    (
        "the environment of its parent",
        "tr '\\0' '\\n' < /proc/$PPID/environ | grep SECRETVARIABLE=",
    ),
    ("a process of the machine", "kill -0 @PID"),
    (
        "an inherited descriptor",
        "[ -e /proc/self/fd/9 ] || ls /proc/self/fd/9/ || cat <&9",
    ),
    (
        "more descriptors than three",
        "ls /proc/self/fd | grep -v '^[0123]$'",
    ),
    ("a mount", "mount -t tmpfs x /tmp"),
    ("a bind mount", "mount -o bind /etc /tmp"),
    ("a user namespace", "unshare -U true"),
    ("a mount namespace", "unshare -m true"),
    ("a process namespace", "unshare -p true"),
    (
        "the machine's settings",
        "echo 1 > /proc/sys/vm/drop_caches",
    ),
    ("the host name", "echo x > /proc/sys/kernel/hostname"),
    ("memory of the kernel", "head -c 1 /proc/kcore | grep ."),
    // Root could change their modes and owners. That is not tried out: it would be the machine's devices that suffer.
    (
        "devices that can be changed",
        "grep -E '^[^ ]+ /dev/(null|zero|full|random|urandom|tty) [^ ]+ rw' /proc/self/mounts",
    ),
    ("the machine's log", "dd if=/dev/kmsg bs=1 count=1 | grep ."),
];

fn world_with_canary(way: Way) -> World {
    let mut world = way.world();
    world.write("canary", CANARY);
    world.set("SECRETVARIABLE", "x");
    let keep = "exec 9< \"$0\"; exec \"$@\"".to_owned();
    let folder = world.path("").to_str().unwrap().to_owned();
    let mut words = vec!["sh".to_owned(), "-c".to_owned(), keep, folder];
    if way.ordinary {
        let id = super::SOMEBODY;
        words.extend([
            "setpriv".to_owned(),
            format!("--reuid={id}"),
            format!("--regid={id}"),
            "--clear-groups".to_owned(),
        ]);
    }
    world.run_through(&words.iter().map(String::as_str).collect::<Vec<_>>());
    world
}

#[test]
fn the_machine_is_out_of_reach() {
    in_each_way(|way| {
        let world = world_with_canary(way);
        let canary = world.path("canary");
        let fill = |script: &str| {
            script
                .replace("@CANARY", canary.to_str().unwrap())
                .replace("@PID", &std::process::id().to_string())
        };
        // One step for all: each attempt says its name where it comes through.
        let tries: Vec<String> = OUT_OF_REACH
            .iter()
            .map(|(name, script)| {
                format!(
                    "( {} ) > /said 2>&1 && echo \"REACHED {name}: $(cat /said)\"",
                    fill(script)
                )
            })
            .collect();
        let dockerfile = format!(
            "FROM bb\nRUN <<'END'\n{}\necho all were tried\nEND\n",
            tries.join("\n")
        );
        let outcome = way.build(&world, &dockerfile, "");
        let mut found: Vec<String> = outcome
            .stderr
            .lines()
            .filter(|line| line.contains("] REACHED"))
            .map(str::to_owned)
            .collect();
        if !outcome.stderr.contains("] all were tried") {
            found.push(outcome.stderr);
        }
        found
    });
}

/// Compiles the helper for a root without libraries.
pub(super) fn helper(to: &Path) -> Option<()> {
    compile("container/helper.c", to)
}

/// Compiles a program of the test data for a root without libraries.
fn compile(source: &str, to: &Path) -> Option<()> {
    let cc = require("cc")?;
    let source = testdata(source);
    run(
        &cc,
        &[
            "-static",
            "-o",
            to.to_str().unwrap(),
            source.to_str().unwrap(),
        ],
    );
    set_mode(to, 0o755);
    Some(())
}

#[test]
fn shared_memory_and_queues_end_with_the_run() {
    in_each_way(|way| {
        let world = way.world();
        if way.is_chroot() || compile("container/ipc.c", &world.path("bb/bin/ipc")).is_none() {
            // A chroot shares them with the machine.
            return Vec::new();
        }
        // By its size it is known among those of the machine.
        let letters = way.name.bytes().map(u64::from);
        let size = 1_000_003 + letters.sum::<u64>() * u64::from(std::process::id());
        let dockerfile = format!(
            "FROM bb\nRUN ipc make {size} && (ipc find {size})\nRUN ipc find {size}\nRUN ipc make {size}\n"
        );
        let outcome = way.build(&world, &dockerfile, "");
        let said = &outcome.stderr;
        let mut found = Vec::new();
        for words in [
            "memory abc, semaphores 1, message abc, queue abc",
            "memory -, semaphores -1, message -, queue -",
        ] {
            if !said.contains(words) {
                found.push(format!("{words}: {said}"));
            }
        }
        let left = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let is_it = |line: &&str| line.split_whitespace().any(|word| word == size.to_string());
        found.extend(left.lines().find(is_it).map(str::to_owned));
        found
    });
}

#[test]
fn a_chroot_is_not_left() {
    in_each_way(|way| {
        let world = world_with_canary(way);
        if helper(&world.path("bb/bin/helper")).is_none() {
            return Vec::new();
        }
        let canary = world.path("canary");
        let canary = canary.to_str().unwrap();
        // The helper does what it says where it may.
        let dockerfile = format!(
            "FROM bb\nRUN mkdir -p /w; cd /w; helper escape /etc/passwd | grep root; helper escape {canary}; echo status $?\n"
        );
        let outcome = way.build(&world, &dockerfile, "");
        let mut found = Vec::new();
        if outcome.stderr.contains(CANARY)
            || !outcome.stderr.contains("] status ")
            || outcome.stderr.contains("] status 0")
        {
            found.push(outcome.stderr);
        }
        found
    });
}

/// A root below the root, and what is seen from within.
const ANOTHER_ROOT: &str = r"
mkdir -p /r/bin /r/d/e /r/etc /r/own
cp /bin/busybox /r/bin/busybox
ln -s busybox /r/bin/sh
echo inner > /r/etc/name
echo outer > /etc/name
ln -s /etc/name /r/link
chown 5:6 /r/own
cat > /r/script <<'SCRIPT'
PATH=/bin
cd /d/e/../../..
busybox pwd
busybox cat /link ../etc/name /../../etc/name
busybox ls -d /r /bin
busybox stat -c %u:%g /own
cd /d
busybox sh -c 'busybox pwd; busybox cat ../link; busybox touch /made'
busybox chroot /d /nothing
echo none $?
SCRIPT
chroot /r /bin/busybox sh /script
ls -l /r/made && cat /etc/name
su app -c 'chroot /r /bin/sh' || echo refused
";

#[test]
fn a_root_may_be_changed_within_the_root() {
    in_each_way(|way| {
        if way.is_chroot() {
            // Of C a second chroot is refused.
            return Vec::new();
        }
        let world = way.world();
        let expected = [
            "] /\n",
            "] inner\n",
            "] /bin\n",
            "] 5:6\n",
            "] /d\n",
            "] none 127\n",
            "] outer\n",
        ];
        let dockerfile = format!("FROM bb\nRUN <<'END'\n{ANOTHER_ROOT}END\n");
        let said = way.build(&world, &dockerfile, "").stderr;
        let mut found: Vec<String> = expected
            .iter()
            .filter(|words| !said.contains(**words))
            .map(|words| format!("{words}: {said}"))
            .collect();
        // Where one id stands for all, the kernel asks for no more than that one has.
        let single = way.name == "single" || way.name == "ordinary";
        if !single && !said.contains("] refused\n") {
            found.push(format!("somebody changed the root: {said}"));
        }
        if said.matches("] inner\n").count() != 4 || said.contains("] /r\n") {
            found.push(said);
        }
        found
    });
}

#[test]
fn a_mode_is_changed_through_a_descriptor() {
    in_each_way(|way| {
        let world = way.world();
        if helper(&world.path("bb/bin/helper")).is_none() {
            return Vec::new();
        }
        let script = "touch /f; chown 1234:2345 /f; helper mode /f && stat -c 'mode %a' /f\n\
            chmod 600 /f; su app -c 'helper mode /f' && stat -c 'own %a' /f\n\
            touch /g; chmod 600 /g; ln -s /g /l; helper mode /l || echo link refused\n\
            exit 0";
        let outcome = way.build(
            &world,
            &format!("FROM bb\nRUN <<'END'\n{script}\nEND\n"),
            "",
        );
        let missing = ["] mode 640", "] own 640", "] link refused"];
        let missing = missing
            .iter()
            .filter(|words| !outcome.stderr.contains(**words));
        let found: Vec<String> = missing
            .map(|words| format!("{words}: {}", outcome.stderr))
            .collect();
        found
    });
}

#[test]
fn the_context_stays_as_it_is() {
    in_each_way(|way| {
        let world = way.world();
        world.write("context/f", "before");
        let script = "echo after > /m/f; rm -f /m/Dockerfile; echo new > /m/new; chown 5:6 /m /m/f; chmod 700 /m; cat /m/f";
        let outcome = way.build(
            &world,
            &format!("FROM bb\nRUN --mount=target=/m,rw {script}\n"),
            "",
        );
        let mut found = Vec::new();
        if outcome.status != 0 || !outcome.stderr.contains("] after") {
            found.push(outcome.stderr);
        }
        let names = fs::read_dir(world.path("context")).unwrap().count();
        if fs::read(world.path("context/f")).unwrap() != b"before" || names != 2 {
            found.push("the context was changed".into());
        }
        found
    });
}
