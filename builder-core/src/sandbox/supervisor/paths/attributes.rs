//! Calls on extended attributes (`xattr(7)`): the supervisor's own are not there, and file capabilities are one of them.

use std::ffi::{CStr, CString};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::owners::{ATTRIBUTE, CAPABILITIES};
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::{READ, WRITE, may};
use crate::sandbox::supervisor::paths::walk::Found;
use crate::sandbox::supervisor::{Reply, Result};

/// `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`
const LONGEST: usize = 65536;
/// What programs call file capabilities.
const SHOWN: &CStr = c"security.capability";
/// `CAP_SETFCAP`
const SET_CAPABILITIES: u64 = 1 << 31;

impl Server {
    /// `getxattr`, `setxattr`, `listxattr`, `removexattr` and their relatives.
    pub(super) fn attributes(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        use Call::{
            Fgetxattr, Flistxattr, Fremovexattr, Fsetxattr, Lgetxattr, Llistxattr, Lremovexattr,
            Lsetxattr,
        };
        let found = match caller.call {
            Fgetxattr | Fsetxattr | Flistxattr | Fremovexattr => {
                self.opened(caller, caller.descriptor(0))?
            }
            Lgetxattr | Lsetxattr | Llistxattr | Lremovexattr => {
                self.target(caller, libc::AT_SYMLINK_NOFOLLOW, 0)?
            }
            _ => self.target(caller, 0, 0)?,
        };
        if !matches!(found, Found::File(..)) {
            return match caller.call {
                Call::Listxattr | Llistxattr | Flistxattr => Ok(Reply::Value(0)),
                Call::Getxattr | Lgetxattr | Fgetxattr => Err(Errno::NODATA.into()),
                _ => Err(Errno::PERM.into()),
            };
        }
        let path = own_path(self.object(&found));
        match caller.call {
            Call::Listxattr | Llistxattr | Flistxattr => list(caller, &path),
            Call::Getxattr | Lgetxattr | Fgetxattr => {
                let name = self.attribute(caller, &found, READ)?;
                get(caller, &path, &name)
            }
            Call::Setxattr | Lsetxattr | Fsetxattr => {
                let name = self.attribute(caller, &found, WRITE)?;
                set(caller, &path, &name)
            }
            _ => {
                let name = self.attribute(caller, &found, WRITE)?;
                rustix::fs::removexattr(path, &name)?;
                Ok(Reply::Value(0))
            }
        }
    }

    /// The name on the disk of the attribute that a call names, if it may be used in this way.
    fn attribute(&self, caller: &Caller<'_>, found: &Found, wanted: u32) -> Result<CString> {
        let name = caller.string(caller.argument(1))?;
        let writes = wanted == WRITE;
        if name.as_c_str() == ATTRIBUTE || name.as_c_str() == CAPABILITIES {
            return Err(if writes { Errno::PERM } else { Errno::NODATA }.into());
        }
        let Some((seen, tree)) = self.seen(found)? else {
            return Err(Errno::PERM.into());
        };
        if writes {
            self.check_writable(tree)?;
        }
        let who = self.who();
        if name.as_c_str() == SHOWN {
            if writes && !who.can(SET_CAPABILITIES) {
                return Err(Errno::PERM.into());
            }
            return Ok(CAPABILITIES.to_owned());
        }
        if name.to_bytes().starts_with(b"user.") && !may(&who, &seen, wanted) {
            return Err(Errno::ACCESS.into());
        }
        Ok(name)
    }
}

fn list(caller: &Caller<'_>, path: &CStr) -> Result<Reply> {
    let length = rustix::fs::listxattr_query(path)?;
    let mut names = vec![0; length.min(LONGEST)];
    let length = rustix::fs::listxattr(path, &mut names[..])?;
    give(caller, (1, 2), &shown(&names[..length]))
}

fn get(caller: &Caller<'_>, path: &CStr, name: &CStr) -> Result<Reply> {
    let mut value = vec![0; LONGEST];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    give(caller, (2, 3), &value[..length])
}

fn set(caller: &Caller<'_>, path: &CStr, name: &CStr) -> Result<Reply> {
    let length = caller.argument(3) as usize;
    if length > LONGEST {
        return Err(Errno::TOOBIG.into());
    }
    let mut value = vec![0; length];
    caller.bytes(caller.argument(2), &mut value)?;
    let flags = XattrFlags::from_bits_retain(caller.word(4));
    rustix::fs::setxattr(path, name, &value, flags)?;
    Ok(Reply::Value(0))
}

/// Gives the caller bytes, at the place and of the size that these arguments name; a size of 0 asks how many.
fn give(caller: &Caller<'_>, (place, size): (usize, usize), bytes: &[u8]) -> Result<Reply> {
    let size = caller.argument(size);
    if size > 0 {
        if size < bytes.len() as u64 {
            return Err(Errno::RANGE.into());
        }
        caller.write(caller.argument(place), bytes)?;
    }
    Ok(Reply::Value(
        i64::try_from(bytes.len()).map_err(|_| Errno::RANGE)?,
    ))
}

/// The names that programs see.
fn shown(names: &[u8]) -> Vec<u8> {
    let each = names.split_inclusive(|&byte| byte == 0);
    let each = each.filter_map(|name| match name {
        name if name == ATTRIBUTE.to_bytes_with_nul() => None,
        name if name == CAPABILITIES.to_bytes_with_nul() => Some(SHOWN.to_bytes_with_nul()),
        name => Some(name),
    });
    each.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_shown_and_owners_are_not() {
        let list = b"user.a\0user.rbuild.owner\0user.rbuild.capability\0";
        assert_eq!(shown(list), b"user.a\0security.capability\0");
        assert_eq!(shown(b""), b"");
    }
}
