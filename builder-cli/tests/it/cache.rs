//! The build cache: what hits, what misses, and whether the reason that is given is the right one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use test_support::tools::require;
use test_support::world::{World, set_mtime};

use crate::world;

const DOCKERFILE: &str = r#"# A project of three stages
FROM busybox AS deps
WORKDIR /deps
COPY deps/ .
RUN cat list > resolved
FROM busybox AS build
ARG MODE=release
ENV OPT=2 LEVEL=3
WORKDIR /src
COPY --from=deps /deps/resolved .
COPY src/ src/
COPY Makefile ./
RUN cat src/*.c Makefile > out && echo $MODE $OPT >> out
FROM busybox
LABEL a=1
COPY --from=build --chown=5:6 /src/out /app/out
COPY --chmod=755 run.sh /app/
RUN --mount=type=bind,source=conf,target=/conf cat /conf/* > /app/conf
USER 7:8
RUN echo hi > /tmp/hi
CMD ["/app/run.sh"]
"#;

/// A world with a base, the project in `context`, and a store that has built it once.
fn project() -> Option<World> {
    let busybox = require("busybox")?;
    let world = world();
    fs::create_dir_all(world.path("base/bin")).unwrap();
    fs::create_dir(world.path("base/tmp")).unwrap();
    fs::set_permissions(world.path("base/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::copy(busybox, world.path("base/bin/busybox")).unwrap();
    for applet in ["sh", "cat", "echo"] {
        symlink("busybox", world.path("base/bin").join(applet)).unwrap();
    }
    lay_out(&world);
    // Files that are younger than a tick of the clock are read again: the index trusts only what is older.
    std::thread::sleep(std::time::Duration::from_millis(30));
    build(&world, "").exits(0);
    Some(world)
}

/// The project as it is in the beginning.
fn lay_out(world: &World) {
    let _ = fs::remove_dir_all(world.path("context"));
    for (path, text) in [
        ("Dockerfile", DOCKERFILE),
        (".dockerignore", "ignored\n*.tmp\n"),
        ("ignored", "1"),
        ("deps/list", "one\ntwo\n"),
        ("src/main.c", "main"),
        ("src/util.c", "util"),
        ("src/sub/deep.h", "deep"),
        ("Makefile", "all:"),
        ("run.sh", "#!/bin/sh\n"),
        ("conf/a", "a"),
        ("conf/b", "b"),
    ] {
        world.write(format!("context/{path}"), text);
    }
    symlink("main.c", world.path("context/src/link")).unwrap();
}

fn arguments(flags: &str) -> String {
    format!("--build-context busybox=@/base {flags} @/context")
}

fn build(world: &World, flags: &str) -> test_support::world::Outcome {
    world.line(&format!(
        "build -o type=oci,dest=@/out/image.tar {}",
        arguments(flags)
    ))
}

/// Lines that say why, without those that name the steps.
fn reasons(world: &World, flags: &str) -> Vec<String> {
    let outcome = world.line(&format!("why {}", arguments(flags))).exits(0);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let reasons = text.lines().filter_map(|line| line.strip_prefix("    "));
    reasons.map(str::to_owned).collect()
}

/// A change: a name, what it does to the context, flags of the command, and words that must be told.
type Row = (
    &'static str,
    fn(&Path),
    &'static str,
    &'static [&'static str],
);

fn dockerfile(context: &Path, from: &str, to: &str) {
    let path = context.join("Dockerfile");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn write(context: &Path, path: &str, text: &str) {
    fs::write(context.join(path), text).unwrap();
}

const ONE: &[Row] = &[
    (
        "content",
        |c| write(c, "src/main.c", "niam"),
        "",
        &["`src/main.c` has other content"],
    ),
    (
        "a new file",
        |c| write(c, "src/new.c", "n"),
        "",
        &["`src/new.c` is new"],
    ),
    (
        "a file gone",
        |c| fs::remove_file(c.join("src/util.c")).unwrap(),
        "",
        &["`src/util.c` is gone"],
    ),
    (
        "permissions",
        |c| fs::set_permissions(c.join("src/util.c"), PermissionsExt::from_mode(0o755)).unwrap(),
        "",
        &["`src/util.c` has other permissions"],
    ),
    (
        "deep content",
        |c| write(c, "src/sub/deep.h", "x"),
        "",
        &["`src/sub/deep.h` has other content"],
    ),
    (
        "a link",
        |c| {
            fs::remove_file(c.join("src/link")).unwrap();
            symlink("util.c", c.join("src/link")).unwrap();
        },
        "",
        &["`src/link` has other content"],
    ),
    (
        "another COPY",
        |c| write(c, "Makefile", "none:"),
        "",
        &["`Makefile` has other content"],
    ),
    (
        "the first stage",
        |c| write(c, "deps/list", "1"),
        "",
        &["`deps/list` has other content"],
    ),
    (
        "the last stage",
        |c| write(c, "run.sh", "#!"),
        "",
        &["`run.sh` has other content"],
    ),
    (
        "a bind mount",
        |c| write(c, "conf/b", "B"),
        "",
        &["`conf/b` has other content"],
    ),
    (
        "a build argument",
        |_| (),
        "--build-arg MODE=debug",
        &["the variable `MODE` has another value"],
    ),
    (
        "the default of ARG",
        |c| dockerfile(c, "MODE=release", "MODE=x"),
        "",
        &["the variable `MODE` has another value"],
    ),
    (
        "ENV",
        |c| dockerfile(c, "OPT=2", "OPT=3"),
        "",
        &["the variable `OPT` has another value"],
    ),
    (
        "a new ENV",
        |c| dockerfile(c, "LEVEL=3", "LEVEL=3 N=1"),
        "",
        &["the variable `N` is new"],
    ),
    (
        "an ENV gone",
        |c| dockerfile(c, " LEVEL=3", ""),
        "",
        &["the variable `LEVEL` is gone"],
    ),
    (
        "a command",
        |c| dockerfile(c, "cat list", "cat ./list"),
        "",
        &["the command is another one"],
    ),
    (
        "--chown",
        |c| dockerfile(c, "5:6", "5:7"),
        "",
        &["--chown was"],
    ),
    (
        "--chmod",
        |c| dockerfile(c, "755", "700"),
        "",
        &["--chmod was"],
    ),
    (
        "a destination",
        |c| dockerfile(c, "src/ src/", "src/ srd/"),
        "",
        &["destination was"],
    ),
    (
        "WORKDIR",
        |c| dockerfile(c, "WORKDIR /deps", "WORKDIR /sped"),
        "",
        &["path was `/deps` and is `/sped`"],
    ),
    (
        "USER",
        |c| dockerfile(c, "USER 7:8", "USER 7:9"),
        "",
        &["user was `7:8` and is `7:9`"],
    ),
    (
        "SHELL",
        |c| dockerfile(c, "ARG MODE", "SHELL [\"/bin/sh\",\"-ec\"]\nARG MODE"),
        "",
        &["the command is another one"],
    ),
    (
        "the network",
        |_| (),
        "--network none",
        &["--network is new: `none`"],
    ),
    (
        "a host",
        |_| (),
        "--add-host db:10.0.0.1",
        &["--add-host is new: `db`"],
    ),
    (
        "a mount's target",
        |c| dockerfile(c, "target=/conf ", "target=/fnoc "),
        "",
        &["--mount 0 was"],
    ),
    (
        "--exclude",
        |c| dockerfile(c, "COPY src/", "COPY --exclude=sub src/"),
        "",
        &["`src/sub/deep.h` is gone"],
    ),
    (
        "--link",
        |c| dockerfile(c, "COPY Makefile", "COPY --link Makefile"),
        "",
        &["--link is new"],
    ),
    (
        "the base",
        |c| write(c, "../base/bin/new", "x"),
        "",
        &["`bin/new` is new"],
    ),
];

/// Two changes that one step sees: both are told.
const TWO: &[Row] = &[
    (
        "two files",
        |c| {
            write(c, "src/main.c", "x");
            write(c, "src/util.c", "x");
        },
        "",
        &[
            "`src/main.c` has other content",
            "`src/util.c` has other content",
        ],
    ),
    (
        "one file more, one less",
        |c| {
            write(c, "src/new.c", "x");
            fs::remove_file(c.join("src/util.c")).unwrap();
        },
        "",
        &["`src/new.c` is new", "`src/util.c` is gone"],
    ),
    (
        "a file and a flag",
        |c| {
            write(c, "run.sh", "x");
            dockerfile(c, "755", "700");
        },
        "",
        &["`run.sh` has other content", "--chmod was"],
    ),
    (
        "a file and a destination",
        |c| {
            write(c, "Makefile", "x");
            dockerfile(c, "COPY Makefile ./", "COPY Makefile ./M");
        },
        "",
        &["`Makefile` has other content", "destination was"],
    ),
    (
        "a variable and a command",
        |c| dockerfile(c, "out && echo $MODE", "out; echo $MODE"),
        "--build-arg MODE=debug",
        &[
            "the variable `MODE` has another value",
            "the command is another one",
        ],
    ),
    (
        "two variables",
        |c| dockerfile(c, "OPT=2", "OPT=9"),
        "--build-arg MODE=debug",
        &[
            "the variable `MODE` has another value",
            "the variable `OPT` has another value",
        ],
    ),
    (
        "a mount's file and a command",
        |c| {
            write(c, "conf/a", "A");
            dockerfile(c, "cat /conf/*", "cat /conf/a");
        },
        "",
        &["`conf/a` has other content", "the command is another one"],
    ),
    (
        "a user and a command",
        |c| {
            dockerfile(c, "USER 7:8", "USER 8:8");
            dockerfile(c, "echo hi", "echo ho");
        },
        "",
        &["user was", "the command is another one"],
    ),
    (
        "two stages",
        |c| {
            write(c, "deps/list", "x");
            write(c, "src/main.c", "x");
        },
        "",
        &["`deps/list` has other content"],
    ),
    (
        "content and permissions",
        |c| {
            write(c, "src/main.c", "x");
            fs::set_permissions(c.join("src/util.c"), PermissionsExt::from_mode(0o700)).unwrap();
        },
        "",
        &[
            "`src/main.c` has other content",
            "`src/util.c` has other permissions",
        ],
    ),
];

/// Changes that don't matter.
const NONE: &[Row] = &[
    ("nothing", |_| (), "", &[]),
    (
        "touch",
        |c| set_mtime(&c.join("src/main.c"), 1_800_000_000),
        "",
        &[],
    ),
    (
        "a comment",
        |c| dockerfile(c, "# A project", "# Another project"),
        "",
        &[],
    ),
    (
        "blanks",
        |c| dockerfile(c, "COPY Makefile ./", "COPY   Makefile    ./"),
        "",
        &[],
    ),
    ("an ignored file", |c| write(c, "ignored", "2"), "", &[]),
    (
        "the order of the ignore file",
        |c| write(c, ".dockerignore", "*.tmp\nignored\n"),
        "",
        &[],
    ),
    (
        "a label",
        |c| dockerfile(c, "a=1", "a=2"),
        "--label b=1",
        &[],
    ),
    (
        "CMD",
        |c| dockerfile(c, "CMD [\"/app/run.sh\"]", "CMD [\"x\"]"),
        "",
        &[],
    ),
    (
        "a proxy",
        |_| (),
        "--build-arg HTTP_PROXY=http://127.0.0.1:9",
        &[],
    ),
    ("a tag", |_| (), "-t other", &[]),
    (
        "a file replaced by an equal one",
        |c| {
            fs::copy(c.join("src/main.c"), c.join("x.tmp")).unwrap();
            fs::rename(c.join("x.tmp"), c.join("src/main.c")).unwrap();
        },
        "",
        &[],
    ),
];

#[test]
fn each_cause_is_named_and_what_does_not_matter_hits() {
    let Some(world) = project() else { return };
    let mut wrong = Vec::new();
    for (name, change, flags, expected) in ONE.iter().chain(TWO).chain(NONE) {
        lay_out(&world);
        change(&world.path("context"));
        let found = reasons(&world, flags);
        let named = expected
            .iter()
            .all(|words| found.iter().any(|line| line.contains(words)));
        if !named || (expected.is_empty() && !found.is_empty()) {
            wrong.push(format!("{name}: expected {expected:?}, found {found:#?}"));
        }
        let _ = fs::remove_file(world.path("base/bin/new"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_second_build_executes_nothing_and_gives_the_same() {
    let Some(world) = project() else { return };
    let epoch = "--source-date-epoch 1700000001";
    let digest = |flags: &str| {
        let flags = format!("-q --progress plain {flags}");
        let outcome = build(&world, &flags).exits(0);
        String::from_utf8(outcome.stdout).unwrap()
    };
    let first = digest(epoch);
    assert_eq!(digest(epoch), first);
    let cold = digest(&format!("{epoch} --no-cache"));
    assert_ne!(first, "");
    assert_eq!(cold, first, "what is found is what would be made");
    let told = build(&world, "--progress plain").exits(0).stderr;
    assert!(!told.contains("not cached"), "{told}");
    let filtered = build(&world, "--progress plain --no-cache-filter build")
        .exits(0)
        .stderr;
    assert!(filtered.matches("] cached").count() > 4, "{filtered}");
    let zstd = build(&world, "--progress plain --compression zstd")
        .exits(0)
        .stderr;
    assert!(
        !zstd.contains("not cached") && zstd.contains("] cached"),
        "{zstd}"
    );
}

#[test]
fn a_change_within_a_tick_of_the_clock_is_seen() {
    let Some(world) = project() else { return };
    for number in 0..10 {
        world.write("context/src/main.c", format!("{number:04}"));
        let told = build(&world, "--progress plain").exits(0).stderr;
        assert!(
            told.contains("`src/main.c` has other content"),
            "{number}: {told}"
        );
        // The same length, the same time, at once.
        world.write("context/src/main.c", format!("{:04}", number + 100));
        let told = build(&world, "--progress plain").exits(0).stderr;
        assert!(
            told.contains("`src/main.c` has other content"),
            "{number}: {told}"
        );
    }
}

#[test]
fn a_damaged_cache_is_a_cold_one() {
    let Some(world) = project() else { return };
    let epoch = "-q --source-date-epoch 1700000001";
    let right = build(&world, epoch).exits(0).stdout;
    let damage: [fn(&Path); 3] = [
        |path| fs::write(path, b"").unwrap(),
        |path| fs::write(path, b"{\"key\":{\"parts\":{}},\"identity\":1}").unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.truncate(bytes.len() / 2);
            fs::write(path, bytes).unwrap();
        },
    ];
    for damage in damage {
        for folder in ["steps", "recent", "listings", "contexts", "selections"] {
            for found in fs::read_dir(world.path("store/cache").join(folder)).unwrap() {
                damage(&found.unwrap().path());
            }
        }
        assert_eq!(build(&world, epoch).exits(0).stdout, right);
    }
}

#[test]
fn the_cache_is_pruned_below_a_bound() {
    let Some(world) = project() else { return };
    let listed = |world: &World| String::from_utf8(world.line("cache ls").exits(0).stdout).unwrap();
    assert!(listed(&world).lines().count() > 8);
    world.line("prune --dry-run --all").exits(0);
    assert!(listed(&world).lines().count() > 8);
    world.line("prune --keep-storage 100kB").exits(0);
    let left = listed(&world);
    let told = build(&world, "--progress plain").exits(0).stderr;
    assert!(
        left.lines().count() < 20 && told.contains("layer of"),
        "{left}{told}"
    );
    world.line("prune --all").exits(0);
    assert_eq!(listed(&world), "");
    build(&world, "-t kept").exits(0);
    world.line("prune --all").exits(0);
    world.line("images").exits(0);
    world.line("prune --filter until=1x").exits(2);
}

#[test]
fn what_a_mount_shows_may_not_change_while_it_is_read() {
    let Some(world) = project() else { return };
    symlink("busybox", world.path("base/bin/sleep")).unwrap();
    let text =
        "FROM busybox\nRUN --mount=type=bind,source=conf,target=/conf sleep 1; cat /conf/a > /a\n";
    world.write("context/Dockerfile", text);
    let line = format!(
        "build --progress plain -o type=oci,dest=@/out/x.tar {}",
        arguments("")
    );
    let running = world.start_line(&line);
    std::thread::sleep(std::time::Duration::from_millis(700));
    world.write("context/conf/a", "b");
    running.wait().exits(0);
    world.write("context/conf/a", "a");
    let told = world.line(&line).exits(0).stderr;
    assert!(!told.contains("] cached\n[2"), "{told}");
    let told = world.line(&line).exits(0).stderr;
    assert!(told.contains("[1/1] cached"), "{told}");
}

/// The steps of a stage whose files nobody needs are found although their layers are gone.
#[test]
fn a_stage_that_nobody_looks_into_needs_no_layers() {
    let Some(world) = project() else { return };
    let epoch = "--source-date-epoch 1700000001 --progress plain -t kept";
    let digest = |outcome: test_support::world::Outcome| {
        let told = outcome.exits(0).stderr;
        let line = told
            .lines()
            .find(|line| line.starts_with("image "))
            .map(str::to_owned);
        (line.unwrap(), told)
    };
    let (first, _) = digest(build(&world, epoch));
    let manifest = fs::read(world.path("store/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blob = |digest: &serde_json::Value| {
        let name = digest.as_str().unwrap().replace(':', "/");
        world.path("store/blobs").join(name)
    };
    // Only what the image itself holds stays.
    let mut kept = vec![blob(&index["manifests"][0]["digest"])];
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(&kept[0]).unwrap()).unwrap();
    kept.push(blob(&manifest["config"]["digest"]));
    kept.extend(
        manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| blob(&layer["digest"])),
    );
    let mut gone = 0;
    for found in fs::read_dir(world.path("store/blobs/sha256")).unwrap() {
        let path = found.unwrap().path();
        if !kept.contains(&path) {
            fs::remove_file(path).unwrap();
            gone += 1;
        }
    }
    assert!(gone > 3, "{gone}");
    let (second, told) = digest(build(&world, epoch));
    assert_eq!(second, first);
    assert!(!told.contains("not cached"), "{told}");
    // A step that needs them, and for which they are not laid out either, has them made again.
    fs::remove_dir_all(world.path("store/roots")).unwrap();
    world.write("context/src/main.c", "niam");
    let (third, told) = digest(build(&world, epoch));
    assert!(told.contains("is made anew") && third != first, "{told}");
    world.write("context/src/main.c", "main");
    let (fourth, _) = digest(build(&world, epoch));
    assert_eq!(fourth, first);
}

/// Without an epoch, too: what nothing changed in has the digest that it had, and its file is not written again.
#[test]
fn a_build_without_a_change_gives_the_same_image() {
    let Some(world) = project() else { return };
    let digest = |flags: &str| build(&world, &format!("-q {flags}")).exits(0).stdout;
    let inode = || {
        let found = fs::metadata(world.path("out/image.tar")).unwrap();
        std::os::unix::fs::MetadataExt::ino(&found)
    };
    let first = digest("");
    let file = inode();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(digest(""), first);
    assert_eq!(inode(), file, "the file was written again");
    let text = fs::read(world.path("out/image.tar")).unwrap();
    fs::write(world.path("out/image.tar"), "x").unwrap();
    assert_eq!(digest(""), first);
    assert_eq!(fs::read(world.path("out/image.tar")).unwrap(), text);
    assert_ne!(digest("--label other=1"), first);
    assert_ne!(digest("--no-cache"), first);
}

#[test]
fn two_builds_at_once_execute_a_step_once() {
    let Some(world) = project() else { return };
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c,id=count echo x >> /c/n\nRUN --mount=type=cache,target=/c,id=count cat /c/n > /n\n";
    world.write("context/Dockerfile", text);
    let line = |out: &str| format!("build -o type=oci,dest=@/out/{out}.tar {}", arguments(""));
    let running: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|out| world.start_line(&line(out)))
        .collect();
    for one in running {
        one.wait().exits(0);
    }
    let mounts = world.path("store/cache/mounts");
    let mut count = None;
    for encoding in fs::read_dir(mounts).unwrap() {
        for found in fs::read_dir(encoding.unwrap().path()).unwrap() {
            count = fs::read_to_string(found.unwrap().path().join("data/n")).ok();
        }
    }
    assert_eq!(count.as_deref(), Some("x\n"));
}

/// A kill at any moment of a build, an export or a prune leaves a store, and a shared cache, with which the next build is
/// right.
#[test]
fn two_hundred_kills_spoil_nothing() {
    const KILLS: u64 = 200;
    let Some(world) = project() else { return };
    let cold = world.path("cold");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % limit
    };
    let flags = "-q --source-date-epoch 1700000001";
    for kill in 1..=KILLS {
        world.write("context/src/main.c", below(7).to_string());
        world.write("context/run.sh", below(3).to_string());
        let line = match below(10) {
            0 => "prune --all".to_owned(),
            1 => "prune --keep-storage 2MB".to_owned(),
            2 => "prune --all --root @/shared".to_owned(),
            number @ 3..=5 => format!(
                "build --cache-to type=local,dest=@/shared,mode={} -o type=oci,dest=@/out/image.tar {}",
                if number == 3 { "min" } else { "max" },
                arguments(flags)
            ),
            _ => format!(
                "build -o type=oci,dest=@/out/image.tar {}",
                arguments(flags)
            ),
        };
        let running = world.start_line(&line);
        std::thread::sleep(std::time::Duration::from_millis(below(180)));
        running.signal(rustix::process::Signal::KILL);
        running.wait();
        if kill % 10 == 0 {
            let found = build(&world, flags).exits(0).stdout;
            let _ = fs::remove_dir_all(&cold);
            let made = build(&world, &format!("{flags} --root {}", cold.display())).exits(0);
            assert_eq!(found, made.stdout, "after {kill} kills");
            let _ = fs::remove_dir_all(&cold);
            let shared = "--cache-from type=local,src=@/shared";
            let flags = format!("{flags} {shared} --root {}", cold.display());
            let made = build(&world, &flags).exits(0);
            assert_eq!(found, made.stdout, "after {kill} kills, shared");
        }
    }
    let left = fs::read_dir(world.path("store/tmp")).unwrap().count();
    assert_eq!(left, 0, "files in the making are left");
}

/// What an older version left, by other rules for keys, is not used, and `prune` finds it.
#[test]
fn what_an_older_version_kept_is_not_used() {
    let Some(world) = project() else {
        return;
    };
    let steps = world.path("store/cache/steps");
    let records = || {
        let all = fs::read_dir(&steps)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let all = all.filter(|path| path.extension().is_none());
        all.collect::<Vec<_>>()
    };
    let before = records();
    assert!(!before.is_empty());
    for record in &before {
        let text = fs::read_to_string(record).unwrap();
        let old = text.replacen("{\"version\":2,", "{", 1);
        assert_ne!(text, old);
        fs::write(record, old).unwrap();
    }
    let again = build(&world, "").exits(0);
    assert!(!again.stderr.contains("] cached"), "{}", again.stderr);
    for record in &before {
        fs::write(record, "{}").unwrap();
    }
    world.line("prune --all").exits(0);
    assert_eq!(records(), [""; 0].map(std::path::PathBuf::from));
}
