//! The root file system of a stage's RUNs, and what each changed in it: an overlay a RUN where that is possible, else
//! one directory a stage.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{RunInput, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::layer::Layer as NewLayer;
use crate::owners::SideTable;
use crate::rootfs::{self, Layouts, Snapshot};
use crate::sandbox::RootForm;
use crate::sandbox::spec::{Bytes, Overlay, Root};
use crate::store::{TemporaryDirectory, remove_tree};

/// The owners that a command left, in the directory of its RUN.
pub(super) const OWNERS: &str = "owners-after";

/// The root of a stage, as far as it lasts from one RUN to the next.
#[derive(Debug, Default)]
pub(crate) struct StageRoot(Option<Directory>);

/// One directory that the RUNs of a stage change in turn.
#[derive(Debug)]
struct Directory {
    folder: TemporaryDirectory,
    table: SideTable,
    /// How many layers of the stage are in it.
    applied: usize,
    snapshot: Snapshot,
}

/// The root of one RUN.
#[derive(Debug)]
pub(super) struct Prepared {
    /// A directory of this RUN's own, on the store's disk.
    folder: TemporaryDirectory,
    root: Root,
    tables: Vec<Bytes>,
}

impl Prepared {
    /// A directory for what else this RUN needs.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The root, as the sandbox takes it.
    pub(super) fn root(&self) -> Root {
        self.root.clone()
    }

    /// Makes the root ready for another command, which finds what the one before left.
    pub(super) fn begin_again(&self) -> Result<()> {
        begin_again(&self.root)
    }

    /// The side tables that hold in it after a command, which left this one.
    pub(super) fn tables_and(&self, table: &SideTable) -> Result<Vec<Bytes>> {
        let file = self.folder.path().join(OWNERS);
        write(&file, table.to_text().as_bytes())?;
        Ok(self.tables(&[file.into()]))
    }

    /// Gives the directory another name, under which it stays.
    pub(super) fn rename(self, to: &Path) -> Result<()> {
        self.folder.rename(to)?;
        Ok(())
    }

    /// The side tables that hold in it, with those of its mounts.
    pub(super) fn tables(&self, more: &[Bytes]) -> Vec<Bytes> {
        self.tables.iter().chain(more).cloned().collect()
    }
}

impl StageRoot {
    /// Lays out the layers so far.
    pub(super) fn prepare(&mut self, input: &RunInput<'_, '_>) -> Result<Prepared> {
        let folder = input.shared.store.temporary_directory()?;
        if input.runner.capabilities.root == RootForm::Overlay {
            return prepare_overlay(input, folder);
        }
        let table_file = folder.path().join("owners");
        let directory = match self.0.take() {
            Some(directory) => bring_up_to_date(input, directory)?,
            None => begin(input)?,
        };
        write(&table_file, directory.table.to_text().as_bytes())?;
        let root = Root::Directory(directory.folder.path().join("root").into());
        self.0 = Some(directory);
        Ok(Prepared {
            folder,
            root,
            tables: vec![table_file.into()],
        })
    }

    /// Finds what a RUN changed.
    pub(super) fn changes(
        &mut self,
        prepared: &Prepared,
        input: &RunInput<'_, '_>,
        table: &SideTable,
        sink: &mut Sink<'_, '_>,
    ) -> Result<()> {
        let (store, encoding) = (input.shared.store, input.runner.encoding());
        let Some(directory) = &mut self.0 else {
            let upper = prepared.folder().join("upper");
            return rootfs::overlay_changes(store, &upper, encoding, table, input.base, &[], sink);
        };
        directory.table = table.clone();
        directory.snapshot = rootfs::walk_changes(
            store,
            &directory.folder.path().join("root"),
            &directory.snapshot,
            encoding,
            &directory.table,
            input.base,
            &[],
            sink,
        )?;
        Ok(())
    }

    /// Keeps what a RUN left for the next one, now that its layer is made.
    pub(super) fn keep(
        &mut self,
        prepared: &Prepared,
        input: &RunInput<'_, '_>,
        made: &NewLayer,
        table: &SideTable,
    ) -> Result<()> {
        if let Some(directory) = &mut self.0 {
            directory.applied += 1;
            return Ok(());
        }
        let layer = Layer::made(made.descriptor.clone(), made.diff_id);
        let upper = prepared.folder().join("upper");
        with_layouts(input, &mut |layouts| {
            layouts.adopt(input.layers, &layer, &upper, table)
        })
    }
}

/// Calls `work` with the way to lay out layers.
pub(super) fn with_layouts<T>(
    input: &RunInput<'_, '_>,
    work: &mut dyn FnMut(&Layouts<'_>) -> Result<T>,
) -> Result<T> {
    let engine = &input.runner.engine;
    work(&Layouts {
        store: input.shared.store,
        source: input.shared.source,
        encoding: input.runner.encoding(),
        capabilities: &|root, files| engine.set_capabilities(root, files),
        replacements: Some(input.shared.replacements),
        interrupt: input.shared.interrupt,
    })
}

/// The layers below an empty directory, in which the command's changes appear.
fn prepare_overlay(input: &RunInput<'_, '_>, folder: TemporaryDirectory) -> Result<Prepared> {
    let lowers = with_layouts(input, &mut |layouts| layouts.lowers(input.layers))?;
    let mut table = SideTable::default();
    for name in ["upper", "work", "root"] {
        make_directory(&folder.path().join(name))?;
    }
    let upper = folder.path().join("upper");
    rootfs::prepare_upper(&upper, input.runner.encoding(), &mut table, input.base)?;
    let owners = lowers.iter().filter(|lower| lower.owners.exists());
    Ok(Prepared {
        root: Root::Overlay(Overlay {
            lowers: lowers
                .iter()
                .map(|lower| lower.tree.as_path().into())
                .collect(),
            folder: folder.path().into(),
        }),
        tables: owners.map(|lower| lower.owners.as_path().into()).collect(),
        folder,
    })
}

/// Lays out all layers in a new directory.
fn begin(input: &RunInput<'_, '_>) -> Result<Directory> {
    let store = input.shared.store;
    let folder = store.temporary_directory()?;
    let root = folder.path().join("root");
    make_directory(&root)?;
    let mut table = SideTable::default();
    with_layouts(input, &mut |layouts| {
        layouts.apply(&[], input.layers, &root, &mut table)
    })?;
    rootfs::prepare_upper(&root, input.runner.encoding(), &mut table, input.base)?;
    Ok(Directory {
        snapshot: Snapshot::take(store, &root)?,
        folder,
        table,
        applied: input.layers.len(),
    })
}

/// Adds the layers that other instructions made since the last RUN.
fn bring_up_to_date(input: &RunInput<'_, '_>, mut directory: Directory) -> Result<Directory> {
    let Some((below, new)) = input.layers.split_at_checked(directory.applied) else {
        let message = "a stage lost a layer between two steps";
        return Err(Error::new(ErrorKind::Internal, message));
    };
    let root = directory.folder.path().join("root");
    let table = &mut directory.table;
    if !new.is_empty() {
        with_layouts(input, &mut |layouts| {
            layouts.apply(below, new, &root, &mut *table)
        })?;
        directory.snapshot = Snapshot::take(input.shared.store, &root)?;
        directory.applied = input.layers.len();
    }
    // A layer says of the root what was changed of it, and nothing of its time alone.
    rootfs::prepare_upper(
        &root,
        input.runner.encoding(),
        &mut directory.table,
        input.base,
    )?;
    Ok(directory)
}

/// Makes a root ready for another command, which finds what the one before left.
pub(super) fn begin_again(root: &Root) -> Result<()> {
    let Root::Overlay(overlay) = root else {
        return Ok(());
    };
    // The kernel's mark that an overlay was mounted without flushes (it refuses to mount such a one again), and the names
    // of the layers.
    for left in ["work", "l"] {
        let path = overlay.folder.as_path().join(left);
        remove(&path).map_err(|error| trouble(&path, error))?;
    }
    make_directory(&overlay.folder.as_path().join("work"))
}

/// Removes a directory, or a link to one.
fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_symlink() {
        return std::fs::remove_file(path);
    }
    match remove_tree(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_directory(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o755).create(path);
    made.map_err(|error| trouble(path, error))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).map_err(|error| trouble(path, error))
}

fn trouble(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot make `{}`", path.display());
    Error::new(ErrorKind::Store, message).with_source(error)
}
