//! A private home, store, context and environment for one test, and the program run in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::terminal::OnTerminal;

/// The modification time that every prepared file gets, in seconds.
pub const MTIME: i64 = 1_700_000_000;

/// A program that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// One test's corner of the world. It goes away with the value.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    program: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    before: Vec<OsString>,
}

impl World {
    /// A world in which `program` is run: `env!("CARGO_BIN_EXE_rbuild")` of the test crate.
    pub fn new(program: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rbuild-")
            .tempdir()
            .unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let mut variables = BTreeMap::new();
        for (name, folder) in [
            ("HOME", "home"),
            ("RBUILD_ROOT", "store"),
            ("TMPDIR", "tmp"),
        ] {
            variables.insert(
                OsString::from(name),
                directory.path().join(folder).into_os_string(),
            );
        }
        // Whatever is not on this machine goes to a proxy that isn't there: no test reaches beyond it.
        for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
            variables.insert(name.into(), "http://127.0.0.1:1".into());
        }
        variables.insert("NO_PROXY".into(), "127.0.0.1,localhost".into());
        variables.insert("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
        for folder in ["home", "tmp", "context", "out"] {
            fs::create_dir(directory.path().join(folder)).unwrap();
        }
        Self {
            directory,
            program: PathBuf::from(program),
            variables,
            before: Vec::new(),
        }
    }

    /// A path of the world: `context`, `store`, `out` (where the program is started), `home`, `tmp`.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Writes a file of mode 0644 at [`MTIME`], with the directories that it needs.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_mode(&path, 0o644);
        set_mtime(&path, MTIME);
        path
    }

    /// Copies a tree of plain files from outside, with the modes and times of [`World::write`].
    pub fn copy(&self, from: &Path, relative: impl AsRef<Path>) -> PathBuf {
        let to = self.path(relative);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &target);
            } else {
                self.write(&target, fs::read(entry.path()).unwrap());
            }
        }
        set_mode(&to, 0o755);
        set_mtime(&to, MTIME);
        to
    }

    /// Sets a variable for every program of this world.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.variables
            .insert(name.into(), value.as_ref().to_owned());
    }

    /// Lets programs of a folder of this world be found before the machine's.
    pub fn prefer_programs_of(&mut self, folder: &str) {
        let rest = self.variables.get(OsStr::new("PATH")).cloned();
        let mut path = self.path(folder).into_os_string();
        path.push(":");
        path.push(rest.unwrap_or_default());
        self.set("PATH", path);
    }

    /// Lets another program start the program, such as `setpriv`.
    pub fn run_through(&mut self, words: &[&str]) {
        self.before = words.iter().map(OsString::from).collect();
    }

    /// Lets another program start what [`World::run_through`] said.
    pub fn run_through_first(&mut self, words: &[&str]) {
        let words = words.iter().map(OsString::from);
        self.before = words
            .chain(self.before.drain(..).collect::<Vec<_>>())
            .collect();
    }

    /// Runs the program in `out` until it ends.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        self.start(arguments, Vec::new()).wait()
    }

    /// Runs the program with a line of arguments, split at blanks, `@/` being the world's own path.
    pub fn line(&self, line: &str) -> Outcome {
        self.run(self.words(line))
    }

    /// Runs a line as [`World::line`] with bytes on standard input.
    pub fn line_with_input(&self, line: &str, input: impl Into<Vec<u8>>) -> Outcome {
        self.start(self.words(line), input.into()).wait()
    }

    /// Starts a line as [`World::line`] and comes back at once.
    pub fn start_line(&self, line: &str) -> Running {
        self.start(self.words(line), Vec::new())
    }

    fn words(&self, line: &str) -> Vec<String> {
        let here = self.directory.path().to_str().unwrap();
        line.split_whitespace()
            .map(|word| word.replace("@/", &format!("{here}/")))
            .collect()
    }

    fn start<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: Vec<u8>,
    ) -> Running {
        Running::start(
            self.command(arguments),
            input,
            self.directory.path().to_str().unwrap().to_owned(),
        )
    }

    /// Starts a line as [`World::line`] on a terminal of so many rows and columns.
    pub fn start_on_terminal(&self, line: &str, size: (u16, u16)) -> OnTerminal {
        OnTerminal::start(&self.command(self.words(line)), size)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut words: Vec<OsString> = self.before.clone();
        words.push(self.program.clone().into_os_string());
        words.extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.path("out"));
        command
    }
}

/// A program on its way.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    ended: Receiver<ExitStatus>,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    home: String,
    shown: String,
}

impl Running {
    fn start(mut command: Command, input: Vec<u8>, home: String) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        // A program that doesn't read its input is no reason to fail here.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let (stdout, stderr) = (
            drain(child.stdout.take().unwrap()),
            drain(child.stderr.take().unwrap()),
        );
        let pid = Pid::from_child(&child);
        let (sender, ended) = channel();
        thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(child.wait().unwrap());
        });
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().replace(&home, "@"));
        let shown = words.fold(
            command.get_program().to_string_lossy().into_owned(),
            |line, word| line + " " + &word,
        );
        Self {
            pid,
            ended,
            stdout,
            stderr,
            home,
            shown,
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself, which is what a test of signals has to bear.
        let _ = kill_process(self.pid, signal);
    }

    /// The program's process.
    pub fn process(&self) -> Pid {
        self.pid
    }

    /// Whether the program ends within a time.
    pub fn ends_within(&self, time: Duration) -> Option<ExitStatus> {
        self.ended.recv_timeout(time).ok()
    }

    /// Waits for the end; a program that hangs is killed and fails the test.
    pub fn wait(self) -> Outcome {
        let ended = self.ends_within(PATIENCE);
        if ended.is_none() {
            self.signal(Signal::KILL);
        }
        self.outcome(ended)
    }

    /// What came out of a program whose end was seen already.
    pub fn outcome(self, ended: Option<ExitStatus>) -> Outcome {
        let stderr = String::from_utf8_lossy(&self.stderr.join().unwrap()).replace(&self.home, "@");
        let Some(ended) = ended else {
            panic!("{} hangs, and said: {stderr}", self.shown)
        };
        let status = ended
            .code()
            .unwrap_or_else(|| 128 + ended.signal().unwrap_or(0));
        Outcome {
            status,
            stdout: self.stdout.join().unwrap(),
            stderr,
            command: self.shown,
        }
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A stream that breaks off ends the text.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; 128 and the signal's number after a signal.
    pub status: i32,
    /// Standard output, byte by byte.
    pub stdout: Vec<u8>,
    /// Standard error, with `@` for the world's own path.
    pub stderr: String,
    /// What was run.
    pub command: String,
}

impl Outcome {
    /// Fails unless the status is this one and nothing panicked.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.command, self.stderr);
        assert!(
            !self.stderr.contains("panicked"),
            "{}\n{}",
            self.command,
            self.stderr
        );
        self
    }

    /// Fails unless standard error holds these words.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "`{words}` is missing\n{}\n{}",
            self.command,
            self.stderr
        );
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Sets a file's permission bits.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Sets a file's modification time in whole seconds; a link's own.
pub fn set_mtime(path: &Path, seconds: i64) {
    set_mtime_nanos(path, seconds, 0);
}

/// Sets a file's modification time; a link's own.
pub fn set_mtime_nanos(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
