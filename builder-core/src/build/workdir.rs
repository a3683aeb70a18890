//! WORKDIR: the directory that it makes, as a layer.

use crate::build::layer::LayerMaker;
use crate::build::{owner, target};
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::Layer;
use crate::plan::step::WorkdirStep;
use crate::timestamp::Timestamp;
use crate::tree::Tree;
use crate::tree::graft::Graft;
use crate::tree::merge::merge;
use crate::tree::resolve::{Resolved, resolve};

/// Makes the directory and what is missing above it, owned by the step's user. A directory that exists is left as it
/// is, and the layer is empty.
///
/// # Errors
/// A file in the way, links in a circle, a user that the stage doesn't know.
pub(crate) fn execute(
    step: &WorkdirStep,
    base: &dyn Tree,
    now: Timestamp,
    mut maker: LayerMaker<'_>,
) -> Result<Layer> {
    let written = ImagePath::clean(&step.path);
    let path = match resolve(base, &written, true)? {
        Resolved::Found(node) if node.entry.is_directory() => return maker.finish(),
        Resolved::Found(node) => {
            let message = format!(
                "`{}` can't be the working directory: it is a file in {}",
                node.entry.path,
                base.describe()
            );
            return Err(Error::new(ErrorKind::Dockerfile, message).with_help("choose another path"));
        }
        Resolved::Missing(path) => path,
        Resolved::NotADirectory(file) => return Err(target::below_file(&written, &file, base)),
        Resolved::Loop(link) => return Err(target::circle(&written, &link, base)),
    };
    let mut made = Entry::directory(ImagePath::root(), now);
    (made.uid, made.gid) = owner::of_user(&step.user, base)?;
    let mut graft = Graft::default();
    graft.at(&path);
    let conflict = |_| {
        Error::new(
            ErrorKind::Internal,
            "a working directory met something on its way",
        )
    };
    merge(&graft, Some(base), &made, &conflict, &mut |merged| {
        maker.append(merged, &|_| ())
    })?;
    maker.finish()
}
