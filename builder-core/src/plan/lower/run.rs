//! RUN.
//!
//! Follows the Dockerfile reference, "RUN", "Here-Documents" and "Predefined ARGs".

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{CommandForm, RunInstruction};
use crate::dockerfile::parse::is_script;
use crate::plan::config;
use crate::plan::scope::{HOSTNAME, PROXIES};
use crate::plan::step::{RunNetwork, RunScript, RunStep, Step};
use crate::source::Span;

use super::Lowering;

/// The host name that a RUN sees, as under BuildKit: programs write it into files.
pub(crate) const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

impl Lowering<'_> {
    pub(super) fn run(&mut self, run: &RunInstruction, span: Span) {
        let errors_before = self.errors();
        if let Some(device) = run.devices.first() {
            let problem = Diagnostic::error(
                "run-device",
                device.span,
                "rbuild can't hand devices to RUN",
            );
            self.problems
                .push(problem.with_help("leave out `--device`"));
        }
        let mounts = run
            .mounts
            .iter()
            .filter_map(|mount| self.mount(mount))
            .collect();
        let (argv, scripts) = self.argv(run);
        let proxies = self.proxies(span);
        let hostname = self.hostname(span);
        if self.errors() > errors_before {
            return;
        }
        let args = self.scope.history_args();
        let text = config::run_text(&args, &argv);
        let step = RunStep {
            argv,
            scripts,
            args,
            env: self.scope.run_env(),
            proxies,
            // `..` goes back by the text, before any link is followed, as in BuildKit.
            workdir: config::clean(&self.working_dir()),
            user: self.config.config.user.clone(),
            mounts,
            hostname,
            network: match run.network.as_ref().map(|word| word.text.as_str()) {
                Some("none") => RunNetwork::None,
                Some("host") => RunNetwork::Host,
                _ => RunNetwork::Default,
            },
            insecure: run
                .security
                .as_ref()
                .is_some_and(|word| word.text == "insecure"),
        };
        self.push(span, text, Step::Run(Box::new(step)));
    }

    /// The host name that the command sees. It stands in `/etc/hosts`, so it must be one word.
    fn hostname(&mut self, span: Span) -> String {
        let given = self.options.build_args.get(HOSTNAME);
        let Some(name) = given.filter(|name| !name.is_empty()) else {
            return DEFAULT_HOSTNAME.to_owned();
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // sethostname(2)
        if name.len() > 64 || !name.chars().all(letters) {
            let message = format!("`{name}`, the value of `{HOSTNAME}`, can't be a host's name");
            self.problems.push(
                Diagnostic::error("hostname", span, message)
                    .with_help("use at most 64 letters, digits, `-`, `.` and `_`"),
            );
        }
        name.clone()
    }

    /// What is started, and the scripts that must be there for it.
    fn argv(&self, run: &RunInstruction) -> (Vec<String>, Vec<RunScript>) {
        let text = match &run.command {
            CommandForm::Exec(words) => {
                return (
                    words.iter().map(|word| word.text.clone()).collect(),
                    Vec::new(),
                );
            }
            CommandForm::Shell(text) => &text.text,
        };
        let mut argv = config::shell(&self.config.config.shell);
        if let Some(heredoc) = run.heredocs.first().filter(|_| is_script(run)) {
            let content = heredoc.text();
            if content.starts_with("#!") {
                let path = format!("/dev/pipes/{}", heredoc.name);
                return (
                    vec![path],
                    vec![RunScript {
                        name: heredoc.name.clone(),
                        content,
                    }],
                );
            }
            argv.push(content);
            return (argv, Vec::new());
        }
        let mut whole = text.clone();
        for heredoc in &run.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.content);
            whole.push_str(&heredoc.name);
        }
        argv.push(whole);
        (argv, Vec::new())
    }

    /// Proxies given as build arguments, under both spellings, unless ARG or ENV speaks of them.
    fn proxies(&mut self, span: Span) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for proxy in PROXIES {
            let mut given = self
                .options
                .build_args
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(proxy));
            let Some((given_name, value)) = given.next() else {
                continue;
            };
            for name in [proxy.to_owned(), proxy.to_ascii_lowercase()] {
                if self.scope.has_env(&name) {
                    let warning = self.scope.hidden(&name, value, span);
                    if warning.is_some() && self.warned.insert(format!("--build-arg {given_name}"))
                    {
                        self.problems.extend(warning);
                    }
                } else if !self.scope.declares(&name) {
                    proxies.push((name, value.clone()));
                }
            }
        }
        proxies
    }
}
