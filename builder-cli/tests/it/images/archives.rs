//! `save`, `load`, `export`: to other people's tools and back, and what is damaged on the way.

use std::fs;
use std::path::Path;

use serde_json::Value;
use test_support::tarball::{self, Image};
use test_support::tools::{require, run};
use test_support::world::World;

use super::{built, listed};
use crate::readers::umoci_agrees;
use crate::world;

const NAMES: &str = "{{.Repository}}:{{.Tag}}={{.ID}}";

/// Loads an archive into a new world, and gives what is there then.
#[track_caller]
fn loaded(archive: &Path) -> (World, Vec<String>) {
    let other = world();
    other
        .run([Path::new("load"), Path::new("-i"), archive])
        .exits(0);
    let outcome = other
        .run(["images", "-a", "--no-trunc", "--format", NAMES])
        .exits(0);
    let list = outcome.text().lines().map(str::to_owned).collect();
    (other, list)
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let (world, digest) = built();
    world.line("tag app:1 r.io/team/app:2").exits(0);
    world.line("-q -t other --label a=b @/context").exits(0);
    let other = listed(&world, "{{.Repository}} {{.Digest}}");
    let other = other
        .iter()
        .find_map(|line| line.strip_prefix("other "))
        .unwrap();
    world
        .line("save -o @/out/all.tar app:1 r.io/team/app:2 other")
        .exits(0);
    let wanted = [
        format!("app:1={digest}"),
        format!("other:latest={other}"),
        format!("r.io/team/app:2={digest}"),
    ];
    let (there, mut list) = loaded(&world.path("out/all.tar"));
    list.sort();
    assert_eq!(list, wanted);
    // From there it goes on with the same bytes, whatever way.
    there
        .line("save -o @/out/again.tar app:1 r.io/team/app:2 other")
        .exits(0);
    assert_eq!(
        fs::read(world.path("out/all.tar")).unwrap(),
        fs::read(there.path("out/again.tar")).unwrap()
    );
    let through = there.line("save app:1").exits(0);
    let third = crate::world();
    third.line_with_input("load", through.stdout).exits(0);
    assert_eq!(listed(&third, "{{.Digest}}"), [digest.as_str()]);

    // A layout is added to.
    world
        .line("save --format oci-dir -o @/out/layout app:1")
        .exits(0);
    world
        .line("save --format oci-dir -o @/out/layout other")
        .exits(0);
    let (_, mut list) = loaded(&world.path("out/layout"));
    list.sort();
    assert_eq!(list, wanted[..2]);
    // By its digest it goes without a name.
    world
        .run(["save", "-o", "bare.tar", &digest[..20]])
        .exits(0);
    let (_, list) = loaded(&world.path("out/bare.tar"));
    assert_eq!(list, [format!("<none>:<none>={digest}")]);
}

#[test]
fn compressed_archives_are_loaded_from_files_and_pipes() {
    let (world, digest) = built();
    world.line("save -o @/out/app.tar app:1").exits(0);
    for (tool, ending) in [
        ("gzip", "gz"),
        ("xz", "xz"),
        ("bzip2", "bz2"),
        ("zstd", "zst"),
    ] {
        let Some(tool) = require(tool) else { return };
        run(
            &tool,
            &["-k", "-q", world.path("out/app.tar").to_str().unwrap()],
        );
        let packed = world.path(format!("out/app.tar.{ending}"));
        let (_, list) = loaded(&packed);
        assert_eq!(list, [format!("app:1={digest}")], "{ending}");
        let other = crate::world();
        let bytes = fs::read(&packed).unwrap();
        other.line_with_input("load -q", bytes.clone()).exits(0);
        assert_eq!(listed(&other, "{{.Digest}}"), [digest.as_str()]);
        // One that is cut off has no image, and leaves none.
        let other = crate::world();
        let half = bytes[..bytes.len() / 2].to_vec();
        other.line_with_input("load", half).exits(5);
        assert_eq!(listed(&other, NAMES), [""; 0]);
    }
    // A second load of the same writes nothing.
    let (there, _) = loaded(&world.path("out/app.tar"));
    there
        .run([
            Path::new("load"),
            Path::new("-i"),
            &world.path("out/app.tar"),
        ])
        .exits(0)
        .says("");
    assert_eq!(fs::read_dir(there.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn other_tools_take_what_is_saved_and_their_archives_are_taken() {
    let (world, digest) = built();
    world.line("save -o @/out/app.tar app:1").exits(0);
    umoci_agrees(&world, &world.path("out/app.tar"), "1");
    world
        .line("save --format docker -o @/out/docker.tar app:1")
        .exits(0);
    let contents = tarball::contents(&world.path("out/docker.tar")).unwrap();
    assert!(!contents.contains_key("index.json"));
    let files = Image::docker(&contents).unwrap().files();
    assert_eq!(files, Image::open(&world.path("out/app.tar")).files());
    let Some(skopeo) = require("skopeo") else {
        return;
    };
    let path = |name: &str| world.path(format!("out/{name}")).display().to_string();
    let config = |world: &World| {
        let outcome = world.line("inspect -f {{.ConfigDigest}} app:1").exits(0);
        outcome.text().trim().to_owned()
    };
    let id = config(&world);
    for (from, to, keeps) in [
        (
            format!("oci-archive:{}:1", path("app.tar")),
            format!("oci-archive:{}:app:1", path("s1.tar")),
            true,
        ),
        (
            format!("docker-archive:{}", path("app.tar")),
            format!("docker-archive:{}:app:1", path("s2.tar")),
            false,
        ),
        (
            format!("docker-archive:{}", path("docker.tar")),
            format!("docker-archive:{}:app:1", path("s3.tar")),
            false,
        ),
        (
            format!("oci-archive:{}:1", path("app.tar")),
            format!("oci:{}:app:1", path("s4")),
            true,
        ),
    ] {
        run(&skopeo, &["--insecure-policy", "copy", "-q", &from, &to]);
        let archive = to.split(':').nth(1).unwrap();
        let (other, list) = loaded(Path::new(archive));
        assert_eq!(list.len(), 1, "{to}");
        assert!(list[0].starts_with("app:1="), "{to} {list:?}");
        assert_eq!(list[0].ends_with(&digest), keeps, "{to}");
        assert_eq!(config(&other), id, "{to}");
        // What was loaded goes on to be built from.
        other.write(
            "context/Dockerfile",
            "FROM app:1\nCOPY --from=app:1 /about.txt /again\n",
        );
        other.line("-t next @/context").exits(0);
    }
}

#[test]
fn archives_of_old_docker_with_links_are_loaded_and_wrong_layers_are_not() {
    let layer = |text: &str| with_file("file", text.as_bytes());
    let (one, two) = (layer("one"), layer("two"));
    let gzip = |bytes: &[u8]| {
        let packed = test_support::archive::pack(test_support::archive::Packing::Gzip, bytes);
        packed.clone()
    };
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [tarball::digest(&one), tarball::digest(&two), tarball::digest(&one)]},
    });
    let config = config.to_string();
    for (what, second, layers, repositories, status) in [
        ("plain", two.clone(), 3, true, 0),
        ("as kaniko writes them", gzip(&two), 3, true, 0),
        ("another layer", one.clone(), 3, true, 5),
        ("a packed layer that is another", gzip(&one), 3, true, 5),
        ("too few", two.clone(), 2, true, 5),
        ("no manifest", two.clone(), 0, true, 5),
        ("nothing", two.clone(), 0, false, 5),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "aaa/layer.tar", &one);
        append(&mut tar, "./bbb/layer.tar", &second);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "ccc/layer.tar", "../aaa/layer.tar")
            .unwrap();
        append(&mut tar, "abc.json", config.as_bytes());
        if repositories {
            append(&mut tar, "repositories", b"{\"old\":{\"1\":\"ccc\"}}");
        }
        if layers > 0 {
            let paths: Vec<String> = ["aaa", "bbb", "ccc"][..layers]
                .iter()
                .map(|id| format!("{id}/layer.tar"))
                .collect();
            let manifest =
                serde_json::json!([{"Config": "abc.json", "RepoTags": ["old:1"], "Layers": paths}]);
            append(&mut tar, "manifest.json", manifest.to_string().as_bytes());
        }
        let world = world();
        let bytes = tar.into_inner().unwrap();
        world.write("out/old.tar", &bytes);
        world.line("load -i old.tar").exits(status);
        world.line_with_input("load", bytes).exits(status);
        let there = listed(&world, "{{.Repository}}:{{.Tag}}");
        if status == 0 {
            assert_eq!(there, ["old:1"], "{what}");
            world.line("save -o back.tar old:1").exits(0);
            assert_eq!(
                Image::open(&world.path("out/back.tar")).text("/file"),
                "one",
                "{what}"
            );
        } else {
            assert_eq!(there, [""; 0], "{what}");
        }
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, path, bytes).unwrap();
}

/// An archive of one member.
fn with_file(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, name, bytes);
    tar.into_inner().unwrap()
}

/// An archive of which one member is another, or gone.
fn with_another(contents: &tarball::Contents, name: &str, change: Option<&[u8]>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in contents {
        match change {
            _ if path != name => append(&mut tar, path, bytes),
            Some(bytes) => append(&mut tar, path, bytes),
            None => {}
        }
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_is_no_archive_or_lacks_something_is_said_so() {
    let (world, digest) = built();
    world.line("save -o @/out/app.tar app:1").exits(0);
    let contents = tarball::contents(&world.path("out/app.tar")).unwrap();
    let without = |name: &str, change| with_another(&contents, name, change);
    let index: Value = serde_json::from_slice(&contents["index.json"]).unwrap();
    let manifest = format!("blobs/sha256/{}", &digest[7..]);
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    let document: Value = serde_json::from_slice(&contents[&manifest]).unwrap();
    let layer = format!(
        "blobs/sha256/{}",
        &document["layers"][0]["digest"].as_str().unwrap()[7..]
    );
    let config = format!(
        "blobs/sha256/{}",
        &document["config"]["digest"].as_str().unwrap()[7..]
    );
    let root = with_file("etc/passwd", b"root:x:0:0::/:/bin/sh\n");
    for (what, bytes, status, said) in [
        ("no layer", without(&layer, None), 5, "lacks"),
        ("no config", without(&config, None), 5, "lacks"),
        ("no manifest", without(&manifest, None), 5, "lacks"),
        ("another layer", without(&layer, Some(b"x")), 7, "expected"),
        (
            "another manifest",
            without(&manifest, Some(b"{}")),
            7,
            "expected",
        ),
        (
            "an index of nothing",
            without("index.json", Some(b"{\"manifests\":[]}")),
            5,
            "no image",
        ),
        (
            "an index that is none",
            without("index.json", Some(b"[1]")),
            5,
            "index",
        ),
        ("a root file system", root, 5, "rbuild commit"),
        (
            "text",
            b"some text that is no archive at all\n".repeat(100),
            5,
            "archive of images",
        ),
        ("nothing", Vec::new(), 5, "no image"),
    ] {
        refused(what, bytes, status, said);
    }
}

/// Loads an archive as a file and from a pipe; neither leaves anything.
#[track_caller]
fn refused(what: &str, bytes: Vec<u8>, status: i32, said: &str) {
    let other = world();
    other.write("out/broken.tar", &bytes);
    for outcome in [
        other.line("load -i broken.tar"),
        other.line_with_input("load", bytes),
    ] {
        assert!(outcome.stderr.contains(said), "{what}: {}", outcome.stderr);
        outcome.exits(status);
    }
    assert_eq!(listed(&other, NAMES), [""; 0], "{what}");
    let left = fs::read_dir(other.path("store/tmp")).unwrap();
    assert_eq!(left.count(), 0, "{what}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (world, _) = built();
    world
        .line("load -i nothing.tar")
        .exits(5)
        .says("nothing.tar");
    world.line("load -i @/context").exits(5).says("index.json");
    world.line("save nothing").exits(2).says("not in the store");
    world
        .line("save --format oci-dir app:1")
        .exits(2)
        .says("-o DIR");
    world
        .line("save --compress app:1")
        .exits(2)
        .says("--compress");
    world
        .line("save -o @/nowhere/x.tar app:1")
        .exits(8)
        .says("no directory");
}

#[test]
fn a_root_file_system_is_exported() {
    let (world, _) = built();
    world.line("export -o root.tar app:1").exits(0);
    let members = tarball::contents(&world.path("out/root.tar")).unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["about.txt"]);
    let piped = world.line("export app:1").exits(0);
    assert_eq!(piped.stdout, fs::read(world.path("out/root.tar")).unwrap());
    world.line("export -o tree/ app:1").exits(0);
    assert_eq!(
        fs::read_to_string(world.path("out/tree/about.txt")).unwrap(),
        "hello\n"
    );
    // Into a directory that is there, beside what is there.
    fs::write(world.path("out/tree/own"), "mine").unwrap();
    world.line("export -o tree app:1").exits(0);
    assert!(world.path("out/tree/own").exists());
    world
        .line("export --platform linux/amd64 -o x.tar nothing")
        .exits(2);
}

#[test]
fn a_load_that_waits_for_a_pipe_is_interrupted() {
    let world = world();
    let pipe = world.path("out/pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    for words in [["load", "-i"].as_slice(), &["commit"]] {
        let line = words.join(" ");
        let running = world.start_line(&format!("{line} @/out/pipe"));
        // Its other end is open, and nothing comes.
        let writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        running.signal(rustix::process::Signal::INT);
        running.wait().exits(130);
        drop(writer);
    }
}
