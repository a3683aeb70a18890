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

/// The owner of what WORKDIR makes under USER: read as `--chown` is, so that a number alone is its own group.
///
/// # Errors
/// A name that the stage's accounts don't hold.
pub(crate) fn of_user(user: &str, base: &dyn Tree) -> Result<(u32, u32)> {
    let account = |text: &str| match text.parse() {
        Ok(id) => Account::Id(id),
        Err(_) if text == "root" => Account::Id(0),
        Err(_) => Account::Name(text.to_owned()),
    };
    let (name, group) = user
        .split_once(':')
        .map_or((user, None), |(name, group)| (name, Some(group)));
    let part = |text: &str| (!text.is_empty()).then(|| account(text));
    let chown = Chown {
        user: part(name),
        group: group.and_then(part),
    };
    resolve(&chown, base)
}
