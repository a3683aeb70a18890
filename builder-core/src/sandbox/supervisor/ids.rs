//! Calls that tell and set ids: answered from the model, without the kernel.

use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::{Change, Credentials};
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::{Reply, Result};

/// `NGROUPS_MAX`
const MOST_GROUPS: u32 = 65536;

impl Keeper {
    /// `getuid(2)` and its relatives.
    pub(super) fn tell_ids(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let credentials = self.processes.of(caller.proc, caller.pid());
        let (user, group) = (credentials.user, credentials.group);
        let value = match caller.call {
            Call::Getuid => user.real,
            Call::Geteuid => user.effective,
            Call::Getgid => group.real,
            Call::Getegid => group.effective,
            Call::Getgroups => return tell_groups(caller, &credentials.groups),
            _ => {
                let ids = if caller.call == Call::Getresuid {
                    user
                } else {
                    group
                };
                for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
                    caller.write(caller.argument(index), &id.to_ne_bytes())?;
                }
                0
            }
        };
        Ok(Reply::Value(i64::from(value)))
    }

    /// `setuid(2)` and its relatives.
    pub(super) fn set_ids(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let mut credentials = Credentials::clone(&self.processes.of(caller.proc, caller.pid()));
        let word = |index| caller.word(index);
        let mut value = 0;
        match caller.call {
            Call::Setuid => credentials.change_user(Change::One(word(0)))?,
            Call::Setgid => credentials.change_group(Change::One(word(0)))?,
            Call::Setreuid => credentials.change_user(Change::Two(word(0), word(1)))?,
            Call::Setregid => credentials.change_group(Change::Two(word(0), word(1)))?,
            Call::Setresuid => {
                credentials.change_user(Change::Three([word(0), word(1), word(2)]))?;
            }
            Call::Setresgid => {
                credentials.change_group(Change::Three([word(0), word(1), word(2)]))?;
            }
            Call::Setfsuid => value = credentials.set_file_user(word(0)),
            Call::Setfsgid => value = credentials.set_file_group(word(0)),
            _ => {
                let groups = given_groups(caller)?;
                credentials.set_groups(groups)?;
            }
        }
        self.processes
            .change(caller.proc, caller.pid(), credentials);
        Ok(Reply::Value(i64::from(value)))
    }

    /// `prctl(2)` and `capset(2)`: the kernel executes them, and the model follows.
    pub(super) fn note_power(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let mut credentials = Credentials::clone(&self.processes.of(caller.proc, caller.pid()));
        if caller.call == Call::Capset {
            let (effective, permitted) = given_capabilities(caller)?;
            credentials.set_capabilities(effective, permitted);
        } else if caller.descriptor(0) == libc::PR_SET_KEEPCAPS {
            credentials.keep_capabilities(caller.argument(1) == 1);
        } else {
            credentials.set_secure_bits(caller.word(1));
        }
        self.processes
            .change(caller.proc, caller.pid(), credentials);
        Ok(Reply::Continue)
    }
}

fn tell_groups(caller: &Caller<'_>, groups: &[u32]) -> Result<Reply> {
    let (size, count) = (caller.descriptor(0), groups.len());
    let room = usize::try_from(size).map_err(|_| Errno::INVAL)?;
    if room > 0 {
        if room < count {
            return Err(Errno::INVAL.into());
        }
        let bytes: Vec<u8> = groups
            .iter()
            .flat_map(|group| group.to_ne_bytes())
            .collect();
        caller.write(caller.argument(1), &bytes)?;
    }
    Ok(Reply::Value(
        i64::try_from(count).map_err(|_| Errno::INVAL)?,
    ))
}

fn given_groups(caller: &Caller<'_>) -> Result<Vec<u32>> {
    let count = caller.word(0);
    if count > MOST_GROUPS {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = vec![0; count as usize * 4];
    caller.bytes(caller.argument(1), &mut bytes)?;
    let (numbers, _) = bytes.as_chunks();
    Ok(numbers.iter().copied().map(u32::from_ne_bytes).collect())
}

/// The effective and the permitted set that a `capset` asks for: words of the effective, permitted and inheritable
/// set, low halves first.
pub(super) fn given_capabilities(caller: &Caller<'_>) -> Result<(u64, u64)> {
    // _LINUX_CAPABILITY_VERSION_1 has the low halves only.
    const FIRST_VERSION: u32 = 0x1998_0330;
    let mut version = [0; 4];
    caller.bytes(caller.argument(0), &mut version)?;
    let mut data = [0; 24];
    let length = if u32::from_ne_bytes(version) == FIRST_VERSION {
        12
    } else {
        24
    };
    caller.bytes(caller.argument(1), &mut data[..length])?;
    let (words, _) = data.as_chunks();
    let word = |index: usize| u64::from(u32::from_ne_bytes(words[index]));
    Ok((word(0) | word(3) << 32, word(1) | word(4) << 32))
}
