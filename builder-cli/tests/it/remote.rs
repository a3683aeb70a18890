//! ADD of what is elsewhere: files behind URLs, and git repositories, from servers on the loopback address.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use test_support::tarball::{Image, hex};
use test_support::tools::{require, run};
use test_support::world::World;

use crate::world;

/// Answers GET: `/f.txt`, `/moved` (to `/f.txt`), `/short` (ends before its length); 404 for the rest.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream);
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    lines.read_line(&mut line).unwrap();
    let mut header = String::new();
    while lines.read_line(&mut header).unwrap() > 2 {
        header.clear();
    }
    let reply = match line.split(' ').nth(1).unwrap() {
        "/f.txt" => {
            "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n\r\nhello"
        }
        "/moved" => "HTTP/1.1 302 Found\r\nLocation: /f.txt\r\nContent-Length: 0\r\n\r\n",
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
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

/// A server of git's own; it ends with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the server that it needs"
)]
fn repository(world: &World) -> (Daemon, String) {
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
    world.write("work/a", "a");
    world.write("work/s/b", "b");
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
        ["/g", "/g/a", "/g/s", "/g/s/b", "/h", "/h/b"]
    );
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {url}#nowhere /g/\n"),
    );
    world.line("-t a @/context").exits(4).says("nowhere");
}
