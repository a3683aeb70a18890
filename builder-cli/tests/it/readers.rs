//! Other people's readers of what the program writes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use test_support::flatten::Files;
use test_support::names::from_bytes;
use test_support::tarball::{self, Image};
use test_support::tools::{is_root, require, run, try_run};
use test_support::world::World;

/// What `skopeo inspect` says of an image, where it is installed.
pub(crate) fn skopeo_inspects(image: &str) -> Option<Value> {
    let output = run(&require("skopeo")?, &["inspect", image]);
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Lets umoci unpack an OCI tarball and compares its tree with the independent reader's.
#[track_caller]
pub(crate) fn umoci_agrees(world: &World, archive: &Path, tag: &str) {
    let Some(umoci) = require("umoci") else {
        return;
    };
    let found = umoci_differences(world, &umoci, archive, tag);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// One line for each way in which umoci's tree of an OCI tarball or layout isn't the independent reader's.
pub(crate) fn umoci_differences(
    world: &World,
    umoci: &Path,
    image: &Path,
    tag: &str,
) -> Vec<String> {
    let mut layout = image.to_owned();
    if image.is_file() {
        layout = world.path("umoci-layout");
        for (name, bytes) in tarball::contents(image).unwrap() {
            let path = layout.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    // A whole bundle would need a user that its passwd knows; the tree alone is what counts.
    let (tree, name) = (
        world.path("umoci-tree"),
        format!("{}:{tag}", layout.display()),
    );
    let words = [
        "raw",
        "unpack",
        "--rootless",
        "--image",
        &name,
        tree.to_str().unwrap(),
    ];
    match try_run(umoci, &words) {
        Ok(_) => {
            let files = Image::open(&layout).files();
            // An ordinary user can't look into what the image closes to its owner; that umoci took it is enough.
            let closed = !is_root()
                && files
                    .values()
                    .any(|entry| is_closed(entry.kind, entry.mode));
            if closed {
                Vec::new()
            } else {
                tree_differences(&tree, &files)
            }
        }
        Err(problem) => vec![problem],
    }
}

/// Whether the owner of a file may not read it, or of a directory not list and enter it.
fn is_closed(kind: &str, mode: u32) -> bool {
    match kind {
        "dir" => mode & 0o500 != 0o500,
        "file" => mode & 0o400 == 0,
        _ => false,
    }
}

/// Compares a directory of the host with the files of an image: kinds, modes, contents, links.
#[track_caller]
pub(crate) fn tree_agrees(root: &Path, files: &Files) {
    let found = tree_differences(root, files);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// One line for each way in which a directory of the host isn't what the files of an image say.
pub(crate) fn tree_differences(root: &Path, files: &Files) -> Vec<String> {
    let mut there = Vec::new();
    list(root, root, &mut there);
    there.sort();
    let wanted: Vec<Vec<u8>> = files.keys().filter(|path| *path != b"/").cloned().collect();
    if there != wanted {
        let shown = |paths: &[Vec<u8>]| {
            paths
                .iter()
                .map(|path| from_bytes(path))
                .collect::<Vec<_>>()
        };
        return vec![format!(
            "the tree has {:?}, the image {:?}",
            shown(&there),
            shown(&wanted)
        )];
    }
    let differs = |path: &&Vec<u8>| {
        let (entry, path) = (&files[*path], root.join(OsStr::from_bytes(&path[1..])));
        let metadata = fs::symlink_metadata(&path).unwrap();
        match entry.kind {
            "symlink" => {
                fs::read_link(&path).is_ok_and(|link| link.as_os_str().as_bytes() != entry.link)
            }
            "dir" => !metadata.is_dir() || metadata.permissions().mode() & 0o7777 != entry.mode,
            "file" => {
                fs::read(&path).unwrap() != entry.content
                    || metadata.permissions().mode() & 0o7777 != entry.mode
            }
            _ => metadata.is_dir(),
        }
    };
    wanted
        .iter()
        .filter(differs)
        .map(|path| format!("{} differs in the tree", from_bytes(path)))
        .collect()
}

fn list(root: &Path, folder: &Path, out: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        out.push(
            [
                b"/",
                path.strip_prefix(root).unwrap().as_os_str().as_bytes(),
            ]
            .concat(),
        );
        if entry.file_type().unwrap().is_dir() {
            list(root, &path, out);
        }
    }
}
