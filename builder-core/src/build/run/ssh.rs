//! The socket of an ssh mount: what connects to it talks to the caller's agent, or to one of ours with keys from files.
//!
//! The socket is rbuild's own, so that it can have the mode and owner that the flag asks for, and so that the caller's
//! socket never comes near the root of a RUN. It lives as long as the RUN.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use super::agent;
use super::keys::Key;
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
        let agent = Agent::of(source)?;
        let failed = |error| super::mounts::trouble(path, error);
        let listener = listen(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        // Where there is one id, root stands for all.
        let _ = std::os::unix::fs::lchown(path, Some(uid), Some(gid));
        let (wait, stop) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
        let thread = std::thread::Builder::new().spawn(move || serve(&listener, &wait, &agent));
        let thread = thread.map_err(failed)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// Who answers.
#[derive(Debug)]
enum Agent {
    /// The agent that listens at a path.
    Callers(PathBuf),
    /// We ourselves, with these keys.
    Own(Arc<Vec<Key>>),
}

impl Agent {
    fn of(source: &SshSource) -> Result<Self> {
        let path = match source {
            SshSource::Agent(path) => path,
            SshSource::Keys(files) => {
                let keys: Result<Vec<Key>> = files.iter().map(|file| Key::load(file)).collect();
                return Ok(Self::Own(Arc::new(keys?)));
            }
        };
        UnixStream::connect(path).map_err(|error| {
            let message = format!("the ssh agent at `{}` can't be reached", path.display());
            Error::new(ErrorKind::Run, message)
                .with_source(error)
                .with_help(
                    "start it (`eval $(ssh-agent)`), and see that `SSH_AUTH_SOCK` names its socket",
                )
        })?;
        Ok(Self::Callers(path.clone()))
    }

    fn take(&self, client: UnixStream) {
        match self {
            Self::Callers(path) => {
                if let Ok(server) = UnixStream::connect(path) {
                    connect(client, server);
                }
            }
            Self::Own(keys) => {
                let keys = Arc::clone(keys);
                // It ends when the client hangs up.
                // Where no more threads can be started, the client is hung up on.
                let _ = std::thread::Builder::new().spawn(move || agent::serve(client, &keys));
            }
        }
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

/// Lets the agent take everyone who comes, until `stop` is closed.
fn serve(listener: &UnixListener, stop: &OwnedFd, agent: &Agent) {
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
        if let Ok((client, _)) = listener.accept() {
            agent.take(client);
        }
    }
}

/// Copies both ways until both sides have said all.
fn connect(client: UnixStream, server: UnixStream) {
    for (from, to) in [
        (client.try_clone(), server.try_clone()),
        (Ok(server), Ok(client)),
    ] {
        let (Ok(mut from), Ok(mut to)) = (from, to) else {
            return;
        };
        let _ = std::thread::Builder::new().spawn(move || {
            // Whoever hangs up has said all, and may still listen.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::tools::{require, run};

    /// Runs a line of shell beside an agent.
    fn shell(socket: &Path, line: &str) -> String {
        let socket = format!("SSH_AUTH_SOCK={}", socket.display());
        let output = run(Path::new("/usr/bin/env"), &[&socket, "sh", "-ec", line]);
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(key: &Path, socket: &Path) -> Result<SshServer> {
        let _ = std::fs::remove_file(socket);
        let source = SshSource::Keys(vec![key.to_owned()]);
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        SshServer::start(&source, socket, 0o600, own)
    }

    #[test]
    fn openssh_signs_with_keys_from_files() {
        if require("ssh-keygen").is_none() || require("ssh-add").is_none() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (key, socket) = (home.path().join("key"), home.path().join("socket"));
        let folder = home.path().display();
        for kind in [
            "-t ed25519",
            "-t ecdsa -b 256",
            "-t rsa -b 2048",
            "-t rsa -b 3072 -m PEM",
            "-t rsa -b 2048 -m PKCS8",
            "-t ecdsa -b 256 -m PKCS8",
        ] {
            let line = format!("cd {folder}; rm -rf *; ssh-keygen -q -N '' -C me {kind} -f key");
            shell(&socket, &line);
            let server = start(&key, &socket).unwrap();
            let public = shell(&socket, "ssh-add -L");
            let line = format!("cut -d' ' -f1,2 {folder}/key.pub");
            assert!(public.starts_with(shell(&socket, &line).trim()), "{kind}");
            // Without the private key beside it, ssh-keygen asks the agent.
            let line = format!(
                "cd {folder}; mv key.pub other.pub; echo text > data; ssh-keygen -q -Y sign -f other.pub -n file data; \
                 ssh-keygen -Y check-novalidate -n file -s data.sig < data"
            );
            assert!(shell(&socket, &line).starts_with("Good"), "{kind}");
            drop(server);
        }
    }

    #[test]
    fn other_keys_are_refused() {
        if require("ssh-keygen").is_none() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (key, socket) = (home.path().join("key"), home.path().join("socket"));
        for (kind, expected) in [
            ("-N secret -t ed25519", "is encrypted"),
            ("-N secret -t rsa -m PEM", "is encrypted"),
            ("-N secret -t rsa -m PKCS8", "is encrypted"),
            ("-N '' -t ecdsa -b 521", "is no private key"),
        ] {
            let folder = home.path().display();
            shell(
                &socket,
                &format!("cd {folder}; rm -rf *; ssh-keygen -q {kind} -f key"),
            );
            let error = start(&key, &socket).unwrap_err();
            assert!(error.message().contains(expected), "{kind}: {error}");
        }
        std::fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").unwrap();
        assert!(start(&key, &socket).is_err());
    }
}
