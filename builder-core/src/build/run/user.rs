//! The user of a RUN: from the text of USER to numbers, groups and a home, by the stage's own accounts.
//!
//! Two numbers are taken as they are. Everything else is looked up, no USER as user 0: a user's own groups count only
//! where the line names no group (`docs/dockerfile-support.md`, USER). The primary group is always one of the process's
//! groups, and the first: where a group may do less than others, a process without it among its own would be one of the
//! others (CVE-2022-2995).

use crate::error::Result;
use crate::image::accounts::{self, Group, User};
use crate::sandbox::spec::UserIds;
use crate::tree::Tree;

/// The ids of `user`, and the home that `/etc/passwd` gives it.
///
/// # Errors
/// A name that the stage's accounts don't hold.
pub(super) fn resolve(user: &str, base: &dyn Tree) -> Result<(UserIds, Option<String>)> {
    let users = accounts::users(base)?.unwrap_or_default();
    let mut ids = ids(user, &users, base)?;
    if !ids.groups.contains(&ids.gid) {
        ids.groups.insert(0, ids.gid);
    }
    let home = users.into_iter().find(|one| one.uid == ids.uid);
    let home = home.map(|one| one.home).filter(|home| !home.is_empty());
    Ok((ids, home))
}

fn ids(user: &str, users: &[User], base: &dyn Tree) -> Result<UserIds> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let name = if name.is_empty() { "0" } else { name };
    let number = |text: &str| text.parse::<u32>().ok();
    if let (Some(uid), Some(gid)) = (number(name), number(group)) {
        let groups = Vec::new();
        return Ok(UserIds { uid, gid, groups });
    }
    let known = users.iter().find(|one| one.name == name).or_else(|| {
        let uid = number(name)?;
        users.iter().find(|one| one.uid == uid)
    });
    let (uid, own_group) = match (known, number(name)) {
        (Some(known), _) => (known.uid, known.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) if name == "root" => (0, 0),
        (None, None) => {
            let found = accounts::user(base, name)?;
            (found.uid, found.gid)
        }
    };
    let mut ids = UserIds {
        uid,
        gid: own_group,
        groups: Vec::new(),
    };
    if group.is_empty() {
        let name = known.map_or(name, |known| &known.name);
        let all = accounts::groups(base)?.unwrap_or_default();
        let member = |one: &&Group| one.members.iter().any(|member| member == name);
        ids.groups = all.iter().filter(member).map(|one| one.gid).collect();
    } else {
        ids.gid = match number(group) {
            Some(gid) => gid,
            None => accounts::group(base, group)?,
        };
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::image_path::ImagePath;
    use crate::timestamp::Timestamp;
    use crate::tree::files::{Content, Files};

    fn tree() -> Files {
        let mut files = Files::default();
        let folder = Entry::directory(ImagePath::clean("/etc"), Timestamp::default());
        files.add(folder, Content::Text(Vec::new()));
        for (path, text) in [
            (
                "/etc/passwd",
                "root:x:0:0::/root:\napp:x:1234:2345::/home/app:\nlone:x:7:8:::\nin:x:9:3456:::\n",
            ),
            (
                "/etc/group",
                "root:x:0:root\nwheel:x:10:root\nother:x:99:app,in\nextra:x:3456:app,lone,in\n",
            ),
        ] {
            let path = ImagePath::clean(path);
            let entry = Entry::file(path, text.len() as u64, 0o644, Timestamp::default());
            files.add(entry, Content::Text(text.as_bytes().to_vec()));
        }
        files
    }

    fn check(user: &str, uid: u32, gid: u32, groups: &[u32], home: Option<&str>) {
        let (ids, found) = resolve(user, &tree()).unwrap();
        let expected = UserIds {
            uid,
            gid,
            groups: groups.to_vec(),
        };
        assert_eq!((ids, found.as_deref()), (expected, home), "{user}");
    }

    #[test]
    fn users_are_looked_up_in_the_stage() {
        check("", 0, 0, &[0, 10], Some("/root"));
        check("root", 0, 0, &[0, 10], Some("/root"));
        check("0", 0, 0, &[0, 10], Some("/root"));
        check("0:0", 0, 0, &[0], Some("/root"));
        check("root:root", 0, 0, &[0], Some("/root"));
        check(":99", 0, 99, &[99], Some("/root"));
        check("app", 1234, 2345, &[2345, 99, 3456], Some("/home/app"));
        check("1234", 1234, 2345, &[2345, 99, 3456], Some("/home/app"));
        check("1234:2345", 1234, 2345, &[2345], Some("/home/app"));
        check("app:extra", 1234, 3456, &[3456], Some("/home/app"));
        check("app:5", 1234, 5, &[5], Some("/home/app"));
        check("77", 77, 0, &[0], None);
        check("77:88", 77, 88, &[88], None);
        check("lone", 7, 8, &[8, 3456], None);
        check("in", 9, 3456, &[99, 3456], None);
        assert!(resolve("nobody-here", &tree()).is_err());
        assert!(resolve("app:nogroup", &tree()).is_err());
    }
}
