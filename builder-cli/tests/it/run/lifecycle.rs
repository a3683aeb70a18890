//! How a RUN ends: by itself, by a signal, with the program that builds. Nothing of it is left, and the next one works.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use test_support::tarball::Image;
use test_support::tools::{is_root, skip};
use test_support::world::{Running, World};

use super::{Way, image_of, in_each_way};

/// A command, and what is said about its end.
const ENDINGS: &[(&str, &str)] = &[
    ("RUN exit 7", "the command failed with exit status 7"),
    ("RUN kill -9 $$", "signal 9 (SIGKILL)"),
    ("RUN kill -11 $$", "signal 11 (SIGSEGV)"),
    ("RUN sh -c 'kill -15 $$'; exit $?", "exit status 143"),
    ("RUN [\"/nothing\"]", "/nothing"),
    ("RUN nothing", "exit status 127"),
    ("RUN echo the last words; false", "the last words"),
];

#[test]
fn endings_are_told() {
    in_each_way(|way| {
        let world = way.world();
        let mut found = Vec::new();
        for (line, words) in ENDINGS {
            let outcome = way.build(&world, &format!("FROM bb\n{line}\n"), "");
            let right = outcome.status == 6
                && outcome.stderr.contains(words)
                && outcome.stderr.contains("Dockerfile:2");
            if !right {
                found.push(format!("{line}: {} {}", outcome.status, outcome.stderr));
            }
        }
        found
    });
}

/// A word that is in no other process's environment.
fn mark(world: &World) -> String {
    let path = world.path("store");
    let name = path.parent().unwrap().file_name().unwrap();
    format!("mark-{}", name.to_str().unwrap())
}

/// The processes with a mark in their environment.
fn marked(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == [b"MARK=", mark.as_bytes()].concat())
    });
    processes
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

/// Waits until `done`, for ten seconds at most.
fn wait_until(done: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        let is_done = done();
        if !is_done {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_done
    })
}

/// What is left of a world's builds: processes and mounts.
fn left(world: &World) -> Vec<String> {
    let mark = mark(world);
    let mut found = Vec::new();
    if !wait_until(|| marked(&mark).is_empty()) {
        found.push(format!("processes are left: {:?}", marked(&mark)));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.contains(world.path("").to_str().unwrap()) {
        found.push("a mount is left".into());
    }
    found
}

/// What is wrong with the next build, and with what it leaves in the store.
fn next(way: Way, world: &World, line: &str) -> Vec<String> {
    let outcome = way.build(world, &format!("FROM bb\n{line}\n"), "--no-cache");
    let mut found = Vec::new();
    if outcome.status != 0 {
        found.push(format!("the next build: {}", outcome.stderr));
    }
    let temporary = fs::read_dir(world.path("store/tmp")).unwrap().count();
    if temporary != 0 {
        found.push(format!(
            "{temporary} temporary things are left in the store"
        ));
    }
    found
}

#[test]
fn what_runs_in_the_background_ends() {
    in_each_way(|way| {
        let world = way.world();
        let script = "sleep 1000 & setsid sleep 1001 & (setsid sh -c 'trap \"\" TERM HUP; sleep 1002; sleep 1003' &)";
        let dockerfile = format!("FROM bb\nENV MARK={}\nRUN {script}\n", mark(&world));
        way.build(&world, &dockerfile, "").exits(0);
        let mut found = left(&world);
        found.extend(next(way, &world, "RUN true"));
        found
    });
}

/// A build that is in its command.
fn sleeping(way: Way, world: &World, before: &str) -> Running {
    let mark = mark(world);
    let dockerfile = format!(
        "FROM bb\nENV MARK={mark}\nRUN --mount=type=cache,target=/c,id=kept {before}; sleep 1000; echo awake\n"
    );
    let running = way.start(world, &dockerfile, "--no-cache");
    let begun = wait_until(|| {
        let processes = marked(&mark);
        let sleeps = |pid: &String| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name == "sleep\n")
        };
        processes.iter().any(sleeps)
    });
    assert!(begun, "the command never slept: {}", running.wait().stderr);
    running
}

#[test]
fn a_signal_ends_the_command_too() {
    in_each_way(|way| {
        let world = way.world();
        let mut found = Vec::new();
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            let running = sleeping(way, &world, "echo kept > /c/f; mkdir /d; chmod 0 /d");
            running.signal(signal);
            let outcome = running.wait();
            let wanted = if signal == Signal::KILL { 137 } else { 130 };
            if outcome.status != wanted || image_of(&world).exists() {
                found.push(format!("{signal:?}: {} {}", outcome.status, outcome.stderr));
            }
            found.extend(left(&world));
            let line = "RUN --mount=type=cache,target=/c,id=kept [ \"$(cat /c/f)\" = kept ] && rm /c/f && [ ! -e /d ]";
            found.extend(next(way, &world, line));
            fs::remove_file(image_of(&world)).unwrap();
        }
        found
    });
}

/// The first child of a process.
fn child_of(parent: Pid) -> Option<Pid> {
    let wanted = format!("PPid:\t{}\n", parent.as_raw_nonzero());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut children = processes.filter_map(|process| {
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        let number = process.file_name().to_str()?.parse().ok()?;
        status.contains(&wanted).then(|| Pid::from_raw(number))?
    });
    children.next()
}

/// Whoever is killed of those who watch over a command, nothing of it goes on, what detached itself neither: where its
/// processes have a namespace, and where a `/proc` that is not whole forbids one.
#[test]
fn nothing_outlives_who_watches_it() {
    if !is_root() {
        return skip("only root can take a part of /proc away");
    }
    in_each_way(|way| {
        let mut found = Vec::new();
        if way.is_chroot() {
            return found;
        }
        for whole in [true, false] {
            let mut world = way.world();
            if !whole {
                let hide = "mount -t tmpfs hidden /proc/irq; exec \"$@\"";
                world.run_through_first(&["unshare", "--mount", "sh", "-c", hide, "sh"]);
            }
            for whom in ["the program", "the helper", "the supervisor"] {
                let detach =
                    "(setsid sh -c 'trap \"\" TERM HUP; sleep 1002; sleep 1003' &) ; sleep 0.1";
                let running = sleeping(way, &world, detach);
                let program = running.process();
                let helper = child_of(program).unwrap();
                let supervisor = child_of(helper).unwrap();
                let process = match whom {
                    "the program" => program,
                    "the helper" => helper,
                    _ => supervisor,
                };
                kill_process(process, Signal::KILL).unwrap();
                // Where no namespace ends with the helper, the command may go on to its end; it is ended here.
                if whom == "the helper" && !(whole && way.cuts_network()) {
                    running.signal(Signal::KILL);
                }
                let outcome = running.wait();
                if outcome.status == 0 {
                    found.push(format!("{whom} was killed, and all is well"));
                }
                let left = left(&world).into_iter();
                found.extend(left.map(|line| format!("{whom}, /proc whole {whole}: {line}")));
            }
        }
        found
    });
}

#[test]
fn builds_at_once_in_one_store() {
    in_each_way(|way| {
        let world = way.world();
        world.write("context/Dockerfile", "FROM bb\nARG N\nRUN --mount=type=cache,target=/c,id=both echo $N > /n && echo $N > /c/$N\n");
        let running: Vec<_> = (0..4)
            .map(|number| {
                let more = format!(
                    "--build-arg N={number} -t a{number} -o type=oci,dest=@/out/{number}.tar"
                );
                world.start_line(&way.line(&more))
            })
            .collect();
        let mut found = Vec::new();
        for (number, running) in running.into_iter().enumerate() {
            let outcome = running.wait();
            if outcome.status != 0 {
                found.push(outcome.stderr);
            } else if Image::open(&world.path(format!("out/{number}.tar"))).text("/n")
                != format!("{number}\n")
            {
                found.push(format!("{number} is another's"));
            }
        }
        let line =
            "RUN --mount=type=cache,target=/c,id=both [ \"$(echo /c/*)\" = '/c/0 /c/1 /c/2 /c/3' ]";
        found.extend(next(way, &world, line));
        found
    });
}

#[test]
fn stages_run_at_once() {
    in_each_way(|way| {
        let world = way.world();
        // Where a cache is moved into the root, there is one user at a time.
        if way.is_chroot() {
            return Vec::new();
        }
        let stage = |own: &str, other: &str| {
            format!(
                "FROM bb AS {own}\nRUN --mount=type=cache,target=/c,id=meet touch /c/{own}; i=0; until [ -e /c/{other} ]; \
                 do i=$((i+1)); [ $i -lt 200 ] || exit 9; sleep 0.1; done\n"
            )
        };
        let both = stage("a", "b") + &stage("b", "a");
        let dockerfile =
            both + "FROM bb\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n";
        let outcome = way.start(&world, &dockerfile, "--jobs 2").wait();
        (outcome.status != 0)
            .then_some(outcome.stderr)
            .into_iter()
            .collect()
    });
}

/// A supervisor that remembers each process must forget the dead: a long RUN has thousands.
#[test]
fn thousands_of_processes_are_no_burden() {
    let text = "FROM bb\nRUN su app -c true; i=0; while [ $i -lt 1500 ]; do /bin/busybox touch /tmp/f || exit 1; \
        i=$((i + 1)); done; su app -c 'i=0; while [ $i -lt 700 ]; do /bin/busybox touch /tmp/g || exit 1; \
        i=$((i + 1)); done'; [ $(ls /proc/1/fd 2> /dev/null | wc -l) -lt 400 ]\n";
    in_each_way(|way| {
        let world = way.world();
        let outcome = way.build(&world, text, "");
        if outcome.status == 0 {
            Vec::new()
        } else {
            vec![outcome.stderr]
        }
    });
}

/// The kernel's overlay takes 500 lower directories.
#[test]
fn more_layers_than_an_overlay_takes_are_one_root() {
    use std::fmt::Write as _;
    let Some(way) = super::ways().into_iter().find(|way| way.cuts_network()) else {
        return;
    };
    let world = way.world();
    let mut file = "FROM bb\nRUN mkdir /gone /kept && touch /gone/f /kept/f /first\n".to_owned();
    for number in 0..520 {
        writeln!(file, "WORKDIR /w/{number}").unwrap();
    }
    file.push_str("RUN rm -r /gone /first && chmod 700 /w/3 && echo x > /w/4/x\n\
        RUN ls /w | wc -l > /tmp/n; ls -d /gone /kept/f /first /w/4/x > /tmp/l 2>&1; stat -c %a /w/3 > /tmp/m\n");
    way.build(&world, &file, "").exits(0);
    let image = Image::open(&image_of(&world));
    assert_eq!(image.text("/tmp/n"), "520\n");
    let listed = image.text("/tmp/l");
    let there: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with('/'))
        .collect();
    assert_eq!(there, ["/kept/f", "/w/4/x"], "{listed}");
    assert_eq!(image.text("/tmp/m"), "700\n");
}
