//! Credentials as Linux keeps them, modelled: user and group ids, groups, capabilities. Pure: see `credentials(7)`,
//! `capabilities(7)`.

use rustix::io::{Errno, Result};

/// Who a RUN starts as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// `CAP_CHOWN`
pub(super) const CHOWN: u64 = 1;
/// `CAP_SETGID`
pub(super) const SETGID: u64 = 1 << 6;
/// `CAP_SETUID`
pub(super) const SETUID: u64 = 1 << 7;
/// `CAP_SYS_CHROOT`
pub(super) const SYS_CHROOT: u64 = 1 << 18;
/// `CAP_MKNOD`
pub(super) const MKNOD: u64 = 1 << 27;
/// The capabilities that follow the file system user id: `CAP_FS_SET`.
const FILE_CAPABILITIES: u64 = CHOWN | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | MKNOD | 1 << 32;
const ALL: u64 = u64::MAX;

/// `SECBIT_NOROOT`
const NO_ROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`
const NO_FIXUP: u32 = 1 << 2;
/// `SECBIT_KEEP_CAPS`
const KEEP: u32 = 1 << 4;
/// Leaves an id as it is.
const SAME: u32 = u32::MAX;

/// The four ids of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// Real id.
    pub real: u32,
    /// Effective id.
    pub effective: u32,
    /// Saved id.
    pub saved: u32,
    /// Id towards the file system.
    pub file: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            file: id,
        }
    }

    fn one_of_three(&self, id: u32) -> bool {
        id == self.real || id == self.effective || id == self.saved
    }

    fn set(&mut self, id: u32, power: bool) -> Result<()> {
        if id == SAME {
            return Err(Errno::INVAL);
        }
        if power {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        (self.effective, self.file) = (id, id);
        Ok(())
    }

    fn set_two(&mut self, real: u32, effective: u32, power: bool) -> Result<()> {
        let old = *self;
        if !power
            && (real != SAME && real != old.real && real != old.effective
                || effective != SAME && !old.one_of_three(effective))
        {
            return Err(Errno::PERM);
        }
        if real != SAME {
            self.real = real;
        }
        if effective != SAME {
            self.effective = effective;
        }
        if real != SAME || effective != SAME && effective != old.real {
            self.saved = self.effective;
        }
        self.file = self.effective;
        Ok(())
    }

    fn set_three(&mut self, wanted: [u32; 3], power: bool) -> Result<()> {
        if !power && !wanted.iter().all(|&id| id == SAME || self.one_of_three(id)) {
            return Err(Errno::PERM);
        }
        for (id, place) in
            wanted
                .into_iter()
                .zip([&mut self.real, &mut self.effective, &mut self.saved])
        {
            if id != SAME {
                *place = id;
            }
        }
        self.file = self.effective;
        Ok(())
    }

    /// Sets the file system id where that is allowed; the old one.
    fn set_file(&mut self, id: u32, power: bool) -> u32 {
        let old = self.file;
        if id != SAME && (power || id == old || self.one_of_three(id)) {
            self.file = id;
        }
        old
    }
}

/// A change of ids, as the calls of these names ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `setuid(2)`, `setgid(2)`
    One(u32),
    /// `setreuid(2)`, `setregid(2)`
    Two(u32, u32),
    /// `setresuid(2)`, `setresgid(2)`
    Three([u32; 3]),
}

/// The credentials of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// User ids.
    pub user: Ids,
    /// Group ids.
    pub group: Ids,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The root directory, where that is played: its number; 0 is that of the RUN.
    pub root: usize,
    effective: u64,
    permitted: u64,
    secure: u32,
}

impl Credentials {
    /// The same with another root directory.
    pub(super) fn in_root(&self, root: usize) -> Self {
        Self {
            root,
            ..self.clone()
        }
    }

    /// Those of a process that starts as somebody: power belongs to user 0.
    pub(super) fn new(identity: &Identity) -> Self {
        let power = if identity.uid == 0 { ALL } else { 0 };
        Self {
            user: Ids::all(identity.uid),
            group: Ids::all(identity.gid),
            groups: identity.groups.clone(),
            root: 0,
            effective: power,
            permitted: power,
            secure: 0,
        }
    }

    /// Whether a capability is in effect.
    pub(super) fn can(&self, capability: u64) -> bool {
        self.effective & capability != 0
    }

    /// The capabilities in effect.
    pub(super) fn effective(&self) -> u64 {
        self.effective
    }

    /// Those that it may take into effect.
    pub(super) fn permitted(&self) -> u64 {
        self.permitted
    }

    /// Whether it belongs to a group as far as files are concerned.
    pub(super) fn in_group(&self, id: u32) -> bool {
        self.group.file == id || self.groups.contains(&id)
    }

    /// The same as `access(2)` asks: with the real ids, and the capabilities that go with them.
    pub(super) fn as_real(&self) -> Self {
        let mut real = self.clone();
        (real.user.file, real.group.file) = (self.user.real, self.group.real);
        if self.secure & NO_FIXUP == 0 {
            real.effective = if self.user.real == 0 {
                self.permitted
            } else {
                0
            };
        }
        real
    }

    /// Changes the user ids, and with them the capabilities.
    pub(super) fn change_user(&mut self, change: Change) -> Result<()> {
        let (old, power) = (self.user, self.can(SETUID));
        apply(&mut self.user, change, power)?;
        if self.secure & NO_FIXUP == 0 {
            self.fix_capabilities(old);
        }
        Ok(())
    }

    /// Changes the group ids.
    pub(super) fn change_group(&mut self, change: Change) -> Result<()> {
        let power = self.can(SETGID);
        apply(&mut self.group, change, power)
    }

    fn fix_capabilities(&mut self, old: Ids) {
        let root = |ids: &Ids| ids.one_of_three(0);
        if root(&old) && !root(&self.user) && self.secure & KEEP == 0 {
            (self.permitted, self.effective) = (0, 0);
        }
        match (old.effective == 0, self.user.effective == 0) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
    }

    /// `setfsuid(2)`: the old id.
    pub(super) fn set_file_user(&mut self, id: u32) -> u32 {
        let power = self.can(SETUID);
        let old = self.user.set_file(id, power);
        if self.secure & NO_FIXUP == 0 {
            match (old == 0, self.user.file == 0) {
                (true, false) => self.effective &= !FILE_CAPABILITIES,
                (false, true) => self.effective |= self.permitted & FILE_CAPABILITIES,
                _ => {}
            }
        }
        old
    }

    /// `setfsgid(2)`: the old id.
    pub(super) fn set_file_group(&mut self, id: u32) -> u32 {
        let power = self.can(SETGID);
        self.group.set_file(id, power)
    }

    /// `setgroups(2)`.
    pub(super) fn set_groups(&mut self, groups: Vec<u32>) -> Result<()> {
        if !self.can(SETGID) {
            return Err(Errno::PERM);
        }
        self.groups = groups;
        self.groups.sort_unstable();
        Ok(())
    }

    /// `PR_SET_KEEPCAPS`.
    pub(super) fn keep_capabilities(&mut self, keep: bool) {
        self.secure = if keep {
            self.secure | KEEP
        } else {
            self.secure & !KEEP
        };
    }

    /// `PR_SET_SECUREBITS`.
    pub(super) fn set_secure_bits(&mut self, bits: u32) {
        self.secure = bits;
    }

    /// `capset(2)`: what the process gave up, or took back of what it still may.
    pub(super) fn set_capabilities(&mut self, effective: u64, permitted: u64) {
        self.permitted &= permitted;
        self.effective = effective & self.permitted;
    }

    /// `execve(2)` of a file, which may set ids.
    pub(super) fn execute(&mut self, user: Option<u32>, group: Option<u32>) {
        self.user.effective = user.unwrap_or(self.user.effective);
        self.group.effective = group.unwrap_or(self.group.effective);
        for ids in [&mut self.user, &mut self.group] {
            (ids.saved, ids.file) = (ids.effective, ids.effective);
        }
        self.secure &= !KEEP;
        let root = self.secure & NO_ROOT == 0;
        let power = |holds: bool| if root && holds { ALL } else { 0 };
        self.permitted = power(self.user.real == 0 || self.user.effective == 0);
        self.effective = power(self.user.effective == 0);
    }
}

fn apply(ids: &mut Ids, change: Change, power: bool) -> Result<()> {
    match change {
        Change::One(id) => ids.set(id, power),
        Change::Two(real, effective) => ids.set_two(real, effective, power),
        Change::Three(wanted) => ids.set_three(wanted, power),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Credentials {
        Credentials::new(&Identity::default())
    }

    fn user(ids: &Ids) -> [u32; 4] {
        [ids.real, ids.effective, ids.saved, ids.file]
    }

    const N: u32 = SAME;

    #[test]
    fn user_ids_change_as_the_kernel_changes_them() {
        use Change::{One, Three, Two};
        let done = |ids: [u32; 4]| Some(ids);
        for (steps, expected) in [
            (vec![One(5)], done([5; 4])),
            (vec![One(5), One(0)], None),
            (vec![One(N)], None),
            (vec![Three([5, 5, 5]), Three([N, 0, N])], None),
            (vec![Three([N, 5, N]), Three([N, 0, N])], done([0; 4])),
            (vec![Three([5, 5, 0]), One(0)], done([5, 0, 0, 0])),
            (vec![Three([5, 5, 0]), One(7)], None),
            (vec![Two(5, 6)], done([5, 6, 6, 6])),
            (vec![Two(N, 6)], done([0, 6, 6, 6])),
            (vec![Two(N, 0)], done([0; 4])),
            (vec![Two(5, 6), Two(6, 5)], done([6, 5, 5, 5])),
            (vec![Two(5, 6), Two(N, 0)], None),
        ] {
            let mut credentials = root();
            let result: Result<()> = steps
                .iter()
                .try_for_each(|&step| credentials.change_user(step));
            assert_eq!(
                result.is_ok().then(|| user(&credentials.user)),
                expected,
                "{steps:?}"
            );
        }
    }

    #[test]
    fn apt_cannot_regain_root() {
        let mut credentials = root();
        credentials.set_groups(vec![65534]).unwrap();
        credentials.change_group(Change::Three([65534; 3])).unwrap();
        credentials.change_user(Change::Three([42; 3])).unwrap();
        assert_eq!(credentials.change_user(Change::One(0)), Err(Errno::PERM));
        assert_eq!(credentials.change_user(Change::Two(N, 0)), Err(Errno::PERM));
        assert_eq!(credentials.change_group(Change::One(0)), Err(Errno::PERM));
        assert_eq!(credentials.set_groups(Vec::new()), Err(Errno::PERM));
        assert!(!credentials.can(CHOWN));
    }

    #[test]
    fn kept_capabilities_come_back_by_capset_and_go_with_exec() {
        let mut credentials = root();
        credentials.keep_capabilities(true);
        credentials.change_user(Change::Three([33; 3])).unwrap();
        assert_eq!(credentials.change_group(Change::One(33)), Err(Errno::PERM));
        credentials.set_capabilities(ALL, ALL);
        credentials.change_group(Change::Three([33; 3])).unwrap();
        credentials.set_groups(vec![3, 1]).unwrap();
        assert!(credentials.in_group(1) && credentials.in_group(33) && !credentials.in_group(0));
        credentials.execute(None, None);
        assert!(!credentials.can(SETUID));
    }

    #[test]
    fn a_saved_id_gives_power_back() {
        let mut credentials = root();
        credentials.change_user(Change::Three([N, 33, N])).unwrap();
        assert!(!credentials.can(CHOWN));
        credentials.change_user(Change::Three([N, 0, N])).unwrap();
        assert!(credentials.can(CHOWN));
        assert_eq!(credentials.set_file_user(33), 0);
        assert!(!credentials.can(CHOWN) && credentials.can(SETUID));
        assert_eq!(credentials.set_file_user(0), 33);
        assert!(credentials.can(CHOWN));
    }

    #[test]
    fn a_file_that_sets_ids_gives_and_takes_power() {
        let identity = Identity {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        };
        let mut credentials = Credentials::new(&identity);
        assert_eq!(credentials.set_file_user(0), 1000);
        assert_eq!(credentials.user.file, 1000);
        credentials.execute(Some(0), Some(42));
        assert_eq!(user(&credentials.user), [1000, 0, 0, 0]);
        assert_eq!(user(&credentials.group), [1000, 42, 42, 42]);
        assert!(credentials.can(SETUID));
        credentials.change_user(Change::Two(N, 1000)).unwrap();
        assert!(!credentials.can(SETUID));
        let mut root = root();
        root.execute(Some(6), None);
        assert!(!root.can(CHOWN));
        root.change_user(Change::Three([N, 0, N])).unwrap();
        assert!(root.can(CHOWN));
    }
}
