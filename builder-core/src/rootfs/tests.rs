//! Layers to directories, and directories to layers.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FileType, Mode};

use super::look::Looker;
use super::*;
use crate::digest::{DiffId, Digest};
use crate::entry::EntryKind;
use crate::image::Layer;
use crate::image::view::View;
use crate::interrupt::Interrupt;
use crate::layer::{Compression, LayerOptions, LayerWriter};
use crate::oci::{Descriptor, MediaType};
use crate::owners::{OwnerEncoding, OwnerRecord, SideTable};
use crate::store::{GcOptions, Store};
use crate::timestamp::Timestamp;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Encodings that this user can test.
fn encodings() -> &'static [OwnerEncoding] {
    if is_root() {
        &OwnerEncoding::ALL
    } else {
        &OwnerEncoding::ALL[1..]
    }
}

fn options() -> LayerOptions {
    LayerOptions {
        compression: Compression::DEFAULT,
        epoch: None,
        threads: 1,
    }
}

struct World {
    store: Store,
    home: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        Self { store, home }
    }

    /// One line of a layer: `d PATH MODE UID`, `f PATH MODE UID TEXT`, `l PATH UID TARGET`, `h PATH TARGET`,
    /// `p PATH UID`, `c PATH MAJOR MINOR`, `w PATH`, `o PATH`. Files have a time of their own.
    fn layer(&self, lines: &[&str]) -> Layer {
        let mut writer = LayerWriter::new(&self.store, &options()).unwrap();
        for (number, line) in lines.iter().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let path = ImagePath::clean(words[1]);
            let seconds = 1_000_000 + i64::try_from(number).unwrap();
            let mut entry = Entry::directory(
                path.clone(),
                Timestamp {
                    seconds,
                    nanos: 123_456_789,
                },
            );
            let mut text = "";
            match words[0] {
                "d" | "f" => {
                    entry.mode = u32::from_str_radix(words[2], 8).unwrap();
                    entry.uid = words[3].parse().unwrap();
                    if words[0] == "f" {
                        text = words[4];
                        entry.kind = EntryKind::File {
                            size: text.len() as u64,
                        };
                    }
                }
                "l" => {
                    entry.mode = 0o777;
                    entry.uid = words[2].parse().unwrap();
                    entry.kind = EntryKind::Symlink {
                        target: words[3].into(),
                    };
                }
                "h" => {
                    entry.kind = EntryKind::HardLink {
                        target: ImagePath::clean(words[2]),
                    }
                }
                "p" => {
                    entry.mode = 0o640;
                    entry.uid = words[2].parse().unwrap();
                    entry.kind = EntryKind::Fifo;
                }
                "c" => {
                    entry.mode = 0o620;
                    entry.gid = 5;
                    entry.kind = EntryKind::CharDevice {
                        major: words[2].parse().unwrap(),
                        minor: words[3].parse().unwrap(),
                    };
                }
                "w" => {
                    writer.append_whiteout(&path).unwrap();
                    continue;
                }
                _ => {
                    writer.append_opaque(&path).unwrap();
                    continue;
                }
            }
            writer.append(&entry, Some(&mut text.as_bytes())).unwrap();
        }
        made(writer)
    }

    /// A layer that somebody else made, of raw members: type, name, link, bytes.
    fn foreign(&self, members: &[(u8, &str, &str, &str)]) -> Layer {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, link, text) in members {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(7);
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let fast = flate2::Compression::fast();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
        gzip.write_all(&tar).unwrap();
        let blob = gzip.finish().unwrap();
        let digest = self.store.put(&blob).unwrap();
        Layer {
            descriptor: Descriptor::new(MediaType::LayerGzip, digest, blob.len() as u64),
            diff_id: DiffId(Digest::of(&tar)),
            identity: DiffId(Digest::of(&tar)),
            fresh: false,
        }
    }

    fn with<T>(&self, encoding: OwnerEncoding, then: impl FnOnce(Layouts<'_>) -> T) -> T {
        let interrupt = Interrupt::default();
        then(Layouts {
            store: &self.store,
            source: None,
            encoding,
            capabilities: &|_, _| Ok(()),
            replacements: None,
            interrupt: &interrupt,
        })
    }

    /// A root with layers applied.
    fn root(&self, name: &str, layers: &[Layer], encoding: OwnerEncoding) -> (PathBuf, SideTable) {
        let root = self.home.path().join(name);
        fs::create_dir(&root).unwrap();
        let mut table = SideTable::default();
        self.with(encoding, |layouts| {
            layouts.apply(&[], layers, &root, &mut table)
        })
        .unwrap();
        (root, table)
    }
}

fn made(writer: LayerWriter) -> Layer {
    let made = writer.finish().unwrap();
    Layer {
        descriptor: made.descriptor,
        diff_id: made.diff_id,
        identity: made.diff_id,
        fresh: true,
    }
}

/// All files below a directory as the image has them, a line each.
fn shown(root: &Path, encoding: OwnerEncoding, table: &SideTable) -> Vec<String> {
    let looker = Looker { encoding, table };
    let mut lines = Vec::new();
    let mut todo = vec![ImagePath::root()];
    while let Some(directory) = todo.pop() {
        let host = root.join(String::from_utf8(directory.as_relative().to_vec()).unwrap());
        for found in fs::read_dir(&host).unwrap() {
            let name = found.unwrap().file_name().into_string().unwrap();
            let path = directory.child(name.as_bytes());
            let open = fs::File::open(&host).unwrap();
            let name = std::ffi::CString::new(name).unwrap();
            let stat = rustix::fs::statat(&open, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let mut seen = looker
                .look(open.as_fd(), &name, &path, &stat)
                .unwrap()
                .unwrap();
            let content = seen.content.as_mut();
            lines.push(line(&seen.entry, content.map(|file| file as &mut dyn Read)));
            if seen.entry.is_directory() {
                todo.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn line(entry: &Entry, content: Option<&mut dyn Read>) -> String {
    let mut text = String::new();
    if let Some(content) = content {
        content.read_to_string(&mut text).unwrap();
    }
    let what = match &entry.kind {
        EntryKind::File { .. } => format!("file {text:?}"),
        EntryKind::Directory => "dir".to_owned(),
        EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        EntryKind::HardLink { target } => return format!("{} = {target}", entry.path),
        other => format!("{other:?}"),
    };
    let time = entry.mtime.seconds - 1_000_000;
    let time = if (0..1000).contains(&time) {
        format!("{time}.{}", entry.mtime.nanos)
    } else {
        "now".to_owned()
    };
    format!(
        "{} {what} {:o} {}:{} {time}",
        entry.path, entry.mode, entry.uid, entry.gid
    )
}

#[derive(Default)]
struct Lines(Vec<String>);

impl ChangeSink for Lines {
    fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let regular = matches!(entry.kind, EntryKind::File { .. });
        assert_eq!(content.is_some(), regular, "{}", entry.path);
        let full = line(entry, content);
        self.0.push(match entry.kind {
            EntryKind::HardLink { .. } => full,
            _ => full.rsplit_once(' ').unwrap().0.to_owned(),
        });
        Ok(())
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        self.0.push(format!("whiteout {path}"));
        Ok(())
    }
}

struct Writing(LayerWriter);

impl ChangeSink for Writing {
    fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        Ok(self.0.append(entry, content)?)
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        Ok(self.0.append_whiteout(path)?)
    }
}

const BASE: &[&str] = &[
    "d a 2755 33",
    "f a/x 4755 33 one",
    "h a/y a/x",
    "d b 700 0",
    "d b/c 0 0",
    "f b/c/secret 0 7 shh",
    "p fifo 9",
    "l link 12 /etc",
    "c null 1 3",
];

#[test]
fn layers_become_directories_with_all_that_they_say() {
    for encoding in encodings() {
        let world = World::new();
        let layers = [
            world.layer(BASE),
            world.layer(&["w a/x", "f a/z 644 0 two", "d b 755 1", "o b", "l new 0 x"]),
        ];
        let base = [
            "/a dir 2755 33:0 0.123456789",
            "/a/x file \"one\" 4755 33:0 1.123456789",
            "/a/y file \"one\" 4755 33:0 1.123456789",
            "/b dir 700 0:0 3.123456789",
            "/b/c dir 0 0:0 4.123456789",
            "/b/c/secret file \"shh\" 0 0:0 5.123456789"
                .replace("0:0", "7:0")
                .as_str(),
            "/fifo Fifo 640 9:0 6.123456789",
            "/link -> /etc 777 12:0 7.123456789",
            "/null CharDevice { major: 1, minor: 3 } 620 0:5 8.123456789",
        ]
        .map(str::to_owned);
        let (root, table) = world.root("base", &layers[..1], *encoding);
        // The directory of mode 0 keeps an ordinary user's plain listing out.
        if is_root() {
            assert_eq!(shown(&root, *encoding, &table), base);
        }
        let link = |name| fs::symlink_metadata(root.join(name)).unwrap().ino();
        assert_eq!(link("a/x"), link("a/y"));

        let (root, table) = world.root("both", &layers, *encoding);
        let expected = [
            &base[0],
            &base[2],
            "/a/z file \"two\" 644 0:0 1.123456789",
            "/b dir 755 1:0 2.123456789",
            &base[6],
            &base[7],
            "/new -> x 777 0:0 4.123456789",
            &base[8],
        ];
        assert_eq!(shown(&root, *encoding, &table), expected);

        let lowers = world.with(*encoding, |layouts| layouts.lowers(&layers).unwrap());
        let table = SideTable::load(&lowers[0].owners).unwrap();
        if is_root() {
            assert_eq!(shown(&lowers[0].tree, *encoding, &table), base);
        }
        let table = SideTable::load(&lowers[1].owners).unwrap();
        let top = shown(&lowers[1].tree, *encoding, &table);
        // The metadata of `/a`, which only the layer below names.
        assert_eq!(top[0], base[0]);
        assert!(top[1].starts_with("/a/x CharDevice { major: 0, minor: 0 } 0 "));
        assert_eq!(top[2], expected[2]);
        let mut value = [0; 4];
        let opaque = rustix::fs::getxattr(lowers[1].tree.join("b"), overlay::OPAQUE, &mut value);
        assert_eq!((opaque, value[0]), (Ok(1), b'y'));

        let again = world.with(*encoding, |layouts| layouts.lowers(&layers).unwrap());
        assert_eq!(again, lowers);
        let collected = world.store.collect(&GcOptions::default()).unwrap();
        assert_eq!(collected.roots, 2);
        assert!(!lowers[0].tree.exists());
    }
}

#[test]
fn the_layers_of_others_are_laid_out_as_their_tar_comes() {
    let world = World::new();
    let encoding = OwnerEncoding::Recorded;
    let layers = [
        world.foreign(&[
            (b'5', "./", "", ""),
            (b'0', "d/late", "", "in a directory that comes later"),
            (b'5', "d/", "", ""),
            (b'0', "twice", "", "first"),
            (b'0', "twice", "", "second"),
            (b'1', "d/hard", "/twice", ""),
            (b'2', "out", "/etc", ""),
        ]),
        world.foreign(&[(b'0', "d/.wh.late", "", ""), (b'0', "d/more", "", "x")]),
    ];
    let expected = [
        "/d dir 755 0:0 now",
        "/d/hard file \"second\" 755 0:0 now",
        "/d/more file \"x\" 755 0:0 now",
        "/out -> /etc 777 0:0 now",
        "/twice file \"second\" 755 0:0 now",
    ];
    let (root, table) = world.root("root", &layers, encoding);
    assert_eq!(shown(&root, encoding, &table), expected);
    let lowers = world.with(encoding, |layouts| layouts.lowers(&layers).unwrap());
    assert_eq!(fs::metadata(lowers[1].tree.join("d")).unwrap().mtime(), 7);
}

#[test]
fn no_member_gets_out_of_the_root() {
    let world = World::new();
    let outside = world.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let there = outside.to_str().unwrap();
    let hostile: &[&[Layer]] = &[
        &[world.foreign(&[(b'2', "out", there, ""), (b'0', "out/evil", "", "x")])],
        &[world.foreign(&[(b'0', "../evil", "", "x")])],
        &[world.foreign(&[(b'1', "a", "/../../etc/passwd", "")])],
        &[world.foreign(&[(b'1', "a", "/etc/passwd", "")])],
    ];
    for (number, layers) in hostile.iter().enumerate() {
        let root = world.home.path().join(format!("root{number}"));
        fs::create_dir(&root).unwrap();
        let mut table = SideTable::default();
        let encoding = OwnerEncoding::Recorded;
        let (applied, lowers) = world.with(encoding, |layouts| {
            (
                layouts.apply(&[], layers, &root, &mut table),
                layouts.lowers(layers),
            )
        });
        assert_eq!(
            applied.unwrap_err().kind(),
            ErrorKind::BaseImage,
            "{number}"
        );
        assert_eq!(lowers.unwrap_err().kind(), ErrorKind::BaseImage, "{number}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{number}");
    }
    assert_eq!(
        fs::read_dir(world.store.root().join("tmp"))
            .unwrap()
            .count(),
        0
    );
    // Below what a lower layer has as a link or a file, a member is in a directory of its own.
    let below = world.foreign(&[(b'0', "out/evil", "", "x")]);
    for (number, lower) in [(b'2', there, ""), (b'0', "", "x")].iter().enumerate() {
        let (kind, link, text) = lower;
        let layers = [world.foreign(&[(*kind, "out", link, text)]), below.clone()];
        let encoding = OwnerEncoding::Recorded;
        let (root, table) = world.root(&format!("own{number}"), &layers, encoding);
        let expected = ["/out dir 755 0:0 now", "/out/evil file \"x\" 755 0:0 now"];
        assert_eq!(shown(&root, encoding, &table), expected);
        let lowers = world.with(encoding, |layouts| layouts.lowers(&layers).unwrap());
        let table = SideTable::default();
        assert_eq!(shown(&lowers[1].tree, encoding, &table), expected);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{number}");
    }
}

/// A hard link to a file of a lower layer is a file with the same content, mode and owner, in a root and in a lower
/// directory; links on the way are those of the layers below.
#[test]
fn hard_links_lead_to_lower_layers() {
    let world = World::new();
    for encoding in encodings() {
        let layers = [
            world.foreign(&[
                (b'0', "usr/f", "", "lower"),
                (b'2', "l", "usr", ""),
                (b'2', "s", "somewhere", ""),
                (b'1', "again", "usr/f", ""),
            ]),
            world.foreign(&[
                (b'1', "a", "usr/f", ""),
                (b'1', "b", "l/f", ""),
                (b'1', "c", "a", ""),
                (b'1', "d", "s", ""),
                (b'1', "e", "again", ""),
            ]),
        ];
        let name = format!("{encoding:?}");
        let (root, table) = world.root(&name, &layers, *encoding);
        let upper = [
            "/a file \"lower\" 755 0:0 now",
            "/b file \"lower\" 755 0:0 now",
            "/c file \"lower\" 755 0:0 now",
            "/d -> somewhere 777 0:0 now",
            "/e file \"lower\" 755 0:0 now",
        ];
        let all = shown(&root, *encoding, &table);
        assert_eq!(all.len(), 10, "{all:?}");
        for line in upper {
            assert!(all.iter().any(|one| one == line), "{line}: {all:?}");
        }
        let lowers = world.with(*encoding, |layouts| layouts.lowers(&layers).unwrap());
        let table = SideTable::default();
        assert_eq!(shown(&lowers[1].tree, *encoding, &table), upper);
        let nothing = world.foreign(&[(b'1', "x", "usr/none", "")]);
        let layers = [layers[0].clone(), nothing];
        let error = world.with(*encoding, |layouts| layouts.lowers(&layers).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::BaseImage);
        assert!(error.message().contains("`/usr/none`"), "{error}");
    }
}

const STEP: &[&str] = &[
    "d d 755 0",
    "d d/e 755 0",
    "f d/e/f 644 0 text",
    "f d/g 644 0 gg",
    "f file 644 0 text",
    "f one 644 0 same",
    "h two one",
];

/// What steps do, and what must be found.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

fn replace(path: PathBuf, text: &str) {
    fs::remove_file(&path).unwrap();
    fs::write(path, text).unwrap();
}

const CASES: &[Case] = &[
    ("nothing", |_| (), &[]),
    (
        "add",
        |root| fs::write(root.join("d/e/new"), "n").unwrap(),
        &[
            "/d dir 755 0:0",
            "/d/e dir 755 0:0",
            "/d/e/new file \"n\" 644 0:0",
        ],
    ),
    (
        "modify in place, keeping size and time",
        |root| {
            let path = root.join("file");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "TEXT").unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        },
        &["/file file \"TEXT\" 644 0:0"],
    ),
    (
        "touch a directory and write the same again",
        |root| {
            let path = root.join("d/g");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            replace(path.clone(), "gg");
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        },
        &[],
    ),
    (
        "chmod",
        |root| fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o2700)).unwrap(),
        &["/d dir 755 0:0", "/d/e dir 2700 0:0"],
    ),
    (
        "delete a directory",
        |root| fs::remove_dir_all(root.join("d/e")).unwrap(),
        &["/d dir 755 0:0", "whiteout /d/e"],
    ),
    (
        "a directory becomes a file",
        |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::write(root.join("d"), "x").unwrap();
        },
        &["/d file \"x\" 644 0:0"],
    ),
    (
        "a file becomes a directory",
        |root| {
            fs::remove_file(root.join("file")).unwrap();
            fs::create_dir(root.join("file")).unwrap();
            symlink("x", root.join("file/l")).unwrap();
        },
        &["/file dir 755 0:0", "/file/l -> x 777 0:0"],
    ),
    (
        "a directory is made anew",
        |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/g"), "new").unwrap();
        },
        &[
            "/d dir 755 0:0",
            "whiteout /d/e",
            "/d/g file \"new\" 644 0:0",
        ],
    ),
    (
        "a new name of an old file",
        |root| fs::hard_link(root.join("file"), root.join("zzz")).unwrap(),
        &["/file file \"text\" 644 0:0", "/zzz = /file"],
    ),
    (
        "a name of two goes",
        |root| fs::remove_file(root.join("two")).unwrap(),
        &["whiteout /two"],
    ),
    (
        "both names of a file change",
        |root| fs::write(root.join("two"), "diff").unwrap(),
        &["/one file \"diff\" 644 0:0", "/two = /one"],
    ),
    (
        "a socket in the place of a file, and one besides",
        |root| {
            fs::remove_file(root.join("file")).unwrap();
            for name in ["file", "sock"] {
                rustix::fs::mknodat(CWD, root.join(name), FileType::Socket, Mode::RWXU, 0).unwrap();
            }
        },
        &["whiteout /file"],
    ),
    (
        "excluded",
        |root| {
            fs::write(root.join("mnt"), "x").unwrap();
            fs::remove_dir_all(root.join("d/e")).unwrap();
        },
        &["/d dir 755 0:0", "whiteout /d/e"],
    ),
    (
        "root",
        |root| fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap(),
        &["/ dir 700 0:0"],
    ),
];

#[test]
fn a_walk_finds_what_a_step_did() {
    for encoding in encodings() {
        let world = World::new();
        let layers = [world.layer(STEP)];
        let view = View::new(&world.store, &layers, "base");
        let excluded = [ImagePath::clean("/mnt")];
        for (number, (name, step, expected)) in CASES.iter().enumerate() {
            let (root, table) = world.root(&number.to_string(), &layers, *encoding);
            let before = Snapshot::take(&world.store, &root).unwrap();
            assert_eq!(before.len(), 7);
            step(&root);
            let mut lines = Lines::default();
            let (store, base) = (&world.store, &view);
            let walk = |before: &Snapshot, lines: &mut Lines| {
                walk_changes(
                    store, &root, before, *encoding, &table, base, &excluded, lines,
                )
                .unwrap()
            };
            let after = walk(&before, &mut lines);
            assert_eq!(lines.0, *expected, "{name}");
            // All is a candidate where the clock stood still.
            let mut again = Lines::default();
            walk(&before.ended(-(i128::MAX / 2)), &mut again);
            assert_eq!(again.0, *expected, "{name}");
            let mut nothing = Lines::default();
            walk(&after, &mut nothing);
            nothing.0.retain(|line| !line.starts_with("/ "));
            assert_eq!(nothing.0, Vec::<String>::new(), "{name}");
        }
    }
}

fn hide(path: PathBuf) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// An overlay ignores the mark at its root, so the layers that it hides must not be in it.
#[test]
fn an_opaque_root_hides_every_layer_below() {
    for encoding in encodings() {
        let world = World::new();
        let below = world.layer(&["f /hidden 644 0 x"]);
        let opaque = world.layer(&["o /", "f /only 644 0 x"]);
        let above = world.layer(&["f /above 644 0 x"]);
        for layers in [
            vec![below.clone(), opaque.clone(), above.clone()],
            vec![opaque.clone(), above.clone()],
        ] {
            // The second time they are laid out already.
            for _ in 0..2 {
                let lowers = world.with(*encoding, |layouts| layouts.lowers(&layers).unwrap());
                let names: Vec<_> = lowers
                    .iter()
                    .map(|lower| {
                        let mut names = fs::read_dir(&lower.tree).unwrap();
                        names.next().unwrap().unwrap().file_name()
                    })
                    .collect();
                assert_eq!(names, ["only", "above"]);
            }
        }
    }
}

fn make_opaque(path: PathBuf) {
    overlay::set_opaque(fs::File::open(path).unwrap().as_fd()).unwrap();
}

/// What steps leave in an upper directory, and what must be found.
const UPPER_CASES: &[Case] = &[
    ("nothing", |_| (), &[]),
    (
        "a copied directory that is as it was",
        |root| fs::create_dir_all(root.join("d/e")).unwrap(),
        &[],
    ),
    (
        "added below",
        |root| {
            fs::create_dir_all(root.join("d/e")).unwrap();
            fs::write(root.join("d/e/new"), "n").unwrap();
        },
        &[
            "/d dir 755 0:0",
            "/d/e dir 755 0:0",
            "/d/e/new file \"n\" 644 0:0",
        ],
    ),
    (
        "whiteouts, also of what nobody has",
        |root| {
            fs::create_dir(root.join("d")).unwrap();
            for path in ["d/e", "d/nothing", "file"] {
                hide(root.join(path));
            }
        },
        &["/d dir 755 0:0", "whiteout /d/e", "whiteout /file"],
    ),
    (
        "opaque, with a directory in it",
        |root| {
            fs::create_dir_all(root.join("d/e")).unwrap();
            make_opaque(root.join("d"));
            fs::write(root.join("d/e/h"), "h").unwrap();
        },
        &[
            "/d dir 755 0:0",
            "/d/e dir 755 0:0",
            "whiteout /d/e/f",
            "/d/e/h file \"h\" 644 0:0",
            "whiteout /d/g",
        ],
    ),
    (
        "whiteouts share an inode",
        |root| {
            hide(root.join("file"));
            fs::hard_link(root.join("file"), root.join("two")).unwrap();
        },
        &["whiteout /file", "whiteout /two"],
    ),
    (
        "recorded owners",
        |root| {
            fs::write(root.join("file"), "mine").unwrap();
            let text = OwnerRecord::owner(5, 6).to_text();
            let name = crate::owners::ATTRIBUTE;
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("file"), name, text.as_bytes(), flags).unwrap();
        },
        &["/file file \"mine\" 644 5:6"],
    ),
    (
        "excluded",
        |root| fs::write(root.join("mnt"), "").unwrap(),
        &[],
    ),
];

#[test]
fn an_upper_directory_tells_what_a_step_did() {
    let world = World::new();
    let layers = [world.layer(STEP)];
    let view = View::new(&world.store, &layers, "base");
    let excluded = [ImagePath::clean("/mnt")];
    for (name, step, expected) in UPPER_CASES {
        let upper = world.store.temporary_directory().unwrap();
        let mut table = SideTable::default();
        let encoding = OwnerEncoding::Recorded;
        prepare_upper(upper.path(), encoding, &mut table, &view).unwrap();
        step(upper.path());
        let mut lines = Lines::default();
        let (store, path) = (&world.store, upper.path());
        overlay_changes(store, path, encoding, &table, &view, &excluded, &mut lines).unwrap();
        assert_eq!(lines.0, *expected, "{name}");
    }
}

#[test]
fn an_adopted_upper_directory_is_the_layer() {
    let world = World::new();
    let base = world.layer(STEP);
    let top = world.layer(&["f new 644 0 n"]);
    let upper = world.store.root().join("tmp/upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("marker"), "").unwrap();
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o555)).unwrap();
    let lowers = world.with(OwnerEncoding::Recorded, |layouts| {
        let table = SideTable::default();
        let below = std::slice::from_ref(&base);
        layouts.adopt(below, &top, &upper, &table).unwrap();
        layouts.lowers(&[base.clone(), top.clone()]).unwrap()
    });
    assert!(!upper.exists() && lowers[1].tree.join("marker").exists());
}

/// One random edit of a root; `plain` for what an overlay mount can do as well.
fn edit(root: &Path, (what, place, other): (u8, usize, usize), plain: bool) {
    const NAMES: [&str; 8] = ["d", "d/e", "d/e/f", "d/g", "file", "one", "two", "d/new"];
    let path = root.join(NAMES[place % NAMES.len()]);
    let second = root.join(NAMES[other % NAMES.len()]);
    // Whatever fails does nothing: a random edit may make no sense.
    let _ = match what {
        0 => fs::write(&path, format!("text {other}")),
        1 => fs::remove_file(&path),
        2 => fs::remove_dir_all(&path),
        3 => fs::create_dir(&path),
        // Overlay mounts don't rename the directories of lower layers, programs copy them then.
        4 if path.is_dir() && plain => Ok(()),
        4 => fs::rename(&path, &second),
        // Nor do they keep the names of a lower layer's file together.
        5 if plain => Ok(()),
        5 => fs::hard_link(&path, &second),
        6 => symlink("target", &path),
        _ => match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_symlink() => fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o700 | (other as u32 % 64)),
            ),
            _ => Ok(()),
        },
    };
}

#[test]
fn capabilities_are_set_or_handed_over_and_found_again() {
    let world = World::new();
    let plain = [vec![1, 0, 0, 2], vec![0; 16]].concat();
    let mut entry = Entry::file(ImagePath::clean("tool"), 0, 0o755, Timestamp::default());
    let name = b"security.capability";
    entry.xattrs.insert(name.to_vec(), plain.clone());
    let mut writer = LayerWriter::new(&world.store, &options()).unwrap();
    writer.append(&entry, None).unwrap();
    let layers = [made(writer)];
    let view = View::new(&world.store, &layers, "base");
    for encoding in encodings() {
        let handed = std::cell::RefCell::new(Vec::new());
        let interrupt = Interrupt::default();
        let root = world.home.path().join(format!("{encoding:?}"));
        fs::create_dir(&root).unwrap();
        let mut table = SideTable::default();
        let layouts = Layouts {
            store: &world.store,
            source: None,
            encoding: *encoding,
            capabilities: &|_, all| {
                handed.borrow_mut().extend_from_slice(all);
                Ok(())
            },
            replacements: None,
            interrupt: &interrupt,
        };
        layouts.apply(&[], &layers, &root, &mut table).unwrap();
        let mut lines = Lines::default();
        let (store, path) = (&world.store, root.as_path());
        overlay_changes(store, path, *encoding, &table, &view, &[], &mut lines).unwrap();
        if *encoding == OwnerEncoding::Recorded {
            // Nobody set it: the file differs.
            assert_eq!(handed.take(), [(entry.path.clone(), plain.clone())]);
            assert_eq!(lines.0, ["/tool file \"\" 755 0:0"]);
        } else {
            assert_eq!((handed.take(), lines.0), (vec![], vec![]));
        }
        interrupt.set();
        let again = layouts.apply(&layers, &layers, &root, &mut table);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Interrupted);
    }
}

#[test]
fn a_directory_takes_the_place_of_a_link_even_where_its_content_comes_first() {
    let world = World::new();
    let layers = [
        world.foreign(&[(b'2', "d", "/etc", "")]),
        world.foreign(&[(b'0', "d/f", "", "x"), (b'5', "d/", "", "")]),
    ];
    let encoding = OwnerEncoding::Recorded;
    let (root, table) = world.root("root", &layers, encoding);
    let expected = ["/d dir 755 0:0 now", "/d/f file \"x\" 755 0:0 now"];
    assert_eq!(shown(&root, encoding, &table), expected);
    let lowers = world.with(encoding, |layouts| layouts.lowers(&layers).unwrap());
    assert_eq!(shown(&lowers[1].tree, encoding, &table), expected);
}

fn edits() -> impl proptest::strategy::Strategy<Value = Vec<Vec<(u8, usize, usize)>>> {
    let step = proptest::collection::vec((0_u8..8, 0_usize..8, 0_usize..64), 0..6);
    proptest::collection::vec(step, 1..4)
}

/// An overlay mount for as long as it lives.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// Mounts `lowers` and the directory `upper` of `place`; none where this user may not.
fn mount(lowers: &[LaidOut], place: &Path) -> Option<Mounted> {
    let trees: Vec<&str> = lowers
        .iter()
        .rev()
        .map(|lower| lower.tree.to_str().unwrap())
        .collect();
    let merged = place.join("merged");
    for folder in ["work", "merged"] {
        fs::create_dir(place.join(folder)).unwrap();
    }
    let data = format!(
        "userxattr,lowerdir={},upperdir={1}/upper,workdir={1}/work",
        trees.join(":"),
        place.display()
    );
    let data = std::ffi::CString::new(data).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", &merged, "overlay", flags, &*data).ok()?;
    Some(Mounted(merged))
}

/// Makes the same edits in a walked root and in overlay mounts, with a store each: the layers must be equal.
fn compare_drivers(steps: &[Vec<(u8, usize, usize)>], encoding: OwnerEncoding) {
    let mut options = options();
    options.epoch = Some(Timestamp::from_seconds(2_000_000));
    let (walked, mounted) = (World::new(), World::new());
    let base: Vec<&str> = STEP
        .iter()
        .copied()
        .filter(|line| !line.starts_with('h'))
        .collect();
    let mut layers = vec![walked.layer(&base)];
    let mut others = vec![mounted.layer(&base)];
    let (root, mut table) = walked.root("root", &layers, encoding);
    let mut snapshot = Snapshot::take(&walked.store, &root).unwrap();
    for step in steps {
        for one in step {
            edit(&root, *one, true);
        }
        let view = View::new(&walked.store, &layers, "base");
        let mut sink = Writing(LayerWriter::new(&walked.store, &options).unwrap());
        let store = &walked.store;
        snapshot = walk_changes(
            store,
            &root,
            &snapshot,
            encoding,
            &table,
            &view,
            &[],
            &mut sink,
        )
        .unwrap();
        layers.push(made(sink.0));

        let store = &mounted.store;
        let place = store.temporary_directory().unwrap();
        let upper = place.path().join("upper");
        fs::create_dir(&upper).unwrap();
        let view = View::new(store, &others, "base");
        prepare_upper(&upper, encoding, &mut table, &view).unwrap();
        let lowers = mounted.with(encoding, |layouts| layouts.lowers(&others).unwrap());
        let Some(merged) = mount(&lowers, place.path()) else {
            return;
        };
        for one in step {
            edit(&merged.0, *one, true);
        }
        drop(merged);
        let mut sink = Writing(LayerWriter::new(store, &options).unwrap());
        overlay_changes(store, &upper, encoding, &table, &view, &[], &mut sink).unwrap();
        let made = made(sink.0);
        let same = layers
            .last()
            .is_some_and(|other| other.diff_id == made.diff_id);
        assert!(
            same,
            "{:?}\n{:?}",
            index_of(&walked, layers.last().unwrap()),
            index_of(&mounted, &made)
        );
        mounted.with(encoding, |layouts| {
            layouts.adopt(&others, &made, &upper, &table).unwrap();
        });
        others.push(made);
    }
}

fn index_of(world: &World, layer: &Layer) -> Vec<String> {
    let index = crate::layer::LayerIndex::open(&world.store, &layer.diff_id);
    let index = index.unwrap().unwrap();
    let records = index.iter().map(|record| {
        let record = record.unwrap();
        format!(
            "{:?} {} {}",
            record.mark,
            record.implicit,
            line(&record.entry, None)
        )
    });
    records.collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn both_drivers_make_the_same_layer(steps in edits()) {
        if is_root() {
            compare_drivers(&steps, OwnerEncoding::Native);
            compare_drivers(&steps, OwnerEncoding::Recorded);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn changes_on_top_of_the_base_give_the_same_tree(
        steps in edits(),
    ) {
        let world = World::new();
        let encoding = OwnerEncoding::Recorded;
        let mut layers = vec![world.layer(STEP)];
        let (root, table) = world.root("root", &layers, encoding);
        let mut snapshot = Snapshot::take(&world.store, &root).unwrap();
        for step in &steps {
            for one in step {
                edit(&root, *one, false);
            }
            let view = View::new(&world.store, &layers, "base");
            let mut sink = Writing(LayerWriter::new(&world.store, &options()).unwrap());
            let store = &world.store;
            snapshot =
                walk_changes(store, &root, &snapshot, encoding, &table, &view, &[], &mut sink)
                    .unwrap();
            layers.push(made(sink.0));
        }
        let (again, other) = world.root("again", &layers, encoding);
        let group = |root: &Path| {
            let inode = |name| fs::symlink_metadata(root.join(name)).ok().map(|found| found.ino());
            inode("one") == inode("two") && inode("one").is_some()
        };
        // A directory in which something came and went has another time, and that alone is no change.
        let shown = |root: &Path, table: &SideTable| {
            let timeless = |line: String| match line.rsplit_once(' ') {
                Some((rest, _)) if line.contains(" dir ") => rest.to_owned(),
                _ => line,
            };
            let lines = shown(root, encoding, table);
            lines.into_iter().map(timeless).collect::<Vec<_>>()
        };
        assert_eq!(shown(&root, &table), shown(&again, &other));
        if group(&again) {
            assert!(group(&root));
        }
    }
}

/// Whatever a layer says of modes and capabilities, its user can read and write the files on the disk, no file there
/// gives rights, and the image has what was said.
#[test]
fn where_all_is_recorded_the_disk_asks_for_nothing() {
    let world = World::new();
    let layer = world.layer(&[
        "f capable 755 0 x",
        "d locked 0 5",
        "f locked/secret 0 6 s",
        "c null 1 3",
        "p pipe 7",
        "d shared 2775 0",
        "f su 4755 0 x",
        "d tmp 1777 0",
    ]);
    let encoding = OwnerEncoding::Complete;
    let (root, table) = world.root("root", std::slice::from_ref(&layer), encoding);
    let capability = crate::layer::header::capability(&[
        1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let value = capability.unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(
        root.join("capable"),
        crate::owners::CAPABILITIES,
        &value,
        flags,
    )
    .unwrap();
    for (path, on_disk) in [
        ("locked", 0o700),
        ("locked/secret", 0o600),
        ("shared", 0o775),
        ("tmp", 0o777),
        ("su", 0o755),
        ("pipe", 0o640),
        ("null", 0o620),
    ] {
        let found = fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!(found.mode() & 0o7777, on_disk, "{path}");
    }
    let lines = shown(&root, encoding, &table);
    for expected in [
        "/locked dir 0 5:0",
        "/locked/secret file \"s\" 0 6:0",
        "/shared dir 2775 0:0",
        "/tmp dir 1777 0:0",
        "/su file \"x\" 4755 0:0",
        "/pipe Fifo 640 7:0",
        "/null CharDevice { major: 1, minor: 3 } 620 0:5",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected}: {lines:#?}"
        );
    }
    let looker = Looker {
        encoding,
        table: &table,
    };
    let open = fs::File::open(&root).unwrap();
    let stat = rustix::fs::statat(&open, c"capable", AtFlags::empty()).unwrap();
    let seen = looker.look(
        open.as_fd(),
        c"capable",
        &ImagePath::clean("/capable"),
        &stat,
    );
    assert_eq!(
        seen.unwrap().unwrap().entry.xattrs.values().next(),
        Some(&value)
    );
}
