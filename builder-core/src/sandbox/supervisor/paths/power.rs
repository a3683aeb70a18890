//! Capabilities (`capabilities(7)`): played, as ids are. What the command may really do was given up before it began.

use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::ids::given_capabilities;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::{Reply, Result};

/// `_LINUX_CAPABILITY_VERSION_1`, which has the low halves only, and `_3`.
const FIRST_VERSION: u32 = 0x1998_0330;
const THIRD_VERSION: u32 = 0x2008_0522;
/// What a RUN may ever have: the capabilities of a container by Docker's default.
const BOUNDING: u64 = 0xa804_25fb;
/// The last capability that there is: `CAP_CHECKPOINT_RESTORE`.
const LAST: u64 = 40;

impl Server {
    /// `prctl`, `capset`, `capget`.
    pub(super) fn power(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        match caller.call {
            Call::Capget => return self.tell_capabilities(caller),
            Call::Capset => {
                let (effective, permitted) = given_capabilities(caller)?;
                let mut who = Credentials::clone(&self.who());
                if permitted & !who.permitted() != 0 || effective & !permitted != 0 {
                    return Err(Errno::PERM.into());
                }
                who.set_capabilities(effective, permitted);
                self.keeper.processes.change(caller.proc, caller.pid(), who);
                return Ok(Reply::Value(0));
            }
            _ => {}
        }
        let argument = caller.argument(1);
        match caller.descriptor(0) {
            libc::PR_SET_KEEPCAPS => {
                let mut who = Credentials::clone(&self.who());
                who.keep_capabilities(argument == 1);
                self.keeper.processes.change(caller.proc, caller.pid(), who);
                Ok(Reply::Value(0))
            }
            libc::PR_SET_SECUREBITS => {
                let mut who = Credentials::clone(&self.who());
                who.set_secure_bits(caller.word(1));
                self.keeper.processes.change(caller.proc, caller.pid(), who);
                Ok(Reply::Value(0))
            }
            libc::PR_CAPBSET_READ | libc::PR_CAPBSET_DROP if argument > LAST => {
                Err(Errno::INVAL.into())
            }
            libc::PR_CAPBSET_READ => Ok(Reply::Value(i64::from(BOUNDING >> argument & 1 == 1))),
            // A process that is to stay readable for its supervisor, sets nothing beyond what it has, and raises
            // nothing.
            _ => Ok(Reply::Value(0)),
        }
    }

    /// `capget`: of another process of the RUN, what is said of the caller.
    fn tell_capabilities(&self, caller: &Caller<'_>) -> Result<Reply> {
        let mut header = [0; 4];
        caller.bytes(caller.argument(0), &mut header)?;
        let version = u32::from_ne_bytes(header);
        if !matches!(version, FIRST_VERSION | 0x2007_1026 | THIRD_VERSION) {
            caller.write(caller.argument(0), &THIRD_VERSION.to_ne_bytes())?;
            let asks = caller.argument(1) == 0;
            return if asks {
                Ok(Reply::Value(0))
            } else {
                Err(Errno::INVAL.into())
            };
        }
        if caller.argument(1) == 0 {
            return Ok(Reply::Value(0));
        }
        let who = self.who();
        let all = |set: u64| set & ((1 << (LAST + 1)) - 1) & BOUNDING;
        let (effective, permitted) = (all(who.effective()), all(who.permitted()));
        let low = |set: u64| set as u32;
        let high = |set: u64| (set >> 32) as u32;
        // Effective, permitted, inheritable: the low halves, then the high ones.
        let words = [
            low(effective),
            low(permitted),
            0,
            high(effective),
            high(permitted),
            0,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let length = if version == FIRST_VERSION { 12 } else { 24 };
        caller.write(caller.argument(1), &bytes[..length])?;
        Ok(Reply::Value(0))
    }
}
