//! Ends in the middle: signals, kills, full disks, damaged and read-only stores, and several builds at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_support::tarball::Image;
use test_support::tools::{is_root, require, skip, succeeds};
use test_support::world::{World, set_mode};

use crate::world;

/// A context that takes a moment to build.
fn some_work(files: u32) -> World {
    let mut world = world();
    world.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY many/ /a/\nWORKDIR /w\nCOPY many/1 /b/\n",
    );
    for number in 0..files {
        world.write(
            format!("context/many/{}/{number}", number % 7),
            number.to_string().repeat(10_000),
        );
    }
    world.set("SOURCE_DATE_EPOCH", "1600000000");
    world
}

/// All regular files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[track_caller]
fn out_is_empty(world: &World) {
    let left = files_below(&world.path("out"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupt_ends_the_build_and_leaves_the_store_whole() {
    for (signal, flags) in [(Signal::INT, "--jobs 1"), (Signal::TERM, "--jobs 2")] {
        let world = some_work(10);
        // Four gigabytes that need no room on the disk, and more time than anyone waits.
        fs::File::create(world.path("context/many/big"))
            .unwrap()
            .set_len(4 << 30)
            .unwrap();
        let running = world.start_line(&format!("{flags} --compression gzip:9 -t a @/context"));
        // The build is in the layer as soon as a blob grows.
        let growing = || {
            files_below(&world.path("store"))
                .iter()
                .any(|file| file.metadata().is_ok_and(|one| one.len() > 10_000))
        };
        while !growing() {
            assert!(
                running.ends_within(Duration::from_millis(2)).is_none(),
                "the build was too fast to be interrupted"
            );
        }
        running.signal(signal);
        running.wait().exits(130).says("interrupted");
        out_is_empty(&world);
        fs::remove_file(world.path("context/many/big")).unwrap();
        world.line("-t a @/context").exits(0);
        assert!(Image::open(&world.path("out/a.tar")).layers.len() >= 3);
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the moments follow the speed of the machine"
)]
fn a_kill_at_any_moment_leaves_all_or_nothing() {
    let world = some_work(200);
    // The moments are parts of what a whole build takes on this machine, so that most fall into one.
    let start = Instant::now();
    world
        .line("-t a -o type=oci,dest=@/whole.tar @/context")
        .exits(0);
    let whole_build = start.elapsed();
    let whole = fs::read(world.path("whole.tar")).unwrap();
    fs::remove_dir_all(world.path("store")).unwrap();
    let (mut killed, output) = (0, world.path("out/a.tar"));
    for moment in 0..20 {
        let running = world.start_line("-t a @/context");
        let ended = running.ends_within(whole_build * moment / 24);
        running.signal(Signal::KILL);
        killed += u32::from(ended.is_none());
        drop(if ended.is_some() {
            running.outcome(ended)
        } else {
            running.wait()
        });
        if output.exists() {
            assert!(
                fs::read(&output).unwrap() == whole,
                "half an output after {moment}"
            );
            fs::remove_file(&output).unwrap();
        }
    }
    assert!(killed > 0, "the builds were too fast to be killed");
    world.line("-t a @/context").exits(0);
    assert!(fs::read(&output).unwrap() == whole);
    // What the killed ones left in the store is swept by those that come after.
    let left = files_below(&world.path("store/tmp"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn builds_at_once_in_one_store_do_not_disturb_each_other() {
    let world = some_work(60);
    let running: Vec<_> = (0..6)
        .map(|number| {
            // Three of them fight for one name.
            let tag = if number % 2 == 0 {
                "same".to_owned()
            } else {
                format!("own{number}")
            };
            world.start_line(&format!(
                "-t {tag} --label n={tag} -o type=oci,dest=@/out/{number}.tar @/context"
            ))
        })
        .collect();
    for one in running {
        one.wait().exits(0);
    }
    let digests: Vec<String> = (0..6)
        .map(|number| Image::open(&world.path(format!("out/{number}.tar"))).digest)
        .collect();
    assert!(digests[0] == digests[2] && digests[2] == digests[4] && digests[1] != digests[3]);
    let listed = world
        .line("images --format {{.Repository}}:{{.Tag}}")
        .exits(0);
    let mut names: Vec<&str> = listed.text().lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["own1:latest", "own3:latest", "own5:latest", "same:latest"]
    );
}

/// A name, and what is done to a blob of the store.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 3] = [
    ("changed", |blob| {
        let mut bytes = fs::read(blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(blob, bytes).unwrap();
    }),
    ("cut", |blob| {
        let bytes = fs::read(blob).unwrap();
        fs::write(blob, &bytes[..20]).unwrap();
    }),
    ("gone", |blob| fs::remove_file(blob).unwrap()),
];

#[test]
fn a_damaged_store_says_what_is_damaged() {
    let mut problems = Vec::new();
    for part in ["manifest", "config", "layer"] {
        for (name, damage) in DAMAGES {
            let world = some_work(3);
            world
                .line("-t base -o type=oci,dest=@/base.tar @/context")
                .exits(0);
            let image = Image::open(&world.path("base.tar"));
            let digest = match part {
                "manifest" => image.digest.clone(),
                "config" => image.manifest["config"]["digest"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                _ => image.manifest["layers"][0]["digest"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            };
            let blob = world.path("store/blobs").join(digest.replace(':', "/"));
            set_mode(&blob, 0o644);
            damage(&blob);
            world.write("context/Dockerfile", "FROM base\nCOPY many/1 /c/\n");
            let outcome = world.line("-t a --pull=never @/context");
            let right = matches!(outcome.status, 5 | 7) && outcome.stderr.contains(&digest[7..]);
            if !right {
                problems.push(format!(
                    "{part} {name}: {} {}",
                    outcome.status, outcome.stderr
                ));
            }
            out_is_empty(&world);
            // The store still takes other builds.
            world.write("context/Dockerfile", "FROM scratch\nCOPY many/1 /c/\n");
            world
                .line("-t b -o type=oci,dest=@/b.tar @/context")
                .exits(0);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_store_that_can_not_be_is_named() {
    let mut world = some_work(3);
    fs::write(world.path("file"), "").unwrap();
    for root in ["file", "file/store"] {
        world
            .line(&format!("--root @/{root} @/context"))
            .exits(7)
            .says(&format!("@/{root}"));
    }
    if is_root() && require("setpriv").is_some() {
        world.line("-t base @/context").exits(0);
        set_mode(&world.path("out"), 0o777);
        fs::remove_file(world.path("out/base.tar")).unwrap();
        world.run_through(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]);
        world
            .line("-t a @/context")
            .exits(7)
            .says("@/store")
            .says("ermission");
        world
            .line("-t a --root @/elsewhere @/context")
            .exits(7)
            .says("@/elsewhere");
        out_is_empty(&world);
    }
}

/// Runs the build with a file system of two megabytes at a folder, and lists in the end what is in it.
fn with_full_disk(world: &mut World, folder: &str) -> Option<()> {
    let unshare = require("unshare")?;
    let at = world.path(folder);
    fs::create_dir_all(&at).unwrap();
    let at = at.to_str().unwrap().to_owned();
    let script = "mount -t tmpfs -o size=2m,mode=777 none $0 || exit 99; \"$@\"; s=$?; find $0 -type f -size +100k >&2; exit $s";
    let mut words = vec![
        unshare.to_str().unwrap(),
        if is_root() { "-m" } else { "-rm" },
        "sh",
        "-c",
        script,
        &at,
    ];
    words.retain(|word| !word.is_empty());
    if !succeeds(words[0], &[&words[1..], &["true"]].concat()) {
        skip("no file system can be mounted here");
        return None;
    }
    world.run_through(&words);
    Some(())
}

#[test]
fn a_full_disk_under_the_output() {
    for kind in ["oci", "docker", "tar", "oci-dir", "local"] {
        let mut world = some_work(3);
        world.write("context/many/random", noise(6 << 20));
        if with_full_disk(&mut world, "small").is_none() {
            return;
        }
        let outcome = world
            .line(&format!("-o type={kind},dest=@/small/result @/context"))
            .exits(8)
            .says("space");
        assert!(
            !outcome.stderr.contains("\n@/small/result"),
            "{kind} left half an output: {}",
            outcome.stderr
        );
    }
}

#[test]
fn a_full_disk_under_the_store() {
    let mut world = some_work(3);
    world.write("context/many/random", noise(6 << 20));
    if with_full_disk(&mut world, "store").is_none() {
        return;
    }
    world
        .line("-t a @/context")
        .exits(7)
        .says("space")
        .says("@/store");
    out_is_empty(&world);
}

/// Bytes that nothing compresses, the same ones every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..length / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}
