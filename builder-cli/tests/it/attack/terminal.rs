//! What others say reaches a terminal as text and colour, and pipes lose nothing of it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use test_support::busybox;
use test_support::tools::require;
use test_support::world::World;

use crate::run::ways;
use crate::world;

/// A title, a cleared screen, a cursor that moves, the clipboard, another screen; and the one-character forms.
const EVIL: &str = r"\033]0;EVILTITLE\007\033[2J\033[31mred\033[0m\r\033[1Aup\033]52;c;ZXZpbA==\007\n\302\23331mc1\n\033[?1049h\033Pq\033\\\033c";

fn dockerfiles() -> Vec<(&'static str, String)> {
    let raw = "\u{1b}]0;EVILTITLE\u{7}\u{1b}[2J\u{9b}1A";
    vec![
        (
            "output",
            format!("FROM bb\nRUN printf '{EVIL}'; printf 'no end \\033[?1049h'\n"),
        ),
        (
            "a failure",
            format!("FROM bb\nRUN printf '{EVIL}'; exit 3\n"),
        ),
        (
            "names",
            format!("FROM bb\nUSER u{raw}\nWORKDIR /w{raw}\nENV A={raw}\nRUN true\n"),
        ),
        ("a user", format!("FROM bb\nCOPY --chown=u{raw} f /\n")),
        ("a missing file", format!("FROM bb\nCOPY f{raw} /\n")),
        ("a mistake", format!("FROM bb\nFOO{raw} x\n")),
        ("a stage", format!("FROM bb AS x{raw}\n")),
        ("an image", format!("FROM x{raw}\n")),
        (
            "a file's name",
            "FROM bb\nCOPY q* /q/\nADD t.tar /t/\n".to_owned(),
        ),
    ]
}

fn prepare() -> Option<World> {
    ways().first()?;
    let mut world = world();
    busybox::base(&world.path("bb"), &require("busybox")?, busybox::MORE);
    world.write("context/f", "f");
    let name = b"q\x1b]0;EVILTITLE\x07\x1b[2J";
    let path = world
        .path("context")
        .join(std::ffi::OsStr::from_bytes(name));
    fs::write(path, "q").unwrap();
    world.write(
        "context/t.tar",
        b"\x1f\x8b\x08 no archive \x1b]0;EVILTITLE\x07",
    );
    world.set("TERM", "xterm-256color");
    Some(world)
}

/// What a terminal would act on; the live view's own movements are others.
fn acted_on(text: &str) -> Vec<&'static str> {
    let all = [
        "\u{1b}]",
        "\u{1b}[2J",
        "\u{1b}[?1049",
        "\u{1b}P",
        "\u{1b}c",
        "\u{9b}",
        "\u{7}",
        "\u{202e}",
    ];
    all.into_iter()
        .filter(|words| text.contains(words))
        .collect()
}

#[test]
fn nothing_but_text_and_colour_reaches_a_terminal() {
    let (Some(world), Some(_)) = (prepare(), require("script")) else {
        return;
    };
    let program = env!("CARGO_BIN_EXE_rbuild");
    let mut terminal = crate::world();
    terminal.run_through(&[
        "sh",
        "-c",
        "shift; script -qefc \"$*\" /dev/null 2>&1",
        "sh",
    ]);
    for (name, value) in [("HOME", "home"), ("RBUILD_ROOT", "store")] {
        terminal.set(name, world.path(value));
    }
    terminal.set("TERM", "xterm-256color");
    for (name, dockerfile) in dockerfiles() {
        world.write("context/Dockerfile", &dockerfile);
        for progress in ["tty", "plain", "auto"] {
            let (bb, context) = (world.path("bb"), world.path("context"));
            let line = format!(
                "{program} build --progress {progress} --no-cache --build-context bb={} -o type=oci,dest={} {}",
                bb.display(),
                world.path("out/a.tar").display(),
                context.display(),
            );
            let outcome = terminal.line(&line);
            let shown = String::from_utf8_lossy(&outcome.stdout).into_owned();
            assert!(!shown.is_empty(), "{name} {progress}: {outcome:?}");
            let found = acted_on(&shown);
            assert!(found.is_empty(), "{name} {progress}: {found:?}\n{shown:?}");
        }
    }
}

#[test]
fn pipes_lose_nothing() {
    let Some(world) = prepare() else { return };
    for (name, dockerfile) in dockerfiles() {
        world.write("context/Dockerfile", &dockerfile);
        for progress in ["plain", "json"] {
            let line = format!(
                "build --progress {progress} --no-cache --build-context bb=@/bb -o type=oci,dest=@/out/a.tar @/context"
            );
            let outcome = world.line(&line);
            let text = outcome.text().to_owned() + &outcome.stderr;
            let found = acted_on(&text);
            assert!(found.is_empty(), "{name} {progress}: {found:?}\n{text}");
            if progress == "plain" && matches!(name, "output" | "a failure") {
                for shown in [
                    "\\x1b]0;EVILTITLE\\x07\\x1b[2J\u{1b}[31mred\u{1b}[0m\\r\\x1b[1Aup\\x1b]52;c;ZXZpbA==\\x07",
                    "\\u{9b}31mc1",
                    "\\x1b[?1049h",
                ] {
                    assert!(text.contains(shown), "{name}: `{shown}` is missing\n{text}");
                }
            }
        }
    }
}

/// A line without end is shown in parts, in time and memory that its length deserves.
#[test]
fn a_long_line_of_output_costs_its_length() {
    let Some(world) = prepare() else { return };
    let dockerfile = "FROM bb\nRUN head -c 30000000 /dev/zero | tr '\\0' x; echo end\n";
    world.write("context/Dockerfile", dockerfile);
    let line = "build --progress plain --no-cache --build-context bb=@/bb -o type=oci,dest=@/out/a.tar @/context";
    let outcome = world.line(line).exits(0);
    assert_eq!(
        outcome.stderr.matches('x').count() - outcome.stderr.matches("xe").count(),
        30_000_000
    );
    assert!(outcome.stderr.contains("end\n"));
}
