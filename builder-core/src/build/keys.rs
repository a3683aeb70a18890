//! The keys of steps: what each one's layer depends on, part by part.
//!
//! Follows `docs/cache.md`, "Keys". The layers below count by what they are, never by how they came about; files count
//! by their bytes and modes, never by their times.

use std::path::PathBuf;

use crate::build::arrival::{Arrival, How};
use crate::build::caching::Asked;
use crate::build::copy;
use crate::build::finder::Source;
use crate::build::stage::Shared;
use crate::cache::Key;
use crate::cache::listing::ListingWriter;
use crate::digest::{Digest, Hasher};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::image_path::ImagePath;
use crate::plan::step::{
    Account, Chmod, CopyFrom, CopySource, CopyStep, RunMount, RunMountKind, RunNetwork, RunStep,
    WorkdirStep,
};
use crate::timestamp::Timestamp;
use crate::tree::graft::{Graft, Origin};
use crate::tree::merge::merge;
use crate::tree::{Node, Tree};

/// A key with the parts that every step has: the layers below, those of the base apart from those of this stage.
fn below(asked: &Asked<'_>, layers: &[Layer], base: usize) -> Key {
    let chain = |layers: &[Layer]| {
        let mut hasher = Hasher::new();
        for layer in layers {
            hasher.update(layer.identity.0.as_bytes());
        }
        hasher.finish().to_string()
    };
    let (base, steps) = layers.split_at(base.min(layers.len()));
    let mut key = of_kind(asked);
    key.set("base", chain(base));
    key.set("steps", chain(steps));
    key
}

fn of_kind(asked: &Asked<'_>) -> Key {
    let mut key = Key::default();
    key.set("instruction", asked.keyword);
    key.set("platform", asked.stage.platform.to_string());
    key
}

/// FROM a directory, without its files.
pub(crate) fn directory(asked: &Asked<'_>) -> Key {
    of_kind(asked)
}

/// WORKDIR.
pub(crate) fn workdir(asked: &Asked<'_>, layers: &[Layer], base: usize, step: &WorkdirStep) -> Key {
    let mut key = below(asked, layers, base);
    key.set("path", step.path.clone());
    key.set("user", step.user.clone());
    key
}

/// COPY and ADD, without the files.
pub(crate) fn copy(asked: &Asked<'_>, layers: &[Layer], base: usize, step: &CopyStep) -> Key {
    let by_name = |account: &Option<Account>| matches!(account, Some(Account::Name(_)));
    let named = step
        .chown
        .as_ref()
        .is_some_and(|chown| by_name(&chown.value.user) || by_name(&chown.value.group));
    let mut key = if copy::asks_the_base(step) || named {
        below(asked, layers, base)
    } else {
        of_kind(asked)
    };
    let destination = &step.destination;
    let slash = destination.directory && !destination.path.ends_with('/');
    let slash = if slash { "/" } else { "" };
    key.set("destination", format!("{}{slash}", destination.path));
    if let Some(chown) = &step.chown {
        let (user, group) = (
            account(chown.value.user.as_ref()),
            account(chown.value.group.as_ref()),
        );
        key.set("--chown", format!("{user}:{group}"));
    }
    match &step.chmod {
        Some(Chmod::Octal(mode)) => key.set("--chmod", format!("{mode:o}")),
        Some(symbolic @ Chmod::Symbolic(_)) => key.set("--chmod", format!("{symbolic:?}")),
        None => {}
    }
    for (name, value) in [("--link", step.link), ("--parents", step.parents)] {
        if value {
            key.set(name, "true");
        }
    }
    if step.add {
        let unpack = step
            .unpack
            .map_or_else(|| "default".to_owned(), |one| one.to_string());
        key.set("--unpack", unpack);
    }
    key
}

fn account(account: Option<&Account>) -> String {
    match account {
        Some(Account::Id(id)) => id.to_string(),
        Some(Account::Name(name)) => name.clone(),
        None => String::new(),
    }
}

/// RUN, without the files of its mounts.
pub(crate) fn run(
    asked: &Asked<'_>,
    layers: &[Layer],
    base: usize,
    step: &RunStep,
    network: RunNetwork,
    hosts: &[String],
) -> Key {
    let mut key = below(asked, layers, base);
    key.set("command", step.argv.join("\0"));
    for script in &step.scripts {
        key.set(format!("script {}", script.name), script.content.clone());
    }
    for (name, value) in &step.env {
        // Some hand in secrets as build arguments: their values stand nowhere.
        key.set(format!("env {name}"), Digest::of(value.as_bytes()).short());
    }
    key.set("user", step.user.clone());
    key.set("workdir", step.workdir.clone());
    if network == RunNetwork::None {
        key.set("--network", "none");
    }
    if !hosts.is_empty() {
        key.set("--add-host", hosts.join(" "));
    }
    for (number, mount) in step.mounts.iter().enumerate() {
        key.set(format!("--mount {number}"), describe(mount));
    }
    key
}

/// What of a mount counts, beside its files: never the content of a cache, nor the value of a secret.
fn describe(mount: &RunMount) -> String {
    let target = mount.target.as_deref().unwrap_or_default();
    let read_only = mount.read_only;
    match &mount.kind {
        RunMountKind::Bind { .. } => format!("bind {target} read-only {read_only}"),
        RunMountKind::Cache { .. } => format!("cache {target} read-only {read_only}"),
        RunMountKind::Tmpfs { size } => format!("tmpfs {target} {size:?}"),
        RunMountKind::Secret {
            id,
            env,
            mode,
            uid,
            gid,
            ..
        } => format!("secret {id} {target} {env:?} {mode:o} {uid}:{gid}"),
        RunMountKind::Ssh {
            id, mode, uid, gid, ..
        } => format!("ssh {id} {target} {mode:o} {uid}:{gid}"),
    }
}

/// Reads digests of files: from the index of their directory where it vouches for them.
pub(crate) struct Reader<'f, 'a> {
    /// The build.
    pub(crate) shared: &'f Shared<'a>,
    /// The directory of the host behind the tree, where there is one.
    pub(crate) directory: Option<PathBuf>,
}

impl Reader<'_, '_> {
    /// The digest of a regular file's bytes.
    fn digest(&self, tree: &dyn Tree, mut node: Node) -> Result<Digest> {
        let shared = self.shared;
        let index = match (&self.directory, &node.stamp) {
            (Some(directory), Some(_)) => Some(shared.caching.index(shared.store, directory)?),
            _ => None,
        };
        let path = node.entry.path.clone();
        if let (Some(index), Some(stamp)) = (&index, &node.stamp)
            && let Some(known) = index.get(&path, stamp)
        {
            return Ok(known);
        }
        shared.interrupt.check()?;
        let mut content = tree.open(&mut node)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(taken) => hasher.update(&buffer[..taken]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let message = format!("cannot read `{path}` in {}", tree.describe());
                    return Err(Error::new(ErrorKind::Context, message).with_source(error));
                }
            }
        }
        drop(content);
        let digest = hasher.finish();
        if let (Some(index), Some(stamp)) = (index, node.stamp) {
            index.put(&path, stamp, digest, false)?;
        }
        Ok(digest)
    }

    /// The digest of the list of everything that arrives.
    pub(crate) fn arrivals(&self, arrivals: &[Arrival<'_>]) -> Result<Digest> {
        let mut graft = Graft::default();
        let place = |number: usize| ImagePath::root().child(number.to_string().as_bytes());
        for (number, arrival) in arrivals.iter().enumerate() {
            let tree: &dyn Tree = &*arrival.tree;
            let node = arrival.node.clone();
            let place = place(number);
            match &arrival.how {
                How::File(name) => graft.at(&place.child(name)).put(number, tree, node),
                How::Contents => graft.at(&place).put_contents(number, tree, node),
                How::Unpacked(..) => graft.at(&place).put_unpacked(number, tree, node),
            }
        }
        // For people a file has the path that it has in its source.
        let shown = |path: &ImagePath| {
            let mut names = path.components();
            let number = names
                .next()
                .and_then(|name| str::from_utf8(name).ok()?.parse().ok());
            let arrival: Option<&Arrival<'_>> =
                number.and_then(|number: usize| arrivals.get(number));
            match arrival {
                Some(arrival) if matches!(arrival.how, How::Contents) => names
                    .fold(arrival.node.entry.path.clone(), |path, name| {
                        path.child(name)
                    }),
                Some(arrival) => arrival.node.entry.path.clone(),
                None => path.clone(),
            }
        };
        self.list(&graft, &shown)
    }

    /// The digest of the list of what is at a path: a directory with all that is in it, or a file.
    pub(crate) fn tree(&self, tree: &dyn Tree, node: Node) -> Result<Digest> {
        let top = node.entry.path.clone();
        let mut graft = Graft::default();
        let directory = node.entry.is_directory();
        if directory {
            graft.put_contents(0, tree, node);
        } else {
            graft.at(&ImagePath::root().child(b"0")).put(0, tree, node);
        }
        let shown = |path: &ImagePath| {
            if directory {
                top.append(path)
            } else {
                top.clone()
            }
        };
        self.list(&graft, &shown)
    }

    fn list(&self, graft: &Graft<'_>, shown: &dyn Fn(&ImagePath) -> ImagePath) -> Result<Digest> {
        let store = self.shared.store;
        let mut list = ListingWriter::new(store)?;
        let made = Entry::directory(ImagePath::root(), Timestamp::default());
        let conflict = |_| Error::new(ErrorKind::Internal, "a single source is in its own way");
        merge(graft, None, &made, &conflict, &mut |merged| {
            if merged.origin == Origin::Made {
                return Ok(());
            }
            let mut entry = merged.entry;
            if entry.kind == EntryKind::Socket {
                // It arrives as an empty file.
                entry.kind = EntryKind::File { size: 0 };
            }
            let content = match (&merged.content, &entry.kind) {
                // What it becomes depends on what the stage has there.
                (None, _) if merged.origin == Origin::Passed => "passage".to_owned(),
                (Some((tree, node)), _) => self.digest(*tree, node.clone())?.to_string(),
                (None, EntryKind::HardLink { target }) => format!("= {target}"),
                (None, _) => String::new(),
            };
            list.push(&entry, &shown(&entry.path), &content)
        })?;
        list.finish(store)
    }
}

/// The key of a selection of files from layers, whose content is then known for ever; none for other sources.
pub(crate) fn selection(source: &Source<'_>, step: &CopyStep) -> Option<Key> {
    let mut key = of_layers(source)?;
    let sources: Vec<&str> = step
        .sources
        .iter()
        .filter_map(|source| match source {
            CopySource::Path(path) => Some(path.value.as_str()),
            _ => None,
        })
        .collect();
    if sources.len() < step.sources.len() {
        return None;
    }
    key.set("sources", sources.join("\0"));
    let exclude: Vec<&str> = step.exclude.iter().map(|one| one.value.as_str()).collect();
    key.set("exclude", exclude.join("\0"));
    key.set("parents", step.parents.to_string());
    Some(key)
}

/// The same for the source of a mount.
pub(crate) fn mounted(source: &Source<'_>, path: &str) -> Option<Key> {
    let mut key = of_layers(source)?;
    key.set("mounted", path);
    Some(key)
}

fn of_layers(source: &Source<'_>) -> Option<Key> {
    let Source::View(_, layers) = source else {
        return None;
    };
    let mut key = Key::default();
    let chain: Vec<String> = layers
        .iter()
        .map(|layer| layer.identity.to_string())
        .collect();
    key.set("layers", chain.join(" "));
    Some(key)
}

/// What tells one source of a bind mount from others.
pub(crate) fn bound_name(from: &CopyFrom, path: &str) -> String {
    format!("{from:?}\0{path}")
}

/// Where the files of a bind mount come from; none for other mounts.
pub(crate) fn bound(mount: &RunMount) -> Option<(&CopyFrom, &str)> {
    match &mount.kind {
        RunMountKind::Bind { from, source } => Some((from, source)),
        _ => None,
    }
}
