//! `rbuild run`, `rbuild shell` and `--on-failure`, in each way in which RUN is executed.

use test_support::world::World;

use crate::run::{Way, in_each_way};

const IMAGE: &str = "FROM bb
ENV GREETING=hello
RUN mkdir -p /srv /tmp && chmod 1777 /tmp
WORKDIR /srv
USER app
ENTRYPOINT [\"echo\", \"entry\"]
CMD [\"cmd\"]
HEALTHCHECK --interval=1s --retries=1 CMD test -e /srv
";

/// What differs from what is expected of each line: arguments behind `run`, the exit status, and what is printed.
fn differences(way: Way, world: &World, table: &[(&[&str], i32, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (arguments, status, printed) in table {
        let words = [&["run"], &way.words()[..], arguments].concat();
        let outcome = world.run(words);
        if outcome.status != *status || !outcome.text().contains(printed) {
            let (got, text, said) = (outcome.status, outcome.text(), &outcome.stderr);
            found.push(format!("{arguments:?}: {got} {text:?} {said}"));
        }
    }
    found
}

#[test]
fn an_image_s_program_runs() {
    in_each_way(|way| {
        let world = way.world();
        way.build(&world, IMAGE, "").exits(0);
        world.write("out/shown/file", "of the host\n");
        world.write("out/variables", "# a comment\nFROM_FILE=1\nEMPTY=\n");
        let shell = &["--entrypoint", "sh"][..];
        let sh =
            |more: &[&'static str], text: &'static str| [shell, more, &["a", "-c", text]].concat();
        let lines: Vec<(Vec<&str>, i32, &str)> = vec![
            (vec!["a"], 0, "entry cmd\n"),
            (vec!["a", "more", "--words"], 0, "entry more --words\n"),
            (vec!["--rm", "--entrypoint", "", "a", "pwd"], 0, "/srv\n"),
            (sh(&[], "echo $GREETING; exit 7"), 7, "hello\n"),
            (sh(&["-e", "GREETING=bye"], "echo $GREETING"), 0, "bye\n"),
            (
                sh(&["--env-file", "variables"], "echo $FROM_FILE-$EMPTY-"),
                0,
                "1--\n",
            ),
            (sh(&[], "kill -9 $$"), 137, ""),
            (sh(&[], "id -u"), 0, "1234\n"),
            (sh(&["-u", "0", "-w", "/tmp"], "id -u; pwd"), 0, "0\n/tmp\n"),
            (
                sh(&["-v", "./shown:/host"], "cat /host/file"),
                0,
                "of the host\n",
            ),
            (
                sh(
                    &["-u0", "-v", "./shown:/host:ro"],
                    "touch /host/x || echo no",
                ),
                0,
                "no\n",
            ),
            (
                sh(&["--tmpfs", "/mem"], "touch /mem/x && ls /mem"),
                0,
                "x\n",
            ),
            (vec!["--entrypoint", "nothere", "a"], 127, ""),
            (vec!["--entrypoint", "/etc/passwd", "a"], 126, ""),
            (vec!["--pull", "never", "nosuch"], 125, ""),
            (vec!["--health", "a"], 0, ""),
            (vec!["-v", "volume:/x", "a"], 2, ""),
            (vec!["-d", "a"], 2, ""),
            (sh(&["-u", "0"], "touch /kept"), 0, ""),
            // Nothing of it was kept.
            (sh(&[], "ls /kept || echo gone"), 0, "gone\n"),
            (
                sh(
                    &["-u", "0", "--commit", "b"],
                    "touch /kept; chown 5:6 /kept",
                ),
                0,
                "",
            ),
            (
                vec!["--entrypoint", "stat", "b", "-c", "%u:%g", "/kept"],
                0,
                "5:6\n",
            ),
        ];
        let table: Vec<(&[&str], i32, &str)> = lines
            .iter()
            // A chroot mounts nothing: what it shows is moved there, which is nothing for files of the user's.
            .filter(|(words, ..)| !(way.is_chroot() && words.contains(&"-v") && words.len() > 3))
            .map(|(words, status, printed)| (&words[..], *status, *printed))
            .collect();
        differences(way, &world, &table)
    });
}

#[test]
fn a_root_may_be_read_only() {
    in_each_way(|way| {
        if way.is_chroot() {
            // It can't mount anything.
            return Vec::new();
        }
        let world = way.world();
        way.build(&world, IMAGE, "").exits(0);
        let text = "touch /tmp/x || echo root; touch /dev/shm/x && echo memory";
        let words = ["-u0", "--read-only", "--entrypoint", "sh", "a", "-c", text];
        differences(way, &world, &[(&words, 0, "root\nmemory\n")])
    });
}

#[test]
fn input_is_passed_on_where_that_is_asked_for() {
    in_each_way(|way| {
        let world = way.world();
        way.build(&world, IMAGE, "").exits(0);
        let flags = way.words().join(" ");
        let mut found = Vec::new();
        // More than a pipe holds.
        let input = "0123456789abcde\n".repeat(20_000);
        for (flag, expected) in [("-i", input.len()), ("", 0)] {
            let line = format!("run {flags} {flag} --entrypoint cat a");
            let outcome = world.line_with_input(&line, input.clone());
            let (status, read) = (outcome.status, outcome.stdout.len());
            if (status, read) != (0, expected) {
                found.push(format!("{line}: {status}, {read} {}", outcome.stderr));
            }
        }
        found
    });
}

#[test]
fn a_terminal_is_one_of_the_command_s_own() {
    in_each_way(|way| {
        let world = way.world();
        way.build(&world, IMAGE, "").exits(0);
        let flags = way.words().join(" ");
        let line = format!("run {flags} -it -u 0 -e PS1=ready> --entrypoint sh a");
        let mut terminal = world.start_on_terminal(&line, (33, 101));
        terminal.wait_for("ready>");
        terminal.send("stty size; tty; echo $TERM\n");
        terminal.wait_for("33 101");
        terminal.wait_for("/dev/pts/");
        terminal.wait_for("xterm");
        terminal.wait_for("ready>");
        terminal.resize(40, 50);
        terminal
            .send("while [ \"$(stty size)\" != '40 50' ]; do sleep 0.1; done; echo re''sized\n");
        terminal.wait_for("resized");
        terminal.wait_for("ready>");
        // Of what is typed, keys are signals: to the command, and not to rbuild.
        terminal.send("echo be''gun; sleep 100\n");
        terminal.wait_for("begun");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x03");
        terminal.wait_for("ready>");
        terminal.send("echo be''gun; sleep 100\n");
        terminal.wait_for("begun");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x1a");
        terminal.wait_for("ready>");
        terminal.send("jobs; fg\n");
        terminal.wait_for("Stopped");
        terminal.wait_for("\nsleep 100");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x03");
        terminal.wait_for("ready>");
        // A chroot has no other `/dev/tty` than the supervisor's.
        let name = if way.is_chroot() {
            "$(tty)"
        } else {
            "/dev/tty"
        };
        terminal.send(&format!("echo to the terminal > {name}\n"));
        terminal.wait_for("\nto the terminal");
        terminal.wait_for("ready>");
        terminal.send("exit 42\n");
        let (status, text) = terminal.wait();
        if status == Some(42) {
            Vec::new()
        } else {
            vec![format!("{status:?} {text}")]
        }
    });
}

#[test]
fn a_shell_stands_where_it_is_wanted() {
    in_each_way(|way| {
        let world = way.world();
        let file = "FROM bb AS base\nRUN echo one > /one && chown 5:6 /one\nENV A=b\nARG B=c\nFROM base AS two\n\
                    RUN --mount=type=cache,target=/c echo two > /two\n";
        way.build(&world, file, "").exits(0);
        let flags = way.words().join(" ");
        let mut found = Vec::new();
        let one = "cat /one /two; stat -c %u:%g /one; echo $A$B; test -d /c && echo cache";
        for (place, expected) in [
            ("--at 2", "one\n5:6\n\n"),
            ("--at 2 --before", "\n"),
            ("--at 4", "one\n5:6\nbc\n"),
            ("--at 6", "one\ntwo\n5:6\nbc\ncache\n"),
            ("--at 6 --before", "one\n5:6\nbc\ncache\n"),
            ("base", "one\n5:6\nbc\n"),
            ("1", "one\ntwo\n5:6\nbc\n"),
            ("", "one\ntwo\n5:6\nbc\n"),
            ("a", "one\ntwo\n5:6\nb\n"),
        ] {
            let (context, base) = (world.path("context"), world.path("bb"));
            let line = format!(
                "shell {flags} --context {} --build-context bb={} {place} -c",
                context.display(),
                base.display()
            );
            let outcome = world.run(line.split_whitespace().chain([one]));
            if outcome.text() != expected {
                let (text, said) = (outcome.text(), &outcome.stderr);
                found.push(format!("{place}: {text:?}, not {expected:?}; {said}"));
            }
        }
        found
    });
}

#[test]
fn a_failed_root_can_be_looked_at() {
    in_each_way(|way| {
        let world = way.world();
        world.write("out/value", "very-secret");
        let file = "FROM bb\nENV A=b\nRUN --mount=type=secret,id=s,env=SECRET --mount=type=cache,target=/c \
                    echo one > /one && chown 5:6 /one && touch /c/x && exit 3\n";
        let secret = "--secret id=s,src=@/out/value";
        world.write("context/Dockerfile", file);
        let look = "stat -c %u:%g /one; echo $A-$SECRET; ls /c";
        let line = way.line(&format!("{secret} --on-failure shell"));
        let shell = world.line_with_input(&line, format!("{look}\n"));
        let mut found = Vec::new();
        if (shell.status, shell.text()) != (6, "5:6\nb-very-secret\nx\n") {
            found.push(format!(
                "{} {:?} {}",
                shell.status,
                shell.text(),
                shell.stderr
            ));
        }
        let kept = world
            .line(&way.line(&format!("{secret} --on-failure keep")))
            .exits(6);
        kept.says("rbuild shell --last-failed");
        for (text, status, expected) in [
            (look, 1, "5:6\nb-\n"),
            ("touch /new; chown 9:8 /new; exit 4", 4, ""),
            ("stat -c %u:%g /one /new", 0, "5:6\n9:8\n"),
        ] {
            let words = [&["shell", "--last-failed"], &way.words()[..], &["-c", text]].concat();
            let outcome = world.run(words);
            if (outcome.status, outcome.text()) != (status, expected) {
                found.push(format!(
                    "{text}: {} {:?} {}",
                    outcome.status,
                    outcome.text(),
                    outcome.stderr
                ));
            }
        }
        let store = std::fs::read_to_string(world.path("store/failed/spec.json")).unwrap();
        if store.contains("very-secret") {
            found.push("the secret is in the store".to_owned());
        }
        world.line("prune --all").exits(0);
        let mut words = vec!["shell", "--last-failed"];
        words.extend(way.words());
        let gone = world.run(words);
        if gone.status != 2 {
            found.push(format!("after prune: {} {}", gone.status, gone.stderr));
        }
        found
    });
}
