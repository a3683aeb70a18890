//! What a command's standard streams are connected to.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::event::Stream;

/// Takes what a command prints, as it prints it.
pub type TakeOutput<'a> = &'a mut dyn FnMut(Stream, &[u8]);

/// The streams of one command.
pub struct Streams<'a> {
    /// Where its input comes from.
    pub input: Input<'a>,
    /// Where its output goes; that of a terminal is [`Stream::Stdout`].
    pub output: TakeOutput<'a>,
}

/// Where a command's input comes from. It never gets a descriptor of its caller's: what is read is passed on.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Nowhere: `/dev/null`.
    Nothing,
    /// From what can be read here.
    Bytes(BorrowedFd<'a>),
    /// It has a terminal of its own.
    Terminal {
        /// What is typed there; nothing without it.
        keys: Option<BorrowedFd<'a>>,
        /// The terminal whose size it takes, at each moment; 80 by 24 without one.
        window: Option<BorrowedFd<'a>>,
    },
}

/// The same as the helper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputKind {
    Nothing,
    Bytes,
    Terminal,
}

impl Input<'_> {
    pub(super) fn kind(&self) -> InputKind {
        match self {
            Self::Nothing => InputKind::Nothing,
            Self::Bytes(_) => InputKind::Bytes,
            Self::Terminal { .. } => InputKind::Terminal,
        }
    }
}

impl<'a> Streams<'a> {
    /// No input, and this for the output.
    pub fn output(output: TakeOutput<'a>) -> Self {
        Self {
            input: Input::Nothing,
            output,
        }
    }
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}
