//! Which names have which values at a line: ENV and ARG of a stage, and ARG above FROM.
//!
//! Follows the Dockerfile reference, "Scope" and "Using ARG variables": ENV always overrides ARG, whichever comes
//! first. Builders that let the later line win give another value in one case (ARG after ENV); there a warning names
//! both lines.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::nearest::nearest;
use crate::source::Span;

use super::PlanOptions;

/// The search path of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Things by name, in the order in which their names came first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named<T> {
    items: Vec<(String, T)>,
    places: BTreeMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            places: BTreeMap::new(),
        }
    }
}

impl<T> Named<T> {
    fn get(&self, name: &str) -> Option<&T> {
        let place = self.places.get(name)?;
        self.items.get(*place).map(|(_, item)| item)
    }

    /// The item of a name, to be set; a new one is made where there is none.
    fn entry(&mut self, name: &str, new: T) -> &mut T {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.places.insert(name.to_owned(), self.items.len());
                self.items.push((name.to_owned(), new));
                self.items.len() - 1
            }
        };
        &mut self.items[place].1
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|(name, _)| name.as_str())
    }
}

/// A variable that ENV or the base image set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct EnvEntry {
    value: String,
    /// The ENV line; none for the base image's.
    span: Option<Span>,
}

/// The names of one stage, as far as its lines were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    env: Named<EnvEntry>,
    /// The names that ARG declared, each with its value if it has one.
    args: Named<Option<String>>,
}

impl Scope {
    /// The scope that a base's `NAME=value` list gives.
    pub fn from_env(env: &[String]) -> Self {
        let mut scope = Self::default();
        for item in env {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            scope.put_env(name, value, None);
        }
        scope
    }

    /// Sets the default search path where there is none.
    pub fn default_path(&mut self) {
        if !self.has_env("PATH") {
            self.put_env("PATH", DEFAULT_PATH, None);
        }
    }

    /// A name's value at this line.
    pub fn lookup(&self, name: &str) -> Option<String> {
        if let Some(entry) = self.env.get(name) {
            return Some(entry.value.clone());
        }
        self.args.get(name)?.clone()
    }

    fn put_env(&mut self, name: &str, value: &str, span: Option<Span>) {
        *self.env.entry(name, EnvEntry::default()) = EnvEntry {
            value: value.to_owned(),
            span,
        };
    }

    /// What ENV does.
    pub fn set_env(&mut self, name: &str, value: &str, span: Span) {
        self.put_env(name, value, Some(span));
    }

    /// What ARG does. A declaration without a value keeps an earlier one. The warning is for a value that ENV hides.
    pub fn declare(&mut self, name: &str, value: Option<String>, span: Span) -> Option<Diagnostic> {
        let warning = value
            .as_ref()
            .and_then(|value| self.hidden(name, value, span));
        let arg = self.args.entry(name, None);
        if value.is_some() {
            *arg = value;
        }
        warning
    }

    /// The warning that ENV keeps `name` from getting `value` at `span`.
    pub fn hidden(&self, name: &str, value: &str, span: Span) -> Option<Diagnostic> {
        let entry = self.env.get(name)?;
        if entry.value == value {
            return None;
        }
        let message = format!(
            "`{name}` stays `{}`, as ENV sets it: ENV overrides ARG",
            entry.value
        );
        let warning = Diagnostic::warning("env-overrides-arg", span, message).with_note(format!(
            "some builders would use `{value}` from here on, because the later line wins there"
        ));
        Some(match entry.span {
            Some(env) => warning
                .with_related(env, "ENV sets it here")
                .with_help("use another name for the ARG, or remove the ENV"),
            None => warning
                .with_note(if name == "PATH" && entry.value == DEFAULT_PATH {
                    "it is the search path that every image has"
                } else {
                    "the base image's environment sets it"
                })
                .with_help("use another name for the ARG"),
        })
    }

    /// ENV as the config holds it.
    pub fn config_env(&self) -> Vec<String> {
        let items = self.env.items.iter();
        items
            .map(|(name, entry)| format!("{name}={}", entry.value))
            .collect()
    }

    /// The environment of a RUN: ENV, then each ARG with a value that ENV doesn't set.
    pub fn run_env(&self) -> Vec<(String, String)> {
        let items = self.env.items.iter();
        let mut all: Vec<(String, String)> = items
            .map(|(name, entry)| (name.clone(), entry.value.clone()))
            .collect();
        for (name, value) in &self.args.items {
            let shown = !is_builder_option(name) && !self.has_env(name);
            if let Some(value) = value.as_ref().filter(|_| shown) {
                all.push((name.clone(), value.clone()));
            }
        }
        all
    }

    /// Every declared name with the value in force, empty where there is none: what a RUN's history shows.
    pub fn history_args(&self) -> Vec<(String, String)> {
        let value = |name: &str| self.lookup(name).unwrap_or_default();
        let names = self.args.names();
        names.map(|name| (name.to_owned(), value(name))).collect()
    }

    /// Whether ARG declared `name`.
    pub fn declares(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// Whether ENV or the base set `name`.
    pub fn has_env(&self, name: &str) -> bool {
        self.env.get(name).is_some()
    }

    /// The known name nearest to a mistyped one. Of many names a part is looked at.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        const ENOUGH: usize = 2000;
        nearest(name, self.env.names().chain(self.args.names()).take(ENOUGH))
    }
}

/// An ARG that speaks to the builder and never enters an environment.
fn is_builder_option(name: &str) -> bool {
    matches!(
        name,
        "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE"
    )
}

/// The proxy names that need no ARG, in the capitals that they may also be written without.
pub const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The build arguments that speak to the builder (Docker's reference, "BuildKit built-in build args").
/// `BUILDKIT_BUILD_NAME` names a build in a history that rbuild doesn't keep, and `BUILDKIT_MULTI_PLATFORM` asks for the
/// same bytes however many platforms are built, which is so in any case.
pub const BUILDER_OPTIONS: [&str; 11] = [
    "BUILDKIT_BUILD_NAME",
    CACHE_NAMESPACE,
    KEEP_GIT_DIR,
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_HISTORY_PROVENANCE_V1",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    HOSTNAME,
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
];

/// Stands in front of the id of every cache mount.
pub const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Keeps `.git` in a context that is a repository.
pub const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The host name that RUN sees.
pub const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// What a build argument says as a switch, read as Go's `strconv.ParseBool`; none where it says neither.
pub fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether a build argument may be given without an ARG of its name.
pub fn is_predefined(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || name == "SOURCE_DATE_EPOCH"
        || BUILDER_OPTIONS.contains(&name)
        || PLATFORM_NAMES.contains(&name)
}

const PLATFORM_NAMES: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETOSVERSION",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "BUILDOSVERSION",
    "TARGETSTAGE",
];

/// The names that FROM lines see, and what a bare ARG in a stage imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalArgs {
    values: BTreeMap<String, String>,
    declared: BTreeMap<String, Span>,
}

impl GlobalArgs {
    /// The platform names, which are always there; a build argument replaces one.
    /// `last` is the name of the last stage, which is the target where the user names none.
    pub fn predefined(options: &PlanOptions, last: Option<&str>) -> Self {
        let target = options.target_platform();
        let build = &options.build_platform;
        let asked = options.target.as_deref().filter(|name| !name.is_empty());
        let stage = asked.or(last).unwrap_or("default");
        let values = [
            target.to_string(),
            target.os.clone(),
            target.architecture.clone(),
            target.variant.clone(),
            target.os_version.clone(),
            build.to_string(),
            build.os.clone(),
            build.architecture.clone(),
            build.variant.clone(),
            build.os_version.clone(),
            stage.to_owned(),
        ];
        let names = PLATFORM_NAMES.into_iter().zip(values);
        let given = |name: &str| options.build_args.get(name).cloned();
        Self {
            values: names
                .map(|(name, value)| (name.to_owned(), given(name).unwrap_or(value)))
                .collect(),
            declared: BTreeMap::new(),
        }
    }

    /// What an ARG above FROM does.
    pub fn declare(&mut self, name: &str, value: Option<String>, span: Span) {
        self.declared.entry(name.to_owned()).or_insert(span);
        if let Some(value) = value {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// A name's value.
    pub fn lookup(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Takes a name's value away.
    pub fn forget(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Where an ARG above FROM declared `name`.
    pub fn declared(&self, name: &str) -> Option<Span> {
        self.declared.get(name).copied()
    }

    /// All names that FROM lines may use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values
            .keys()
            .chain(self.declared.keys())
            .map(String::as_str)
    }
}
