//! The root of a RUN that failed, kept in the store until the next one, so that somebody can look at it later.
//!
//! What belongs to other stages, caches and secrets is not kept: the root itself is, with the files of every RUN, its
//! environment, user and working directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Ready, RunInput, root};
use crate::cache::inventory::FAILED;
use crate::error::{Error, ErrorKind, Result};
use crate::owners::SideTable;
use crate::sandbox::spec::{Bytes, Mount, MountKind, Root, RunSpec};
use crate::store::{Store, remove_tree};

/// What is said of it, in that folder.
const SPEC: &str = "spec.json";

/// A failed RUN, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// How owners are held in its root: only an engine that holds them so can look at it.
    pub(crate) encoding: String,
    /// The instruction.
    pub(crate) step: String,
    /// What the engine was asked.
    pub(crate) spec: RunSpec,
}

/// Keeps the root as the command left it; `table` are the owners in it.
///
/// # Errors
/// [`ErrorKind::Store`] where it can't be written.
pub(super) fn keep(input: &RunInput<'_, '_>, ready: Ready, table: &SideTable) -> Result<()> {
    let Ready {
        prepared,
        world,
        mut spec,
    } = ready;
    prepared.begin_again()?;
    spec.tables = prepared.tables_and(table)?;
    let secrets = world.env_names();
    spec.env
        .retain(|(name, _)| !secrets.contains(&name.as_str()));
    let own = prepared.folder().to_owned();
    spec.mounts.retain(|mount| is_kept(mount, &own));
    let place = input.shared.store.root().join(FAILED);
    if let Root::Directory(root) = &spec.root {
        let moved = own.join("root");
        std::fs::rename(root.as_path(), &moved).map_err(|error| trouble(&moved, error))?;
        spec.root = Root::Directory(moved.into());
    }
    // Nothing that lies in a temporary directory has that name afterwards.
    let spec = moved(spec, &own, &place);
    let failed = Failed {
        encoding: input.runner.encoding().name().to_owned(),
        step: input.step.argv.join(" "),
        spec,
    };
    let text = serde_json::to_vec(&failed).map_err(|error| trouble(&place, error.into()))?;
    std::fs::write(own.join(SPEC), text).map_err(|error| trouble(&place, error))?;
    match remove_tree(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(trouble(&place, error));
        }
        _ => {}
    }
    prepared.rename(&place)
}

/// What was kept.
///
/// # Errors
/// [`ErrorKind::Usage`] where there is none, or layers that it stands on are gone.
pub(crate) fn load(store: &Store) -> Result<Failed> {
    let place = store.root().join(FAILED);
    let text = std::fs::read(place.join(SPEC));
    let failed = text
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let failed: Failed = failed.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no root of a failed RUN is kept")
            .with_help("build with `--on-failure=keep`: the next RUN that fails leaves its root")
    })?;
    let lowers = match &failed.spec.root {
        Root::Overlay(overlay) => overlay.lowers.as_slice(),
        Root::Directory(_) => &[],
    };
    if let Some(gone) = lowers.iter().find(|lower| !lower.as_path().is_dir()) {
        let message = format!(
            "the root of the failed RUN stands on a layer that was pruned: `{}`",
            gone.as_path().display()
        );
        return Err(Error::new(ErrorKind::Usage, message).with_help("build again"));
    }
    Ok(failed)
}

/// Takes note of the owners after another command in it.
///
/// # Errors
/// [`ErrorKind::Store`] where that can't be written.
pub(crate) fn update(store: &Store, table: &SideTable) -> Result<()> {
    let path = store.root().join(FAILED).join(root::OWNERS);
    std::fs::write(&path, table.to_text()).map_err(|error| trouble(&path, error))
}

/// Whether what a mount shows is still there when the build is over.
fn is_kept(mount: &Mount, own: &Path) -> bool {
    match &mount.kind {
        MountKind::Bind { source, .. } => source.as_path().starts_with(own),
        MountKind::Host { .. } | MountKind::Tmpfs { .. } => true,
        MountKind::Overlay { .. } | MountKind::Secret { .. } => false,
    }
}

/// The same, with what lies in one folder in another.
fn moved(mut spec: RunSpec, from: &Path, to: &Path) -> RunSpec {
    let change = |path: &mut Bytes| {
        let inside = path.as_path().strip_prefix(from).map(Path::to_owned);
        if let Ok(inside) = inside {
            *path = joined(to, &inside).into();
        }
    };
    match &mut spec.root {
        Root::Overlay(overlay) => change(&mut overlay.folder),
        Root::Directory(path) => change(path),
    }
    spec.tables.iter_mut().for_each(change);
    for mount in &mut spec.mounts {
        if let MountKind::Bind { source, .. } = &mut mount.kind {
            change(source);
        }
    }
    spec
}

fn joined(folder: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() {
        return folder.to_owned();
    }
    folder.join(inside)
}

fn trouble(path: &Path, error: std::io::Error) -> Error {
    let message = format!(
        "the root of the failed RUN can't be kept as `{}`",
        path.display()
    );
    Error::new(ErrorKind::Store, message).with_source(error)
}
