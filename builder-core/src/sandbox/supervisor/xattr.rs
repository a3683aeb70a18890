//! Calls on extended attributes: ours is not there.

use rustix::io::Errno;

use crate::owners::ATTRIBUTE;
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::{Reply, Result};

/// `XATTR_LIST_MAX`
const LONGEST_LIST: usize = 65536;

impl Keeper {
    /// `getxattr`, `setxattr`, `listxattr`, `removexattr` and their relatives.
    pub(super) fn attributes(caller: &Caller<'_>) -> Result<Reply> {
        match caller.call {
            Call::Listxattr | Call::Llistxattr | Call::Flistxattr => return list(caller),
            _ if caller.string(caller.argument(1))?.as_c_str() != ATTRIBUTE => {}
            Call::Setxattr | Call::Lsetxattr | Call::Fsetxattr => return Err(Errno::PERM.into()),
            _ => return Err(Errno::NODATA.into()),
        }
        Ok(Reply::Continue)
    }
}

fn list(caller: &Caller<'_>) -> Result<Reply> {
    let object = if caller.call == Call::Flistxattr {
        caller.opened(caller.descriptor(0))?
    } else {
        let (directory, path) = caller.path()?;
        caller.object(directory, &path, caller.call == Call::Listxattr)?
    };
    let path = own_path(&object);
    let length = rustix::fs::listxattr_query(&path)?;
    let mut names = vec![0; length.min(LONGEST_LIST)];
    let length = rustix::fs::listxattr(&path, &mut names[..])?;
    let Some(shown) = without_ours(&names[..length]) else {
        return Ok(Reply::Continue);
    };
    let size = caller.argument(2) as usize;
    if size > 0 {
        if size < shown.len() {
            return Err(Errno::RANGE.into());
        }
        caller.write(caller.argument(1), &shown)?;
    }
    Ok(Reply::Value(
        i64::try_from(shown.len()).map_err(|_| Errno::RANGE)?,
    ))
}

/// A list of names without ours; none where it isn't in the list.
fn without_ours(names: &[u8]) -> Option<Vec<u8>> {
    let ours = ATTRIBUTE.to_bytes_with_nul();
    let each = || names.split_inclusive(|&byte| byte == 0);
    each().any(|name| name == ours).then(|| {
        each()
            .filter(|&name| name != ours)
            .flatten()
            .copied()
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_attribute_is_taken_from_a_list() {
        assert_eq!(without_ours(b"user.a\0user.rbuild.owner2\0"), None);
        assert_eq!(without_ours(b""), None);
        assert_eq!(without_ours(b"user.rbuild.owner\0"), Some(Vec::new()));
        let list = b"user.a\0user.rbuild.owner\0user.b\0";
        assert_eq!(without_ours(list), Some(b"user.a\0user.b\0".to_vec()));
    }
}
