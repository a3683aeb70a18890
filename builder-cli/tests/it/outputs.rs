//! Every kind of output, and the files that tell of a build.

use std::fs;

use serde_json::Value;
use test_support::flatten::{Files, Tree};
use test_support::tarball::{self, Image};
use test_support::world::World;

use crate::readers::{skopeo_inspects, tree_agrees, umoci_agrees};
use crate::world;

/// A context with a directory, a link and a mode, and one time for everything.
fn some_files() -> World {
    let mut world = world();
    world.write(
        "context/Dockerfile",
        "FROM scratch\nWORKDIR /w\nCOPY tree/ ./\nCMD [\"/w/tool\"]\n",
    );
    let tool = world.write("context/tree/tool", "#!/bin/sh\n");
    test_support::world::set_mode(&tool, 0o755);
    world.write("context/tree/folder/text", "text\n".repeat(1000));
    std::os::unix::fs::symlink("folder/text", world.path("context/tree/link")).unwrap();
    world.set("SOURCE_DATE_EPOCH", "1700000000");
    world
}

fn files_of_tar(bytes: &[u8]) -> Files {
    let mut tree = Tree::default();
    tree.apply(bytes).unwrap();
    tree.files()
}

#[test]
fn all_kinds_at_once_hold_the_same_files() {
    let world = some_files();
    let kinds = ["oci", "oci-dir", "docker", "local", "tar"];
    let outputs: Vec<String> = kinds
        .iter()
        .map(|kind| format!("-o type={kind},dest=@/{kind}"))
        .collect();
    world
        .line(&format!("-t a/b:1 {} @/context", outputs.join(" ")))
        .exits(0);
    let image = Image::open(&world.path("oci"));
    let files = image.files();
    assert_eq!(
        image.paths(),
        ["/w", "/w/folder", "/w/folder/text", "/w/link", "/w/tool"]
    );

    let layout = Image::open(&world.path("oci-dir"));
    assert_eq!((&layout.digest, &layout.files()), (&image.digest, &files));
    umoci_agrees(&world, &world.path("oci-dir"), "1");

    let docker = Image::open(&world.path("docker"));
    assert_eq!((&docker.config, &docker.files()), (&image.config, &files));
    // The default tarball is one for `docker load` too.
    let twin = Image::docker(&tarball::contents(&world.path("oci")).unwrap()).unwrap();
    assert_eq!(twin.config, image.config);

    tree_agrees(&world.path("local"), &files);
    let tar = files_of_tar(&fs::read(world.path("tar")).unwrap());
    assert_eq!(tarball::paths(&tar), image.paths());
    for (path, entry) in &files {
        assert_eq!(
            (&tar[path].content, &tar[path].link),
            (&entry.content, &entry.link)
        );
    }
    for (transport, kind) in [
        ("oci-archive", "oci"),
        ("oci", "oci-dir"),
        ("docker-archive", "docker"),
    ] {
        let place = format!("{transport}:{}", world.path(kind).display());
        if let Some(seen) = skopeo_inspects(&place) {
            assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(2), "{place}");
        }
    }
}

#[test]
fn standard_output_takes_what_a_file_takes() {
    for (kind, spec) in [
        ("oci", "type=oci,dest=-"),
        ("docker", "type=docker,dest=-"),
        ("tar", "-"),
        ("tar", "type=tar,dest=-"),
    ] {
        let world = some_files();
        let piped = world.line(&format!("-t a -o {spec} @/context")).exits(0);
        world
            .line(&format!("-t a -o type={kind},dest=@/file @/context"))
            .exits(0);
        assert!(
            piped.stdout == fs::read(world.path("file")).unwrap(),
            "{spec} differs from a file"
        );
    }
}

#[test]
fn a_path_alone_is_a_tree() {
    let world = some_files();
    world.line("-o @/tree @/context").exits(0);
    assert!(world.path("tree/w/folder/text").is_file());
}

/// A pipe, and a link, are written to and stay what they are; the default output touches neither.
#[test]
fn what_is_no_file_is_written_through() {
    let world = some_files();
    let (pipe, link) = (world.path("out/pipe"), world.path("out/link"));
    let kind = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    fs::write(world.path("out/real"), "").unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    world
        .line("-o type=tar,dest=@/out/pipe -o type=tar,dest=@/out/link @/context")
        .exits(0);
    let read = reader.join().unwrap();
    assert!(files_of_tar(&read).contains_key(&b"/w/folder/text"[..]));
    assert_eq!(fs::read(world.path("out/real")).unwrap(), read);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    world.line("-t pipe @/context").exits(0);
    fs::rename(&pipe, world.path("out/pipe.tar")).unwrap();
    world.line("-t pipe @/context").exits(8).says("it stays");
}

#[test]
fn outputs_that_can_not_be_are_refused_before_the_work() {
    for (spec, status, words) in [
        ("type=local,dest=-", 2, "standard output"),
        ("type=oci,dest=@/missing/x.tar", 8, "@/missing"),
        ("type=oci,dest=@/context", 8, "is a directory"),
        ("type=oci-dir,dest=@/context/Dockerfile", 8, "no directory"),
        ("type=elf,dest=x", 2, "`elf`"),
        ("type=oci,push=true", 2, "push"),
        ("type=registry", 2, "push"),
        ("dest=x", 2, "no type"),
        ("type=tar", 2, "dest"),
        ("type=local,dest=/", 8, "the root of this machine"),
        ("type=oci-dir,dest=/", 8, "the root of this machine"),
        ("- -o type=oci,dest=-", 2, "standard output"),
    ] {
        let world = some_files();
        let outcome = world
            .line(&format!("-o {spec} @/context"))
            .exits(status)
            .says(words);
        assert!(
            !outcome.stderr.contains("layer of"),
            "{spec}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn each_compression_is_what_its_media_type_says() {
    for (flag, kind, magic) in [
        ("gzip", "tar+gzip", &[0x1f, 0x8b][..]),
        ("gzip:9", "tar+gzip", &[0x1f, 0x8b]),
        ("zstd", "tar+zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("zstd:19", "tar+zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("none", "tar", b"w/"),
    ] {
        let world = some_files();
        world
            .line(&format!("-t a --compression {flag} @/context"))
            .exits(0);
        let image = Image::open(&world.path("out/a.tar"));
        let media_type = format!("application/vnd.oci.image.layer.v1.{kind}");
        for (layer, blob) in image.manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&image.blobs)
        {
            assert_eq!(layer["mediaType"], media_type, "{flag}");
            assert!(blob.starts_with(magic), "{flag}");
        }
        if let Some(seen) = skopeo_inspects(&format!(
            "oci-archive:{}",
            world.path("out/a.tar").display()
        )) {
            assert_eq!(seen["Digest"], image.digest, "{flag}");
        }
    }
}

#[test]
fn the_digest_is_the_same_wherever_it_is_told() {
    let world = some_files();
    let outcome = world
        .line("-q -t a --iidfile @/id --metadata-file @/metadata @/context")
        .exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    assert_eq!(outcome.text(), format!("{}\n", image.digest));
    assert_eq!(outcome.stderr, "");
    assert_eq!(fs::read_to_string(world.path("id")).unwrap(), image.digest);
    let metadata: Value =
        serde_json::from_slice(&fs::read(world.path("metadata")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], image.digest);
    assert_eq!(
        metadata["containerimage.config.digest"],
        image.manifest["config"]["digest"]
    );
    assert_eq!(metadata["image.name"], "docker.io/library/a:latest");
}

#[test]
fn labels_and_annotations_arrive() {
    let world = some_files();
    world
        .line("-t a --label one=1 --label two --annotation note=hi @/context")
        .exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    assert_eq!(
        image.config["config"]["Labels"],
        serde_json::json!({ "one": "1", "two": "" })
    );
    assert_eq!(image.manifest["annotations"]["note"], "hi");
}
