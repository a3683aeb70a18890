//! A context that is elsewhere, with the Dockerfile in it.

use std::path::Path;

use builder_core::build::elsewhere::{Fetched, fetch};
use builder_core::build::remote::Remote;
use builder_core::build::request::ContextSource;
use builder_core::event::Silent;
use builder_core::http::for_message;
use builder_core::interrupt::Interrupt;
use builder_core::plan::scope::{KEEP_GIT_DIR, switch};
use builder_core::store::Store;
use builder_core::tree::Tree as _;
use builder_core::{Error, ErrorKind, Result};

use super::contexts::{Input, dockerfile_on_input, names_inside, text};
use super::{build_args, git, usage};
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::network;

/// Fetches a context and finds its Dockerfile.
pub(super) fn input(
    url: &str,
    flags: &BuildFlags,
    environment: &Environment,
    store: &Store,
    interrupt: &Interrupt,
) -> Result<Input> {
    let transport = network::transport(environment, interrupt)?;
    let git = git(environment);
    let remote = Remote {
        store,
        transport: Some(&*transport),
        git: &git,
        events: &Silent,
        interrupt,
    };
    let arguments = build_args(&flags.build_args, environment)?;
    let keep_git_dir = arguments.get(KEEP_GIT_DIR).and_then(|value| switch(value));
    let tree = match fetch(&remote, url, keep_git_dir)? {
        Fetched::Files(tree) => tree,
        Fetched::Dockerfile { bytes, modified } => {
            if flags.file.is_some() {
                let shown = for_message(url);
                let message = format!("`{shown}` is a Dockerfile, so `-f` names nothing");
                return Err(usage(message));
            }
            return Ok(Input {
                dockerfile: text(&for_message(url), bytes)?,
                context: ContextSource::Empty { modified },
            });
        }
    };
    if flags.file.as_deref() == Some(Path::new("-")) {
        return Ok(Input {
            dockerfile: dockerfile_on_input(interrupt)?,
            context: ContextSource::Fetched(tree),
        });
    }
    let names = names_inside(flags);
    for name in &names {
        if let Some(bytes) = tree.read_file(name)? {
            return Ok(Input {
                dockerfile: text(name, bytes)?,
                context: ContextSource::Fetched(tree),
            });
        }
    }
    let wanted = names.first().map_or("Dockerfile", String::as_str);
    let message = format!("there is no `{wanted}` in {}", tree.describe());
    Err(Error::new(ErrorKind::Dockerfile, message)
        .with_help("name the Dockerfile in it with `-f`, or with `-f -` one on standard input"))
}
