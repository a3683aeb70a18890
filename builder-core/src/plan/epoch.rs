//! `SOURCE_DATE_EPOCH`: a number, or the name of something that has a time.
//!
//! Follows BuildKit's documentation of reproducible builds: `context` is the build context, any other word a named
//! context or a stage that does nothing but ADD one thing from elsewhere.

use crate::diagnostic::Diagnostic;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{ArgInstruction, CopyInstruction, InstructionKind};
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, Stage};
use crate::source::Span;

use super::PlanOptions;
use super::from_line::named_context;
use super::globals::global_args;
use super::lower::{SourceKind, source_kind};
use super::scope::GlobalArgs;

/// The name of the argument.
pub const NAME: &str = "SOURCE_DATE_EPOCH";

/// What says how old a build's result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EpochSource {
    /// The argument itself: seconds since 1970.
    Seconds(i64),
    /// The build context.
    Context,
    /// A named context.
    Named(String),
    /// A file behind a URL.
    Url(String),
    /// A repository.
    Git {
        /// Its URL.
        url: String,
        /// `--checksum`.
        checksum: Option<String>,
    },
}

type Found<T> = Result<T, Diagnostic>;

/// What the argument names, from `--build-arg` or an ARG above FROM; none where it isn't given or is empty.
///
/// # Errors
/// A word that names nothing, and a stage that does more than ADD one thing from elsewhere.
pub fn source(dockerfile: &Dockerfile, options: &PlanOptions) -> Found<Option<EpochSource>> {
    let globals = global_args(dockerfile, options, true, &mut Vec::new());
    let given = options.build_args.get(NAME).cloned();
    let value = given.or_else(|| globals.lookup(NAME)).unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    if let Ok(seconds) = value.parse() {
        return Ok(Some(EpochSource::Seconds(seconds)));
    }
    if value == "context" {
        return Ok(Some(EpochSource::Context));
    }
    if let Some(name) = named_context(&value, Some(options.target_platform()), options) {
        return Ok(Some(EpochSource::Named(name)));
    }
    let name = value.to_lowercase();
    let stage = dockerfile
        .stages
        .iter()
        .find(|stage| stage.name().as_ref() == Some(&name));
    let Some(stage) = stage else {
        let span = globals.declared(NAME).unwrap_or_default();
        let message = format!("`{NAME}` is `{value}`, which is no number, no context and no stage");
        let problem = Diagnostic::error("source-date-epoch", span, message);
        return Err(problem.with_help(
            "give the seconds since 1970, `context`, or the name of a context or of a stage with a single ADD",
        ));
    };
    let escape = dockerfile.directives.escape;
    let stage = Sources::new(globals, options, escape).of_stage(stage)?;
    Ok(Some(stage))
}

/// A stage that stands for what it adds, while it is read.
struct Sources<'a> {
    names: GlobalArgs,
    options: &'a PlanOptions,
    escape: char,
    found: Option<EpochSource>,
}

impl<'a> Sources<'a> {
    fn new(mut names: GlobalArgs, options: &'a PlanOptions, escape: char) -> Self {
        names.forget(NAME);
        Self {
            names,
            options,
            escape,
            found: None,
        }
    }

    fn of_stage(mut self, stage: &Stage) -> Found<EpochSource> {
        let span = stage.from.span;
        let base = stage.base().map(|from| self.expand(&from.image));
        if base.transpose()?.as_deref() != Some("scratch") {
            return Err(refused(span, "does not start from `scratch`"));
        }
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Arg(arg) => self.arg(arg)?,
                InstructionKind::Add(add) if self.found.is_none() => {
                    self.found = Some(self.add(add, instruction.span)?);
                }
                InstructionKind::Add(_) => {
                    return Err(refused(instruction.span, "has more than one ADD"));
                }
                kind => {
                    let what = format!("has a {}", kind.keyword());
                    return Err(refused(instruction.span, &what));
                }
            }
        }
        self.found.ok_or_else(|| refused(span, "has no ADD"))
    }

    fn expand(&self, word: &Word) -> Found<String> {
        let lookup = |name: &str| self.names.lookup(name);
        let expander = Expander {
            escape: self.escape,
            lookup: &lookup,
        };
        expander.word(word).map(|expanded| expanded.value)
    }

    fn arg(&mut self, arg: &ArgInstruction) -> Found<()> {
        for declaration in &arg.args {
            let name = &declaration.name;
            let value = match (
                self.options.build_args.get(&name.text),
                &declaration.default,
            ) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => None,
            };
            self.names.declare(&name.text, value, name.span);
        }
        Ok(())
    }

    fn add(&self, add: &CopyInstruction, span: Span) -> Found<EpochSource> {
        let ([source], true) = (add.sources.as_slice(), add.heredocs.is_empty()) else {
            return Err(refused(span, "adds more than one thing"));
        };
        let url = self.expand(source)?;
        let checksum = add.checksum.as_ref().map(|word| self.expand(word));
        let checksum = checksum.transpose()?;
        match source_kind(&url) {
            SourceKind::Url => Ok(EpochSource::Url(url)),
            SourceKind::Git => Ok(EpochSource::Git { url, checksum }),
            SourceKind::Path => Err(refused(
                source.span,
                "adds what is neither a URL nor a repository",
            )),
        }
    }
}

fn refused(span: Span, what: &str) -> Diagnostic {
    let message = format!("the stage that `{NAME}` names {what}");
    Diagnostic::error("source-date-epoch", span, message)
        .with_help("such a stage is FROM scratch, ARGs, and one ADD of a URL or a repository")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse::parse;
    use crate::platform::Platform;
    use crate::source::SourceFile;

    fn check(text: &str, arguments: &[(&str, &str)], contexts: &[&str]) -> Result<String, String> {
        let (parsed, _) = parse(&SourceFile::new("Dockerfile", text));
        let mut options = PlanOptions::new(Platform::host());
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        options.build_args = arguments.iter().map(owned).collect();
        options.named_contexts = contexts.iter().map(|name| (*name).to_owned()).collect();
        match source(&parsed, &options) {
            Ok(found) => Ok(found.map_or_else(String::new, |found| format!("{found:?}"))),
            Err(problem) => Err(problem.message),
        }
    }

    #[test]
    fn what_the_argument_names() {
        let stage = "ARG V=1\nFROM scratch AS Src\nARG V\nADD https://h/$V.tar /\nFROM scratch\n";
        for (text, given, contexts, expected) in [
            ("FROM scratch\n", None, &[][..], ""),
            ("FROM scratch\n", Some(""), &[], ""),
            ("FROM scratch\n", Some("12"), &[], "Seconds(12)"),
            (
                "ARG SOURCE_DATE_EPOCH=7\nFROM scratch\n",
                None,
                &[],
                "Seconds(7)",
            ),
            (
                "ARG SOURCE_DATE_EPOCH=7\nFROM scratch\n",
                Some("context"),
                &[],
                "Context",
            ),
            (
                "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\n",
                None,
                &[],
                "Context",
            ),
            (stage, Some("src"), &[], "Url(\"https://h/1.tar\")"),
            (stage, Some("SRC"), &[], "Url(\"https://h/1.tar\")"),
            (stage, Some("src"), &["src"], "Named(\"src\")"),
            (
                "FROM scratch AS g\nADD --checksum=ab https://h/r.git#v1 /\n",
                Some("g"),
                &[],
                "Git { url: \"https://h/r.git#v1\", checksum: Some(\"ab\") }",
            ),
        ] {
            let given: Vec<_> = given.map(|value| (NAME, value)).into_iter().collect();
            assert_eq!(
                check(text, &given, contexts).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_can_t_say_a_time() {
        for (stage, expected) in [
            (
                "FROM a AS s\nADD http://h/x /\n",
                "does not start from `scratch`",
            ),
            ("FROM scratch AS s\n", "has no ADD"),
            (
                "FROM scratch AS s\nADD x /\n",
                "adds what is neither a URL nor a repository",
            ),
            (
                "FROM scratch AS s\nADD http://h/a http://h/b /\n",
                "adds more than one thing",
            ),
            (
                "FROM scratch AS s\nADD http://h/a /\nADD http://h/b /\n",
                "has more than one ADD",
            ),
            (
                "FROM scratch AS s\nADD http://h/a /\nENV A=b\n",
                "has a ENV",
            ),
            ("FROM scratch\n", "no stage"),
        ] {
            let found = check(stage, &[(NAME, "s")], &[]).unwrap_err();
            assert!(found.contains(expected), "{stage}: {found}");
        }
    }
}
