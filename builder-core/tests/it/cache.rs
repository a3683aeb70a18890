//! The cache never answers with another step's result. Each variant of sources, destinations and flags is built alone in
//! a store of its own, which is the truth; then all in one store, forwards and backwards, and in empty stores that know
//! a shared cache. So is one instruction while its files change.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, and tells how much it tried"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use builder_core::build::request::{BuildRequest, ContextSource, NamedContext, RegistryAccess};
use builder_core::build::{self};
use builder_core::cache::shared::{CacheFrom, CacheMode, CacheTarget, CacheTo, Mounts};
use builder_core::event::Silent;
use builder_core::http::client::{Client, ClientOptions};
use builder_core::http::{Error as HttpError, Request, Response, Transport};
use builder_core::image::layout_source::Wanted;
use builder_core::interrupt::Interrupt;
use builder_core::output::{Destination, Output, OutputKind};
use builder_core::reference::Reference;
use builder_core::registry::RegistryOptions;
use builder_core::source::SourceFile;
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use tempfile::TempDir;
use test_support::archive::{Member, Packing, pack, tar};
use test_support::registry::Registry;
use test_support::tools::{is_long, is_root, skip};
use test_support::world::{MTIME, set_mode, set_mtime};

/// A server with a few files, of which the host `tagged` has entity tags.
#[derive(Debug)]
struct Server;

impl Transport for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let (host, path) = request.url["http://".len()..].split_once('/').unwrap();
        let body = match path {
            "" | "download" | "one" => b"one\n".to_vec(),
            "p.tgz" => packed(),
            _ => panic!("{}", request.url),
        };
        let tag = format!("\"{path}\"");
        let known = ("If-None-Match".to_owned(), tag.clone());
        let tagged = host == "tagged";
        let (status, body) = if tagged && request.headers.contains(&known) {
            (304, Vec::new())
        } else {
            (200, body)
        };
        let headers = tagged
            .then(|| ("etag".to_owned(), tag))
            .into_iter()
            .collect();
        Ok(Response {
            status,
            headers,
            body: Box::new(Cursor::new(body)),
        })
    }
}

/// An archive that is the directory `packed`, which holds the file `one`.
fn packed() -> Vec<u8> {
    pack(Packing::Gzip, &tar(&[Member::file("one", "one\n")]))
}

/// A context, a base, and an image of the context.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (path, text) in [
            ("context/app/one", "one\n"),
            ("context/a/one", "one\n"),
            ("context/one", "one\n"),
            ("context/two", "one\n"),
            ("context/d/0", "zero"),
            ("context/d/0.d/0", "zero"),
            ("context/n/one/one", "one\n"),
            ("context/hard/x", "x"),
            ("context/soft/x", "x"),
            ("context/soft/y", "x"),
            ("context/mode/one", "one\n"),
            ("context/marker/.wh.x", ""),
            ("context/odd/name with blank", "b"),
            ("context/odd/name", "b"),
            ("context/odd/with", "b"),
            ("context/odd/blank", "b"),
            ("context/way/dir", "a file"),
            ("context/deep/dir/dir", "a file"),
            ("base/dir/old", "old"),
            ("base/file", "file"),
            ("base/usr/lib/old", "old"),
            ("base/deep/dir/dir/old", "old"),
            ("base/etc/passwd", "root:x:0:0::/:\napp:x:7:8::/:\n"),
            ("base/etc/group", "root:x:0:\nstaff:x:9:\n"),
        ] {
            place.write(path, text);
        }
        let context = place.path("context");
        fs::create_dir(context.join("empty")).unwrap();
        fs::hard_link(context.join("hard/x"), context.join("hard/y")).unwrap();
        set_mode(&context.join("mode/one"), 0o4711);
        symlink("app/one", context.join("link")).unwrap();
        symlink("app", context.join("linked")).unwrap();
        symlink("usr/lib", place.path("base/lib")).unwrap();
        symlink("dir", place.path("base/link")).unwrap();
        symlink("file", place.path("base/file-link")).unwrap();
        symlink("circle", place.path("base/circle")).unwrap();
        place.archives();
        fs::create_dir(context.join("special")).unwrap();
        drop(UnixListener::bind(context.join("special/socket")).unwrap());
        settle(place.folder.path());
        place.image();
        // What was changed a moment ago is read again: the index is to be asked.
        thread::sleep(Duration::from_millis(30));
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn archives(&self) {
        self.write("context/pack/p.tgz", packed());
        self.write("context/p.tgz", packed());
        // With the mode of what comes from a URL, and one of the same bytes under another name.
        set_mode(&self.path("context/p.tgz"), 0o600);
        self.write("context/pack.txt", packed());
        let told = [
            Member {
                mode: 0o700,
                ..Member::directory("lib")
            },
            Member::file("lib/one", "one\n"),
        ];
        self.write("context/told.tar", tar(&told));
        self.write(
            "context/implied.tar",
            tar(&[Member::file("lib/one", "one\n")]),
        );
    }

    /// Writes an image of the context, for sources that are layers from elsewhere.
    fn image(&self) {
        let mut request = self.request("FROM scratch\nCOPY --exclude=marker . /\n");
        request.named_contexts.clear();
        request.outputs.push(Output {
            kind: OutputKind::OciDirectory,
            destination: Destination::Path {
                path: self.path("image"),
                replace: true,
            },
        });
        let store = Store::open(&self.path("image-store")).unwrap();
        build::build(&store, request, &Silent, &Interrupt::default()).unwrap();
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        let context = ContextSource::Directory {
            path: self.path("context"),
            ignore_files: Vec::new(),
        };
        let now = Timestamp::from_seconds(MTIME + 5);
        let file = SourceFile::new("Dockerfile", dockerfile.to_owned());
        let mut request = BuildRequest::new(file, context, now);
        let layout = NamedContext::Layout {
            path: self.path("image"),
            wanted: Wanted::default(),
        };
        request.named_contexts = BTreeMap::from([
            (
                "base".to_owned(),
                NamedContext::Directory(self.path("base")),
            ),
            (
                "named".to_owned(),
                NamedContext::Directory(self.path("context")),
            ),
            ("image".to_owned(), layout),
        ]);
        request.transport = Some(Arc::new(Server));
        request
    }

    /// What a Dockerfile gives in a store: the image, or the refusal.
    fn build(&self, store: &Path, dockerfile: &str, caches: &Caches) -> String {
        let mut request = self.request(dockerfile);
        request.cache_from = caches.from.iter().cloned().collect();
        let to = caches.to.iter().map(|target| CacheTo {
            target: target.clone(),
            mode: CacheMode::Max,
            mounts: Mounts::None,
            ignore_error: false,
            ignore_existing: false,
        });
        request.cache_to = to.collect();
        if caches.network {
            request.transport = Some(Arc::new(Client::new(&ClientOptions::default()).unwrap()));
            request.registry = Some(RegistryAccess {
                options: RegistryOptions::default(),
                credentials: Arc::new(|_| None),
            });
        }
        let store = Store::open(store).unwrap();
        match build::build(&store, request, &Silent, &Interrupt::default()) {
            Ok(built) => built.digest.to_string(),
            Err(error) => format!("refused: {}", error.message()),
        }
    }

    /// The same in a store of its own.
    fn alone(&self, dockerfile: &str, caches: &Caches) -> String {
        let store = tempfile::tempdir_in(self.folder.path()).unwrap();
        self.build(store.path(), dockerfile, caches)
    }
}

/// The caches of other machines.
#[derive(Default)]
struct Caches {
    from: Option<CacheFrom>,
    to: Option<CacheTarget>,
    network: bool,
}

/// Gives everything one time, directories after what is in them.
fn settle(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            settle(&entry.path());
        }
        if kind.is_symlink() {
            let _ = fs::symlink_metadata(entry.path()).unwrap();
            let time = rustix::fs::Timespec {
                tv_sec: MTIME,
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, nofollow).unwrap();
        } else {
            set_mtime(&entry.path(), MTIME);
        }
    }
}

/// What is copied: the words of an instruction, and what follows it.
const SOURCES: &[(&str, &str)] = &[
    ("app/one", ""),
    ("app", ""),
    (".", ""),
    ("/", ""),
    ("app/*", ""),
    ("ap*/one", ""),
    ("a/one", ""),
    ("one", ""),
    ("one two", ""),
    ("two one", ""),
    ("one one", ""),
    ("one app", ""),
    ("one empty", ""),
    ("empty", ""),
    ("nothing*", ""),
    ("nothing* one", ""),
    ("nothing", ""),
    ("empty empty", ""),
    ("d", ""),
    ("d/0", ""),
    ("d/0 d/0.d", ""),
    ("d/0.d", ""),
    ("n", ""),
    ("n/one", ""),
    ("n/./one", ""),
    ("./n/one/./one", ""),
    ("**/one", ""),
    ("link", ""),
    ("linked", ""),
    ("pack", ""),
    ("pack/p.tgz", ""),
    ("p.tgz", ""),
    ("pack.txt", ""),
    ("p.tgz one", ""),
    ("told.tar", ""),
    ("implied.tar", ""),
    ("told.tar implied.tar", ""),
    ("hard", ""),
    ("hard/x hard/y", ""),
    ("soft", ""),
    ("soft/x soft/y", ""),
    ("mode/one", ""),
    ("mode", ""),
    ("marker", ""),
    ("special", ""),
    ("special/socket", ""),
    ("special/socket one", ""),
    ("way", ""),
    ("deep", ""),
    ("odd/name odd/with odd/blank", ""),
    ("<<one", "one\none\n"),
    ("<<one <<two", "one\none\none\ntwo\n"),
    ("one <<two", "one\ntwo\n"),
];

/// Where it goes.
const DESTINATIONS: &[&str] = &[
    "/t",
    "/t/",
    "/link",
    "/",
    "/dir",
    "/dir/",
    "/file",
    "/file/",
    "/file/x",
    "/link/",
    "/lib",
    "/file-link",
    "/t/../u",
    "/new/t",
    "/circle",
    "/deep",
];

/// How.
const FLAGS: &[&str] = &[
    "",
    "--link",
    "--parents",
    "--parents --link",
    "--exclude=one",
    "--exclude=marker",
    "--exclude=o* --link",
    "--exclude=one --exclude=0",
    "--chown=1",
    "--chown=1:1",
    "--chown=1:2 --link",
    "--chown=app",
    "--chown=app --link",
    "--chown=:staff",
    "--chown=nobody",
    "--chmod=700",
    "--chmod=755 --link",
    "--chmod=u+x",
    "--chmod=go=u,u-x",
];

/// Whence: what stands before the instruction, and the instruction.
const ORIGINS: &[(&str, &str)] = &[
    ("", "COPY"),
    ("", "ADD"),
    ("", "ADD --unpack=true"),
    ("", "ADD --unpack=false"),
    ("", "COPY --from=named"),
    ("", "COPY --from=image"),
    (
        "FROM scratch AS stage\nCOPY --exclude=marker . /\n",
        "COPY --from=stage",
    ),
];

/// Those that are tried with all sources even in a short test.
const ALIKE: &[&str] = &["COPY", "ADD", "COPY --from=stage"];

/// Sources of ADD that are elsewhere.
const URLS: &[&str] = &[
    "http://tagged/one",
    "http://plain/one",
    "http://plain/download",
    "http://plain/",
    "http://tagged/p.tgz",
    "http://plain/p.tgz",
    "http://plain/p.tgz p.tgz",
    "http://plain/one one",
];

/// SHA-256 of what is at most of them, and of something else.
const SUMS: &[&str] = &[
    "",
    "--checksum=sha256:2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806",
    "--checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000",
];

/// The Dockerfiles: all of them, or, in a test that is not to take minutes, those that are most like each other, and each
/// `step`th of the others.
fn variants(step: usize) -> Vec<String> {
    let (mut all, mut others) = (Vec::new(), 0);
    let mut push = |alike: bool, before: &str, line: String, after: &str| {
        others += usize::from(!alike);
        if is_long() || alike || others % step == 0 {
            all.push(format!("{before}FROM base\n{line}\n{after}"));
        }
    };
    for (number, destination) in DESTINATIONS.iter().enumerate() {
        let plain = number < 2;
        // All flags with a few destinations, and all destinations without.
        let flags = if plain { FLAGS } else { &FLAGS[..1] };
        for flags in flags {
            for (source, after) in SOURCES {
                for (before, word) in ORIGINS {
                    if word.contains("--from") && source.contains("<<") {
                        continue;
                    }
                    let alike = plain && flags.is_empty() && ALIKE.contains(word);
                    let line = format!("{word} {flags} {source} {destination}");
                    push(alike, before, line, after);
                }
            }
        }
        for url in URLS {
            for sum in SUMS {
                for flags in ["", "--link", "--unpack=true", "--chmod=644", "--chown=1:2"] {
                    let line = format!("ADD {sum} {flags} {url} {destination}");
                    push(plain && flags.is_empty(), "", line, "");
                }
            }
        }
    }
    for line in [
        "WORKDIR /t",
        "WORKDIR /t/",
        "WORKDIR /link/x",
        "WORKDIR /file",
        "USER app\nWORKDIR /t",
        "USER 7\nWORKDIR /t",
        "USER nobody\nWORKDIR /t",
    ] {
        push(true, "", line.to_owned(), "");
    }
    for (before, line) in [("", "FROM named"), ("", "FROM scratch\nCOPY . /")] {
        push(true, before, line.to_owned(), "");
    }
    all
}

/// Builds each file, on the threads that the machine has.
fn on_all_threads(files: &[String], work: impl Fn(&str) -> String + Sync) -> Vec<String> {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let size = files.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts = files.chunks(size).map(|part| {
            let work = &work;
            scope.spawn(move || part.iter().map(|file| work(file)).collect::<Vec<_>>())
        });
        let parts: Vec<_> = parts.collect();
        let done = parts.into_iter().flat_map(|part| part.join().unwrap());
        done.collect()
    })
}

/// Says which builds gave something else than they do alone.
#[track_caller]
fn compare(how: &str, files: &[String], found: &[String], truth: &[String]) {
    let differ = |number: &usize| found[*number] != truth[*number];
    let wrong: Vec<usize> = (0..files.len()).filter(differ).collect();
    for number in wrong.iter().take(20) {
        let (file, found, truth) = (&files[*number], &found[*number], &truth[*number]);
        println!("{how}: {file}  found {found}\n  alone {truth}\n");
    }
    assert!(
        wrong.is_empty(),
        "{how}: {} of {} wrong",
        wrong.len(),
        files.len()
    );
}

#[test]
fn no_step_has_the_result_of_another() {
    let (place, none) = (Place::new(), Caches::default());
    let files = variants(211);
    let truth = on_all_threads(&files, |file| place.alone(file, &none));
    let refused = truth
        .iter()
        .filter(|one| one.starts_with("refused"))
        .count();
    println!("{} variants, of which {refused} are refused", files.len());
    assert!(refused * 10 > files.len() && refused * 4 < files.len() * 3);
    let shared = place.path("shared");
    let exporting = Caches {
        to: Some(CacheTarget::Local(shared.clone())),
        ..Caches::default()
    };
    let store = place.path("store");
    let in_one = |file: &String, caches: &Caches| place.build(&store, file, caches);
    let forwards: Vec<String> = files.iter().map(|file| in_one(file, &exporting)).collect();
    compare("forwards", &files, &forwards, &truth);
    let backwards = files.iter().rev().map(|file| in_one(file, &none));
    let mut backwards: Vec<String> = backwards.collect();
    backwards.reverse();
    compare("backwards", &files, &backwards, &truth);
    let importing = Caches {
        from: Some(CacheFrom::Local(shared, Mounts::None)),
        ..Caches::default()
    };
    let elsewhere = on_all_threads(&files, |file| place.alone(file, &importing));
    compare("from a directory", &files, &elsewhere, &truth);
}

#[test]
fn no_registry_gives_the_result_of_another_step() {
    let place = Place::new();
    // Its server is the registry: URLs lead nowhere. A part is enough, since records are the same as elsewhere.
    let files = variants(211).into_iter();
    let files: Vec<String> = files.filter(|file| !file.contains("http://")).collect();
    let files: Vec<String> = files
        .into_iter()
        .step_by(if is_long() { 49 } else { 7 })
        .collect();
    let truth = on_all_threads(&files, |file| place.alone(file, &Caches::default()));
    let registry = Registry::start();
    let reference: Reference = format!("{}/team/cache:main", registry.name())
        .parse()
        .unwrap();
    let exporting = Caches {
        to: Some(CacheTarget::Registry(reference.clone())),
        network: true,
        ..Caches::default()
    };
    let store = place.path("store");
    for file in &files {
        place.build(&store, file, &exporting);
    }
    let importing = Caches {
        from: Some(CacheFrom::Registry(reference, Mounts::None)),
        network: true,
        ..Caches::default()
    };
    let elsewhere: Vec<String> = files
        .iter()
        .map(|file| place.alone(file, &importing))
        .collect();
    compare("from a registry", &files, &elsewhere, &truth);
}

/// What is done to the file `one` of a context; its time and its length stay.
type Edit = (&'static str, fn(&Path));

const EDITS: &[Edit] = &[
    ("nothing", |_| ()),
    ("other bytes", |one| fs::write(one, "two\n").unwrap()),
    ("another file of equal length", |one| {
        let new = one.with_extension("new");
        fs::write(&new, "six\n").unwrap();
        fs::rename(new, one).unwrap();
    }),
    ("a mode", |one| set_mode(one, 0o750)),
    ("set-user-ID", |one| set_mode(one, 0o4750)),
    ("another name beside it", |one| {
        fs::hard_link(one, one.with_extension("hard")).unwrap();
    }),
    ("a copy instead of the name", |one| {
        let hard = one.with_extension("hard");
        fs::remove_file(&hard).unwrap();
        fs::copy(one, &hard).unwrap();
    }),
    ("the copy gone", |one| {
        fs::remove_file(one.with_extension("hard")).unwrap();
    }),
    ("a link", |one| {
        fs::remove_file(one).unwrap();
        symlink("targ", one).unwrap();
    }),
    ("a link elsewhere", |one| {
        fs::remove_file(one).unwrap();
        symlink("grat", one).unwrap();
    }),
    ("a directory", |one| {
        fs::remove_file(one).unwrap();
        fs::create_dir(one).unwrap();
    }),
    ("a file in it", |one| {
        fs::write(one.join("one"), "one\n").unwrap();
    }),
    ("a socket", |one| {
        fs::remove_dir_all(one).unwrap();
        drop(UnixListener::bind(one).unwrap());
    }),
    ("a pipe", |one| {
        fs::remove_file(one).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, one, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }),
    ("a file again", |one| {
        fs::remove_file(one).unwrap();
        fs::write(one, "one\n").unwrap();
    }),
];

/// `cap_net_raw+ep` and `cap_net_admin+ep`, as a file has them (capabilities(7), version 2).
const RAW: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const ADMIN: &[u8] = &[
    1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn set_capability(one: &Path, value: &[u8]) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(one, "security.capability", value, flags).unwrap();
}

/// Needs root.
const CAPABILITIES: &[Edit] = &[
    ("a capability", |one| set_capability(one, RAW)),
    ("another capability", |one| set_capability(one, ADMIN)),
    ("no capability", |one| {
        rustix::fs::removexattr(one, "security.capability").unwrap();
    }),
    ("the first capability", |one| set_capability(one, RAW)),
    ("other bytes without it", |one| {
        fs::write(one, "two\n").unwrap();
    }),
];

/// The instructions that are executed while their files change.
const LINES: &[&str] = &[
    "COPY app /t/",
    "COPY --link app /t/",
    "COPY --from=named app /t/",
    "COPY --from=named --link app /t/",
    "COPY --parents app /t/",
    "COPY --exclude=x app /t/",
    "COPY --chown=5:6 app /t/",
    "COPY app/* /t/",
    "COPY app/one /t",
    "ADD app /t/",
    "ADD --link app/one /t",
    "ADD app/one http://tagged/download /t/",
];

#[test]
fn a_change_of_a_file_is_noticed() {
    let mut edits: Vec<&Edit> = EDITS.iter().collect();
    if is_root() {
        edits.extend(CAPABILITIES);
    } else {
        skip("file capabilities are set by root only");
    }
    let (place, none) = (Place::new(), Caches::default());
    let one = place.path("context/app/one");
    let mut seen = vec![BTreeMap::new(); LINES.len()];
    for (name, edit) in edits {
        edit(&one);
        settle(&place.path("context"));
        thread::sleep(Duration::from_millis(30));
        for (number, line) in LINES.iter().enumerate() {
            let file = format!("FROM scratch\n{line}\n");
            let truth = place.alone(&file, &none);
            let store = place.path(&format!("store{number}"));
            // Twice: first with what the index vouched for before, then with what it learnt.
            for _ in 0..2 {
                assert_eq!(place.build(&store, &file, &none), truth, "{line}: {name}");
            }
            *seen[number].entry(truth).or_insert(0) += 1;
        }
    }
    // The files do differ: no two edits look alike by accident.
    for (line, seen) in LINES.iter().zip(seen) {
        assert!(seen.len() > 8, "{line}: {seen:?}");
    }
}

#[test]
fn a_mode_of_the_base_counts() {
    let (place, none) = (Place::new(), Caches::default());
    let store = place.path("store");
    let file = "FROM base\nCOPY one /dir/x/y\n";
    for mode in [0o755, 0o700, 0o1777] {
        let directory = place.path("base/dir");
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        thread::sleep(Duration::from_millis(30));
        let truth = place.alone(file, &none);
        assert_eq!(place.build(&store, file, &none), truth, "{mode:o}");
    }
}
