//! Cache mounts that travel: two stores stand for two machines, and a registry or a directory between them.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use test_support::archive::{Member, tar};
use test_support::busybox;
use test_support::registry::{Fault, Registry, digest};
use test_support::tools::{is_root, require};
use test_support::world::{Outcome, Running, World};

use crate::world;

/// Says all that can be seen of the mount.
const LIST: &str = "cd /c
find . -exec stat -c '%n %a %u %g %F %s %h %t %T' {} + | sort > /listing
find . -type f -exec stat -c '%n %Y' {} + | sort >> /listing
find . -type l -exec readlink {} \\; | sort >> /listing
find . -type f -size +0 -exec busybox sha256sum {} + | sort >> /listing";

/// Fills the mount with what is easily lost.
const FILL: &str = "cd /c
echo one > f
chown 7:8 f
chmod 4711 f
mkdir -p empty d/e
chmod 1777 empty
chown 9:10 d
ln f d/hard
ln -s ../f d/e/sym
chown -h 11:12 d/e/sym
ln -s /nowhere out
mkfifo p
chown 13 p
mknod n c 1 3
touch 'a b' \"$(printf 'n\\nl')\" \"$(printf '\\377')\" ./-x
head -c 300000 /dev/urandom > large
chmod 000 large
touch -d '2001-01-01 00:00:00' old
mkdir closed
touch closed/x
chmod 0 closed";

const SINGLE: &str = "--run-mode userns --run-ids single";
const RANGE: &str = "--run-mode userns --run-ids range";
const CHROOT: &str = "--run-mode chroot";

/// The ways of executing RUN that can be tried here.
fn ways() -> &'static [&'static str] {
    if is_root() {
        &[RANGE, SINGLE, CHROOT]
    } else {
        &[SINGLE]
    }
}

/// Machines with a registry between them.
struct Machines {
    world: World,
    registry: Registry,
    way: &'static str,
}

/// What a build did.
struct Did {
    told: String,
    /// What is in the mount at its end.
    listing: String,
    /// The largest upload in bytes.
    largest: usize,
    /// The tags of records of cache mounts that were written.
    records: Vec<String>,
}

impl Machines {
    fn new() -> Option<Self> {
        let busybox = require("busybox")?;
        let world = world();
        busybox::base(&world.path("bb"), &busybox, busybox::MORE);
        Some(Self {
            world,
            registry: Registry::start(),
            way: ways().last().unwrap(),
        })
    }

    fn try_build(&self, machine: &str, script: &str, flags: &str) -> Outcome {
        self.start(machine, script, flags).wait()
    }

    /// Starts a build of a machine's; one at a time has this script.
    fn start(&self, machine: &str, script: &str, flags: &str) -> Running {
        let flags = flags.replace("R/", &format!("{}/", self.registry.name()));
        let dockerfile = format!(
            "FROM bb\nRUN --mount=type=cache,target=/c,id=k,mode=0750,uid=5,gid=6 <<'END'\nset -e\n{script}\n{LIST}\nEND\n"
        );
        let folder = format!("context-{}", digest(script.as_bytes()));
        self.world.write(format!("{folder}/Dockerfile"), dockerfile);
        let way = self.way;
        self.world.start_line(&format!(
            "build --progress plain --no-cache {way} --root @/{machine} --build-context bb=@/bb {flags} -o type=local,dest=@/out-{machine} @/{folder}"
        ))
    }

    /// Executes a script in the mount.
    #[track_caller]
    fn build(&self, machine: &str, script: &str, flags: &str) -> Did {
        let out = self.world.path(format!("out-{machine}"));
        let _ = fs::remove_dir_all(&out);
        self.registry.seen();
        let told = self.try_build(machine, script, flags).exits(0).stderr;
        let seen = self.registry.seen();
        let uploads = seen.iter().filter(|one| one.path.contains("/uploads/"));
        let tags = seen.iter().filter(|one| one.method == "PUT");
        let tags = tags.filter_map(|one| one.path.strip_prefix("/v2/team/cache/manifests/"));
        let is_mount = |tag: &&str| {
            let bytes = self.registry.manifest("team/cache", tag).unwrap();
            // The summary would hold it in an annotation too.
            String::from_utf8(bytes).unwrap().contains("cache mount")
        };
        Did {
            told,
            listing: String::from_utf8_lossy(&fs::read(out.join("listing")).unwrap()).into_owned(),
            largest: uploads.map(|one| one.body).max().unwrap_or(0),
            records: tags.filter(is_mount).map(str::to_owned).collect(),
        }
    }

    /// How many layers the record of the mount has.
    fn layers(&self, tag: &str) -> Vec<serde_json::Value> {
        let manifest = self.registry.manifest("team/cache", tag).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["layers"].as_array().unwrap().clone()
    }
}

const TO: &str = "--cache-to type=registry,ref=R/team/cache:main,mounts=true";
const FROM: &str = "--cache-from type=registry,ref=R/team/cache:main,mounts=true";
const NEW: &str = "begins as a new one";

#[test]
fn a_mount_is_the_same_on_the_next_machine() {
    for way in ways() {
        let Some(mut machines) = Machines::new() else {
            return;
        };
        machines.way = way;
        let first = machines.build("one", FILL, TO);
        assert_eq!(first.records.len(), 1, "{way}: {}", first.told);
        assert!(first.listing.contains("./d/e/sym 777 11 12"), "{way}");
        for other in ways() {
            machines.way = other;
            let machine = format!("two-{}", other.replace(' ', ""));
            let second = machines.build(&machine, ":", &format!("{FROM} {TO}"));
            let told = &second.told;
            assert_eq!(second.listing, first.listing, "{way}, {other}: {told}");
            assert!(second.records.is_empty(), "{way}, {other}: {told}");
            assert!(told.contains("the cache mount `k` is that of"), "{told}");
        }
    }
}

#[test]
fn nothing_travels_unless_asked_for() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let plain = |flags: &str| flags.replace(",mounts=true", "");
    let other = |flags: &str| flags.replace("mounts=true", "mounts=other;/c");
    let named = |flags: &str| flags.replace("mounts=true", "mounts=other;k");
    for (script, flags) in [(FILL, plain(TO)), (":", other(TO))] {
        let first = machines.build("one", script, &flags);
        assert!(first.records.is_empty(), "{flags}: {}", first.told);
    }
    let second = machines.build("two", ":", FROM);
    assert!(second.told.contains(NEW), "{}", second.told);
    assert!(!second.listing.contains("./f"), "{}", second.listing);
    let first = machines.build("one", ":", &named(TO));
    assert_eq!(first.records.len(), 1, "{}", first.told);
    for (machine, flags) in [("three", plain(FROM)), ("four", other(FROM))] {
        let other = machines.build(machine, ":", &flags);
        assert!(!other.listing.contains("./f"), "{}", other.listing);
        assert!(!other.told.contains("the cache mount"), "{}", other.told);
    }
    let fifth = machines.build("five", ":", &named(FROM));
    assert_eq!(fifth.listing, first.listing, "{}", fifth.told);
    let unknown = "no RUN of this build has a cache mount with the id `other`";
    assert!(fifth.told.contains(unknown), "{}", fifth.told);
    assert!(!fifth.told.contains("the id `k`"), "{}", fifth.told);
}

#[test]
fn only_what_changed_is_sent() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let both = format!("{FROM} {TO}");
    let first = machines.build("one", FILL, &both);
    assert!(first.largest > 200_000, "{}", first.told);
    let tag = &first.records[0];
    let again = machines.build("one", ":", &both);
    assert!(again.records.is_empty() && again.largest < 20_000);
    // On the machine that has it, and on one that fetches it for the same build.
    for (number, machine) in ["one", "two"].into_iter().enumerate() {
        let script = format!("echo {machine} > /c/{machine}; rm -rf /c/d; chmod 711 /c/empty");
        let more = machines.build(machine, &script, &both);
        assert_eq!(more.records.len(), 1, "{}", more.told);
        assert!(more.largest < 20_000, "{} {}", more.largest, more.told);
        assert_eq!(machines.layers(tag).len(), number + 2);
        let other = machines.build(&format!("other-{number}"), ":", FROM);
        assert_eq!(other.listing, more.listing, "{}", other.told);
        assert!(!other.listing.contains("./d"), "{}", other.listing);
    }
    // Many layers become one again.
    for number in 0..9 {
        let script = format!("echo {number} > /c/number");
        machines.build("one", &script, &both);
        assert!(machines.layers(tag).len() <= 8);
    }
    let last = machines.build("one", "rm /c/large; echo x > /c/x", TO);
    let other = machines.build("last", ":", FROM);
    assert_eq!(other.listing, last.listing, "{}", other.told);
}

#[test]
fn what_is_here_is_not_replaced() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.build("one", FILL, TO);
    let own = machines.build("two", "echo own > /c/own", "");
    let then = machines.build("two", ":", FROM);
    assert_eq!(then.listing, own.listing, "{}", then.told);
    // The last one to write wins.
    machines.build("two", ":", TO);
    let third = machines.build("three", ":", FROM);
    assert_eq!(third.listing, own.listing, "{}", third.told);
}

#[test]
fn what_is_spoilt_is_an_empty_mount() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    for damage in ["half", "empty", "other", "swapped", "lie", "gone"] {
        let Some(machines) = Machines::new() else {
            return;
        };
        let first = machines.build("one", FILL, TO);
        let tag = &first.records[0];
        let bytes = machines.registry.manifest("team/cache", tag).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let layer = machines.layers(tag)[0]["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        let put = |bytes: &[u8]| {
            machines
                .registry
                .put_manifest("team/cache", tag, manifest, bytes);
        };
        let blob = format!("/blobs/{layer}");
        let break_it = |fault| machines.registry.fault("GET", &blob, 100, fault);
        match damage {
            "half" => put(&text.as_bytes()[..text.len() / 2]),
            "empty" => put(b"{}"),
            "other" => put(text.replace("cache mount", "cache mound").as_bytes()),
            "swapped" => {
                let at = text.find("diff_id").unwrap();
                let at = at + text[at..].find("sha256:").unwrap() + 7;
                let mut other = text.clone();
                other.replace_range(at..at + 8, "00000000");
                put(other.as_bytes());
            }
            "lie" => break_it(Fault::Lie),
            _ => break_it(Fault::Answer(404, Vec::new(), String::new())),
        }
        let second = machines.build("two", "echo anew > /c/anew", &format!("{FROM} {TO}"));
        let told = &second.told;
        assert!(told.contains(NEW), "{damage}: {told}");
        assert!(!second.listing.contains("./f"), "{damage}: {told}");
        assert!(second.listing.contains("./anew"), "{damage}: {told}");
        let third = machines.build("three", ":", FROM);
        assert_eq!(third.listing, second.listing, "{damage}: {}", third.told);
    }
}

#[test]
fn what_the_machine_remembers_may_be_lost() {
    for damage in ["shared", "shared.files", "blobs"] {
        let Some(machines) = Machines::new() else {
            return;
        };
        let first = machines.build("one", FILL, TO);
        let of_kind = |kind: &str| machines.world.path(format!("one/cache/mounts/{kind}"));
        let folders = ["native", "recorded"].map(of_kind);
        for folder in folders.iter().filter_map(|path| fs::read_dir(path).ok()) {
            for mount in folder.map(Result::unwrap) {
                match damage {
                    "blobs" => {
                        let blobs = machines.world.path("one/blobs/sha256");
                        for blob in fs::read_dir(blobs).unwrap() {
                            fs::remove_file(blob.unwrap().path()).unwrap();
                        }
                    }
                    name => fs::write(mount.path().join(name), "{").unwrap(),
                }
            }
        }
        let second = machines.build("one", "rm /c/old", TO);
        assert_eq!(machines.layers(&first.records[0]).len(), 1, "{damage}");
        let third = machines.build("two", ":", FROM);
        assert_eq!(third.listing, second.listing, "{damage}: {}", third.told);
    }
}

#[test]
fn a_directory_carries_mounts_too() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let to = "--cache-to type=local,dest=@/shared,mounts=true";
    let from = "--cache-from type=local,src=@/shared,mounts=true";
    let first = machines.build("one", FILL, to);
    let folder = machines.world.path("shared/cache/shared-mounts");
    let records = || {
        let found = fs::read_dir(&folder).unwrap();
        let texts = found.map(|one| fs::read_to_string(one.unwrap().path()).unwrap());
        texts.collect::<Vec<_>>()
    };
    let before = records();
    assert_eq!(before.len(), 1);
    let second = machines.build("two", ":", &format!("{from} {to}"));
    assert_eq!(second.listing, first.listing, "{}", second.told);
    assert_eq!(records(), before, "{}", second.told);
    let more = machines.build("two", "rm /c/old; echo x > /c/x", to);
    let third = machines.build("three", ":", from);
    assert_eq!(third.listing, more.listing, "{}", third.told);
    for found in fs::read_dir(&folder).unwrap() {
        fs::write(found.unwrap().path(), "{}").unwrap();
    }
    let fourth = machines.build("four", ":", from);
    assert!(fourth.told.contains(NEW), "{}", fourth.told);
    assert!(fourth.told.contains("of no use"), "{}", fourth.told);
}

#[test]
fn names_that_mean_deletion_stay_at_home() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let script = "mkdir -p /c/.wh.d /c/k; echo > /c/.wh.d/f; echo > /c/k/.wh.x; ln /c/k/.wh.x /c/k/y; echo > /c/k/z";
    let first = machines.build("one", script, TO);
    assert!(first.told.contains("don't travel"), "{}", first.told);
    let second = machines.build("two", ":", FROM);
    assert!(second.listing.contains("./k/z"), "{}", second.told);
    assert!(!second.listing.contains(".wh."), "{}", second.told);
}

#[test]
fn a_failed_build_exports_nothing_and_a_failed_export_is_told() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let failed = machines.try_build("one", &format!("{FILL}\nfalse"), TO);
    assert_ne!(failed.status, 0);
    assert!(!failed.stderr.contains("went to"), "{}", failed.stderr);
    let second = machines.build("two", ":", FROM);
    assert!(second.told.contains(NEW), "{}", second.told);
    let refuse = || {
        let refused = Fault::Answer(403, Vec::new(), String::new());
        machines.registry.fault("POST", "/uploads/", 100, refused);
    };
    refuse();
    let script = "chmod 755 /c/closed; touch /c/more";
    let failed = machines.try_build("one", script, TO).exits(5);
    assert!(failed.stderr.contains("the image is complete"));
    let ignored = format!("{TO},ignore-error=true");
    let ignored = machines.try_build("one", script, &ignored).exits(0);
    assert!(ignored.stderr.contains("was not written"));
}

#[test]
fn one_that_is_in_use_is_left_out() {
    let Some(mut machines) = Machines::new() else {
        return;
    };
    // In a chroot nobody else uses it at the same time.
    machines.way = SINGLE;
    let wait = "touch /c/begun; while [ ! -e /c/go ]; do sleep 0.1; done";
    let running = machines.start("one", wait, TO);
    let mounts = machines.world.path("one/cache/mounts/recorded");
    let data = || {
        let found = fs::read_dir(&mounts).ok()?.next()?.unwrap().path();
        Some(found.join("data")).filter(|data| data.join("begun").exists())
    };
    let data = loop {
        match data() {
            Some(data) => break data,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let other = machines.build("one", ":", TO);
    assert!(
        other.told.contains("another build is using it"),
        "{}",
        other.told
    );
    assert!(other.records.is_empty());
    fs::write(data.join("go"), "").unwrap();
    running.wait().exits(0).says("the cache mount `k` went to");
}

#[test]
fn who_stops_in_the_middle_leaves_nothing_that_counts() {
    for (signal, during) in [
        (Signal::KILL, "import"),
        (Signal::INT, "import"),
        (Signal::KILL, "export"),
        (Signal::INT, "export"),
    ] {
        let Some(machines) = Machines::new() else {
            return;
        };
        let first = machines.build("one", FILL, TO);
        let layers = machines.layers(&first.records[0]);
        let blob = format!("/blobs/{}", layers[0]["digest"].as_str().unwrap());
        let slow = Fault::Trickle(1000, Duration::from_millis(200));
        let running = if during == "import" {
            machines.registry.fault("GET", &blob, 1, slow);
            machines.start("two", ":", FROM)
        } else {
            machines.build("two", ":", FROM);
            let record = format!("/manifests/{}", first.records[0]);
            let slow = Fault::Trickle(10, Duration::from_millis(200));
            machines.registry.fault("GET", &record, 1, slow);
            machines.start("two", "echo two > /c/two", TO)
        };
        std::thread::sleep(Duration::from_secs(4));
        running.signal(signal);
        let wanted = if signal == Signal::KILL { 137 } else { 130 };
        running.wait().exits(wanted);
        let third = machines.build("three", ":", FROM);
        assert_eq!(third.listing, first.listing, "{during}: {}", third.told);
        let second = machines.build("two", ":", &format!("{FROM} {TO}"));
        let told = &second.told;
        assert!(second.listing.contains("./d/e/sym 777 11 12"), "{told}");
        let changed = usize::from(during == "export");
        assert_eq!(second.records.len(), changed, "{during}: {told}");
        let fourth = machines.build("four", ":", FROM);
        assert_eq!(fourth.listing, second.listing, "{during}: {told}");
    }
}

#[test]
fn a_layer_made_by_a_stranger_stays_below_the_mount() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let first = machines.build("one", FILL, TO);
    let tag = &first.records[0];
    let outside = machines.world.path("outside");
    let outside_text = outside.to_str().unwrap();
    for (number, members) in [
        vec![
            Member::symlink("l", outside_text),
            Member::file("l/evil", "x"),
        ],
        vec![Member::file("../../../../../../evil", "x")],
        vec![
            Member::symlink("l", "../../../../../.."),
            Member::hardlink("h", "l/outside/kept"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let blob = tar(&members);
        let name = machines.registry.put_blob("team/cache", &blob);
        let manifest = machines.registry.manifest("team/cache", tag).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let descriptor = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": name,
            "size": blob.len(),
        });
        manifest["layers"] = serde_json::json!([descriptor]);
        let record = &mut manifest["annotations"]["rbuild.cache.record"];
        let mut inner: serde_json::Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
        inner["mount"]["layers"] =
            serde_json::json!([{"form": "f", "diff_id": name, "descriptor": descriptor}]);
        *record = inner.to_string().into();
        machines.registry.put_manifest(
            "team/cache",
            tag,
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        );
        let second = machines.build(&format!("two-{number}"), ":", FROM);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{number}");
        assert!(!machines.world.path("evil").exists(), "{number}");
        let links = fs::metadata(outside.join("kept")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&links), 1);
        assert!(!second.listing.contains("./f"), "{number}: {}", second.told);
    }
}
