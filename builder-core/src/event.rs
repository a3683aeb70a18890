//! What a build says while it runs: one closed list of plain values, read by every display.
//!
//! No event holds formatted text, except what the user wrote (the instruction) or a process printed. `docs/events.md`
//! describes the same list as JSON lines.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::source::{SourceFile, Span};

/// Names a step within one build; numbers start at 1 in the order in which steps stand in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// Which output of a process a piece of text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What became of a blob that was to be in a registry, or in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The registry had it.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted {
        /// Which.
        from: String,
    },
    /// It was sent.
    Pushed,
    /// It came into the store.
    Pulled,
}

/// Why a step is executed again: one difference between it and the nearest one that was executed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing like it was executed before.
    New,
    /// What it depends on differs in a part.
    Part {
        /// Its name: `command`, `env PATH`, `base`, `steps`; `docs/cache.md` has the list.
        name: String,
        /// What it was; none where it is new.
        before: Option<String>,
        /// What it is; none where it is gone.
        now: Option<String>,
    },
    /// A file that the step reads differs.
    File {
        /// Its path in the step's source.
        path: String,
        /// How.
        change: FileChange,
    },
}

/// How a file differs from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileChange {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// Its bytes differ, or its link's target.
    Content,
    /// Its permissions differ.
    Mode,
    /// Its owner, its type or an attribute differs.
    Other,
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The plan is made: how many steps there are in all stages that are needed.
    Planned {
        /// Steps in all.
        steps: u32,
        /// Stages that are built.
        stages: u32,
        /// The Dockerfile, for displays that show lines of it.
        file: SourceFile,
    },
    /// A stage begins.
    StageStarted {
        /// Its name, or its number from 0.
        stage: String,
        /// The base as the FROM line says it after expansion.
        base: String,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        id: StepId,
        /// The stage's name, or its number from 0.
        stage: String,
        /// The instruction as the history will show it.
        text: String,
        /// The instruction's place.
        span: Span,
    },
    /// A step's result was found in the cache. A [`Event::StepFinished`] follows.
    StepCached {
        /// Which.
        id: StepId,
    },
    /// A step is executed although one like it was before.
    StepMissed {
        /// Which.
        id: StepId,
        /// In what it differs.
        reasons: Vec<Reason>,
    },
    /// A process of a step printed something.
    StepOutput {
        /// Which.
        id: StepId,
        /// Where to.
        stream: Stream,
        /// The bytes as printed; not always whole lines.
        bytes: Vec<u8>,
    },
    /// How far a step has come with the bytes that it reads.
    StepProgress {
        /// Which.
        id: StepId,
        /// Bytes of tar made so far.
        done_bytes: u64,
        /// Files so far.
        files: u64,
    },
    /// A step ended well.
    StepFinished {
        /// Which.
        id: StepId,
        /// How long it took.
        elapsed: Duration,
        /// Bytes of the layer's blob, where the step made one.
        layer_bytes: Option<u64>,
    },
    /// Bytes of a blob that is moved from or to elsewhere.
    Transfer {
        /// What is moved, for people: `pull sha256:…`, `oci archive`.
        what: String,
        /// The blob, if it is one.
        digest: Option<Digest>,
        /// Bytes moved so far.
        done_bytes: u64,
        /// Bytes in all, where that is known.
        total_bytes: Option<u64>,
    },
    /// A problem in the Dockerfile that doesn't stop the build.
    Diagnostic {
        /// The file it is in.
        file: SourceFile,
        /// The problem.
        diagnostic: Diagnostic,
    },
    /// A remark that has no place in the Dockerfile.
    Notice {
        /// The whole sentence.
        message: String,
    },
    /// The image is in the store.
    ImageWritten {
        /// Its references, if it has any.
        references: Vec<String>,
        /// The digest of its manifest, or of its index.
        digest: Digest,
    },
    /// A blob's way to or from a registry is done.
    BlobSettled {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        bytes: u64,
        /// What became of it.
        how: Settled,
    },
    /// A registry has the image under a name.
    ImagePushed {
        /// The name.
        reference: String,
        /// The digest that the registry answered.
        digest: Digest,
    },
    /// An output is complete under its name.
    OutputWritten {
        /// `oci`, `docker`, `oci-dir`, `local`, `tar`.
        kind: &'static str,
        /// The file or directory; `-` for standard output.
        destination: String,
        /// Bytes written.
        bytes: u64,
    },
}

/// Takes events. One build calls it from several threads; the sink puts them in one order.
pub trait EventSink: Sync {
    /// Takes one event. Must not block for long: the build waits.
    fn send(&self, event: Event);
}

/// A sink that drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl EventSink for Silent {
    fn send(&self, _event: Event) {}
}

/// A sink that remembers, for tests.
#[derive(Debug, Default)]
pub struct Recorder(std::sync::Mutex<Vec<Event>>);

impl Recorder {
    /// Everything that was sent so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

impl EventSink for Recorder {
    fn send(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(event);
    }
}
