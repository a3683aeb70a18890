//! The reference cases: what each one asks for, its context, and how the program's answer differs from the recorded one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, XattrFlags};
use serde_json::Value;

use crate::archive::{Member, Packing, octal, pack, tar};
use crate::names::to_bytes;
use crate::tools::require;
use crate::world::{MTIME, set_mode, set_mtime, set_mtime_nanos};

/// The named context that the test makes itself.
const BUSYBOX: &str = "@busybox";

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its name: the folder's.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// `args.json`.
    pub arguments: Value,
    /// `expected.json`.
    pub expected: Value,
}

/// All cases of a folder, by name.
pub fn cases(folder: &Path) -> Vec<Case> {
    let read = |path: PathBuf| -> Value {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let case = |folder: PathBuf| Case {
        name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
        arguments: read(folder.join("args.json")),
        expected: read(folder.join("expected.json")),
        folder,
    };
    folders.into_iter().map(case).collect()
}

impl Case {
    /// Whether the case is about RUN: it needs a base with a shell in it.
    pub fn needs_run(&self) -> bool {
        self.table("build_contexts")
            .any(|(_, folder)| folder == BUSYBOX)
    }

    /// Whether the answer holds times.
    pub fn is_about_times(&self) -> bool {
        self.arguments["mtime"] == true
    }

    /// The architecture that the case asks for.
    pub fn architecture(&self) -> Option<&str> {
        self.arguments["platform"].as_str()?.split('/').nth(1)
    }

    fn table(&self, key: &str) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.arguments[key].as_object().into_iter().flatten();
        pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
    }

    /// Writes the context, the named contexts and the Dockerfile into a folder and gives the arguments of `rbuild`,
    /// the output left out.
    pub fn prepare(&self, to: &Path) -> Vec<String> {
        let mut roots = BTreeMap::from([("context".to_owned(), to.join("context"))]);
        for (_, folder) in self.table("build_contexts") {
            roots.insert(folder.to_owned(), to.join(folder));
        }
        let busybox = roots.remove(BUSYBOX);
        for (folder, root) in &roots {
            fs::create_dir_all(root).unwrap();
            copy_tree(&self.folder.join(folder), root);
        }
        self.complete(&roots);
        if let Some(base) = busybox {
            let program = require("busybox").expect("a case about RUN needs busybox");
            crate::busybox::base(&base, &program, "");
            roots.insert(BUSYBOX.to_owned(), base);
        }
        let file = self.arguments["file"].as_str().unwrap_or("Dockerfile");
        let path = if file.starts_with("context/") {
            to.join(file)
        } else {
            self.folder.join(file)
        };
        let mut words = vec![
            "build".to_owned(),
            "-f".to_owned(),
            path.to_str().unwrap().to_owned(),
        ];
        for (flag, key) in [("--build-arg", "build_args"), ("--label", "labels")] {
            self.table(key).for_each(|(name, value)| {
                words.extend([flag.to_owned(), format!("{name}={value}")]);
            });
        }
        for key in ["target", "platform"] {
            words.extend(
                self.arguments[key]
                    .as_str()
                    .map(|value| format!("--{key}={value}")),
            );
        }
        for (name, folder) in self.table("build_contexts") {
            words.extend([
                "--build-context".to_owned(),
                format!("{name}={}", roots[folder].display()),
            ]);
        }
        words.push(roots["context"].to_str().unwrap().to_owned());
        words
    }

    /// The operations of `context.json`, then modes and times.
    fn complete(&self, roots: &BTreeMap<String, PathBuf>) {
        let operations = fs::read(self.folder.join("context.json"))
            .map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
        let (mut modes, mut times) = (Vec::new(), BTreeMap::new());
        for operation in operations.as_array().into_iter().flatten() {
            let root = &roots[operation["in"].as_str().unwrap_or("context")];
            perform(operation, root);
            let Some(path) = operation["path"].as_str().map(|path| at(root, path)) else {
                continue;
            };
            if operation["op"] == "mtime" {
                let nanos = operation["nanos"].as_i64().unwrap_or(0);
                times.insert(
                    path.clone(),
                    (operation["seconds"].as_i64().unwrap(), nanos),
                );
            }
            if let Some(mode) = operation["mode"].as_str() {
                modes.push((path, octal(mode)));
            }
        }
        for root in roots.values() {
            normalise(root, &times);
        }
        modes.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, mode) in modes {
            set_mode(&path, mode);
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A path of the context, with the directories that it needs.
fn at(root: &Path, path: &str) -> PathBuf {
    let full = root.join(OsStr::from_bytes(&to_bytes(path)));
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    full
}

fn perform(operation: &Value, root: &Path) {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    for path in operation["paths"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        fs::write(at(root, path), [&to_bytes(path)[..], b"\n"].concat()).unwrap();
    }
    let path = at(root, text("path"));
    match text("op") {
        "files" | "mode" | "mtime" => {}
        "file" if operation["base64"].is_string() => {
            fs::write(path, base64(text("base64"))).unwrap();
        }
        "file" => fs::write(path, text("text")).unwrap(),
        "dir" => fs::create_dir_all(path).unwrap(),
        "symlink" => {
            std::os::unix::fs::symlink(OsStr::from_bytes(&to_bytes(text("to"))), path).unwrap();
        }
        "hardlink" => fs::hard_link(at(root, text("to")), path).unwrap(),
        "fifo" => rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap(),
        // File systems without attributes leave them out, and the case says nothing then.
        "xattr" => {
            let _ = rustix::fs::lsetxattr(
                &path,
                text("name"),
                text("value").as_bytes(),
                XattrFlags::empty(),
            );
        }
        "archive" => {
            let members: Vec<Member> = operation["members"]
                .as_array()
                .unwrap()
                .iter()
                .map(Member::from_json)
                .collect();
            let packing = match operation["compression"].as_str().unwrap_or("none") {
                "none" => Packing::None,
                "gzip" => Packing::Gzip,
                "bzip2" => Packing::Bzip2,
                "xz" => Packing::Xz,
                "zstd" => Packing::Zstd,
                other => panic!("compression {other}"),
            };
            fs::write(path, pack(packing, &tar(&members))).unwrap();
        }
        other => panic!("operation {other}"),
    }
}

/// The usual modes, and the given or the usual times, deepest first.
fn normalise(folder: &Path, times: &BTreeMap<PathBuf, (i64, i64)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            normalise(&path, times);
        } else if !kind.is_symlink() {
            set_mode(&path, 0o644);
        }
        let (seconds, nanos) = times.get(&path).copied().unwrap_or((MTIME, 0));
        set_mtime_nanos(&path, seconds, nanos);
    }
    set_mode(folder, 0o755);
    if !times.contains_key(folder) {
        set_mtime(folder, MTIME);
    }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|one| *one == byte) else {
            continue;
        };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
