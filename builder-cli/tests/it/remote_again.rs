//! ADD of what is elsewhere, for the second time: what the server and git are asked, by the server's log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use test_support::archive::{Member, tar};
use test_support::tarball::{Image, digest};
use test_support::tools::{require, run};
use test_support::world::{World, set_mode};

use crate::remote::repository;
use crate::world;

const TAG: &str = "ETag: \"one\"";
const DATES: &str =
    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT";

/// What a path has: its headers, and its bytes.
type Page = (String, Vec<u8>);

#[derive(Default)]
struct State {
    pages: BTreeMap<String, Page>,
    /// What replaces all pages after the next answer.
    then: Option<BTreeMap<String, Page>>,
    /// Each request: its path, `?` for a condition, and the status of the answer.
    log: Vec<String>,
}

/// A server that knows conditional requests.
struct Site {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let own = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut own.lock().unwrap());
            }
        });
        Self { url, state }
    }

    fn put(&self, path: &str, headers: &str, body: impl AsRef<[u8]>) {
        let page = (headers.to_owned(), body.as_ref().to_vec());
        let mut state = self.state.lock().unwrap();
        state.pages.insert(path.to_owned(), page);
    }

    /// What was asked since the last time.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

fn answer(mut stream: TcpStream, state: &mut State) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else {
        return;
    };
    let asked = |name: &str| {
        let mut found = head.iter().filter_map(|line| line.split_once(": "));
        found.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    };
    let (tag, date) = (asked("If-None-Match"), asked("If-Modified-Since"));
    let page = state.pages.get(path).cloned();
    let has = |name: &str, value: Option<&str>| {
        let (headers, _) = page.as_ref()?;
        Some(headers.contains(&format!("{name}: {}", value?)))
    };
    let same = has("ETag", tag).or_else(|| has("Last-Modified", date)) == Some(true);
    let (status, headers, body) = match &page {
        None => ("404 Not Found", "X-A: b", &[][..]),
        Some((headers, _)) if headers.starts_with("Location") => ("302 Found", &**headers, &[][..]),
        Some((headers, _)) if same => ("304 Not Modified", &**headers, &[][..]),
        Some((headers, body)) => ("200 OK", &**headers, &**body),
    };
    let mark = if tag.or(date).is_some() { " ?" } else { "" };
    state.log.push(format!("{path}{mark} {}", &status[..3]));
    let length = match &status[..3] {
        "304" => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}\r\n{length}Connection: close\r\n\r\n");
    // Who has heard enough goes away.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    if let Some(then) = state.then.take() {
        state.pages = then;
    }
}

/// Builds a Dockerfile of one ADD. What was told, and the image.
fn add(world: &World, flags: &str, words: &str) -> (String, Image) {
    world.write("context/Dockerfile", format!("FROM scratch\nADD {words}\n"));
    let outcome = world.line(&format!("-t a {flags} @/context")).exits(0);
    (outcome.stderr, Image::open(&world.path("out/a.tar")))
}

/// The same, with a step that hits or doesn't, and the digests of the layers.
fn layers(world: &World, words: &str, hits: bool) -> Vec<String> {
    let (told, image) = add(world, "", words);
    assert_eq!(told.contains("] cached"), hits, "{words}\n{told}");
    image.blobs.iter().map(|blob| digest(blob)).collect()
}

#[test]
fn what_is_unchanged_is_not_downloaded() {
    let both = format!("{TAG}\r\n{DATES}");
    for headers in [TAG, "ETag: W/\"one\"", DATES, &both] {
        let (mut world, site) = (world(), Site::new());
        site.put("/f.txt", headers, "hello");
        let words = format!("{}/f.txt /", site.url);
        let first = layers(&world, &words, false);
        assert_eq!(site.log(), ["/f.txt 200"], "{headers}");
        for _ in 0..2 {
            assert_eq!(layers(&world, &words, true), first, "{headers}");
            assert_eq!(site.log(), ["/f.txt ? 304"], "{headers}");
        }
        // No look at the cache, and no word of it to the server; what is learnt is kept.
        add(&world, "--no-cache", &words);
        assert_eq!(site.log(), ["/f.txt 200"], "{headers}");
        let why = world.line("why @/context").exits(0);
        assert!(!why.stderr.contains("ADD"), "{}", why.stderr);
        assert_eq!(site.log(), ["/f.txt ? 304"], "{headers}");
        // A damaged memo is none.
        for memo in fs::read_dir(world.path("store/cache/urls")).unwrap() {
            fs::write(memo.unwrap().path(), "{\"name\":1}").unwrap();
        }
        assert_eq!(layers(&world, &words, true), first, "{headers}");
        assert_eq!(site.log(), ["/f.txt 200"], "{headers}");
        let epoch = "--source-date-epoch 1700000001";
        let (_, warm) = add(&world, epoch, &words);
        world.set("RBUILD_ROOT", world.path("other"));
        let (_, cold) = add(&world, epoch, &words);
        assert_eq!(cold.digest, warm.digest, "{headers}");
        assert_eq!(site.log(), ["/f.txt ? 304", "/f.txt 200"], "{headers}");
        world.set("RBUILD_ROOT", world.path("third"));
        assert_eq!(layers(&world, &words, false), first, "{headers}");
    }
}

#[test]
fn what_has_changed_is_downloaded() {
    let (world, site) = (world(), Site::new());
    let words = format!("{}/f.txt /", site.url);
    site.put("/f.txt", TAG, "hello");
    let first = layers(&world, &words, false);
    site.put("/f.txt", "ETag: \"two\"", "world");
    site.log();
    assert_ne!(layers(&world, &words, false), first);
    assert_eq!(site.log(), ["/f.txt ? 200"]);
    assert_eq!(
        Image::open(&world.path("out/a.tar")).text("/f.txt"),
        "world"
    );
    layers(&world, &words, true);
    assert_eq!(site.log(), ["/f.txt ? 304"]);
    // Other headers, the same bytes: downloaded, and found.
    site.put("/f.txt", "ETag: \"three\"", "hello");
    assert_eq!(layers(&world, &words, true), first);
    assert_eq!(site.log(), ["/f.txt ? 200"]);
}

#[test]
fn a_server_that_names_nothing_is_asked_for_all_of_it() {
    let (world, site) = (world(), Site::new());
    let words = format!("{}/f.txt /", site.url);
    for headers in [
        "X-A: b",
        "ETag: bare",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
    ] {
        site.put("/f.txt", headers, headers);
        for hits in [false, true, true] {
            layers(&world, &words, hits);
            assert_eq!(site.log(), ["/f.txt 200"], "{headers}");
        }
    }
}

#[test]
fn a_step_that_misses_after_all_downloads_once() {
    let (world, site) = (world(), Site::new());
    site.put("/f.tar", TAG, tar(&[Member::file("in", "inside")]));
    let url = format!("{}/f.tar", site.url);
    layers(&world, &format!("{url} /d/"), false);
    site.log();
    for (flags, path, owner) in [
        ("--chown=5:6", "/d/f.tar", 5),
        ("--unpack=true", "/d/in", 0),
        ("--unpack=false --chown=7", "/d/f.tar", 7),
    ] {
        let words = format!("{flags} {url} /d/");
        let made = layers(&world, &words, false);
        assert_eq!(site.log(), ["/f.tar ? 304", "/f.tar 200"], "{flags}");
        let files = Image::open(&world.path("out/a.tar")).files();
        assert_eq!(files[path.as_bytes()].uid, owner, "{flags}");
        assert_eq!(layers(&world, &words, true), made, "{flags}");
        assert_eq!(site.log(), ["/f.tar ? 304"], "{flags}");
    }
    // Known memo, unknown list: what came is what the key is about.
    fs::remove_dir_all(world.path("store/cache/selections")).unwrap();
    layers(&world, &format!("{url} /d/"), true);
    assert_eq!(site.log(), ["/f.tar ? 304", "/f.tar 200"]);
}

#[test]
fn what_changes_after_it_was_asked_is_under_its_own_key() {
    let (world, site) = (world(), Site::new());
    let words = |flags: &str| format!("{flags} {}/f.txt /", site.url);
    site.put("/f.txt", TAG, "hello");
    let first = layers(&world, &words(""), false);
    let page = ("ETag: \"two\"".to_owned(), b"world".to_vec());
    site.state.lock().unwrap().then = Some([("/f.txt".to_owned(), page)].into());
    site.log();
    let text = || Image::open(&world.path("out/a.tar")).text("/f.txt");
    layers(&world, &words("--chown=5"), false);
    assert_eq!(site.log(), ["/f.txt ? 304", "/f.txt 200"]);
    assert_eq!(text(), "world");
    layers(&world, &words("--chown=5"), true);
    assert_eq!(text(), "world");
    // The old bytes were never kept under another owner.
    site.put("/f.txt", TAG, "hello");
    layers(&world, &words("--chown=5"), false);
    assert_eq!(text(), "hello");
    assert_eq!(layers(&world, &words(""), true), first);
}

#[test]
fn what_another_place_or_user_has_is_not_believed() {
    let (world, site) = (world(), Site::new());
    let text = || Image::open(&world.path("out/a.tar")).text("/f");
    for headers in [TAG, DATES] {
        site.put("/latest", "Location: /v1", "");
        site.put("/v1", headers, format!("one {headers}"));
        site.put("/v2", headers, format!("two {headers}"));
        let words = format!("{}/latest /f", site.url);
        layers(&world, &words, false);
        site.log();
        layers(&world, &words, true);
        assert_eq!(site.log(), ["/latest ? 302", "/v1 ? 304"]);
        site.put("/latest", "Location: /v2", "");
        layers(&world, &words, false);
        assert_eq!(
            site.log(),
            ["/latest ? 302", "/v2 ? 304", "/latest 302", "/v2 200"]
        );
        assert_eq!(text(), format!("two {headers}"));
    }
    for user in ["me:secret@", "me:other@", "me@"] {
        let url = site.url.replace("://", &format!("://{user}"));
        add(&world, "", &format!("{url}/v1 /f"));
        assert_eq!(site.log(), ["/v1 200"], "{user}");
    }
    let memos = fs::read_dir(world.path("store/cache/urls")).unwrap();
    let memos = memos.map(|memo| fs::read_to_string(memo.unwrap().path()).unwrap());
    let memos: Vec<String> = memos.collect();
    assert_eq!(memos.len(), 4);
    // `secret` in base64 stands in the header.
    for word in ["secret", "bWU6c2VjcmV0", "127.0.0.1"] {
        assert!(!memos.concat().contains(word), "{word}");
    }
}

#[test]
fn a_checksum_is_held_against_what_is_remembered() {
    let (world, site) = (world(), Site::new());
    site.put("/f.txt", TAG, "hello");
    let words = |sum: &str| format!("--checksum={sum} {}/f.txt /", site.url);
    let right = words(&digest(b"hello"));
    layers(&world, &right, false);
    layers(&world, &right, true);
    site.log();
    let wrong = words(&digest(b"world"));
    world.write("context/Dockerfile", format!("FROM scratch\nADD {wrong}\n"));
    world.line("-t a @/context").exits(4).says("checksum");
    assert_eq!(site.log(), ["/f.txt ? 304"]);
}

#[test]
fn a_url_beside_other_sources_is_downloaded_once() {
    let (world, site) = (world(), Site::new());
    site.put("/f.txt", TAG, "hello");
    world.write("context/own", "own");
    for hits in [false, true] {
        layers(&world, &format!("own {}/f.txt /d/", site.url), hits);
        assert_eq!(site.log(), ["/f.txt 200"]);
    }
    // Two URLs: one was changed, and the other is needed too.
    site.put("/g.txt", TAG, "more");
    let words = format!("{0}/f.txt {0}/g.txt /d/", site.url);
    layers(&world, &words, false);
    site.put("/g.txt", "ETag: \"two\"", "else");
    site.log();
    layers(&world, &words, false);
    assert_eq!(site.log(), ["/f.txt ? 304", "/g.txt ? 200", "/f.txt 200"]);
    layers(&world, &words, true);
    assert_eq!(site.log(), ["/f.txt ? 304", "/g.txt ? 304"]);
}

/// A world in which each call of git is written down: its command.
fn logged() -> World {
    let mut world = world();
    let git = require("git").unwrap();
    let log = world.path("calls");
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in -c|*=*) ;; *) echo $word >> {}; break;; esac; done\nexec {} \"$@\"\n",
        log.display(),
        git.display()
    );
    set_mode(&world.write("bin/git", script), 0o755);
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    world.set("PATH", path);
    world
}

fn calls(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("calls")).unwrap_or_default();
    let _ = fs::remove_file(world.path("calls"));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_commit_that_is_known_is_not_cloned() {
    if require("git").is_none() {
        return;
    }
    let mut world = logged();
    let (_daemon, url) = repository(&world);
    let work = world.path("work");
    let git = |words: &[&str]| {
        let user = ["-c", "user.name=a", "-c", "user.email=b"];
        let place = ["-C", work.to_str().unwrap()];
        let output = run(
            &require("git").unwrap(),
            &[&place[..], &user[..], words].concat(),
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["tag", "-m", "first", "v1"]);
    let id = git(&["rev-parse", "HEAD"]);
    let whole = layers(&world, &format!("{url} /g/"), false);
    assert!(calls(&world).contains(&"fetch".to_owned()));
    for reference in ["", "#main", "#v1", "?branch=main"] {
        let words = format!("{url}{reference} /g/");
        assert_eq!(layers(&world, &words, true), whole, "{reference}");
        assert_eq!(calls(&world), ["ls-remote"], "{reference}");
    }
    // The commit's whole id needs no question.
    for words in [
        format!("{url}#{id} /g/"),
        format!("--checksum={id} {url}#main /g/"),
    ] {
        assert_eq!(layers(&world, &words, true), whole, "{words}");
        assert_eq!(calls(&world), [""; 0], "{words}");
    }
    // Other files of the same commit, other owners, files of git's own: other keys.
    for words in [
        format!("{url}#main:s /g/"),
        format!("--chown=5 {url} /g/"),
        format!("--keep-git-dir {url} /g/"),
    ] {
        let made = layers(&world, &words, false);
        assert!(calls(&world).contains(&"fetch".to_owned()), "{words}");
        assert_ne!(made, whole, "{words}");
        assert_eq!(layers(&world, &words, true), made, "{words}");
        assert_eq!(calls(&world), ["ls-remote"], "{words}");
    }
    add(&world, "--no-cache", &format!("{url} /g/"));
    assert!(!calls(&world).contains(&"ls-remote".to_owned()));
    // A new commit is seen; the tag stays what it is.
    world.write("work/a", "changed");
    git(&[
        "commit",
        "-q",
        "-a",
        "-m",
        "d",
        "--date=2002-01-01T00:00:00Z",
    ]);
    layers(&world, &format!("{url}#main /g/"), false);
    let text = |path: &str| Image::open(&world.path("out/a.tar")).text(path);
    assert_eq!(text("/g/a"), "changed");
    assert_eq!(layers(&world, &format!("{url}#v1 /g/"), true), whole);
    // A reference that was never found to name the commit of `--checksum` is asked, and refused.
    let never = format!("FROM scratch\nADD --checksum={id} {url}#heads/main /g/\n");
    world.write("context/Dockerfile", never);
    world.line("-t a @/context").exits(4);
    // A new store's result is the same, and so is that of one that is told by another what the commit holds.
    let words = format!("{url}#v1 /g/");
    world.set("RBUILD_ROOT", world.path("other"));
    assert_eq!(layers(&world, &words, false), whole);
    add(&world, "--cache-to type=local,dest=@/shared", &words);
    calls(&world);
    world.set("RBUILD_ROOT", world.path("third"));
    let (_, image) = add(&world, "--cache-from type=local,src=@/shared", &words);
    assert_eq!(calls(&world), ["ls-remote"]);
    assert_eq!(digest(&image.blobs[0]), whole[0]);
}
