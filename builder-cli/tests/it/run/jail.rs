//! No RUN leaves its root: hostile commands in each way that has walls, and a victim beside the root that must stay as
//! it is, to the bit.
//!
//! The program is run in a throw-away copy of this machine (`testdata/jail/root.sh`): what comes through spoils nothing
//! but the test's own directory.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use test_support::tools::{is_root, require, run, skip};
use test_support::world::{World, set_mode};

use super::{ORDINARY, RANGE, SINGLE, SOMEBODY, Way};
use crate::testdata;

/// What only the victim's files hold.
const CANARY: &str = "canary-51c2";

/// Ways to name the victim, or a directory above it, from inside. `@V` is its path on the machine.
const NAMES: &[&str] = &[
    "@V",
    "/../../../../../../../..@V",
    "/proc/self/root@V",
    "/proc/1/root@V",
    "/proc/1/cwd/../../../..@V",
    "/proc/1/task/1/root@V",
    "/proc/$PPID/root@V",
    "/proc/self/cwd/../../../../..@V",
    "/proc/self/fd/9",
    "/proc/thread-self/fd/9",
    "/dev/fd/9",
    "/proc/1/fd/9",
    "/proc/1/fd/8/..",
    "/proc/$PPID/fd/9",
    "/proc/1/task/1/fd/9",
    "/proc/1/map_files/..@V",
];

/// How a name `@N` is used in a directory `@T` that the user may write to. Links and changes of directory lead other
/// calls there.
const USES: &[(&str, &str)] = &[
    ("", "probe touch @N"),
    (
        "by a link",
        "ln -s @N @T/l; probe touch @T/l; probe touch @T/l/.",
    ),
    (
        "by a directory that is a link",
        "mkdir @T/d; ln -s @N @T/d/l; cd @T/d; probe touch l/../l; cd l && probe touch .",
    ),
];

/// Steps of their own: a name, and what follows `FROM bb`.
const STEPS: &[(&str, &str)] = &[
    ("all descriptors of all processes", "RUN probe descriptors"),
    ("the same as a user", "USER app\nRUN probe descriptors"),
    ("debugging", "RUN probe debug"),
    ("debugging as a user", "USER app\nRUN probe debug"),
    ("terminals", "RUN probe terminals"),
    ("terminals as a user", "USER app\nRUN probe terminals"),
    (
        "terminals, reached by the shell",
        "RUN echo reached > /dev/tty; echo reached > /dev/console; for t in /dev/pts/*; do echo reached > $t; done",
    ),
    ("devices", "RUN probe devices"),
    ("devices as a user", "USER app\nRUN probe devices"),
    (
        "devices of the base",
        "RUN cat /base-device | head -c 1 | grep -q . && echo 'READ the device of the base'",
    ),
    (
        "devices of the context",
        "RUN --mount=target=/m cat /m/device | head -c 1 | grep -q . && echo 'READ the device of the context'",
    ),
    ("calls of the kernel", "RUN probe kernel"),
    ("a chroot", "RUN probe escape @V"),
    ("a chroot as a user", "USER app\nRUN probe escape @V"),
    ("abstract sockets", "RUN probe abstract @S"),
    (
        "abstract sockets as a user",
        "USER app\nRUN probe abstract @S",
    ),
    ("signals to all", "RUN probe detach & kill -9 -1"),
    (
        "signals to the supervisor",
        "RUN kill -9 1; kill -STOP 1; kill -TERM $PPID; sleep 0.1",
    ),
    ("a process that detaches", "RUN probe detach; sleep 0.2"),
    (
        "a process that detaches before a failure",
        "RUN probe detach; sleep 0.2; false",
    ),
    ("a race for a path", "RUN probe race @V/made"),
    (
        "a race for a link of /proc",
        "RUN probe race /proc/1/root@V/made",
    ),
    (
        "the same as a user",
        "USER app\nRUN probe race /proc/1/root@V/made",
    ),
    (
        "a race for a descriptor as a user",
        "USER app\nRUN probe race /proc/1/fd/9/made",
    ),
    (
        "working directory: a descriptor",
        "WORKDIR /proc/self/fd/9\nRUN probe touch .; probe touch ..@V",
    ),
    (
        "working directory: below a descriptor",
        "WORKDIR /proc/self/fd/9/folder\nRUN probe touch ..; probe touch .",
    ),
    (
        "working directory: a descriptor of process 1",
        "WORKDIR /proc/1/fd/9\nRUN probe touch .",
    ),
    (
        "working directory: the root of process 1",
        "WORKDIR /proc/1/root@V\nRUN probe touch .",
    ),
    (
        "working directory: /dev/fd",
        "WORKDIR /dev/fd/9\nRUN probe touch .",
    ),
    (
        "working directory: a link to a descriptor",
        "RUN ln -s /proc/self/fd/9 /w\nWORKDIR /w\nRUN probe touch .",
    ),
    (
        "working directory: a link to the victim",
        "RUN ln -s @V /w\nWORKDIR /w/new\nRUN probe touch /w; probe touch .",
    ),
    (
        "working directory as a user",
        "USER app\nWORKDIR /proc/self/fd/9\nRUN probe touch .",
    ),
    (
        "the helper's program",
        "RUN [\"/proc/self/exe\", \"touch\", \"@V\"]",
    ),
    (
        "the helper's program by an interpreter",
        "COPY interpreter /i\nRUN [\"/i\", \"@V\"]",
    ),
    (
        "the helper's program as a loader",
        "COPY loader /l\nRUN [\"/l\", \"touch\", \"@V\"]",
    ),
    (
        "the program of process 1",
        "RUN probe touch /proc/1/exe; chmod 777 /proc/1/exe; chown 7:7 /proc/1/exe; echo x >> /proc/1/exe",
    ),
    (
        "a mount on a link",
        "RUN ln -s @V /m\nRUN --mount=type=tmpfs,target=/m/folder probe touch /m",
    ),
    (
        "a cache on a link to a descriptor",
        "RUN ln -s /proc/self/fd/9 /m\nRUN --mount=type=cache,target=/m/folder probe touch /m",
    ),
    (
        "a bind mount and upwards",
        "RUN --mount=target=/m,rw probe touch /m/../../../..@V; probe touch /m/out",
    ),
    (
        "a link in the context",
        "RUN --mount=target=/m,rw probe touch /m/out; probe touch /m/out/folder",
    ),
    (
        "a link in a cache",
        "RUN --mount=type=cache,target=/c ln -sfn @V /c/out; probe touch /c/out\nRUN --mount=type=cache,target=/c probe touch /c/out",
    ),
    (
        "a mount point replaced by a link",
        "RUN --mount=type=secret,id=s,target=/a/b/file,required=false --mount=type=cache,target=/a/b/folder mv /a /x; ln -s @V/.. /a",
    ),
    (
        "a mount point below a link to the victim",
        "RUN --mount=type=tmpfs,target=/v/folder --mount=type=tmpfs,target=/v/file mv /v /x; ln -s @V /v",
    ),
    (
        "resolv.conf replaced by a link",
        "RUN mv /etc /e; ln -s @V /etc; ln -s @V/file /etc/resolv.conf",
    ),
    (
        "/proc, /sys and /dev replaced by links",
        "RUN for d in proc sys dev; do mv /$d /x$d; ln -s @V /$d; done",
    ),
    (
        "the change list",
        "RUN mkdir /deep; cd /deep; for i in 1 2 3; do mkdir d; cd d; done; ln -s @V out; mknod x c 0 0; mknod y c 5 1; ln -s / z",
    ),
    (
        "attributes",
        "RUN ln -s @V/file /f; setfattr -n user.rbuild.owner -v 7:7 /f; touch /g; chown 1:1 /g; chown -h 2:2 /f; chown 3:3 /f",
    ),
    (
        "sockets made below the victim",
        "USER app\nRUN probe touch /proc/1/cwd@V; probe touch /proc/1/root/proc/1/fd/9",
    ),
    (
        "the machine's settings",
        "RUN for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /sys/kernel/uevent_helper; do echo x > $f && echo \"DONE wrote $f\"; done",
    ),
    (
        "what tells of the machine",
        "RUN for f in keys timer_list kcore latency_stats sched_debug interrupts; do [ -s /proc/$f ] && head -c 1 /proc/$f | grep -q . && echo \"READ /proc/$f\"; done; ls /proc/acpi /proc/scsi /sys/firmware | grep -v : | grep . && echo 'READ a directory'",
    ),
];

/// Words by which a probe says that something worked which must not.
const BROKEN: &[&str] = &[
    CANARY,
    "BROKEN:",
    "LEFT:",
    "STOLEN ",
    "SEIZED ",
    "ATTACHED ",
    "READ ",
    "OPENED ",
    "DONE ",
];

/// The hostile Dockerfiles, each with a name.
fn attacks() -> Vec<(String, String)> {
    let mut attacks = Vec::new();
    for (how, script) in USES {
        for name in NAMES {
            let script = script.replace("@N", name);
            let as_root = script.replace("@T", "");
            attacks.push((format!("{name} {how}"), format!("RUN {as_root}")));
            let as_user = script.replace("@T", "/tmp");
            attacks.push((
                format!("{name} {how} as a user"),
                format!("USER app\nRUN {as_user}"),
            ));
        }
    }
    let steps = STEPS.iter();
    attacks.extend(steps.map(|(name, step)| ((*name).to_owned(), (*step).to_owned())));
    attacks
}

/// The tree beside the root, and what listens in it.
struct Victim {
    path: PathBuf,
    abstract_name: String,
    sockets: [UnixListener; 2],
}

impl Victim {
    fn new(world: &World, way: Way) -> Self {
        let path = world.path("victim");
        let file = |name: &str, mode: u32| {
            let file = path.join(name);
            fs::write(&file, format!("#!/bin/sh\necho {CANARY}\n")).unwrap();
            set_mode(&file, mode);
        };
        fs::create_dir_all(path.join("folder")).unwrap();
        file("file", 0o600);
        file("secret", 0o644);
        file("program", 0o4755);
        file("folder/file", 0o666);
        symlink("file", path.join("link")).unwrap();
        rustix::fs::mknodat(
            CWD,
            path.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(path.join("file"), "user.victim", b"1", flags).unwrap();
        // Each world has another path, and the machine one table of abstract names.
        let abstract_name = format!("rbuild-jail{}-{}", path.display(), way.name);
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let sockets = [
            UnixListener::bind(path.join("socket")).unwrap(),
            UnixListener::bind_addr(&address).unwrap(),
        ];
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        if way.ordinary {
            // It belongs to the user whose rights a RUN has: nothing but the walls keeps it from the RUN.
            let id = Some(SOMEBODY.parse().unwrap());
            for name in [
                "",
                "file",
                "secret",
                "program",
                "folder",
                "folder/file",
                "fifo",
                "socket",
            ] {
                chown(path.join(name), id, id).unwrap();
            }
            set_mode(&path.join("program"), 0o4755);
        }
        Self {
            path,
            abstract_name,
            sockets,
        }
    }

    /// Everything that can be seen of it but when it was read.
    fn look(&self) -> Vec<String> {
        let mut lines = Vec::new();
        look_at(&self.path, &mut lines);
        lines
    }

    /// Whether somebody called.
    fn was_called(&self) -> bool {
        self.sockets.iter().any(|socket| socket.accept().is_ok())
    }
}

/// What a file is, but for its bytes: its mode and owner, and when any of that, or a byte, last changed.
fn identity(path: &Path) -> (u64, u32, u32, u32, i64, i64) {
    let found = fs::metadata(path).unwrap();
    (
        found.ino(),
        found.mode(),
        found.uid(),
        found.gid(),
        found.ctime(),
        found.ctime_nsec(),
    )
}

fn look_at(path: &Path, lines: &mut Vec<String>) {
    let found = fs::symlink_metadata(path).unwrap();
    let content = match found.file_type() {
        kind if kind.is_file() => format!("{:?}", fs::read(path).unwrap()),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
        _ => String::new(),
    };
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    lines.push(format!(
        "{} {:o} {}:{} {}.{} {}.{} {} {content} {:?}",
        path.display(),
        found.permissions().mode(),
        found.uid(),
        found.gid(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
        found.nlink(),
        &names[..length],
    ));
    if found.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|one| one.unwrap().path())
            .collect();
        entries.sort();
        for entry in entries {
            look_at(&entry, lines);
        }
    }
}

/// The world of a way, with the probe in its base, and whose program is run in the throw-away machine.
///
/// `landlock` is whether the machine has it.
fn world_of(way: Way, landlock: bool) -> Option<(World, Victim)> {
    let cc = require("cc")?;
    let mut world = way.world();
    let victim = Victim::new(&world, way);
    let source = testdata("jail/probe.c");
    let source = source.to_str().unwrap();
    let probe = world.path("bb/bin/probe");
    let target = probe.to_str().unwrap();
    run(
        &cc,
        &["-static", "-O1", "-w", "-pthread", "-o", target, source],
    );
    set_mode(&probe, 0o755);
    let device = rustix::fs::makedev(1, 5);
    for place in ["bb/base-device", "context/device"] {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            CWD,
            world.path(place),
            FileType::CharacterDevice,
            mode,
            device,
        )
        .unwrap();
    }
    world.write("context/interpreter", "#!/proc/self/exe touch\n");
    set_mode(&world.path("context/interpreter"), 0o755);
    let loader = world.path("context/loader");
    let linked = "-Wl,--dynamic-linker=/proc/self/exe";
    run(
        &cc,
        &["-O1", "-w", linked, "-o", loader.to_str().unwrap(), source],
    );
    symlink(&victim.path, world.path("context/out")).unwrap();
    let folder = Path::new(env!("CARGO_BIN_EXE_rbuild")).parent().unwrap();
    let root = testdata("jail/root.sh");
    let mut words = vec![
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--propagation",
        "private",
        "sh",
        root.to_str().unwrap(),
    ];
    let here = world.path("");
    words.extend([
        here.to_str().unwrap().trim_end_matches('/'),
        folder.to_str().unwrap(),
    ]);
    let (uid, gid) = (format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}"));
    if way.ordinary {
        words.extend(["setpriv", &uid, &gid, "--clear-groups"]);
    }
    words.extend([target, "guard", victim.path.to_str().unwrap()]);
    if !landlock {
        words.extend([target, "without-landlock"]);
    }
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    world.run_through(&words.iter().map(String::as_str).collect::<Vec<_>>());
    Some((world, victim))
}

/// What came of the attacks in a way: nothing.
fn attack(way: Way, landlock: bool) -> Vec<String> {
    let Some((world, victim)) = world_of(way, landlock) else {
        return Vec::new();
    };
    let before = victim.look();
    let program = identity(Path::new(env!("CARGO_BIN_EXE_rbuild")));
    let mut found = Vec::new();
    // What Landlock has to do with is enough where there is none.
    let all = attacks()
        .into_iter()
        .filter(|(name, _)| landlock || name.contains("socket") || name.contains("signals"));
    for (name, steps) in all {
        let steps = steps
            .replace("@V", victim.path.to_str().unwrap())
            .replace("@S", &victim.abstract_name);
        let dockerfile = format!("FROM bb\n{steps}\n");
        // Many of them fail, and the build with them.
        let outcome = way.start(&world, &dockerfile, "--no-cache").wait();
        let mut tell = |what: &str| found.push(format!("{name}: {what}\n{}", outcome.stderr));
        if !outcome.stderr.contains(way.says) {
            tell("was not executed in this way");
        }
        let printed = outcome.stderr.lines().filter(|line| line.starts_with('['));
        let printed: Vec<&str> = printed.filter(|line| !line.contains("] 0: ")).collect();
        let own = outcome
            .stderr
            .lines()
            .filter(|line| line.starts_with("BROKEN:") || line.starts_with("LEFT:"));
        if let Some(line) = printed
            .into_iter()
            .chain(own)
            .find(|line| BROKEN.iter().any(|word| line.contains(word)))
        {
            tell(&format!("came through: {line}"));
        }
        if victim.was_called() {
            tell("reached a socket");
        }
        if identity(Path::new(env!("CARGO_BIN_EXE_rbuild"))) != program {
            tell("changed the machine's own program");
            return found;
        }
        let after = victim.look();
        if after != before {
            let differs = after
                .iter()
                .zip(&before)
                .find(|(after, before)| after != before);
            tell(&format!("changed the victim: {differs:?}"));
            return found;
        }
    }
    found
}

#[test]
fn no_hostile_command_leaves_its_root() {
    let tools = ["busybox", "setpriv", "unshare", "cc"];
    if tools.iter().any(|tool| require(tool).is_none()) {
        return;
    }
    if !is_root() {
        skip("the jail of hostile commands is a copy of the machine, which only root can make");
        return;
    }
    let found: Vec<String> = std::thread::scope(|scope| {
        let ways = [RANGE, SINGLE, ORDINARY].map(|way| [(way, true), (way, false)]);
        let running: Vec<_> = ways
            .into_iter()
            .flatten()
            .map(|(way, landlock)| (way, landlock, scope.spawn(move || attack(way, landlock))))
            .collect();
        let lines = running.into_iter().flat_map(|(way, landlock, thread)| {
            let found = thread.join().unwrap_or_else(|_| vec!["panicked".into()]);
            let place = format!("{}, Landlock {landlock}", way.name);
            found
                .into_iter()
                .map(move |line| format!("{place}: {line}"))
        });
        lines.collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The walls don't stand in the way of a pseudo-terminal that the command opens itself.
#[test]
fn a_command_has_terminals_of_its_own() {
    if !is_root() {
        skip("the probe's world is made by root");
        return;
    }
    for way in [RANGE, SINGLE, ORDINARY] {
        let Some((world, _victim)) = require("busybox").and_then(|_| world_of(way, true)) else {
            return;
        };
        way.build(
            &world,
            "FROM bb\nRUN probe own-terminal\nUSER app\nRUN probe own-terminal\n",
            "--no-cache",
        )
        .exits(0);
    }
}
