//! `--load`: into podman, Docker's engine and containerd where they are installed and start, and into a double of Docker's
//! API that refuses.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "engines are started, waited for, and told to be missing"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use test_support::tools::{is_root, require, skip, try_run};
use test_support::world::World;

use super::built;

/// A program that goes on until the test ends.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.0);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Starts a service and waits for its socket; none where it doesn't start here.
fn service(world: &World, program: &Path, words: &[&str], socket: &Path) -> Option<Service> {
    let said = File::create(world.path("service.log")).unwrap();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command.stdout(said.try_clone().unwrap()).stderr(said);
    let mut service = Service(command.spawn().unwrap());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if UnixStream::connect(socket).is_ok() {
            return Some(service);
        }
        if service.0.try_wait().unwrap().is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(world.path("service.log")).unwrap_or_default();
    let last = log.lines().last().unwrap_or_default();
    eprintln!(
        "skipped: {} does not start here ({last})",
        program.display()
    );
    None
}

fn path(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

/// Whether an engine was refused what it needs by this machine: a container without privileges lets none of them unpack.
/// That is said, and is no fault of what is tried.
pub(super) fn machine_forbids(said: &str) -> bool {
    let words = ["not permitted", "ermission denied", "cannot clone"];
    let forbids = words.iter().any(|one| said.contains(one));
    if forbids {
        eprintln!("skipped: the engine may not unpack here ({})", said.trim());
    }
    forbids
}

#[test]
fn podman_takes_a_built_image_and_is_asked_once_for_what_it_has() {
    let Some(podman) = require("podman") else {
        return;
    };
    if !is_root() {
        return skip("podman's storage is tried as root");
    }
    let (mut world, _) = built();
    fs::remove_file(world.path("out/app.tar")).unwrap();
    let storage = format!(
        "[storage]\ndriver=\"vfs\"\ngraphroot=\"{}\"\nrunroot=\"{}\"\n",
        path(&world, "graph"),
        path(&world, "run")
    );
    let storage = world.write("storage.conf", storage);
    world.set("CONTAINERS_STORAGE_CONF", &storage);
    let tags = || {
        let mut command = Command::new(&podman);
        command.args(["images", "--format", "{{.Names}}", "app"]);
        let output = command
            .env("CONTAINERS_STORAGE_CONF", &storage)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let first = world.line("-t app:1 --load=podman @/context");
    if first.status != 0 && machine_forbids(&first.stderr) {
        return;
    }
    first.exits(0).says("podman has taken `app:1`");
    assert!(tags().contains("localhost/app:1"), "{}", tags());
    assert!(!world.path("out/app.tar").exists());
    world
        .line("-t app:1 --load=podman @/context")
        .exits(0)
        .says("podman has `app:1`");
    assert_eq!(tags().matches("app:1").count(), 1);
    world
        .line("-t app:1 -t r.io/app:2 --load=podman @/context")
        .exits(0)
        .says("podman has");
    assert!(tags().contains("r.io/app:2"), "{}", tags());
    world.line("-q -t app:1 --load=podman @/context").exits(0);
}

#[test]
fn docker_takes_a_built_image_over_its_socket() {
    let Some(dockerd) = require("dockerd") else {
        return;
    };
    let (mut world, _) = built();
    let socket = world.path("docker.sock");
    let host = format!("unix://{}", socket.display());
    let (data, exec, pid) = (
        path(&world, "data"),
        path(&world, "exec"),
        path(&world, "pid"),
    );
    let words = [
        "--data-root",
        &data,
        "--exec-root",
        &exec,
        "-p",
        &pid,
        "-H",
        &host,
        "--iptables=false",
        "--bridge=none",
        "--storage-driver=vfs",
    ];
    let Some(_service) = service(&world, &dockerd, &words, &socket) else {
        return;
    };
    world.set("DOCKER_HOST", &host);
    let engine = |path: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let first = world.line("-t app:1 --load @/context");
    if first.status != 0 && machine_forbids(&first.stderr) {
        return;
    }
    first.exits(0).says("has taken `app:1`");
    assert!(engine("/images/app:1/json").contains("com.example.kind"));
    world
        .line("-t app:1 -t r.io/team/app:2 --load @/context")
        .exits(0)
        .says("has `app:1`");
    assert!(engine("/images/r.io/team/app:2/json").contains("com.example.kind"));
    // By the name of a context, as Docker's client keeps it.
    world.set("DOCKER_HOST", "");
    let name = &test_support::tarball::digest(b"here")[7..];
    let meta =
        format!("{{\"Name\":\"here\",\"Endpoints\":{{\"docker\":{{\"Host\":\"{host}\"}}}}}}");
    world.write(format!("home/.docker/contexts/meta/{name}/meta.json"), meta);
    world
        .line("-t other --load=here @/context")
        .exits(0)
        .says("`other:latest`");
    world.write("home/.docker/config.json", "{\"currentContext\":\"here\"}");
    world
        .line("-t third --load @/context")
        .exits(0)
        .says("`third:latest`");
    assert!(engine("/images/third/json").contains("com.example.kind"));
}

#[test]
fn containerd_takes_a_built_image() {
    let (Some(containerd), Some(ctr)) = (require("containerd"), require("ctr")) else {
        return;
    };
    let (mut world, digest) = built();
    let socket = world.path("c.sock");
    let (root, state, address) = (
        path(&world, "root"),
        path(&world, "state"),
        path(&world, "c.sock"),
    );
    let words = ["--root", &root, "--state", &state, "-a", &address];
    let Some(_service) = service(&world, &containerd, &words, &socket) else {
        return;
    };
    world.set("CONTAINERD_ADDRESS", &address);
    let first = world.line("-t app:1 --load=containerd @/context");
    if first.status != 0 && machine_forbids(&first.stderr) {
        return;
    }
    first.exits(0).says("has taken");
    world
        .line("-t app:1 --load=containerd @/context")
        .exits(0)
        .says("has `app:1`");
    let listed = try_run(&ctr, &["-a", &address, "images", "list"]).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("docker.io/library/app:1"), "{listed}");
    assert!(listed.contains(&digest), "{listed}");
}

/// A double of Docker's API: answers by the beginning of a request, and the requests that came.
fn double(socket: PathBuf, answers: Vec<(&'static str, &'static str)>) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, answers) = (Arc::clone(&seen), answers);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            noted.lock().unwrap().push(line.trim().to_owned());
            let found = answers.iter().find(|(begin, _)| line.starts_with(begin));
            let answer = found.map_or(
                "404 Not Found\r\n\r\n{\"message\":\"no such image\"}",
                |(_, answer)| answer,
            );
            // The body is left unread: who sends it hears the answer all the same.
            let _ = (&stream).write_all(format!("HTTP/1.1 {answer}").as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut rest = Vec::new();
            let _ = (&stream).take(1 << 20).read_to_end(&mut rest);
        }
    });
    seen
}

#[test]
fn an_engine_that_refuses_is_heard() {
    for (answer, status, said) in [
        ("200 OK\r\n\r\n{\"stream\":\"Loaded\"}", 0, "has taken"),
        (
            "200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"no space left\"}}",
            8,
            "no space left",
        ),
        (
            "500 Oops\r\n\r\n{\"message\":\"disk is broken\"}",
            8,
            "disk is broken",
        ),
        (
            "400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"message\":\"no\"}\r\n0\r\n\r\n",
            8,
            "no",
        ),
        ("nonsense\r\n\r\n", 8, "engine"),
    ] {
        let (mut world, digest) = built();
        let socket = world.path("d.sock");
        let seen = double(socket.clone(), vec![("POST /images/load", answer)]);
        world.set("DOCKER_HOST", format!("unix://{}", socket.display()));
        world
            .line("-t app:1 --iidfile @/id --load @/context")
            .exits(status)
            .says(said);
        // The image stays in the store, and is told of.
        assert_eq!(fs::read_to_string(world.path("id")).unwrap(), digest);
        world.run(["inspect", &digest]).exits(0);
        assert!(
            seen.lock()
                .unwrap()
                .iter()
                .any(|line| line.starts_with("POST /images/load"))
        );
    }
}

#[test]
fn an_engine_that_has_the_image_is_told_its_names_at_most() {
    let (mut world, _) = built();
    let socket = world.path("d.sock");
    let has = "200 OK\r\n\r\n{\"RepoTags\":[\"app:1\"]}";
    let seen = double(
        socket.clone(),
        vec![
            ("GET /images/sha256:", has),
            ("POST /images/sha256:", "201 Created\r\n\r\n"),
        ],
    );
    world.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    world
        .line("-t app:1 --load @/context")
        .exits(0)
        .says("has `app:1`");
    assert_eq!(seen.lock().unwrap().len(), 1);
    world
        .line("-t app:1 -t r.io:5000/team/app:2 --load @/context")
        .exits(0);
    let seen = seen.lock().unwrap();
    assert!(
        seen[2].contains("tag?repo=r.io%3A5000%2Fteam%2Fapp&tag=2"),
        "{seen:?}"
    );
}

#[test]
fn without_an_engine_the_image_stays_in_the_store_and_that_is_said() {
    let (mut world, _) = built();
    fs::remove_file(world.path("out/app.tar")).unwrap();
    world.set("PATH", "/nowhere");
    world.set("XDG_RUNTIME_DIR", world.path("nowhere"));
    if Path::new("/var/run/docker.sock").exists() {
        return;
    }
    world
        .line("-t app:2 --load @/context")
        .exits(0)
        .says("no engine");
    world.line("inspect app:2").exits(0);
    assert!(!world.path("out/app.tar").exists());
    world
        .line("-t app:3 --load=false -o @/out/x @/context")
        .exits(0);
    for (engine, said) in [
        ("docker", "DOCKER_HOST"),
        ("podman", "podman"),
        ("containerd", "ctr"),
        ("elsewhere", "docker context ls"),
    ] {
        let line = format!("-t never --load={engine} @/context");
        world.line(&line).exits(8).says(said);
        world.line("inspect never").exits(2);
    }
    world.set("DOCKER_HOST", "ssh://nobody@nowhere");
    world
        .line("-t app:2 --load @/context")
        .exits(8)
        .says("own client");
}
