//! Repositories: what `.git` answers in the image, and submodules.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use test_support::tools::{require, run, try_run};
use test_support::world::World;

use crate::remote::serve_work;
use crate::world;

/// The last line that git says in a directory.
fn git(directory: &Path, words: &[&str]) -> String {
    let place = ["-c", "safe.directory=*", "-C", directory.to_str().unwrap()];
    let who = ["-c", "user.name=a", "-c", "user.email=b"];
    let output = run(
        &require("git").unwrap(),
        &[&place[..], &who, words].concat(),
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Builds `line` into a directory of its own.
#[track_caller]
fn laid_out(world: &World, line: &str, more: &str) -> std::path::PathBuf {
    world.write("context/Dockerfile", format!("FROM scratch\n{line}\n"));
    let to = world.path("root");
    let _ = fs::remove_dir_all(&to);
    world
        .line(&format!("-t a -o type=local,dest=@/root {more} @/context"))
        .exits(0);
    to.join("x")
}

#[test]
fn a_git_directory_that_is_kept_answers_as_after_a_clone() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    world.write("work/a", "a");
    let (_daemon, url) = serve_work(&world);
    let work = world.path("work");
    git(&work, &["tag", "-m", "one", "v1"]);
    git(&work, &["tag", "light"]);
    world.write("work/a", "two");
    git(&work, &["commit", "-qam", "two"]);
    let (first, second) = (
        git(&work, &["rev-parse", "v1^{}"]),
        git(&work, &["rev-parse", "main"]),
    );
    for (reference, commit, described) in [
        ("v1", &first, Some("v1")),
        ("refs/tags/v1", &first, Some("v1")),
        ("light", &first, Some("light")),
        (&*first, &first, Some("v1")),
        ("main", &second, None),
        ("", &second, None),
    ] {
        let root = laid_out(
            &world,
            &format!("ADD --keep-git-dir {url}#{reference} /x"),
            "",
        );
        assert_eq!(&git(&root, &["rev-parse", "HEAD"]), commit, "{reference}");
        assert_eq!(
            git(&root, &["remote", "get-url", "origin"]),
            url,
            "{reference}"
        );
        assert_eq!(git(&root, &["status", "--porcelain"]), "", "{reference}");
        let words = [
            "-c",
            "safe.directory=*",
            "-C",
            root.to_str().unwrap(),
            "describe",
            "--tags",
        ];
        let found = try_run(&require("git").unwrap(), &words).ok();
        let found = found.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned());
        assert_eq!(found.as_deref(), described, "{reference}");
        let branches = git(&root, &["branch", "--list", "--format=%(refname)"]);
        assert_eq!(
            branches.contains("refs/heads/main"),
            described.is_none(),
            "{branches}"
        );
        assert!(!root.join(".git/FETCH_HEAD").exists());
    }
    // The same commit gives the same bytes, on whatever machine and whenever.
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD --keep-git-dir {url}#v1 /x\n"),
    );
    world
        .line("-t a --source-date-epoch 0 --no-cache --iidfile @/one @/context")
        .exits(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world
        .line("-t a --source-date-epoch 0 --no-cache --iidfile @/two @/context")
        .exits(0);
    assert_eq!(
        fs::read(world.path("one")).unwrap(),
        fs::read(world.path("two")).unwrap()
    );
}

#[test]
fn a_context_keeps_its_git_directory_where_it_is_asked_to() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    world.write("work/Dockerfile", "FROM scratch\nCOPY . /x\n");
    let (_daemon, url) = serve_work(&world);
    for (value, kept) in [("1", true), ("true", true), ("0", false), ("what", false)] {
        let argument = format!("--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}");
        world
            .line(&format!(
                "-t a -o type=local,dest=@/{value} {argument} {url}#main"
            ))
            .exits(0);
        let there = world.path(value).join("x/.git/HEAD").exists();
        assert_eq!(there, kept, "{value}");
    }
    let line = format!("-t a --build-arg BUILDKIT_CONTEXT_KEEP_GIT={url} {url}#main");
    world
        .line(&line)
        .exits(0)
        .says("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
}

#[test]
fn relative_submodules_are_those_beside_the_repository() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    // The server's root holds two repositories, and the one that is asked for names the other.
    for name in ["lib", "app", "bad"] {
        let place = world.path(format!("work/{name}"));
        fs::create_dir_all(&place).unwrap();
        git(&place, &["init", "-q", "-b", "main", "."]);
        world.write(format!("work/{name}/{name}.txt"), name);
        git(&place, &["add", "-A"]);
        git(&place, &["commit", "-qm", name]);
    }
    let lib = world.path("work/lib");
    for (name, url) in [
        ("app", "../../lib/.git".to_owned()),
        ("bad", lib.display().to_string()),
    ] {
        let place = world.path(format!("work/{name}"));
        let add = [
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            lib.to_str().unwrap(),
            "sub",
        ];
        git(&place, &add);
        git(
            &place,
            &["config", "-f", ".gitmodules", "submodule.sub.url", &url],
        );
        git(&place, &["add", "-A"]);
        git(&place, &["commit", "-qm", "sub"]);
    }
    let (_daemon, url) = serve_work(&world);
    let app = url.replace("/.git", "/app/.git");
    for flag in ["", "--keep-git-dir"] {
        let root = laid_out(&world, &format!("ADD {flag} {app}#main /x"), "");
        assert_eq!(fs::read_to_string(root.join("sub/lib.txt")).unwrap(), "lib");
        if !flag.is_empty() {
            assert_eq!(git(&root, &["status", "--porcelain"]), "");
            let of_lib = git(&root.join("sub"), &["remote", "get-url", "origin"]);
            assert_eq!(of_lib, url.replace("/.git", "/lib/.git"));
        }
    }
    // A file of this machine is no submodule.
    let bad = url.replace("/.git", "/bad/.git");
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {bad}#main /x\n"),
    );
    world
        .line("-t a @/context")
        .exits(4)
        .says("transport 'file' not allowed");
    let line = format!("-t a --build-context r={bad}?submodules=0 @/context");
    world.write("context/Dockerfile", "FROM scratch\nCOPY --from=r . /x\n");
    world.line(&line).exits(0);
}

/// A server of HTTP that knows nothing: what it is asked for is not there.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address.to_string()
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    let url = format!("http://me:hunter2@{}/r.git", nobody());
    for (line, dockerfile) in [
        ("@/context", format!("FROM scratch\nADD {url}#main /x\n")),
        ("@/context", format!("FROM scratch\nADD {url}?what=1 /x\n")),
        (
            "@/context",
            format!("FROM scratch\nADD --keep-git-dir={url} x /x\n"),
        ),
        (&*url, String::new()),
        (
            &*format!("--build-context base={url} @/context"),
            "FROM base\n".to_owned(),
        ),
        (
            "--build-arg SOURCE_DATE_EPOCH=s @/context",
            format!("FROM scratch AS s\nADD {url} /\n"),
        ),
    ] {
        world.write("context/Dockerfile", &dockerfile);
        for progress in ["plain", "json"] {
            let outcome = world.line(&format!("-t a --progress {progress} {line}"));
            assert_ne!(outcome.status, 0, "{line}");
            let said = outcome.stderr.clone() + outcome.text();
            assert!(!said.contains("hunter2"), "{line}: {said}");
        }
        for question in ["plan", "why", "check"] {
            let outcome = world.line(&format!("{question} {line}"));
            let said = outcome.stderr.clone() + outcome.text();
            assert!(!said.contains("hunter2"), "{question} {line}: {said}");
        }
    }
    assert!(!holds(&world.path("home"), "hunter2"));
}

/// Whether a file below a directory holds a text.
fn holds(directory: &Path, text: &str) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() && !path.is_symlink() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}
