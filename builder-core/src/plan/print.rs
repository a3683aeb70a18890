//! A plan as text: what `rbuild plan` shows, one line a step, stable from run to run.

use std::fmt::{self, Display, Write as _};

use crate::http::without_user;

use super::step::{
    Account, Chmod, CopyFrom, CopySource, CopyStep, RunMount, RunMountKind, RunNetwork, RunStep,
    StageBase, Step,
};
use super::{Plan, PlannedStage, PlannedStep};

impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(epoch) = self.epoch {
            writeln!(f, "epoch {epoch}")?;
        }
        for stage in &self.stages {
            stage_text(f, stage, stage.index == self.target)?;
        }
        Ok(())
    }
}

fn stage_text(f: &mut fmt::Formatter<'_>, stage: &PlannedStage, target: bool) -> fmt::Result {
    write!(f, "stage {}", stage.index)?;
    if let Some(name) = &stage.name {
        write!(f, " {name}")?;
    }
    let base = match &stage.base {
        StageBase::Scratch => "scratch".to_owned(),
        StageBase::Stage(index) => format!("stage {index}"),
        StageBase::Named(name) => format!("context {name}"),
        StageBase::Image { reference, .. } => format!("image {}", reference.value),
    };
    writeln!(
        f,
        " from {base} for {}{}",
        stage.platform,
        if target { " (target)" } else { "" }
    )?;
    for step in &stage.steps {
        writeln!(f, "  {}", step_text(step))?;
    }
    Ok(())
}

/// One step on one line: its number, what it does, and what it shows in the history where that says more.
fn step_text(step: &PlannedStep) -> String {
    let what = match &step.step {
        Step::Config => one_line(&step.text),
        Step::Workdir(workdir) => format!(
            "WORKDIR {}{}",
            one_line(&workdir.path),
            owned(&workdir.user)
        ),
        Step::Copy(copy) => copy_text(copy),
        Step::Run(run) => run_text(run),
    };
    format!("{} {what}", step.id.0)
}

fn owned(user: &str) -> String {
    if user.is_empty() {
        String::new()
    } else {
        format!(" as {}", one_line(user))
    }
}

/// Control characters made visible, so that one step stays one line.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

fn from_text(from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context => "context".to_owned(),
        CopyFrom::Stage(index) => format!("stage {index}"),
        CopyFrom::Named(name) => format!("context {name}"),
        CopyFrom::Image(reference) => format!("image {}", reference.value),
    }
}

fn copy_text(copy: &CopyStep) -> String {
    let mut text = String::from(if copy.add { "ADD" } else { "COPY" });
    for source in &copy.sources {
        let _ = match source {
            CopySource::Path(path) => write!(text, " {}", quoted(&path.value)),
            CopySource::Heredoc { name, content, .. } => {
                write!(text, " <<{name} {}", quoted(content))
            }
            CopySource::Url(url) => write!(text, " url {}", without_user(&url.value)),
            CopySource::Git(url) => write!(text, " git {}", without_user(&url.value)),
        };
    }
    let kind = if copy.destination.directory {
        "directory "
    } else {
        ""
    };
    let _ = write!(
        text,
        " from {} to {kind}{}",
        from_text(&copy.from),
        quoted(&copy.destination.path)
    );
    if let Some(owner) = &copy.chown {
        let group = owner
            .value
            .group
            .as_ref()
            .map(|group| format!(":{}", account(group)))
            .unwrap_or_default();
        let user = owner.value.user.as_ref().map(account).unwrap_or_default();
        let _ = write!(text, " chown {user}{group}");
    }
    match &copy.chmod {
        Some(Chmod::Octal(mode)) => {
            let _ = write!(text, " chmod {mode:04o}");
        }
        Some(Chmod::Symbolic(modes)) => {
            let modes: Vec<String> = modes
                .iter()
                .map(|mode| format!("{}{}{}", mode.who, mode.operation, mode.permissions))
                .collect();
            let _ = write!(text, " chmod {}", modes.join(","));
        }
        None => {}
    }
    for (on, word) in [(copy.link, " link"), (copy.parents, " parents")] {
        text.push_str(if on { word } else { "" });
    }
    for pattern in &copy.exclude {
        let _ = write!(text, " exclude {}", quoted(&pattern.value));
    }
    if let Some(checksum) = &copy.checksum {
        let _ = write!(text, " checksum {}", checksum.value);
    }
    for (name, value) in [("keep-git-dir", copy.keep_git_dir), ("unpack", copy.unpack)] {
        if let Some(value) = value {
            let _ = write!(text, " {name} {value}");
        }
    }
    text
}

fn account(account: &Account) -> String {
    match account {
        Account::Id(number) => number.to_string(),
        Account::Name(name) => name.clone(),
    }
}

/// A JSON string: one line, and blanks are visible.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn run_text(run: &RunStep) -> String {
    let argv: Vec<String> = run.argv.iter().map(|word| quoted(word)).collect();
    let mut text = format!(
        "RUN [{}] in {}{}",
        argv.join(", "),
        run.workdir,
        owned(&run.user)
    );
    for (name, value) in &run.env {
        let _ = write!(text, " {name}={}", quoted(value));
    }
    for (name, _) in &run.proxies {
        let _ = write!(text, " proxy {name}");
    }
    for mount in &run.mounts {
        let _ = write!(text, " mount {}", mount_text(mount));
    }
    for script in &run.scripts {
        let _ = write!(text, " script {} {}", script.name, quoted(&script.content));
    }
    match run.network {
        RunNetwork::Default => {}
        RunNetwork::None => text.push_str(" network none"),
        RunNetwork::Host => text.push_str(" network host"),
    }
    if run.insecure {
        text.push_str(" insecure");
    }
    text
}

fn mount_text(mount: &RunMount) -> String {
    let what = match &mount.kind {
        RunMountKind::Bind { from, source } => format!("bind {source} of {}", from_text(from)),
        RunMountKind::Cache {
            id,
            sharing,
            from,
            source,
            mode,
            uid,
            gid,
        } => {
            let base = from
                .as_ref()
                .map(|from| format!(" of {source} of {}", from_text(from)))
                .unwrap_or_default();
            format!("cache {id}{base} {sharing:?} {mode:04o} {uid}:{gid}")
        }
        RunMountKind::Tmpfs { size } => {
            format!(
                "tmpfs{}",
                size.map(|size| format!(" {size} bytes"))
                    .unwrap_or_default()
            )
        }
        RunMountKind::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => {
            let env = env
                .as_ref()
                .map(|env| format!(" as {env}"))
                .unwrap_or_default();
            format!(
                "secret {id}{env}{} {mode:04o} {uid}:{gid}",
                if *required { " required" } else { "" }
            )
        }
        RunMountKind::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => {
            format!(
                "ssh {id}{} {mode:04o} {uid}:{gid}",
                if *required { " required" } else { "" }
            )
        }
    };
    let access = if mount.read_only { "ro" } else { "rw" };
    match &mount.target {
        Some(target) => format!("({what} at {target} {access})"),
        None => format!("({what})"),
    }
}
