//! ADD of what is elsewhere: files behind URLs, and git repositories, from servers on the loopback address.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use test_support::archive::{Member, Packing, pack, tar};
use test_support::tarball::{Image, hex};
use test_support::tools::{require, run};
use test_support::world::World;

use crate::world;

/// Answers GET: `/f.txt`, `/moved` (to `/f.txt`), `/short` (ends before its length), contexts; `/silent` never ends;
/// 404 for the rest.
pub(crate) fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| answer(stream));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    lines.read_line(&mut line).unwrap();
    let mut header = String::new();
    while lines.read_line(&mut header).unwrap() > 2 {}
    let tar = || {
        tar(&[
            Member::file("Dockerfile", "FROM scratch\nCOPY . /t\n"),
            Member::file("other", "FROM scratch\nCOPY f /only\n"),
            Member::file("f", "one"),
            Member::file(".dockerignore", "f\n"),
        ])
    };
    let path = line.split(' ').nth(1).unwrap();
    let packed = match path {
        "/c.tar" => Some(tar()),
        "/c.tar.gz" => Some(pack(Packing::Gzip, &tar())),
        "/Dockerfile" => Some(b"FROM scratch\nCOPY f.txt /\nLABEL a=b\n".to_vec()),
        "/empty" => Some(b"FROM scratch\nLABEL a=b\n".to_vec()),
        "/noise" => Some(vec![0xfe, 0, 1, 2]),
        "/noise.gz" => Some(pack(Packing::Gzip, b"no tar")),
        "/locked" if header.contains("Basic bWU6c0BjcnQ=") => Some(tar()),
        _ => None,
    };
    if let Some(body) = packed {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream
            .write_all(&[head.as_bytes(), &body].concat())
            .unwrap();
        return;
    }
    let reply = match path {
        "/f.txt" => {
            "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n\r\nhello"
        }
        "/moved" => "HTTP/1.1 302 Found\r\nLocation: /f.txt\r\nContent-Length: 0\r\n\r\n",
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "/silent" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello";
            stream.write_all(head).unwrap();
            thread::sleep(Duration::from_secs(30));
            return;
        }
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    };
    stream.write_all(reply.as_bytes()).unwrap();
}

#[test]
fn a_url_becomes_a_file_with_the_server_s_time() {
    let (world, server) = (world(), serve());
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {server}/f.txt /d/\nADD {server}/moved /name\n"),
    );
    world.line("-t a @/context").exits(0);
    let files = Image::open(&world.path("out/a.tar")).files();
    for path in ["/d/f.txt", "/name"] {
        let file = &files[path.as_bytes()];
        assert_eq!((file.mode, file.mtime), (0o600, 784_111_777), "{path}");
    }
}

#[test]
fn a_download_that_is_not_what_it_should_be_is_an_error() {
    let (world, server) = (world(), serve());
    let other = hex(&[7; 32]);
    let secret = server.replace("://", "://me:secret@");
    for (line, words) in [
        (format!("ADD {server}/nothing /x"), "404"),
        (format!("ADD {server}/short /x"), "broke off"),
        (
            format!("ADD --checksum=sha256:{other} {secret}/f.txt /x"),
            "checksum",
        ),
    ] {
        world.write("context/Dockerfile", format!("FROM scratch\n{line}\n"));
        let outcome = world.line("-t a @/context").exits(4).says(words);
        let message = outcome.stderr.split("-->").next().unwrap();
        let said = message.split("error:").nth(1).unwrap();
        assert!(!said.contains("secret"), "{said}");
        assert!(!world.path("out/a.tar").exists());
    }
}

#[test]
fn a_tar_behind_a_url_is_the_context() {
    let (world, server) = (world(), serve());
    for name in ["c.tar", "c.tar.gz"] {
        world.line(&format!("-t a {server}/{name}")).exits(0);
        let image = Image::open(&world.path("out/a.tar"));
        let all = [
            "/t",
            "/t/.dockerignore",
            "/t/Dockerfile",
            "/t/f",
            "/t/other",
        ];
        assert_eq!(image.paths(), all, "{name}");
    }
    let line = format!("-t a -f other {server}/c.tar");
    world.line(&line).exits(0);
    assert_eq!(Image::open(&world.path("out/a.tar")).paths(), ["/only"]);
    let line = format!("-t a -f - {server}/c.tar");
    let outcome = world.line_with_input(&line, "FROM scratch\nCOPY f /own\n");
    outcome.exits(0);
    assert_eq!(Image::open(&world.path("out/a.tar")).paths(), ["/own"]);
    let line = format!("-t a -f nothing {server}/c.tar");
    world.line(&line).exits(3).says("no `nothing`");
}

#[test]
fn a_dockerfile_behind_a_url_has_no_context() {
    let (world, server) = (world(), serve());
    world.line(&format!("-t a {server}/empty")).exits(0);
    world
        .line(&format!("-t a -f x {server}/empty"))
        .exits(2)
        .says("`-f` names nothing");
    world.line(&format!("-t a {server}/Dockerfile")).exits(4);
}

#[test]
fn a_context_that_can_t_be_had_is_an_error() {
    let (world, server) = (world(), serve());
    for (path, words) in [
        ("nothing", "404"),
        ("noise", "neither a tar nor a Dockerfile"),
        ("noise.gz", "holds no tar"),
        ("short", "broke off"),
    ] {
        let line = format!("-t a {server}/{path}");
        world.line(&line).exits(4).says(words);
    }
}

#[test]
fn a_user_in_the_url_is_told_to_the_server_alone() {
    let (world, server) = (world(), serve());
    let with = |user: &str| server.replace("://", &format!("://{user}@"));
    world
        .line(&format!("-t a {}/locked", with("me:s%40crt")))
        .exits(0);
    let outcome = world.line(&format!("-t a {}/locked", with("me:wrong")));
    let outcome = outcome.exits(4).says("404");
    assert!(!outcome.stderr.contains("wrong"), "{}", outcome.stderr);
}

#[test]
fn a_named_context_may_be_elsewhere() {
    let (world, server) = (world(), serve());
    let file = "FROM base\nCOPY --from=base f /g\n";
    world.write("context/Dockerfile", file);
    let line = |path: &str| format!("-t a --build-context base={server}/{path} @/context");
    world.line(&line("c.tar.gz")).exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    let all = ["/.dockerignore", "/Dockerfile", "/f", "/g", "/other"];
    assert_eq!(image.paths(), all);
    world.line(&line("empty")).exits(4).says("is no tar");
}

#[test]
fn an_interrupt_ends_a_download_that_is_silent() {
    let (world, server) = (world(), serve());
    let running = world.start_line(&format!("-t a {server}/silent"));
    thread::sleep(Duration::from_secs(1));
    running.signal(Signal::INT);
    let ended = running.ends_within(Duration::from_secs(3));
    running.outcome(ended).exits(130);
}

/// A server of git's own; it ends with the value.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a repository with a few files.
pub(crate) fn repository(world: &World) -> (Daemon, String) {
    world.write("work/a", "a");
    world.write("work/s/b", "b");
    world.write("work/s/.dockerignore", "b");
    world.write("work/s/Dockerfile", "FROM scratch\nCOPY . /c\n");
    serve_work(world)
}

/// Commits what is in `work`, and serves it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the server that it needs"
)]
pub(crate) fn serve_work(world: &World) -> (Daemon, String) {
    let git = require("git").unwrap();
    let work = world.path("work");
    let at = |words: &[&str]| {
        let place = [
            "-C",
            work.to_str().unwrap(),
            "-c",
            "user.name=a",
            "-c",
            "user.email=b",
        ];
        run(&git, &[&place, words].concat())
    };
    at(&["init", "-q", "-b", "main", "."]);
    at(&["add", "-A"]);
    at(&["commit", "-q", "-m", "c", "--date=2001-01-01T00:00:00Z"]);
    // A free port: taken, and given back for the server.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let root = world.path("work");
    let child = Command::new(git)
        .args([
            "daemon",
            "--reuseaddr",
            "--export-all",
            "--listen=127.0.0.1",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", root.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Daemon(child);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    (daemon, format!("git://127.0.0.1:{port}/.git"))
}

#[test]
fn a_repository_is_checked_out() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    let (_daemon, url) = repository(&world);
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {url} /g/\nADD {url}#main:s /h/\n"),
    );
    world.line("-t a @/context").exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    assert_eq!(
        image.paths(),
        [
            "/g",
            "/g/a",
            "/g/s",
            "/g/s/.dockerignore",
            "/g/s/Dockerfile",
            "/g/s/b",
            "/h",
            "/h/.dockerignore",
            "/h/Dockerfile",
            "/h/b"
        ]
    );
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {url}#nowhere /g/\n"),
    );
    world.line("-t a @/context").exits(4).says("nowhere");
}

#[test]
fn a_repository_is_the_context() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    let (_daemon, url) = repository(&world);
    world.line(&format!("-t a {url}#main:s")).exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    assert_eq!(
        image.paths(),
        ["/c", "/c/.dockerignore", "/c/Dockerfile", "/c/b"]
    );
    let line = format!("-t a {url}#main");
    world.line(&line).exits(3).says("no `Dockerfile`");
    let line = format!("-t a -f s/Dockerfile {url}?branch=main");
    world.line(&line).exits(0);
    let line = format!("-t a {url}#nowhere");
    world.line(&line).exits(4).says("nowhere");
    world.write("context/Dockerfile", "FROM scratch\nCOPY --from=r b /\n");
    let line = format!("-t a --build-context r={url}#main:s @/context");
    world.line(&line).exits(0);
    assert_eq!(Image::open(&world.path("out/a.tar")).paths(), ["/b"]);
}
