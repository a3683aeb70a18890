//! A directory or an archive as an image, on its own or on top of another: what `docker import` and `docker commit` make.
//!
//! Everything in it becomes one layer. Nothing of a base is taken away. Changes to the config are instructions of a
//! Dockerfile, lowered as those of a build are.

use std::collections::BTreeMap;

use crate::dockerfile::parse::parse;
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Committed, Image, Layer};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::whiteout::{self, Marker};
use crate::layer::{LayerOptions, LayerWriter};
use crate::oci::config::{History, ImageConfig};
use crate::plan::scope::DEFAULT_PATH;
use crate::plan::step::Step;
use crate::plan::{PlanOptions, graph, lower};
use crate::platform::Platform;
use crate::source::SourceFile;
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::tree::{FileId, Node, Tree};

/// What becomes an image.
#[derive(Debug)]
pub struct Import {
    /// What lies below; nothing for an image of its own.
    pub base: Option<Image>,
    /// The platform of an image of its own.
    pub platform: Platform,
    /// Instructions that change the config: CMD, ENV and the like, one or more lines each.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// What is said of it.
    pub message: String,
    /// How the history tells of it.
    pub created_by: String,
    /// When.
    pub now: Timestamp,
    /// How its layer is made.
    pub options: LayerOptions,
}

/// Makes a layer of a tree, and an image of it in the store. It has no name yet.
///
/// # Errors
/// [`ErrorKind::Dockerfile`] for a change that is none, [`ErrorKind::Context`] for a file that can't be read or changes
/// meanwhile; those of the store.
pub fn import(
    store: &Store,
    import: Import,
    tree: &dyn Tree,
    interrupt: &Interrupt,
) -> Result<Committed> {
    let mut image = import.base.unwrap_or_else(|| Image {
        config: ImageConfig::for_platform(&import.platform),
        layers: Vec::new(),
    });
    // What a mistyped change costs is known before the tree is read.
    image.config = changed(image.config, &import.changes)?;
    let mut writer = LayerWriter::new(store, &import.options)?;
    append(&mut writer, tree, interrupt)?;
    let layer = writer.finish()?;
    image
        .layers
        .push(Layer::made(layer.descriptor, layer.diff_id));
    let created = Some(import.now.clamp_to(import.options.epoch).to_rfc3339());
    image.config.created.clone_from(&created);
    if !import.author.is_empty() {
        image.config.author.clone_from(&import.author);
    }
    image.config.history.push(History {
        created,
        created_by: import.created_by,
        author: import.author,
        comment: import.message,
        ..History::default()
    });
    image.commit(store, BTreeMap::new(), false)
}

/// A config with the changes of instructions.
fn changed(mut config: ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    // Triggers are for builds, and this is none.
    config.config.on_build.clear();
    if changes.is_empty() {
        return Ok(config);
    }
    let file = SourceFile::new("--change", format!("FROM base\n{}\n", changes.join("\n")));
    let problem = |diagnostics| Error::from_diagnostics(&file, diagnostics);
    let (parsed, problems) = parse(&file);
    if problems.iter().any(crate::diagnostic::Diagnostic::is_error) {
        return Err(problem(problems));
    }
    let options = PlanOptions::new(config.platform());
    let (graph, problems) = graph(&file, &parsed, &options);
    let graph = graph.ok_or_else(|| problem(problems))?;
    if graph.stages.len() != 1 {
        let message = "a change can begin no stage";
        return Err(Error::new(ErrorKind::Dockerfile, message)
            .with_help("name what lies below with `--from`"));
    }
    let had_path = config.config.env.iter().any(|one| is_path(one));
    let bases = BTreeMap::from([(0, config)]);
    let (plan, problems) = lower(&file, &parsed, &graph, &bases, &options);
    let plan = plan.ok_or_else(|| problem(problems))?;
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let executed = steps
        .clone()
        .find(|step| !matches!(step.step, Step::Config | Step::Workdir(_)));
    if let Some(step) = executed {
        let message = "a change can set the config alone";
        return Err(Error::new(ErrorKind::Dockerfile, message)
            .at(&file, step.span)
            .with_help("write CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR"));
    }
    let mut config = plan.config;
    if !had_path {
        // A build gives an image of its own the usual PATH; this one has what it is given.
        let usual = format!("PATH={DEFAULT_PATH}");
        config.config.env.retain(|variable| *variable != usual);
    }
    Ok(config)
}

fn is_path(variable: &str) -> bool {
    variable.starts_with("PATH=")
}

/// The first names of files that have several.
type Links = BTreeMap<FileId, ImagePath>;

/// Appends everything of a tree, in order. Nothing recurses: a tree may be deep.
fn append(writer: &mut LayerWriter, tree: &dyn Tree, interrupt: &Interrupt) -> Result<()> {
    let mut links = Links::default();
    let mut above: Vec<Node> = Vec::new();
    let mut levels = vec![tree.list(&ImagePath::root())?];
    while let Some(listing) = levels.last_mut() {
        interrupt.check()?;
        let Some(mut node) = listing.next().transpose()? else {
            levels.pop();
            above.pop().map_or(Ok(()), |left| unchanged(tree, &left))?;
            continue;
        };
        let path = node.entry.path.clone();
        if whiteout::read(&path) != Marker::None {
            let message = format!(
                "`{path}` of {} would hide other files in an image",
                tree.describe()
            );
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("names that begin with `.wh.` mean that in a layer; give it another"));
        }
        if !(node.entry.is_directory() && node.implied) {
            append_one(writer, tree, &mut node, &mut links)?;
        }
        if node.entry.is_directory() {
            levels.push(tree.list(&path)?);
            above.push(node);
        } else {
            unchanged(tree, &node)?;
        }
    }
    Ok(())
}

fn append_one(
    writer: &mut LayerWriter,
    tree: &dyn Tree,
    node: &mut Node,
    links: &mut Links,
) -> Result<()> {
    if let Some(id) = node.link {
        let path = &node.entry.path;
        let first = links.entry(id).or_insert_with(|| path.clone());
        if first != path {
            node.entry.kind = EntryKind::HardLink {
                target: first.clone(),
            };
            return Ok(writer.append(&node.entry, None)?);
        }
    }
    if matches!(node.entry.kind, EntryKind::File { .. }) {
        let mut content = tree.open(node)?;
        return Ok(writer.append(&node.entry, Some(&mut content))?);
    }
    Ok(writer.append(&node.entry, None)?)
}

/// Fails where a file of the host, or a directory's list of names, is another now than it was when it was read.
fn unchanged(tree: &dyn Tree, node: &Node) -> Result<()> {
    let Some(stamp) = &node.stamp else {
        return Ok(());
    };
    let now = tree.look_up(&node.entry.path)?;
    if now.is_some_and(|now| now.stamp.as_ref() == Some(stamp)) {
        return Ok(());
    }
    let message = format!(
        "`{}` of {} changed while it was read",
        node.entry.path,
        tree.describe()
    );
    Err(Error::new(ErrorKind::Context, message)
        .with_help("stop what writes there, or copy the directory first; nothing was kept"))
}
