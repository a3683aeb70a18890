//! Names of local sockets (`unix(7)`) as they stand in a caller's memory.

use std::ffi::CString;

use rustix::io::Errno;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::caller::Caller;

/// The size of `sockaddr_un`.
const LONGEST: usize = 110;

/// A name of a local socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A path.
    Path(CString),
    /// A name without a file, which belongs to the network.
    Abstract(Vec<u8>),
}

/// The name at these arguments; none where the address is of another family, or too short or long to be a name.
pub(super) fn given(caller: &Caller<'_>, place: usize) -> Result<Option<Name>> {
    let length = caller.word(place + 1) as usize;
    if !(3..=LONGEST).contains(&length) {
        return Ok(None);
    }
    let mut address = vec![0; length];
    caller.bytes(caller.argument(place), &mut address)?;
    Ok(parse(&address)?)
}

fn parse(address: &[u8]) -> rustix::io::Result<Option<Name>> {
    let [low, high, name @ ..] = address else {
        return Ok(None);
    };
    if u16::from_ne_bytes([*low, *high]) != libc::AF_UNIX as u16 {
        return Ok(None);
    }
    if let [0, name @ ..] = name {
        return Ok(Some(Name::Abstract(name.to_vec())));
    }
    let end = name.iter().position(|&byte| byte == 0);
    let name = &name[..end.unwrap_or(name.len())];
    let path = CString::new(name).map_err(|_| Errno::INVAL)?;
    Ok(Some(Name::Path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let address = |family: u16, name: &[u8]| [&family.to_ne_bytes(), name].concat();
        let unix = |name: &[u8]| parse(&address(1, name)).unwrap();
        assert_eq!(
            unix(b"/run/x\0rest"),
            Some(Name::Path(c"/run/x".to_owned()))
        );
        assert_eq!(unix(b"x"), Some(Name::Path(c"x".to_owned())));
        assert_eq!(unix(b"\0x"), Some(Name::Abstract(b"x".to_vec())));
        assert_eq!(parse(&address(2, b"/x")).unwrap(), None);
    }
}
