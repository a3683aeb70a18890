//! All ids for an ordinary user: a user namespace with the range that `/etc/subuid` gives, mapped by the setuid helpers
//! `newuidmap` and `newgidmap` (subuid(5)).
//!
//! The whole program goes on in that namespace, as its root: files that belong to subordinate ids can be laid out,
//! read and deleted there alone.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use super::sys;
use super::sys::process::Forked;
use crate::error::{Error, ErrorKind, Result};

/// A range of ids: the first, and how many.
type Range = (u32, u32);

/// Starts this program again with the same arguments and environment, as root of a user namespace that has the
/// caller's id and its subordinate ids. Returns only where that fails. To be called before there is a second thread.
///
/// # Errors
/// [`ErrorKind::Run`]: no range in `/etc/subuid`, no `newuidmap`, or a kernel that refuses.
pub fn restart_with_subordinate_ids(
    arguments: &[std::ffi::OsString],
    environment: &[(std::ffi::OsString, std::ffi::OsString)],
) -> Error {
    match restart(arguments, environment) {
        Ok(()) => Error::new(ErrorKind::Internal, "a program that was replaced goes on"),
        Err(error) => error,
    }
}

fn restart(
    arguments: &[std::ffi::OsString],
    environment: &[(std::ffi::OsString, std::ffi::OsString)],
) -> Result<()> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let users = range_of("/etc/subuid", uid)?;
    let groups = range_of("/etc/subgid", uid)?;
    map(users, groups, (uid, gid))?;
    let root = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    let failed = |error: rustix::io::Errno| refused("becoming root of the namespace", error.into());
    rustix::thread::set_thread_res_gid(root.1, root.1, root.1).map_err(failed)?;
    rustix::thread::set_thread_res_uid(root.0, root.0, root.0).map_err(failed)?;
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    let strings = |texts: &mut dyn Iterator<Item = Vec<u8>>| -> Vec<CString> {
        texts.filter_map(|text| CString::new(text).ok()).collect()
    };
    let argv = strings(&mut arguments.iter().map(|one| one.as_bytes().to_vec()));
    let pair = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
        [name.as_bytes(), b"=", value.as_bytes()].concat()
    };
    let env = strings(&mut environment.iter().map(pair));
    let error = sys::process::execve(c"/proc/self/exe", &argv, &env);
    Err(refused("starting the program again", error))
}

/// Moves this process into a new user namespace, whose ids a child that stays outside has mapped.
fn map(users: Range, groups: Range, (uid, gid): (u32, u32)) -> Result<()> {
    let making = |error| refused("making a user namespace", error);
    let (wait, go): (OwnedFd, OwnedFd) =
        rustix::pipe::pipe().map_err(|error| making(error.into()))?;
    let own = rustix::process::getpid().as_raw_nonzero();
    let child = match sys::process::fork().map_err(making)? {
        Forked::Parent(child) => child,
        Forked::Child => {
            drop(go);
            let begun = std::fs::File::from(wait).read(&mut [0]);
            let mapped = begun.is_ok_and(|read| read == 1)
                && helper("newuidmap", own.get(), uid, users)
                && helper("newgidmap", own.get(), gid, groups);
            sys::process::exit(i32::from(!mapped));
        }
    };
    drop(wait);
    let unshared = sys::process::unshare(UnshareFlags::NEWUSER);
    if unshared.is_ok() {
        // A child that is gone is seen below.
        let _ = rustix::io::write(&go, b"1");
    }
    drop(go);
    let ended = rustix::process::waitpid(Some(child), WaitOptions::empty());
    unshared.map_err(making)?;
    match ended {
        Ok(Some((_, status))) if status.exit_status() == Some(0) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Run,
            "`newuidmap` or `newgidmap` could not map the subordinate ids",
        )
        .with_help("install the package uidmap; its programs need the set-user-ID bit, and no `no_new_privs`")),
    }
}

/// Lets a setuid helper map the caller's id to 0, and its range to 1 and up.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the sandbox, which needs two programs of the system here"
)]
fn helper(program: &str, pid: i32, own: u32, (first, count): Range) -> bool {
    let words = [pid, 0].map(|number| number.to_string());
    let numbers = [own, 1, 1, first, count].map(|number| number.to_string());
    let status = Command::new(program).args(words).args(numbers).status();
    status.is_ok_and(|status| status.success())
}

/// The largest range that a file of subordinate ids gives the user.
fn range_of(path: &str, uid: u32) -> Result<Range> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&text, &accounts, uid).ok_or_else(|| {
        let message = format!("`{path}` gives user {uid} no subordinate ids");
        Error::new(ErrorKind::Run, message).with_help(
            "have root add some (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`), or leave \
             `--run-ids=range` out: RUN works with one id too",
        )
    })
}

fn find(text: &str, accounts: &str, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&number)).then_some(name)
    });
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == number || Some(owner) == name).then_some(range)
    });
    ranges.max_by_key(|(_, count)| *count)
}

fn refused(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Run, format!("{what} failed"))
        .with_source(error)
        .with_help("leave `--run-ids=range` out: RUN works with one id too")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_of_the_user_is_taken() {
        let accounts = "root:x:0:0::/:\njoe:x:1000:1000::/:\n";
        let text = "# none\njoe:100000:10\n1000:200000:65536\nmary:300000:70000\n";
        assert_eq!(find(text, accounts, 1000), Some((200_000, 65_536)));
        assert_eq!(find("joe:5:6\n", accounts, 1000), Some((5, 6)));
        assert_eq!(find(text, accounts, 7), None);
        assert_eq!(find("joe:x:6\n", accounts, 1000), None);
    }
}
