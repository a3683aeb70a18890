//! Other people's readers of what the program writes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use test_support::flatten::Files;
use test_support::tarball::{self, Image};
use test_support::tools::{require, run};
use test_support::world::World;

/// What `skopeo inspect` says of an image, where it is installed.
pub(crate) fn skopeo_inspects(image: &str) -> Option<Value> {
    let output = run(&require("skopeo")?, &["inspect", image]);
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Lets umoci unpack an OCI tarball and compares its tree with the independent reader's.
pub(crate) fn umoci_agrees(world: &World, archive: &Path, tag: &str) {
    let Some(umoci) = require("umoci") else {
        return;
    };
    let layout = world.path(format!("umoci-{tag}"));
    for (name, bytes) in tarball::contents(archive).unwrap() {
        let path = layout.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    layout_agrees(world, &umoci, &layout, tag);
}

/// Lets umoci unpack an OCI layout.
pub(crate) fn umoci_agrees_on_layout(world: &World, layout: &Path, tag: &str) {
    let Some(umoci) = require("umoci") else {
        return;
    };
    layout_agrees(world, &umoci, layout, tag);
}

fn layout_agrees(world: &World, umoci: &Path, layout: &Path, tag: &str) {
    let bundle = world.path(format!("bundle-{tag}"));
    let image = format!("{}:{tag}", layout.display());
    run(
        umoci,
        &[
            "unpack",
            "--rootless",
            "--image",
            &image,
            bundle.to_str().unwrap(),
        ],
    );
    tree_agrees(&bundle.join("rootfs"), &Image::open(layout).files());
}

/// Compares a directory of the host with the files of an image: kinds, modes, contents, links.
pub(crate) fn tree_agrees(root: &Path, files: &Files) {
    let mut there = Vec::new();
    list(root, root, &mut there);
    there.sort();
    assert_eq!(there, tarball::paths(files));
    for (path, entry) in files.iter().filter(|(path, _)| *path != b"/") {
        let path = root.join(std::str::from_utf8(&path[1..]).unwrap());
        let metadata = fs::symlink_metadata(&path).unwrap();
        if entry.kind == "symlink" {
            assert_eq!(
                fs::read_link(&path).unwrap().to_str().unwrap().as_bytes(),
                entry.link
            );
            continue;
        }
        assert_eq!(
            metadata.permissions().mode() & 0o7777,
            entry.mode,
            "{}",
            path.display()
        );
        assert_eq!(metadata.is_dir(), entry.kind == "dir", "{}", path.display());
        if entry.kind == "file" {
            assert_eq!(
                fs::read(&path).unwrap(),
                entry.content,
                "{}",
                path.display()
            );
        }
    }
}

fn list(root: &Path, folder: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        out.push(format!(
            "/{}",
            entry.path().strip_prefix(root).unwrap().display()
        ));
        if entry.file_type().unwrap().is_dir() {
            list(root, &entry.path(), out);
        }
    }
}
