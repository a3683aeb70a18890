//! A program on a terminal of its own, with somebody who types.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Whoever waits longer for an answer waits in vain.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program on a terminal.
#[derive(Debug)]
pub struct OnTerminal {
    child: Child,
    keys: File,
    printed: Receiver<Vec<u8>>,
    /// All that was printed so far.
    text: String,
    /// How much of it was waited for.
    seen: usize,
}

impl OnTerminal {
    /// Starts it with a terminal of `rows` and `columns` as its standard streams, which is also the one that controls it.
    pub(crate) fn start(command: &Command, (rows, columns): (u16, u16)) -> Self {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        resize(&master, rows, columns);
        let end = || Stdio::from(slave.try_clone().unwrap());
        let words = command.get_args().map(OsString::from);
        let mut started = Command::new("setsid");
        started
            .args(["--ctty", "--wait"])
            .arg(command.get_program());
        started.args(words).env_clear();
        for (name, value) in command.get_envs() {
            started.env(name, value.unwrap_or_default());
        }
        if let Some(directory) = command.get_current_dir() {
            started.current_dir(directory);
        }
        let child = started.stdin(end()).stdout(end()).stderr(end()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{started:?}: {error}"));
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, printed) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal is an error when nobody is left on its other side.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            printed,
            text: String::new(),
            seen: 0,
        }
    }

    /// Types.
    pub fn send(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.keys, rows, columns);
    }

    /// Waits until something is printed that was not waited for before; gives all that was printed up to it.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text[self.seen..].find(words) {
                let to = self.seen + at + words.len();
                let from = std::mem::replace(&mut self.seen, to);
                return self.text[from..self.seen].to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.printed.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => {
                    let _ = self.child.kill();
                    panic!("`{words}` was not printed, but\n{}", self.text);
                }
            }
        }
    }

    /// Waits for the end; the exit status, and all that was printed.
    #[track_caller]
    pub fn wait(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > end => {
                    let _ = self.child.kill();
                    panic!("it doesn't end, and printed\n{}", self.text);
                }
                None => self.listen(Duration::from_millis(10)),
            }
        };
        self.listen(Duration::from_millis(200));
        (status.code(), self.text)
    }

    /// Takes what is printed until nothing is for some time.
    fn listen(&mut self, time: Duration) {
        while let Ok(bytes) = self.printed.recv_timeout(time) {
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        // A screen that is closed is silent at once.
        thread::sleep(Duration::from_millis(1));
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).unwrap();
}
