//! No call that a supervisor answers gives `EINTR`, whatever signals arrive: programs whose handlers would interrupt, on
//! a machine that has other things to do.

use std::fs;
use std::path::Path;

use test_support::tools::{require, run};
use test_support::world::{World, set_mode};

use super::in_each_way;
use crate::testdata;

/// A name, and a script that prints `wrong 0` where no call was interrupted.
const LOOPS: &[(&str, &str)] = &[
    // dash handles SIGCHLD without SA_RESTART, as shells do.
    (
        "dash",
        "/bin/dash -c 'i=0; f=0; while [ $i -lt 500 ]; do /bin/true & [ -e /etc/passwd ] || f=$((f+1)); i=$((i+1)); \
         done; wait; echo \"wrong $f\"'",
    ),
    (
        "perl",
        "/usr/bin/perl -e '$SIG{USR1}=sub{$n++}; $p=$$; if(!($c=fork)){ select(undef,undef,undef,0.0005) while \
         kill(\"USR1\",$p); exit } $b=0; for(1..8000){ $b++ unless -e \"/etc/passwd\" } kill(\"KILL\",$c); \
         print \"wrong $b\\n\" if $n'",
    ),
    ("C", "loops 1000 && echo wrong 0"),
    (
        "C in a pipe of processes",
        "loops 300 | cat; loops 300 > /dev/null && echo wrong 0",
    ),
];

/// Copies a program of the machine into a root, with the libraries that it names.
fn install(program: &Path, root: &Path) {
    let ldd = run(Path::new("ldd"), &[program.to_str().unwrap()]);
    let text = String::from_utf8(ldd.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program.to_str().unwrap()]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap();
    }
}

fn prepare(world: &World) -> Option<()> {
    let cc = require("cc")?;
    let root = world.path("bb");
    for program in ["/bin/dash", "/usr/bin/perl"] {
        require(program)?;
        install(Path::new(program), &root);
    }
    let to = root.join("bin/loops");
    let source = testdata("signals/loops.c");
    run(
        &cc,
        &[
            "-static",
            "-O1",
            "-w",
            "-o",
            to.to_str().unwrap(),
            source.to_str().unwrap(),
        ],
    );
    set_mode(&to, 0o755);
    Some(())
}

#[test]
fn no_answered_call_is_interrupted() {
    in_each_way(|way| {
        let world = way.world();
        if prepare(&world).is_none() {
            return Vec::new();
        }
        let steps: Vec<String> = LOOPS
            .iter()
            .map(|(_, script)| format!("RUN {script}"))
            .collect();
        let dockerfile = format!("FROM bb\nENV LC_ALL=C\n{}\n", steps.join("\n"));
        let outcome = way.build(&world, &dockerfile, "");
        let missing = LOOPS.iter().enumerate().filter(|(number, _)| {
            // ENV is the first step.
            let said = format!("[{}] wrong 0\n", number + 2);
            !outcome.stderr.contains(&said)
        });
        let names: Vec<&str> = missing.map(|(_, (name, _))| *name).collect();
        if names.is_empty() {
            return Vec::new();
        }
        vec![format!("interrupted: {names:?}\n{}", outcome.stderr)]
    });
}

/// A debugger in a RUN finds what it starts, and what it attaches to, without a tracer. (A chroot shows it no `/proc` to
/// attach by.)
#[test]
fn debuggers_work() {
    in_each_way(|way| {
        if way.is_chroot() {
            return Vec::new();
        }
        let world = way.world();
        let (Some(strace), Some(())) = (require("strace"), prepare(&world)) else {
            return Vec::new();
        };
        install(&strace, &world.path("bb"));
        let script = "strace -f -o /tmp/o dash -c '/bin/true; :' && grep -q '+++ exited with 0' /tmp/o && echo started\n\
            /usr/bin/perl -e '$SIG{USR1}=sub{}; select(undef,undef,undef,5)' & sleep 0.5\n\
            timeout 1 strace -p $! 2>&1 | grep -q attached && echo attached\nkill $!\nexit 0";
        let dockerfile = format!("FROM bb\nENV PATH=/usr/bin:/bin\nRUN <<'END'\n{script}\nEND\n");
        let outcome = way.build(&world, &dockerfile, "");
        let missing: Vec<&str> = ["[2] started\n", "[2] attached\n"]
            .into_iter()
            .filter(|words| !outcome.stderr.contains(words))
            .collect();
        if missing.is_empty() {
            return Vec::new();
        }
        vec![format!("{missing:?} is missing\n{}", outcome.stderr)]
    });
}
