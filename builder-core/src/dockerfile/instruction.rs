//! Instructions: one struct a keyword, words raw and each with its place.
//!
//! Follows the Dockerfile reference; ADD shares COPY's struct, and both forms of a command are one type.

use std::time::Duration;

use crate::source::Span;

use super::heredoc::Heredoc;
use super::lines::Comment;
use super::mount::MountFlag;
use super::word::Word;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: Word,
    /// The whole instruction, without heredoc bodies.
    pub span: Span,
    /// The comments directly above.
    pub comments: Vec<Comment>,
    /// What it says.
    pub kind: InstructionKind,
}

/// The instructions, by keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// ADD
    Add(Box<CopyInstruction>),
    /// ARG
    Arg(ArgInstruction),
    /// CMD
    Cmd(CmdInstruction),
    /// COPY
    Copy(Box<CopyInstruction>),
    /// ENTRYPOINT
    Entrypoint(EntrypointInstruction),
    /// ENV
    Env(EnvInstruction),
    /// EXPOSE
    Expose(ExposeInstruction),
    /// FROM
    From(Box<FromInstruction>),
    /// HEALTHCHECK
    Healthcheck(Box<HealthcheckInstruction>),
    /// LABEL
    Label(LabelInstruction),
    /// MAINTAINER
    Maintainer(MaintainerInstruction),
    /// ONBUILD
    Onbuild(OnbuildInstruction),
    /// RUN
    Run(Box<RunInstruction>),
    /// SHELL
    Shell(ShellInstruction),
    /// STOPSIGNAL
    Stopsignal(StopsignalInstruction),
    /// USER
    User(UserInstruction),
    /// VOLUME
    Volume(VolumeInstruction),
    /// WORKDIR
    Workdir(WorkdirInstruction),
}

/// Every keyword, in alphabetical order.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl InstructionKind {
    /// The keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::From(_) => "FROM",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// Exec form or shell form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandForm {
    /// A JSON array: taken as it stands.
    Exec(Vec<Word>),
    /// A text for the shell.
    Shell(Word),
}

/// `KEY=value`, or the old form `KEY value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, raw.
    pub key: Word,
    /// The value, raw.
    pub value: Word,
}

/// `ARG NAME[=default]…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgInstruction {
    /// The names in order.
    pub args: Vec<ArgDeclaration>,
}

/// One name of an ARG line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Word,
    /// The default, raw.
    pub default: Option<Word>,
}

/// COPY and ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInstruction {
    /// Paths, patterns, URLs; markers of heredocs are not among them.
    pub sources: Vec<Word>,
    /// Heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// The last word.
    pub destination: Word,
    /// `--from` (COPY).
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents` (COPY).
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<Word>,
    /// `--checksum` (ADD).
    pub checksum: Option<Word>,
    /// `--keep-git-dir` (ADD).
    pub keep_git_dir: Option<bool>,
    /// `--unpack` (ADD).
    pub unpack: Option<bool>,
}

/// `CMD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmdInstruction {
    /// The command.
    pub command: CommandForm,
}

/// `ENTRYPOINT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointInstruction {
    /// The command.
    pub command: CommandForm,
}

/// `ENV`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvInstruction {
    /// The pairs in order.
    pub pairs: Vec<KeyValue>,
    /// Written as `ENV KEY value`.
    pub legacy: bool,
}

/// `LABEL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelInstruction {
    /// The pairs in order.
    pub pairs: Vec<KeyValue>,
    /// Written as `LABEL key value`.
    pub legacy: bool,
}

/// `EXPOSE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposeInstruction {
    /// The ports, raw.
    pub ports: Vec<Word>,
}

/// `FROM`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromInstruction {
    /// The base, raw.
    pub image: Word,
    /// `--platform`, raw.
    pub platform: Option<Word>,
    /// The name after `AS`, as written.
    pub name: Option<Word>,
    /// The word `AS`, as written.
    pub as_keyword: Option<Word>,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthcheckInstruction {
    /// The command; none for `HEALTHCHECK NONE`.
    pub command: Option<CommandForm>,
    /// `--interval`
    pub interval: Duration,
    /// `--timeout`
    pub timeout: Duration,
    /// `--start-period`
    pub start_period: Duration,
    /// `--start-interval`
    pub start_interval: Duration,
    /// `--retries`
    pub retries: u32,
}

/// `MAINTAINER`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintainerInstruction {
    /// The author, taken as it stands.
    pub author: Word,
}

/// `ONBUILD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnbuildInstruction {
    /// The trigger as it is stored in the image: the line, and the bodies of its heredocs.
    pub trigger: String,
    /// The trigger's first word, in capitals.
    pub trigger_keyword: String,
    /// The trigger's place.
    pub span: Span,
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInstruction {
    /// The command; in shell form with its heredoc markers.
    pub command: CommandForm,
    /// Heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`, one of `default`, `none`, `host`.
    pub network: Option<Word>,
    /// `--security`, one of `sandbox`, `insecure`.
    pub security: Option<Word>,
    /// `--device`
    pub devices: Vec<Word>,
}

/// `SHELL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellInstruction {
    /// Program and arguments.
    pub shell: Vec<Word>,
}

/// `STOPSIGNAL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopsignalInstruction {
    /// The signal, raw.
    pub signal: Word,
}

/// `USER`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInstruction {
    /// The user, raw.
    pub user: Word,
}

/// `VOLUME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInstruction {
    /// The paths, raw.
    pub paths: Vec<Word>,
}

/// `WORKDIR`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkdirInstruction {
    /// The path, raw.
    pub path: Word,
}
