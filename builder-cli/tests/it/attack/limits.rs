//! A machine that gives little: no threads, no room on the disk, few open files.

use std::fs;

use test_support::tools::{is_root, require, skip};
use test_support::world::{World, set_mode};

use crate::world;

/// A world of a user who has no other process, behind a shell that sets a limit.
fn limited(limit: &str, user: &str) -> Option<World> {
    if !is_root() {
        skip("only root can become a user without other processes");
        return None;
    }
    require("setpriv")?;
    let mut world = world();
    for folder in ["home", "tmp", "out", "store"] {
        fs::create_dir_all(world.path(folder)).unwrap();
        set_mode(&world.path(folder), 0o777);
    }
    let script = format!("{limit}; exec \"$@\"");
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    world.run_through(&[
        "setpriv",
        &uid,
        &gid,
        "--clear-groups",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    Some(world)
}

#[test]
fn without_threads_there_is_a_build_or_a_remedy() {
    let mut built = 0;
    for number in 1..14 {
        let Some(world) = limited(&format!("ulimit -u {number}"), "54987") else {
            return;
        };
        world.write("context/a", "a");
        let stages: Vec<String> = (0..4)
            .map(|stage| format!("FROM scratch AS s{stage}\nCOPY a /{stage}\n"))
            .collect();
        let last: Vec<String> = (0..4)
            .map(|stage| format!("COPY --from=s{stage} / /\n"))
            .collect();
        world.write(
            "context/Dockerfile",
            format!("{}FROM scratch\n{}", stages.concat(), last.concat()),
        );
        let outcome = world.line("--jobs 8 -t a @/context");
        assert!(
            !outcome.stderr.contains("panicked"),
            "{number}: {outcome:?}"
        );
        match outcome.status {
            0 => built += 1,
            // The shell itself may be refused.
            126 | 127 | 2 => {}
            _ => {
                let outcome = outcome.exits(7);
                assert!(
                    outcome.stderr.contains("ulimit -u"),
                    "{number}: {outcome:?}"
                );
            }
        }
    }
    assert!(built > 3, "{built}");
}

/// Of thousands of layers none needs an open file of its own.
#[test]
fn many_layers_need_few_files() {
    let mut world = world();
    world.run_through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    world.write("context/a", "a");
    let copies: Vec<String> = (0..150)
        .map(|number| format!("COPY a /d{number}/\n"))
        .collect();
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\n{}", copies.concat()),
    );
    world.line("-t a @/context").exits(0);
}

/// Who waits for others is told for what, and hears an interrupt.
#[test]
fn an_interrupt_is_heard_while_others_are_waited_for() {
    use std::time::Duration;
    let world = world();
    world.write("context/f", "f");
    world.write("context/Dockerfile", "FROM scratch\nCOPY f /\n");
    // What was never read is copied first and asked about afterwards.
    world.line("-t a @/context").exits(0);
    world.line("-t a @/context").exits(0);
    let steps = fs::read_dir(world.path("store/cache/steps")).unwrap();
    let steps = steps.map(|entry| entry.unwrap().path());
    let mut steps = steps.filter(|path| path.extension().is_some_and(|kind| kind == "lock"));
    let step = steps.next().unwrap();
    for (path, words) in [
        (world.path("store/locks/use"), "is being cleaned: waiting"),
        (step, "another build executes this step: waiting"),
    ] {
        let file = fs::File::options().write(true).open(&path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let running = world.start_line("-t a --progress plain @/context");
        std::thread::sleep(Duration::from_millis(1500));
        running.signal(rustix::process::Signal::INT);
        // Loaded machines are slow; without the wait being left it never ends.
        let ended = running.ends_within(Duration::from_secs(3));
        assert!(ended.is_some(), "{words}");
        running.outcome(ended).exits(130).says(words);
        drop(file);
        world.line("-t a @/context").exits(0);
    }
}

/// The disk fills while a command runs and while a layer is written: it is said, nothing is left, and the store works.
#[test]
fn a_disk_that_fills_is_told_and_the_store_works_afterwards() {
    if !is_root() {
        return skip("only root can mount a small disk");
    }
    let (Some(_), Some(busybox)) = (require("unshare"), require("busybox")) else {
        return;
    };
    let mut world = world();
    test_support::busybox::base(&world.path("bb"), &busybox, test_support::busybox::MORE);
    fs::create_dir_all(world.path("store")).unwrap();
    for (name, file) in [
        ("run", "FROM bb\nRUN cat /dev/zero > /big\n"),
        ("copy", "FROM scratch\nCOPY noise /\n"),
        ("small", "FROM bb\nRUN echo > /small\n"),
    ] {
        world.write(format!("context/{name}"), file);
    }
    // What no compressor makes smaller.
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..24_000_000).map(|_| next()).collect();
    world.write("context/noise", noise);
    let script = "mount --make-rprivate /; mount -t tmpfs -o size=16m none \"$1\"; shift\n\
        for name in run copy small; do \"$@\" -f \"$CONTEXT/$name\"; echo \"$name $?\"; ls \"$STORE/tmp\" | wc -l; done";
    let store = world.path("store");
    world.set("STORE", store.as_os_str());
    let context = world.path("context");
    world.set("CONTEXT", context.as_os_str());
    world.run_through(&[
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        store.to_str().unwrap(),
    ]);
    let line = "build -t a --progress plain --build-context bb=@/bb -o type=tar,dest=@/out/a.tar @/context";
    let outcome = world.line(line).exits(0);
    assert_eq!(
        outcome.text(),
        "run 6\n0\ncopy 7\n0\nsmall 0\n0\n",
        "{}",
        outcome.stderr
    );
    let outcome = outcome.says("the disk is full where the store is");
    outcome.says("No space left on device");
}
