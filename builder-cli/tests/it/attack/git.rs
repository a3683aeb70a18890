//! git and credential helpers: a caller's repository is not touched, and an interrupt ends them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use test_support::tools::{require, run};
use test_support::world::{World, set_mode};

use crate::remote::serve_work;
use crate::world;

/// The user's repository: a commit, a change that is staged and one that is not.
fn precious(world: &World) {
    world.write("mine/precious", "mine");
    world.write("mine/other", "o");
    let script = "git init -q -b main . && git add . && git -c user.name=a -c user.email=b commit -qm mine && \
        echo staged > other && git add other && echo changed > precious";
    shell(&world.path("mine"), script);
}

fn shell(place: &Path, script: &str) -> String {
    let script = format!("cd {} && {script}", place.display());
    let output = run(Path::new("/bin/sh"), &["-c", &script]);
    String::from_utf8(output.stdout).unwrap()
}

/// All that a call of git might change.
fn state(world: &World) -> String {
    shell(
        &world.path("mine"),
        "git status -sb; git log --all --oneline; git for-each-ref; cat .git/HEAD .git/config; ls -A . .git; \
         git diff; git count-objects -v; sha256sum .git/index",
    )
}

#[test]
fn a_build_in_a_hook_leaves_the_users_repository_alone() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    world.write("work/Dockerfile", "FROM scratch\nCOPY f /\n");
    world.write("work/f", "f");
    let (_daemon, url) = serve_work(&world);
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {url} /a/\nADD --keep-git-dir {url}#main /b/\n"),
    );
    precious(&world);
    let mine = world.path("mine");
    let (mine, git_dir) = (mine.display(), mine.join(".git"));
    let git_dir = git_dir.display();
    let before = state(&world);
    let environments: Vec<Vec<(&str, String)>> = vec![
        vec![("GIT_DIR", git_dir.to_string())],
        vec![
            ("GIT_DIR", git_dir.to_string()),
            ("GIT_WORK_TREE", mine.to_string()),
        ],
        vec![
            ("GIT_DIR", git_dir.to_string()),
            ("GIT_INDEX_FILE", format!("{git_dir}/index")),
            ("GIT_PREFIX", String::new()),
        ],
        vec![("GIT_WORK_TREE", mine.to_string())],
        vec![("GIT_INDEX_FILE", format!("{git_dir}/index"))],
        vec![("GIT_COMMON_DIR", git_dir.to_string())],
        vec![("GIT_OBJECT_DIRECTORY", format!("{git_dir}/objects"))],
        vec![("GIT_SHALLOW_FILE", format!("{git_dir}/shallow"))],
        vec![
            ("GIT_CONFIG_COUNT", "1".to_owned()),
            ("GIT_CONFIG_KEY_0", "core.worktree".to_owned()),
            ("GIT_CONFIG_VALUE_0", mine.to_string()),
        ],
        vec![("GIT_CONFIG_PARAMETERS", format!("'core.worktree'='{mine}'"))],
        // What else a hook, or a user's shell, may have set.
        vec![
            ("GIT_QUARANTINE_PATH", format!("{git_dir}/objects")),
            ("GIT_NAMESPACE", "n".to_owned()),
        ],
        vec![("GIT_DEFAULT_HASH", "sha256".to_owned())],
    ];
    for variables in environments {
        let words: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut caller = crate::world();
        for (name, value) in &variables {
            caller.set(name, value);
        }
        let to = caller.path("out/x.tar");
        for line in [
            format!("--no-cache -o type=oci,dest={} {url}", to.display()),
            format!(
                "--no-cache -o type=oci,dest={} {}",
                to.display(),
                world.path("context").display()
            ),
        ] {
            let outcome = caller.line(&line);
            assert_eq!(state(&world), before, "{words:?}");
            assert_eq!(outcome.status, 0, "{words:?}: {}", outcome.stderr);
        }
    }
}

/// Hooks and templates of the user's are for the user's repositories.
#[test]
fn no_hook_of_the_users_runs_in_what_others_wrote() {
    if require("git").is_none() {
        return;
    }
    let world = world();
    world.write("work/f", "f");
    let (_daemon, url) = serve_work(&world);
    world.write(
        "home/.gitconfig",
        format!(
            "[core]\n\thooksPath = {0}/hooks\n[init]\n\ttemplateDir = {0}/template\n",
            world.path("home").display()
        ),
    );
    for hook in ["hooks/post-checkout", "template/hooks/post-checkout"] {
        let text = format!("#!/bin/sh\ntouch {}\n", world.path("ran").display());
        set_mode(&world.write(format!("home/{hook}"), text), 0o755);
    }
    world.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {url} /a/\n"),
    );
    world.line("-t a @/context").exits(0);
    assert!(!world.path("ran").exists());
}

const UNAUTHORIZED: &[u8] =
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_silent_program_is_ended_at_the_first_interrupt() {
    if require("git").is_none() {
        return;
    }
    let helper = "#!/bin/sh\necho $$ > \"$HOME/started\"\nsleep 300\n";
    let with_helper = |world: &World| {
        world.write("home/.docker/config.json", r#"{"credsStore":"silent"}"#);
        let path = world.write("tools/docker-credential-silent", helper);
        set_mode(&path, 0o755);
    };
    for (name, dockerfile, line) in [
        (
            "git",
            "FROM scratch\nADD git://HERE/r.git /a/\n",
            "-t a @/context",
        ),
        ("a context of git's", "", "-t a git://HERE/r.git"),
        (
            "a helper",
            "FROM HERE/a/b:1\n",
            "-t a --insecure-registry HERE @/context",
        ),
    ] {
        // Accepts connections and never says a word.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let here = silent.local_addr().unwrap().to_string();
        let mut world = world();
        with_helper(&world);
        world.prefer_programs_of("tools");
        world.write("context/Dockerfile", dockerfile.replace("HERE", &here));
        let running = world.start_line(&line.replace("HERE", &here));
        let started = world.path("home/started");
        let mut connection = None;
        let is_helper = name == "a helper";
        while !started.exists() && (is_helper || connection.is_none()) {
            let ended = running.ends_within(Duration::from_millis(20));
            assert!(ended.is_none(), "{name} ends by itself");
            connection = silent.accept().ok().or(connection);
            if let (true, Some((stream, _))) = (is_helper, &mut connection) {
                // It wants to know who is there. Who has hung up does not hear it.
                let _ = stream.write_all(UNAUTHORIZED);
            }
        }
        running.signal(Signal::INT);
        let ended = running.ends_within(Duration::from_secs(20));
        assert!(ended.is_some(), "{name} is not ended");
        running.outcome(ended).exits(130);
        // Nothing that was started stays: the helper's process is gone.
        let started = std::fs::read_to_string(started);
        assert_eq!(started.is_ok(), is_helper);
        if let Ok(pid) = started {
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "{name}");
        }
    }
}
