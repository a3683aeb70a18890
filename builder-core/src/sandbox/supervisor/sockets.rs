//! Abstract unix sockets (`unix(7)`), which belong to the network and not to a root: a RUN reaches none of the machine's.
//!
//! From Linux 6.12 on Landlock closes them. Below, addresses are looked at here, and abstract ones are refused, those of
//! the RUN's own as well. An address that is looked at can be changed before the kernel reads it: against a command that
//! races for it this is no wall, which `SECURITY.md` says.

use rustix::io::Errno;

use crate::sandbox::calls::{COMPAT_ARCH, Call};
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::{Reply, Result};

/// `UIO_MAXIOV`: more messages are not sent at once.
const MOST_MESSAGES: u64 = 1024;

/// `connect`, `sendto`, `sendmsg`, `sendmmsg`.
///
/// # Errors
/// `EPERM` for an abstract address, as Landlock has it.
pub(super) fn check(caller: &Caller<'_>) -> Result<Reply> {
    match caller.call {
        Call::Connect => check_address(caller, caller.argument(1), caller.word(2)),
        Call::Sendto => check_address(caller, caller.argument(4), caller.word(5)),
        Call::Sendmsg => check_message(caller, caller.argument(1)),
        _ => {
            // A message, and how much of it was sent.
            let size = if is_compat(caller) { 32 } else { 64 };
            let count = u64::from(caller.word(2)).min(MOST_MESSAGES);
            (0..count).try_for_each(|number| {
                check_message(caller, caller.argument(1).wrapping_add(number * size))
            })
        }
    }?;
    Ok(Reply::Continue)
}

fn is_compat(caller: &Caller<'_>) -> bool {
    caller.notification.arch == COMPAT_ARCH
}

/// `struct msghdr` begins with the address and its length.
fn check_message(caller: &Caller<'_>, place: u64) -> Result<()> {
    let mut bytes = [0; 12];
    // What can't be read, the kernel can't send.
    if caller.bytes(place, &mut bytes).is_err() {
        return Ok(());
    }
    let (words, _) = bytes.as_chunks();
    let word = |index: usize| u32::from_ne_bytes(words[index]);
    if is_compat(caller) {
        return check_address(caller, u64::from(word(0)), word(1));
    }
    let address = u64::from(word(0)) | u64::from(word(1)) << 32;
    check_address(caller, address, word(2))
}

fn check_address(caller: &Caller<'_>, place: u64, length: u32) -> Result<()> {
    // The family, and the first byte of a name.
    let mut start = [0; 3];
    if place == 0 || length < 3 || caller.bytes(place, &mut start).is_err() {
        return Ok(());
    }
    if is_abstract(start) {
        return Err(Errno::PERM.into());
    }
    Ok(())
}

fn is_abstract([low, high, first]: [u8; 3]) -> bool {
    u16::from_ne_bytes([low, high]) == libc::AF_UNIX as u16 && first == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_addresses_begin_with_a_zero() {
        let [low, high] = (libc::AF_UNIX as u16).to_ne_bytes();
        assert!(is_abstract([low, high, 0]));
        assert!(!is_abstract([low, high, b'/']));
        let [low, high] = (libc::AF_INET as u16).to_ne_bytes();
        assert!(!is_abstract([low, high, 0]));
    }
}
