//! RUN in a default container: what it forbids is found out, and a supervisor of paths needs nothing of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use test_support::busybox;
use test_support::tarball::Image;
use test_support::tools::{is_root, require, run, skip, succeeds};
use test_support::world::{World, set_mode};

use super::image_of;
use crate::testdata;

/// What a default container leaves to root.
const CAPABILITIES: &str = "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,\
    net_bind_service,sys_chroot,kill,audit_write";

const DOCKERFILE: &str = "FROM bb\nRUN <<'END'\nset -e\nmkdir /d\necho x > /d/f\nchown 5:6 /d/f\nchmod 4711 /d/f\n\
    su app -c 'id -u > /tmp/u'\ncat /proc/self/status > /dev/null\n(mknod /n c 1 3 && echo made || echo refused) 2>&1\n\
    mkdir -p /proc/self/fd && ls /proc/self/fd > /dev/null\n! mount -t tmpfs x /tmp\n! unshare -U true\nEND\n";

/// A world whose program is started in a jail: user, capabilities, and more that `jail.py` takes.
fn jailed(uid: &str, capabilities: &str, more: &[&str]) -> Option<World> {
    if !is_root() {
        skip("only root can be put into a container by hand");
        return None;
    }
    let (python, _) = (require("python3")?, require("setpriv")?);
    let busybox = require("busybox")?;
    let mut world = crate::world();
    busybox::base(&world.path("bb"), &busybox, busybox::MORE);
    for folder in ["home", "tmp", "out", "store"] {
        fs::create_dir_all(world.path(folder)).unwrap();
        set_mode(&world.path(folder), 0o777);
    }
    let jail = testdata("container/jail.py");
    let mut words = vec![python.to_str().unwrap(), jail.to_str().unwrap()];
    words.extend(more);
    words.extend([uid, capabilities]);
    world.run_through(&words);
    Some(world)
}

fn build(world: &World, dockerfile: &str) -> test_support::world::Outcome {
    world.write("context/Dockerfile", dockerfile);
    world.line("build --progress plain --build-context bb=@/bb -t a -o type=oci,dest=@/out/a.tar @/context")
}

/// Root and an ordinary user, with what a default container leaves them and with nothing at all.
#[test]
fn nothing_is_needed() {
    for (uid, capabilities, more) in [
        ("0", CAPABILITIES, &[][..]),
        ("0", CAPABILITIES, &["--users"]),
        ("0", "", &[]),
        ("65534", CAPABILITIES, &[]),
        ("65534", "", &[]),
        ("65534", "", &["--without-memory"]),
    ] {
        let Some(world) = jailed(uid, capabilities, more) else {
            return;
        };
        let outcome = build(&world, DOCKERFILE).exits(0).says(PATHS);
        let image = Image::open(&image_of(&world));
        let files = image.files();
        let file = &files[&b"/d/f"[..]];
        assert_eq!((file.mode, file.uid, file.gid), (0o4711, 5, 6));
        assert_eq!(image.text("/tmp/u"), "1234\n");
        let node = files.get(&b"/n"[..]).map(|node| node.kind);
        assert_eq!(node, Some("char"), "{}", outcome.stderr);
        world.line("doctor").exits(0);
    }
}

const PATHS: &str = "RUN is executed by paths: every path resolved by a supervisor";

#[test]
fn who_has_no_wall_is_told_why_not() {
    let Some(world) = jailed("65534", CAPABILITIES, &["--without-landlock"]) else {
        return;
    };
    // The refusal comes before any work: what stands in front of RUN is not done.
    let slow = DOCKERFILE.replace("RUN", "COPY f /copied\nRUN");
    world.write("context/f", "x");
    let outcome = build(&world, &slow).exits(6);
    for words in [
        "this machine does not let RUN be executed",
        "Operation not permitted (os error 1)",
        "asking for Landlock",
        "Dockerfiles without RUN build here",
        "user namespaces",
    ] {
        assert!(
            outcome.stderr.contains(words),
            "`{words}`: {}",
            outcome.stderr
        );
    }
    assert!(!outcome.stderr.contains("COPY"), "{}", outcome.stderr);
    assert!(!image_of(&world).exists());
    let doctor = world.line("doctor");
    let said = format!("{}{}", doctor.text(), doctor.stderr);
    assert!(said.contains("asking for Landlock"), "{said}");
    build(&world, "FROM bb\nCOPY f /copied\n").exits(0);
    assert_eq!(Image::open(&image_of(&world)).text("/copied"), "x");
}

/// The configuration of a container: `config.json` of the OCI runtime specification. One that allows user namespaces
/// has no filter: mounts outside of one are refused by the want of a capability.
fn config(uid: u32, allows: bool, store: &str, arguments: &[&str]) -> Value {
    let table: Value =
        serde_json::from_slice(&fs::read(testdata("container/denied.json")).unwrap()).unwrap();
    let refused: Vec<&String> = table["refused"].as_object().unwrap().keys().collect();
    let capabilities: Vec<String> = CAPABILITIES
        .split(',')
        .map(|name| format!("CAP_{}", name.to_uppercase()))
        .collect();
    let held = if uid == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    let mounts: Vec<Value> = [("proc", "/proc"), ("tmpfs", "/dev"), ("sysfs", "/sys")]
        .iter()
        .map(|(kind, at)| json!({ "destination": at, "type": kind, "source": kind, "options": ["nosuid", "noexec"] }))
        .collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "noNewPrivileges": uid != 0, "user": { "uid": uid, "gid": uid }, "args": arguments, "cwd": "/w",
            "env": ["PATH=/bin", "HOME=/w/home", format!("RBUILD_ROOT={store}"), "TMPDIR=/w/tmp"],
            "capabilities": { "bounding": capabilities, "effective": held, "permitted": held },
        },
        "root": { "path": "root" },
        "mounts": mounts,
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    { "names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
                    { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
                ],
            },
        },
    });
    if allows {
        config["linux"].as_object_mut().unwrap().remove("seccomp");
        return config;
    }
    // A masked comparison asks for one value, so each flag that clone may not have is a rule of its own.
    let flags = table["clone_flags"].as_u64().unwrap();
    let rules = config["linux"]["seccomp"]["syscalls"]
        .as_array_mut()
        .unwrap();
    for flag in (0..32)
        .map(|bit| 1_u64 << bit)
        .filter(|flag| flags & flag != 0)
    {
        let masked =
            json!([{ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" }]);
        rules.push(json!({ "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": masked }));
    }
    config
}

/// The shell that starts `runc` where control groups are of the old kind: it sees those of the new kind. With a third
/// argument the container's root is an overlay, as it is in most containers.
const START: &str = "mount --make-rprivate /; umount -R /sys/fs/cgroup 2> /dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 99
[ -z \"$3\" ] || mount -t overlay o -o \"lowerdir=$1/root,upperdir=$1/up,workdir=$1/work\" \"$1/root\" || exit 98
exec runc --root \"$1/state\" run --bundle \"$1\" \"$2\"";

/// Makes a root with the program, its libraries, and something to build in `/w`.
fn fill(root: &Path, busybox: &Path) {
    busybox::base(root, busybox, busybox::MORE);
    let program = Path::new(env!("CARGO_BIN_EXE_rbuild"));
    fs::copy(program, root.join("bin/rbuild")).unwrap();
    let libraries = run(Path::new("ldd"), &[program.to_str().unwrap()]);
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for library in libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let to = root.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    fs::create_dir_all(root.join("w/context")).unwrap();
    for folder in ["w", "w/home", "w/tmp", "w/out"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        set_mode(&root.join(folder), 0o777);
    }
    busybox::base(&root.join("w/bb"), busybox, busybox::MORE);
    fs::write(root.join("w/context/Dockerfile"), DOCKERFILE).unwrap();
}

/// A container and what is expected of it: user, whether it allows namespaces, whether its root is an overlay (`yes`),
/// the exit status, and words that are said.
type Row<'a> = (u32, bool, &'a str, i32, &'a str);

#[test]
fn a_real_container() {
    if !is_root() {
        return skip("only root can start a container");
    }
    let (Some(_), Some(_), Some(_), Some(busybox)) = (
        require("runc"),
        require("ldd"),
        require("unshare"),
        require("busybox"),
    ) else {
        return;
    };
    let groups = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup";
    if !succeeds("unshare", &["-m", "sh", "-c", groups]) {
        return skip("no control groups can be mounted here");
    }
    let mut world = crate::world();
    fill(&world.path("root"), &busybox);
    for folder in ["up", "work"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    let seen = "overlay, the container's processes visible";
    let copied = seen.replace("overlay", "a copy of the root");
    let rows: [Row<'_>; 8] = [
        (0, false, "", 0, PATHS),
        (65534, false, "", 0, PATHS),
        (0, true, "", 0, &format!("namespaces with all ids, {seen}")),
        (65534, true, "", 0, &format!("the others emulated, {seen}")),
        (0, false, "yes", 0, PATHS),
        (65534, false, "yes", 0, PATHS),
        (
            0,
            true,
            "yes",
            0,
            &format!("namespaces with all ids, {copied}"),
        ),
        (
            65534,
            true,
            "yes",
            0,
            &format!("the others emulated, {copied}"),
        ),
    ];
    for row in rows {
        build_in_container(&mut world, row);
    }
}

/// Builds in one container.
fn build_in_container(world: &mut World, (uid, allows, on_overlay, status, says): Row<'_>) {
    let start = "rbuild build --progress plain --build-context bb=/w/bb -t a -o type=oci,dest=/w/out/a.tar /w/context";
    // What was built runs there too.
    let run = "rbuild run --rm a cat /tmp/u";
    let both = format!("{start} && {run}");
    let line = ["sh", "-c", &both];
    let store = format!("/w/store-{uid}-{allows}{on_overlay}");
    let config = config(uid, allows, &store, &line);
    fs::write(world.path("config.json"), config.to_string()).unwrap();
    let here = world
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let unique = here.rsplit('-').next().unwrap();
    let name = format!("rbuild-test-{unique}-{uid}-{allows}{on_overlay}");
    let words = [
        "unshare", "-m", "sh", "-c", START, "sh", &here, &name, on_overlay,
    ];
    world.run_through(&words);
    let outcome = world.line("").exits(status).says(says);
    if status == 0 {
        assert!(outcome.text().ends_with("1234\n"), "{}", outcome.text());
        let seen = if on_overlay.is_empty() { "root" } else { "up" };
        let output = world.path(seen).join("w/out/a.tar");
        let image = Image::open(&output);
        fs::remove_file(output).unwrap();
        assert_eq!(image.text("/tmp/u"), "1234\n");
    }
}
