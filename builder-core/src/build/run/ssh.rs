//! The socket of an ssh mount: what connects to it talks to the caller's agent.
//!
//! The socket is rbuild's own, so that it can have the mode and owner that the flag asks for, and so that the caller's
//! socket never comes near the root of a RUN. It lives as long as the RUN.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use crate::build::request::SshSource;
use crate::error::{Error, ErrorKind, Result};

/// A listening socket and the thread behind it. Dropped, it is closed, with all that is connected.
#[derive(Debug)]
pub(super) struct SshServer {
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl SshServer {
    /// Listens at `path`, which has the mode and the owner given.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] where there is no such agent, or the socket can't be made.
    pub(super) fn start(
        source: &SshSource,
        path: &Path,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<Self> {
        let agent = match source {
            SshSource::Agent(agent) => agent.clone(),
            SshSource::Keys(files) => return Err(no_keys(files)),
        };
        UnixStream::connect(&agent).map_err(|error| {
            let message = format!("the ssh agent at `{}` can't be reached", agent.display());
            Error::new(ErrorKind::Run, message)
                .with_source(error)
                .with_help(
                    "start it (`eval $(ssh-agent)`), and see that `SSH_AUTH_SOCK` names its socket",
                )
        })?;
        let failed = |error| super::mounts::trouble(path, error);
        let listener = listen(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        // Where there is one id, root stands for all.
        let _ = std::os::unix::fs::lchown(path, Some(uid), Some(gid));
        let (wait, stop) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
        let thread = std::thread::spawn(move || serve(&listener, &wait, &agent));
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked serves nobody any more.
            let _ = thread.join();
        }
    }
}

/// Binds a socket whose path may be longer than a socket's address allows (unix(7): 108 bytes).
fn listen(path: &Path) -> io::Result<UnixListener> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return UnixListener::bind(path);
    };
    let folder = std::fs::File::open(parent)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    UnixListener::bind(PathBuf::from(format!("/proc/self/fd/{number}")).join(name))
}

/// Connects everyone who comes with the agent, until `stop` is closed.
fn serve(listener: &UnixListener, stop: &OwnedFd, agent: &Path) {
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if !polled[1].revents().is_empty() {
            return;
        }
        if let (Ok((client, _)), Ok(server)) = (listener.accept(), UnixStream::connect(agent)) {
            connect(client, server);
        }
    }
}

/// Copies both ways until one side ends.
fn connect(client: UnixStream, server: UnixStream) {
    for (from, to) in [
        (client.try_clone(), server.try_clone()),
        (Ok(server), Ok(client)),
    ] {
        let (Ok(mut from), Ok(mut to)) = (from, to) else {
            return;
        };
        std::thread::spawn(move || {
            // Whoever hangs up has said all.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
            let _ = from.shutdown(std::net::Shutdown::Both);
        });
    }
}

fn no_keys(files: &[PathBuf]) -> Error {
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let message = format!(
        "key files ({}) can't be given to RUN directly",
        names.join(", ")
    );
    Error::new(ErrorKind::Run, message)
        .with_help("add them to an agent with `ssh-add`, and give `--ssh default`")
}
