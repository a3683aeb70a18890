//! What executes RUN, as the rooms above see it: something that runs a command, and what they must know of how.

use std::path::Path;

use super::choose::Choice;
use super::launch::{Finished, Helper};
use super::spec::{Ids, Mode, RunSpec};
use super::streams::Streams;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::owners::OwnerEncoding;

/// What the rest of a build must know of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineCapabilities {
    /// What a root file system is.
    pub root: RootForm,
    /// How owners are held on the disk.
    pub owners: OwnerEncoding,
    /// Whether a command can have a network of its own.
    pub cuts_network: bool,
    /// Whether what is mounted is moved into the root, so that nobody else may use it meanwhile.
    pub moves_mounts: bool,
    /// Whether programs with the set-user-ID bit become another user.
    pub honours_setuid: bool,
}

/// What an engine's root file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootForm {
    /// An overlay of laid out layers, whose upper directory tells what a RUN changed.
    Overlay,
    /// One directory that is changed in place, and walked after each RUN.
    Directory,
}

/// A way to execute RUN.
pub trait Engine: std::fmt::Debug + Sync {
    /// Executes a RUN to its end. An interrupt asks the command to end, and ends it after ten seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Run`](crate::ErrorKind::Run) where the sandbox can't be made or the program can't be started,
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted). A command that fails is no error here: see
    /// [`Finished::status`].
    fn run(&self, spec: &RunSpec, streams: Streams<'_>, interrupt: &Interrupt) -> Result<Finished>;

    /// What the rest must know of it.
    fn capabilities(&self) -> EngineCapabilities;

    /// Sets file capabilities below `folder` (`security.capability` of version 2), which may need the engine's own
    /// rights.
    ///
    /// # Errors
    /// [`ErrorKind::Run`](crate::ErrorKind::Run) where that is refused.
    fn set_capabilities(&self, folder: &Path, files: &[(ImagePath, Vec<u8>)]) -> Result<()>;
}

/// A real engine: a helper process that isolates commands as was chosen for this machine.
#[derive(Clone, Debug)]
pub struct Sandbox {
    helper: Helper,
    choice: Choice,
}

impl Sandbox {
    /// Executes by `helper` as `choice` says.
    pub fn new(helper: Helper, choice: Choice) -> Self {
        Self { helper, choice }
    }
}

impl Engine for Sandbox {
    fn run(&self, spec: &RunSpec, streams: Streams<'_>, interrupt: &Interrupt) -> Result<Finished> {
        self.helper.run(self.choice.mode, spec, streams, interrupt)
    }

    fn capabilities(&self) -> EngineCapabilities {
        self.choice.capabilities()
    }

    fn set_capabilities(&self, folder: &Path, files: &[(ImagePath, Vec<u8>)]) -> Result<()> {
        self.helper.set_capabilities(folder, files)
    }
}

impl Choice {
    /// What the engine that was chosen can do.
    pub fn capabilities(&self) -> EngineCapabilities {
        let namespaces = matches!(self.mode, Mode::Namespaces { .. });
        EngineCapabilities {
            root: if self.overlay {
                RootForm::Overlay
            } else {
                RootForm::Directory
            },
            owners: match self.mode {
                Mode::Namespaces {
                    ids: Ids::Single, ..
                } => OwnerEncoding::Recorded,
                Mode::Paths { .. } => OwnerEncoding::Complete,
                _ => OwnerEncoding::Native,
            },
            cuts_network: namespaces,
            moves_mounts: matches!(self.mode, Mode::Chroot { .. }),
            honours_setuid: !matches!(self.mode, Mode::Chroot { .. }),
        }
    }
}
