//! What a step did, read from the upper directory of its overlay mount.
//!
//! Follows the kernel's documentation of overlayfs, mounted with `userxattr`: a character device 0:0 hides a name, and
//! a directory with the attribute `user.overlay.opaque` hides what the layers below have in it.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, XattrFlags};

use super::chain::{Dir, READING};
use super::compare;
use super::descent::Descent;
use super::findings::Findings;
use super::look::Looker;
use super::metadata::set_metadata;
use super::walk::Names;
use super::{ChangeSink, is_excluded, too_deep, trouble};
use crate::confined::to_c;
use crate::error::{Error, Result};
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::owners::{OwnerEncoding, SideTable};
use crate::store::Store;
use crate::tree::Tree as _;

/// The attribute of a directory that hides what is below it.
pub(super) const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// Gives an upper directory the mode, owner and time of `base`'s root: a mount's root is its upper directory.
///
/// # Errors
/// A directory that can't be changed, and those of `base`.
pub fn prepare_upper(
    upper: &Path,
    encoding: OwnerEncoding,
    table: &mut SideTable,
    base: &View<'_>,
) -> Result<()> {
    let path = ImagePath::root();
    let Some(node) = compare::find(base, &path)? else {
        return Ok(());
    };
    let prepared = Dir::open_root(upper, READING)
        .and_then(|directory| set_metadata(&directory, &node.entry, encoding, table));
    prepared.map_err(trouble("prepare", upper, &path))
}

/// Makes a directory opaque.
pub(super) fn set_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// Tells `sink` what an upper directory changes of `base`, the layers below it. Paths in `excluded`, and what is below
/// them, are not looked at.
///
/// # Errors
/// A file that can't be read, a store that can't be written, a layer that can't be read, and the sink's own.
pub fn overlay_changes(
    store: &Store,
    upper: &Path,
    encoding: OwnerEncoding,
    table: &SideTable,
    base: &View<'_>,
    excluded: &[ImagePath],
    sink: &mut dyn ChangeSink,
) -> Result<()> {
    let looker = Looker { encoding, table };
    let mut walk = UpperWalk {
        root: upper,
        looker,
        base,
        excluded,
        findings: Findings::new(store)?,
        buffer: vec![MaybeUninit::uninit(); 32 * 1024],
    };
    walk.run()?;
    walk.findings.tell(upper, looker, base, sink)
}

struct UpperWalk<'a> {
    root: &'a Path,
    looker: Looker<'a>,
    base: &'a View<'a>,
    excluded: &'a [ImagePath],
    findings: Findings,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A directory being listed.
struct Level {
    path: ImagePath,
    /// Whether nothing of the layers below shows in it.
    opaque: bool,
    /// Names, the last first: of the upper directory, and of the layers below where they don't show.
    names: Vec<CString>,
}

impl UpperWalk<'_> {
    fn run(&mut self) -> Result<()> {
        let path = ImagePath::root();
        let root = Dir::open_root(self.root, READING);
        let root = root.map_err(trouble("open", self.root, &path))?;
        let mut levels = Descent::new(READING);
        let level = self.level(&root, path, false)?;
        levels.push(root, level).map_err(self.failed("open"))?;
        while let Some((directory, level)) = levels.last() {
            let Some(name) = level.names.pop() else {
                levels.pop().map_err(self.failed("read"))?;
                continue;
            };
            let path = level.path.child(name.to_bytes());
            if is_excluded(self.excluded, path.as_relative()) {
                continue;
            }
            let failed = || trouble("read", self.root, &path);
            let parent = directory.as_fd();
            let stat = match rustix::fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Only the layers below have it.
                Err(rustix::io::Errno::NOENT) => {
                    self.findings.whiteout(&path)?;
                    continue;
                }
                Err(error) => return Err(failed()(error)),
            };
            self.visit(parent, &name, &path, &stat)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                if path.is_too_deep() {
                    return Err(too_deep(&path));
                }
                let below = Dir::open(parent, &name, READING).map_err(failed())?;
                let opaque = level.opaque || is_opaque(&below).map_err(failed())?;
                let level = self.level(&below, path, opaque)?;
                levels.push(below, level).map_err(self.failed("open"))?;
            }
        }
        Ok(())
    }

    /// For `map_err`: a refusal on the way.
    fn failed(&self, verb: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error + use<'_> {
        let root = self.root;
        move |error| trouble(verb, root, &ImagePath::root())(error)
    }

    fn visit(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: &ImagePath,
        stat: &Stat,
    ) -> Result<()> {
        let seen = if is_whiteout(stat) {
            None
        } else {
            let seen = self.looker.look(parent, name, path, stat);
            seen.map_err(trouble("read", self.root, path))?
        };
        match seen {
            Some(mut seen) => {
                let changed = compare::is_changed(&mut seen, self.base, self.root)?;
                self.findings.present(&seen, changed)
            }
            None if compare::find(self.base, path)?.is_some() => self.findings.whiteout(path),
            None => Ok(()),
        }
    }

    fn level(&mut self, directory: &Dir, path: ImagePath, opaque: bool) -> Result<Level> {
        let failed = || trouble("list", self.root, &path);
        let listed = Names::read(directory, &mut self.buffer).map_err(failed())?;
        let mut names: Vec<CString> = (0..)
            .map_while(|number| listed.get(number).map(CString::from))
            .collect();
        if opaque {
            for node in self.base.list(&path)? {
                let name = node?.entry.path.file_name().map(to_c).transpose();
                names.extend(name.map_err(trouble("list", self.root, &path))?);
            }
            names.sort_unstable();
            names.dedup();
        }
        names.reverse();
        Ok(Level {
            path,
            opaque,
            names,
        })
    }
}

/// Whether a file hides the layers' file of its name.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn is_opaque(directory: &Dir) -> rustix::io::Result<bool> {
    use rustix::io::Errno;
    let mut value = [0_u8; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}
