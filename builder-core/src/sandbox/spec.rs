//! What is asked of a sandbox and what it answers: plain values, which cross from one process to another as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::streams::InputKind;

/// One RUN: a process and the world it sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; made if it is missing.
    pub cwd: String,
    /// Who the process is.
    pub user: UserIds,
    /// Its root file system.
    pub root: Root,
    /// What is put into the root for as long as the process runs, in order.
    pub mounts: Vec<Mount>,
    /// Whether it has a network of its own, with nothing but loopback.
    pub no_network: bool,
    /// The host name that it sees, where it has one of its own.
    pub hostname: String,
    /// Side tables of owners (see [`crate::owners`]) that hold for files of the root.
    pub tables: Vec<Bytes>,
    /// Whether the root can't be written to; what is mounted in it has its own word.
    pub read_only: bool,
    /// The signal that asks it to end; by number.
    pub stop_signal: i32,
    /// What it may use.
    pub limits: Limits,
}

/// What a process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The size of `/dev/shm` in bytes; 64 MiB where none is given. (Where nothing can be mounted it is a directory of the
    /// disk, without a bound.)
    pub shm_size: Option<u64>,
    /// Resource limits: setrlimit(2). A later one of the same resource counts.
    pub resources: Vec<ResourceLimit>,
}

/// A resource limit; none is "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// The limit that counts.
    pub soft: Option<u64>,
    /// How far the process may raise it itself.
    pub hard: Option<u64>,
}

/// A resource, by its name in Docker's `--ulimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum Resource {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Resource {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 15] = [
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::Fsize),
        ("locks", Self::Locks),
        ("memlock", Self::Memlock),
        ("msgqueue", Self::Msgqueue),
        ("nice", Self::Nice),
        ("nofile", Self::Nofile),
        ("nproc", Self::Nproc),
        ("rss", Self::Rss),
        ("rtprio", Self::Rtprio),
        ("rttime", Self::Rttime),
        ("sigpending", Self::Sigpending),
        ("stack", Self::Stack),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(_, one)| *one == self)
            .map_or("", |(name, _)| name)
    }
}

/// User, group and supplementary groups of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How a RUN is isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// In namespaces of its own (engine U).
    Namespaces {
        /// Which ids exist in it.
        ids: Ids,
        /// Whether it has process ids of its own, and a `/proc` that shows them alone.
        processes: bool,
    },
    /// In a chroot, behind Landlock (engine C).
    Chroot {
        /// The Landlock version to use; 0 for none.
        landlock: i32,
    },
    /// Behind a supervisor that resolves every path (engine P).
    Paths {
        /// The Landlock version to use.
        landlock: i32,
    },
}

/// Which user and group ids a user namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// The caller's alone, as 0; all others are emulated.
    Single,
    /// All that the caller's namespace has.
    Range,
}

/// A root file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Directories one above the other; writes go to the upper one.
    Overlay(Overlay),
    /// One directory that is changed in place.
    Directory(Bytes),
}

impl Root {
    /// Where temporary things may be made: beside the root.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Overlay(overlay) => overlay.folder.as_path(),
            Self::Directory(path) => path.as_path().parent().unwrap_or(path.as_path()),
        }
    }

    /// Where changes of an overlay appear.
    pub(crate) fn upper(&self) -> Option<PathBuf> {
        match self {
            Self::Overlay(overlay) => Some(overlay.folder.as_path().join("upper")),
            Self::Directory(_) => None,
        }
    }
}

/// An overlay mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overlay {
    /// The read-only directories from the bottom to the top; may be none.
    pub lowers: Vec<Bytes>,
    /// A directory with `upper` and `work` in it, and nothing else of importance; the mount is made at `root` in it.
    pub folder: Bytes,
}

/// Something that a process sees in its root while it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute in the root; links on the way are followed inside it. Made if missing, and removed again.
    pub target: Bytes,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or a file of the user's. Nothing is made in it for other mounts, and it is never moved.
    Host {
        /// Its path.
        source: Bytes,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A directory, a file or a socket of the host that is rbuild's own.
    Bind {
        /// Its path.
        source: Bytes,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A path in an overlay whose writes are thrown away.
    Overlay {
        /// The overlay.
        overlay: Overlay,
        /// The path in it, absolute.
        source: Bytes,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// A file in memory, never on a disk.
    Secret {
        /// Its bytes.
        content: Bytes,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl std::fmt::Debug for MountKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { source, .. } => write!(f, "Host({source:?})"),
            Self::Bind { source, .. } => write!(f, "Bind({source:?})"),
            Self::Overlay { source, .. } => write!(f, "Overlay({source:?})"),
            Self::Tmpfs { size } => write!(f, "Tmpfs({size:?})"),
            // What it holds is nobody's business.
            Self::Secret { mode, .. } => write!(f, "Secret({mode:o})"),
        }
    }
}

/// Bytes that need not be text: paths, secrets. In JSON a string with one character a byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl From<PathBuf> for Bytes {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string().into_vec())
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |letter: char| u8::try_from(u32::from(letter));
        let bytes: Result<Vec<u8>, _> = text.chars().map(byte).collect();
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a character that is no byte"))
    }
}

/// What the helper process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Execute a RUN, isolated in this way, with this kind of input.
    Run(Mode, InputKind, Box<RunSpec>),
    /// Find out what this machine allows, in a directory for trials.
    Probe(Bytes),
    /// Set file capabilities below a directory, which needs a user namespace: paths and values.
    Capabilities(Bytes, Vec<(Bytes, Bytes)>),
}

impl Job {
    /// A directory in the store that belongs to this job, or is beside what does.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Run(_, _, spec) => spec.root.folder(),
            Self::Probe(folder) | Self::Capabilities(folder, _) => folder.as_path(),
        }
    }
}

/// What the helper process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The process of a RUN ended.
    Ended {
        /// How.
        status: Ended,
        /// The side table of owners, as text.
        table: String,
        /// Mount points that were made for it and that it moved somewhere else.
        moved: Vec<Bytes>,
    },
    /// The sandbox could not be made: what was being done, and the error number.
    Failed(String, i32),
    /// The program could not be started: its name, and the error number.
    NotStarted(String, i32),
    /// What was probed.
    Probed(Vec<super::probe::Probe>),
    /// Done, and nothing to tell.
    Done,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With an exit status, 0 to 255.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

/// Why a sandbox could not be made: what was being done, and the error.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) errno: i32,
}

/// Names what failed.
pub(crate) trait Doing<T> {
    /// Turns an error into a [`Failure`] that says what was being done.
    fn doing(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: std::io::Error = error.into();
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let what = what.to_owned();
            Failure { what, errno }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way() {
        let bytes = Bytes((0..=255).collect());
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        assert!(serde_json::from_str::<Bytes>("\"\u{100}\"").is_err());
    }
}
