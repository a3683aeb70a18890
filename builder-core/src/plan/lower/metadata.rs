//! The instructions that change the config: ENV, ARG, LABEL, CMD and the like, and WORKDIR.
//!
//! Follows the Dockerfile reference, each instruction's section.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{
    ArgDeclaration, ArgInstruction, CmdInstruction, CommandForm, EntrypointInstruction,
    EnvInstruction, ExposeInstruction, HealthcheckInstruction, KeyValue, LabelInstruction,
    MaintainerInstruction, OnbuildInstruction, ShellInstruction, StopsignalInstruction,
    UserInstruction, VolumeInstruction, WorkdirInstruction,
};
use crate::dockerfile::word::Word;
use crate::nearest::nearest;
use crate::oci::config::{Empty, Healthcheck};
use crate::plan::outline::StageArg;
use crate::plan::step::{Step, WorkdirStep};
use crate::plan::{config, ports};
use crate::source::{Span, replaced};

use super::Lowering;

/// The longest path that can be entered, in bytes: Linux's `PATH_MAX`, less the byte that ends it.
const LONGEST_PATH: usize = 4095;

impl Lowering<'_> {
    /// All pairs see the values from before the line.
    fn pairs(&mut self, pairs: &[KeyValue]) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for pair in pairs {
            let key = self.expand(&pair.key);
            let value = self.expand(&pair.value);
            let pair = key.zip(value);
            expanded.push(pair.map(|(key, value)| (replaced(&key), replaced(&value))));
        }
        expanded.into_iter().collect()
    }

    pub(super) fn env(&mut self, env: &EnvInstruction, span: Span) {
        let Some(pairs) = self.pairs(&env.pairs) else {
            return;
        };
        for ((name, value), pair) in pairs.iter().zip(&env.pairs) {
            if name.is_empty() {
                let message = "a name of ENV is empty after expansion";
                self.problems
                    .push(Diagnostic::error("blank-name", pair.key.span, message));
                return;
            }
            self.scope
                .set_env(name, value, pair.key.span.to(pair.value.span));
        }
        self.config_step(span, config::pairs_text("ENV", &pairs));
    }

    pub(super) fn label(&mut self, label: &LabelInstruction, span: Span) {
        let Some(pairs) = self.pairs(&label.pairs) else {
            return;
        };
        self.config.config.labels.extend(pairs.iter().cloned());
        self.config_step(span, config::pairs_text("LABEL", &pairs));
    }

    pub(super) fn arg(&mut self, arg: &ArgInstruction, span: Span) {
        let mut text = String::from("ARG");
        for declaration in &arg.args {
            let Some(value) = self.arg_value(declaration) else {
                continue;
            };
            let name = &declaration.name.text;
            text.push(' ');
            text.push_str(name);
            if let Some(value) = &value {
                text.push('=');
                text.push_str(value);
            }
            let place = declaration
                .default
                .as_ref()
                .map_or(declaration.name.span, |default| {
                    declaration.name.span.to(default.span)
                });
            if let Some(args) = &mut self.args {
                let given = self.options.build_args.contains_key(name);
                args.push(StageArg {
                    stage: self.node.index,
                    name: name.clone(),
                    value: value.clone(),
                    inherited: declaration.default.is_none() && !given,
                    span,
                });
            }
            let warning = self.scope.declare(name, value, place);
            self.problems.extend(warning);
        }
        self.config_step(span, text);
    }

    /// `--build-arg`, else the default, else the value from above FROM. The outer none is a problem.
    #[allow(
        clippy::option_option,
        reason = "a problem, no value, and a value are three things"
    )]
    fn arg_value(&mut self, declaration: &ArgDeclaration) -> Option<Option<String>> {
        let name = &declaration.name.text;
        if let Some(given) = self.options.build_args.get(name) {
            return Some(Some(given.clone()));
        }
        match &declaration.default {
            Some(default) => self.expand(default).map(Some),
            None => Some(self.graph.globals.lookup(name)),
        }
    }

    fn command(&self, command: &CommandForm) -> Vec<String> {
        match command {
            CommandForm::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
            CommandForm::Shell(text) => {
                let mut argv = config::shell(&self.config.config.shell);
                argv.push(text.text.clone());
                argv
            }
        }
    }

    pub(super) fn cmd(&mut self, cmd: &CmdInstruction, span: Span) {
        let argv = self.command(&cmd.command);
        self.config_step(span, format!("CMD {}", config::quoted_list(&argv)));
        self.config.config.cmd = argv;
        self.config.config.args_escaped = true;
        self.cmd_set = true;
    }

    pub(super) fn entrypoint(&mut self, entrypoint: &EntrypointInstruction, span: Span) {
        let argv = self.command(&entrypoint.command);
        self.config_step(span, format!("ENTRYPOINT {}", config::quoted_list(&argv)));
        self.config.config.entrypoint = argv;
        if !self.cmd_set {
            self.config.config.cmd.clear();
        }
    }

    pub(super) fn shell(&mut self, shell: &ShellInstruction, span: Span) {
        let argv: Vec<String> = shell.shell.iter().map(|word| word.text.clone()).collect();
        self.config_step(span, format!("SHELL {}", config::plain_list(&argv)));
        self.config.config.shell = argv;
    }

    pub(super) fn maintainer(&mut self, maintainer: &MaintainerInstruction, span: Span) {
        let author = replaced(&maintainer.author.text);
        self.config_step(span, format!("MAINTAINER {author}"));
        self.config.author = author;
    }

    pub(super) fn onbuild(&mut self, onbuild: &OnbuildInstruction, span: Span) {
        self.config.config.on_build.push(onbuild.trigger.clone());
        self.config_step(span, format!("ONBUILD {}", onbuild.trigger));
        if let Some(step) = self.steps.last_mut() {
            step.in_history = false;
        }
    }

    pub(super) fn user(&mut self, user: &UserInstruction, span: Span) {
        let Some(user) = self.expand(&user.user) else {
            return;
        };
        self.config_step(span, format!("USER {user}"));
        self.config.config.user = user;
    }

    pub(super) fn stopsignal(&mut self, signal: &StopsignalInstruction, span: Span) {
        let Some(value) = self.expand(&signal.signal) else {
            return;
        };
        if !config::is_signal(&value) {
            let problem = Diagnostic::error(
                "signal",
                signal.signal.span,
                format!("there is no signal `{value}`"),
            );
            let bare = value.to_ascii_uppercase();
            let bare = bare.strip_prefix("SIG").unwrap_or(&bare);
            self.problems.push(match nearest(bare, config::SIGNALS) {
                Some(meant) => problem.with_help(format!("did you mean `SIG{meant}`?")),
                None => problem.with_help("give a number, or a name such as `SIGTERM`"),
            });
            return;
        }
        self.config_step(span, format!("STOPSIGNAL {value}"));
        self.config.config.stop_signal = value;
    }

    pub(super) fn healthcheck(&mut self, check: &HealthcheckInstruction, span: Span) {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(CommandForm::Exec(words)) => std::iter::once("CMD".to_owned())
                .chain(words.iter().map(|word| word.text.clone()))
                .collect(),
            Some(CommandForm::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.text.clone()],
        };
        let check = Healthcheck {
            test,
            interval: nanos(check.interval),
            timeout: nanos(check.timeout),
            start_period: nanos(check.start_period),
            start_interval: nanos(check.start_interval),
            retries: i64::from(check.retries),
            ..Healthcheck::default()
        };
        self.config_step(span, config::healthcheck_text(&check));
        self.config.config.healthcheck = Some(check);
    }

    pub(super) fn expose(&mut self, expose: &ExposeInstruction, span: Span) {
        let mut entries = Vec::new();
        // The words are sorted as they are written, before expansion.
        let mut words: Vec<&Word> = expose.ports.iter().collect();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        for word in words {
            let Some(value) = self.expand(word) else {
                continue;
            };
            for port in value.split_whitespace() {
                self.port(port, word, &mut entries);
            }
        }
        self.config_step(span, format!("EXPOSE {}", config::plain_list(&entries)));
        self.config
            .config
            .exposed_ports
            .extend(entries.into_iter().map(|entry| (entry, Empty {})));
    }

    fn port(&mut self, port: &str, word: &Word, entries: &mut Vec<String>) {
        match ports::parse(port) {
            Ok(found) => {
                if found.odd_case {
                    let message = format!("the protocol of `{port}` is not in lower case");
                    let warning = Diagnostic::warning("ExposeProtoCasing", word.span, message);
                    self.problems
                        .push(warning.with_help(format!("write `{}`", port.to_ascii_lowercase())));
                }
                if found.with_host {
                    let message =
                        format!("`{port}` names a host's address or port, which EXPOSE ignores");
                    let warning = Diagnostic::warning("ExposeInvalidFormat", word.span, message);
                    self.problems
                        .push(warning.with_help("write the container's port alone"));
                }
                let new = found
                    .entries
                    .into_iter()
                    .filter(|entry| !entries.contains(entry));
                let new: Vec<String> = new.collect();
                entries.extend(new);
            }
            Err(message) => {
                let problem = Diagnostic::error("port", word.span, message);
                self.problems
                    .push(problem.with_help("write `80`, `80/udp` or `8000-8010`"));
            }
        }
    }

    pub(super) fn volume(&mut self, volume: &VolumeInstruction, span: Span) {
        let mut paths = Vec::new();
        for word in &volume.paths {
            let Some(path) = self.expand(word) else {
                continue;
            };
            if path.is_empty() {
                let message = "the path of a volume is empty after expansion";
                self.problems
                    .push(Diagnostic::error("empty-volume", word.span, message));
                continue;
            }
            paths.push(path);
        }
        self.config_step(span, format!("VOLUME {}", config::plain_list(&paths)));
        self.config
            .config
            .volumes
            .extend(paths.into_iter().map(|path| (path, Empty {})));
    }

    pub(super) fn workdir(&mut self, workdir: &WorkdirInstruction, span: Span) {
        let Some(path) = self.expand(&workdir.path) else {
            return;
        };
        let path = if path.starts_with('/') {
            config::working_directory(path)
        } else {
            config::join_clean(&self.working_dir(), &path)
        };
        if path.len() > LONGEST_PATH {
            let message = format!("the working directory has more than {LONGEST_PATH} bytes");
            let problem = Diagnostic::error("workdir-too-long", workdir.path.span, message);
            self.problems
                .push(problem.with_help("no program could enter it"));
            return;
        }
        let text = format!("WORKDIR {path}");
        self.config.config.working_dir.clone_from(&path);
        if config::clean(&path) == "/" {
            self.config_step(span, text);
        } else {
            let user = self.config.config.user.clone();
            self.push(span, text, Step::Workdir(WorkdirStep { path, user }));
        }
    }

    /// The working directory in force; `/` where none is set.
    pub(super) fn working_dir(&self) -> String {
        let directory = self.config.config.working_dir.as_str();
        if directory.is_empty() { "/" } else { directory }.to_owned()
    }
}
