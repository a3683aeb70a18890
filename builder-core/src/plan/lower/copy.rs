//! COPY and ADD.
//!
//! Follows the Dockerfile reference, "COPY" and "ADD".

use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::instruction::CopyInstruction;
use crate::dockerfile::word::Word;
use crate::http::without_user;
use crate::plan::step::{Chmod, Chown, CopyFrom, CopySource, CopyStep, Destination, Spanned, Step};
use crate::source::Span;
use crate::tree::pattern::PatternList;

use super::Lowering;
use super::flags::{self, SourceKind};

impl Lowering<'_> {
    pub(super) fn copy(&mut self, copy: &CopyInstruction, add: bool, span: Span) {
        let problems_before = self.errors();
        let keyword = if add { "ADD" } else { "COPY" };
        let from = self.copy_from(copy);
        let mut sources = self.sources(copy, add);
        let target = self.expand(&copy.destination);
        let owner = self.text_flag(copy.chown.as_ref());
        let mode = self.text_flag(copy.chmod.as_ref());
        let chown = owner.as_ref().and_then(|owner| self.chown(owner));
        let chmod = mode.as_ref().and_then(|mode| self.chmod(mode));
        let checksum = self.text_flag(copy.checksum.as_ref());
        self.check_exclude(copy);
        self.check_checksum(checksum.as_ref(), &sources);
        self.check_link(copy, chown.as_ref(), chmod.is_some());
        for heredoc in &copy.heredocs {
            sources.extend(self.heredoc_source(heredoc));
        }
        let (Some(from), Some(target)) = (from, target) else {
            return;
        };
        if self.errors() > problems_before {
            return;
        }
        let text = history_text(
            keyword,
            copy.parents,
            owner.as_ref(),
            mode.as_ref(),
            &sources,
            &target,
        );
        let step = CopyStep {
            add,
            from,
            sources,
            destination: self.destination(&target, copy.destination.span),
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            exclude: copy
                .exclude
                .iter()
                .map(|word| Spanned {
                    value: word.text.clone(),
                    span: word.span,
                })
                .collect(),
            checksum,
            keep_git_dir: copy.keep_git_dir,
            unpack: copy.unpack,
        };
        self.push(span, text, Step::Copy(Box::new(step)));
    }

    pub(super) fn errors(&self) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.is_error())
            .count()
    }

    fn copy_from(&mut self, copy: &CopyInstruction) -> Option<CopyFrom> {
        let Some(from) = &copy.from else {
            return Some(CopyFrom::Context);
        };
        match self.graph.source(from, self.node.index, true, self.options) {
            Ok(from) => Some(from),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn text_flag(&mut self, word: Option<&Word>) -> Option<Spanned<String>> {
        let word = word?;
        let value = self.expand(word)?;
        (!value.is_empty()).then_some(Spanned {
            value,
            span: word.span,
        })
    }

    fn sources(&mut self, copy: &CopyInstruction, add: bool) -> Vec<CopySource> {
        let mut sources = Vec::new();
        for word in &copy.sources {
            let Some(value) = self.expand(word) else {
                continue;
            };
            let kind = flags::source_kind(&value);
            let spanned = Spanned {
                value,
                span: word.span,
            };
            match kind {
                SourceKind::Path => sources.push(CopySource::Path(spanned)),
                _ if !add => {
                    let message = format!("COPY can't take the URL `{}`", spanned.value);
                    let problem = Diagnostic::error("copy-url", word.span, message);
                    self.problems.push(problem.with_help("use ADD"));
                }
                SourceKind::Url => sources.push(CopySource::Url(spanned)),
                SourceKind::Git => sources.push(CopySource::Git(spanned)),
            }
        }
        sources
    }

    fn heredoc_source(&mut self, heredoc: &Heredoc) -> Option<CopySource> {
        let text = heredoc.text();
        let content = if heredoc.expand {
            self.expand_heredoc(&text, heredoc.body)?
        } else {
            text
        };
        Some(CopySource::Heredoc {
            name: heredoc.name.clone(),
            content,
            span: heredoc.span,
        })
    }

    fn chown(&mut self, owner: &Spanned<String>) -> Option<Spanned<Chown>> {
        match flags::chown(&owner.value) {
            Ok(value) => Some(Spanned {
                value,
                span: owner.span,
            }),
            Err(message) => {
                let problem = Diagnostic::error("chown", owner.span, message);
                self.problems
                    .push(problem.with_help("write `--chown=user:group`"));
                None
            }
        }
    }

    fn chmod(&mut self, mode: &Spanned<String>) -> Option<Chmod> {
        match flags::chmod(&mode.value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems
                    .push(Diagnostic::error("chmod", mode.span, message));
                None
            }
        }
    }

    fn check_exclude(&mut self, copy: &CopyInstruction) {
        for word in &copy.exclude {
            let Err(problems) = PatternList::from_patterns([word.text.as_str()]) else {
                continue;
            };
            let messages = problems.iter().map(ToString::to_string);
            self.problems.extend(messages.map(|message| {
                Diagnostic::error("exclude-pattern", word.span, message)
                    .with_help("write `\\[` to mean the character `[`")
            }));
        }
    }

    fn check_checksum(&mut self, checksum: Option<&Spanned<String>>, sources: &[CopySource]) {
        let Some(checksum) = checksum else { return };
        let remote = matches!(sources, [CopySource::Url(_) | CopySource::Git(_)]);
        if !remote {
            let message = "`--checksum` needs exactly one source, which is a URL";
            self.problems
                .push(Diagnostic::error("checksum", checksum.span, message));
        }
        if let ([CopySource::Url(_)], Err(problem)) = (sources, checksum.value.parse::<Digest>()) {
            self.problems.push(Diagnostic::error(
                "checksum",
                checksum.span,
                problem.to_string(),
            ));
        }
    }

    /// `--link` looks at nothing in the image, so it can't look up a name.
    fn check_link(
        &mut self,
        copy: &CopyInstruction,
        chown: Option<&Spanned<Chown>>,
        with_mode: bool,
    ) {
        let Some(chown) = chown.filter(|_| copy.link && !with_mode) else {
            return;
        };
        if !flags::is_numeric(&chown.value) {
            let message = "`--link` can't look up a name, so `--chown` must be numeric";
            let problem = Diagnostic::error("link-chown", chown.span, message);
            self.problems
                .push(problem.with_help("write the numbers, or leave out `--link`"));
        }
    }

    fn destination(&self, target: &str, span: Span) -> Destination {
        let directory =
            target.is_empty() || target == "." || target.ends_with('/') || target.ends_with("/.");
        let path = if target.starts_with('/') {
            target.to_owned()
        } else {
            let base = self.working_dir();
            format!("{}/{target}", base.trim_end_matches('/'))
        };
        Destination {
            path,
            directory,
            span,
        }
    }
}

fn history_text(
    keyword: &str,
    parents: bool,
    owner: Option<&Spanned<String>>,
    mode: Option<&Spanned<String>>,
    sources: &[CopySource],
    target: &str,
) -> String {
    let mut words = vec![keyword.to_owned()];
    words.extend(parents.then(|| "--parents".to_owned()));
    words.extend(owner.map(|owner| format!("--chown={}", owner.value)));
    words.extend(mode.map(|mode| format!("--chmod={}", mode.value)));
    words.extend(sources.iter().map(|source| match source {
        CopySource::Path(text) => text.value.clone(),
        // The history goes to everyone who has the image: no password in it.
        CopySource::Url(text) | CopySource::Git(text) => without_user(&text.value),
        CopySource::Heredoc { name, .. } => format!("<<{name}"),
    }));
    words.push(target.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}
