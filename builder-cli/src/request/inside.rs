//! Files of a context that are links: what is read of a context stays in it.

use std::path::Path;

use builder_core::{Error, ErrorKind, Result};

/// Refuses a file of the context that is a link out of it: who wrote the context is not who may read everything here.
pub(super) fn stays_inside(path: &Path, context: &Path) -> Result<()> {
    if !path.is_symlink() {
        return Ok(());
    }
    let (Ok(real), Ok(root)) = (path.canonicalize(), context.canonicalize()) else {
        return Ok(());
    };
    if real.starts_with(&root) {
        return Ok(());
    }
    let message = format!(
        "`{}` is a link to `{}`, out of the build context",
        path.display(),
        real.display()
    );
    Err(Error::new(ErrorKind::Dockerfile, message).with_help(
        "name the file itself, a Dockerfile with `-f` and an ignore file with `--ignorefile`",
    ))
}
