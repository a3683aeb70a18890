//! Users and groups of an instruction -> numbers, with the stage's own accounts.

use crate::error::Result;
use crate::image::accounts;
use crate::plan::step::{Account, Chown};
use crate::tree::Tree;

/// The numbers that `--chown` means in `base`.
///
/// # Errors
/// A name that the stage's `/etc/passwd` or `/etc/group` doesn't hold.
pub(crate) fn resolve(chown: &Chown, base: &dyn Tree) -> Result<(u32, u32)> {
    let (uid, own_group) = match &chown.user {
        None => (0, 0),
        Some(Account::Id(id)) => (*id, *id),
        Some(Account::Name(name)) => {
            let user = accounts::user(base, name)?;
            (user.uid, user.gid)
        }
    };
    let gid = match &chown.group {
        None => own_group,
        Some(Account::Id(id)) => *id,
        Some(Account::Name(name)) => accounts::group(base, name)?,
    };
    Ok((uid, gid))
}

/// The numbers of USER: `name`, `uid`, `name:group`, `uid:gid` and mixtures; empty is root. A numeric user that the
/// stage doesn't know has group 0; see `docs/dockerfile-support.md`, "USER".
///
/// # Errors
/// A name that the stage's accounts don't hold.
pub(crate) fn of_user(user: &str, base: &dyn Tree) -> Result<(u32, u32)> {
    if user.is_empty() {
        return Ok((0, 0));
    }
    let (name, group) = user
        .split_once(':')
        .map_or((user, None), |(name, group)| (name, Some(group)));
    let (uid, own_group) = match name.parse::<u32>() {
        Ok(uid) if group.is_some_and(|group| group.parse::<u32>().is_ok()) => (uid, 0),
        Ok(uid) => {
            let known = accounts::users(base)?
                .into_iter()
                .flatten()
                .find(|user| user.uid == uid);
            (uid, known.map_or(0, |user| user.gid))
        }
        Err(_) if name.is_empty() => (0, 0),
        Err(_) => {
            let user = accounts::user(base, name)?;
            (user.uid, user.gid)
        }
    };
    let gid = match group {
        None | Some("") => own_group,
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => accounts::group(base, group)?,
        },
    };
    Ok((uid, gid))
}
