//! The mounts of a RUN: each flag becomes something of the host's disk or memory that the sandbox can put in place.
//!
//! Follows the Dockerfile reference, "RUN --mount". Files of a context or a stage come without what the ignore file
//! excludes and belong to root; what a command writes into them is thrown away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::RunInput;
use super::caches::{Cache, Identity, Wanted};
use super::root::with_layouts;
use super::ssh::SshServer;
use super::travel;
use crate::build::finder::Source;
use crate::build::keys::{bound, bound_name};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::image_path::ImagePath;
use crate::owners::SideTable;
use crate::plan::step::{CopyFrom, RunMount, RunMountKind};
use crate::rootfs;
use crate::sandbox::RootForm;
use crate::sandbox::spec::{Bytes, Mount, MountKind, Overlay};
use crate::store::TemporaryDirectory;
use crate::tree::Tree;
use crate::tree::resolve::{Resolved, resolve};

/// Fills a new directory, or makes a new file, at a path; the owners that can't be held go to the table.
pub(super) type Materials<'a> = &'a mut dyn FnMut(&Path, &mut SideTable) -> Result<()>;

/// Finds where mounts take their files from.
pub(crate) trait Sources<'s> {
    /// The tree that `from` names.
    ///
    /// # Errors
    /// Those of a context or an image that can't be had.
    fn source(&self, from: &CopyFrom) -> Result<Source<'s>>;
}

/// Parts of contexts that lie on the disk for all RUNs of a build, by where they come from.
pub(super) type SharedFiles = Mutex<BTreeMap<String, Arc<Laid>>>;

/// A part of a context on the disk.
#[derive(Debug)]
pub(super) struct Laid(TemporaryDirectory);

/// What the mounts of a RUN need while it runs.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The mounts, in order.
    pub(super) mounts: Vec<Mount>,
    /// Variables: secrets, and the ssh agent's socket.
    pub(super) env: Vec<(String, String)>,
    tables: Vec<Bytes>,
    caches: BTreeMap<Identity, Cache>,
    shared: Vec<Arc<Laid>>,
    agents: Vec<SshServer>,
}

impl World {
    /// The names of the variables that it gives.
    pub(super) fn env_names(&self) -> Vec<&str> {
        self.env.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Side tables of what is mounted.
    pub(super) fn tables(&self) -> &[Bytes] {
        &self.tables
    }

    /// Keeps what the command left in its caches.
    pub(super) fn finish(&mut self, table: &SideTable) -> Result<()> {
        self.caches.values().try_for_each(|cache| cache.save(table))
    }
}

/// Prepares the mounts of a step. `folder` is a directory of this RUN's own.
///
/// # Errors
/// [`ErrorKind::Run`] for a source, a secret or an agent that isn't there.
pub(super) fn prepare(input: &RunInput<'_, '_>, folder: &Path) -> Result<World> {
    let mut world = World::default();
    take_caches(input, &mut world)?;
    for (number, mount) in input.step.mounts.iter().enumerate() {
        let place = folder.join(format!("mount{number}"));
        let agents = world.agents.len();
        let kind = add(input, mount, &place, &mut world);
        let kind = kind.map_err(|error| error.at(input.shared.file, mount.span))?;
        let mut target = mount.target.clone();
        if world.agents.len() > agents {
            // As BuildKit names the socket, and tells programs of the first one.
            let socket = target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{agents}"));
            if agents == 0 {
                let variable = ("SSH_AUTH_SOCK".to_owned(), socket.clone());
                world.env.push(variable);
            }
            target = Some(socket);
        }
        if let (Some(kind), Some(target)) = (kind, target) {
            world.mounts.push(Mount {
                target: Bytes(target.as_bytes().to_vec()),
                kind,
            });
        }
    }
    Ok(world)
}

/// Prepares one mount; none where there is nothing to mount.
fn add(
    input: &RunInput<'_, '_>,
    mount: &RunMount,
    place: &Path,
    world: &mut World,
) -> Result<Option<MountKind>> {
    let read_only = mount.read_only;
    Ok(match &mount.kind {
        RunMountKind::Bind { from, source } => {
            Some(bind(input, from, source, read_only, place, world)?)
        }
        RunMountKind::Cache { .. } => {
            let identity = identity(input, mount);
            let cache = identity.and_then(|identity| world.caches.get(&identity));
            cache.map(|cache| MountKind::Bind {
                source: cache.data().into(),
                read_only,
            })
        }
        RunMountKind::Tmpfs { size } => Some(MountKind::Tmpfs { size: *size }),
        RunMountKind::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => {
            let Some(secret) = input.runner.options.secrets.get(id) else {
                return if *required {
                    Err(no_secret(id))
                } else {
                    Ok(None)
                };
            };
            if let Some(name) = env {
                let value = String::from_utf8_lossy(&secret.0).into_owned();
                world.env.push((name.clone(), value));
            }
            let (mode, uid, gid) = (*mode, *uid, *gid);
            mount.target.is_some().then(|| MountKind::Secret {
                content: Bytes(secret.0.clone()),
                mode,
                uid,
                gid,
            })
        }
        RunMountKind::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => {
            let Some(source) = input.runner.options.ssh.get(id) else {
                return if *required {
                    Err(no_agent(id))
                } else {
                    Ok(None)
                };
            };
            let server = SshServer::start(source, place, *mode, (*uid, *gid))?;
            world.agents.push(server);
            Some(MountKind::Bind {
                source: place.into(),
                read_only: false,
            })
        }
    })
}

/// `type=bind`.
fn bind(
    input: &RunInput<'_, '_>,
    from: &CopyFrom,
    path: &str,
    read_only: bool,
    place: &Path,
    world: &mut World,
) -> Result<MountKind> {
    let source = input.sources.source(from)?;
    let found = find(source.tree(), path)?;
    let overlay = input.runner.capabilities.root == RootForm::Overlay;
    if let (Source::View(_, layers), true) = (&source, overlay) {
        let lowers = with_layouts(input, &mut |layouts| layouts.lowers(layers))?;
        let tables = lowers.iter().filter(|lower| lower.owners.exists());
        world
            .tables
            .extend(tables.map(|lower| lower.owners.as_path().into()));
        let lowers = lowers.iter().map(|lower| lower.tree.as_path().into());
        return Ok(MountKind::Overlay {
            overlay: overlay_in(place, lowers.collect())?,
            source: Bytes([b"/", found.as_relative()].concat()),
            read_only,
        });
    }
    if !overlay {
        lay_out(input, source.tree(), &found, place, world)?;
        return Ok(MountKind::Bind {
            source: place.into(),
            read_only,
        });
    }
    let laid = shared(input, &bound_name(from, path), source.tree(), &found)?;
    let (path, owners) = (laid.0.path().join("files"), laid.0.path().join("owners"));
    world.shared.push(laid);
    world.tables.push(owners.into());
    if read_only || !path.is_dir() {
        return Ok(MountKind::Bind {
            source: path.into(),
            read_only,
        });
    }
    Ok(MountKind::Overlay {
        overlay: overlay_in(place, vec![path.into()])?,
        source: Bytes(b"/".to_vec()),
        read_only,
    })
}

/// The path that a mount's source leads to.
fn find(tree: &dyn Tree, path: &str) -> Result<ImagePath> {
    match resolve(
        tree,
        &ImagePath::clean([b"/", path.as_bytes()].concat()),
        true,
    )? {
        Resolved::Found(node) => Ok(node.entry.path),
        _ => {
            let message = format!("`{path}` is not in {}", tree.describe());
            Err(Error::new(ErrorKind::Run, message)
                .with_help("a mount's source must be there; the ignore file may exclude it"))
        }
    }
}

/// An overlay in a new directory of its own.
fn overlay_in(place: &Path, lowers: Vec<Bytes>) -> Result<Overlay> {
    for name in ["", "upper", "work", "root"] {
        let path = place.join(name);
        std::fs::create_dir(&path).map_err(|error| trouble(&path, error))?;
    }
    Ok(Overlay {
        lowers,
        folder: place.into(),
    })
}

/// Lays files out at `place` for one RUN.
fn lay_out(
    input: &RunInput<'_, '_>,
    tree: &dyn Tree,
    path: &ImagePath,
    place: &Path,
    world: &mut World,
) -> Result<()> {
    let mut table = SideTable::default();
    rootfs::lay_out_tree(tree, path, place, input.runner.encoding(), &mut table)?;
    let owners = place.with_extension("owners");
    std::fs::write(&owners, table.to_text()).map_err(|error| trouble(&owners, error))?;
    world.tables.push(owners.into());
    Ok(())
}

/// Lays files of a context out once for all RUNs of the build that show the same of it.
fn shared(
    input: &RunInput<'_, '_>,
    name: &str,
    tree: &dyn Tree,
    path: &ImagePath,
) -> Result<Arc<Laid>> {
    let files = input.bound.get(name).map(Digest::hex);
    let key = format!("{name}\0{}", files.unwrap_or_default());
    let shared = &input.runner.shared_files;
    let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(laid) = all.get(&key) {
        return Ok(Arc::clone(laid));
    }
    let folder = input.shared.store.temporary_directory()?;
    let (files, owners) = (folder.path().join("files"), folder.path().join("owners"));
    let mut table = SideTable::default();
    rootfs::lay_out_tree(tree, path, &files, input.runner.encoding(), &mut table)?;
    std::fs::write(&owners, table.to_text()).map_err(|error| trouble(&owners, error))?;
    let laid = Arc::new(Laid(folder));
    all.insert(key, Arc::clone(&laid));
    Ok(laid)
}

/// Takes the caches of a step, in the order of their identities: two steps that wait for each other's would wait forever.
fn take_caches(input: &RunInput<'_, '_>, world: &mut World) -> Result<()> {
    let mounts = input.step.mounts.iter();
    let named: BTreeMap<Identity, &RunMount> = mounts
        .filter_map(|mount| Some((identity(input, mount)?, mount)))
        .collect();
    for (identity, mount) in named {
        let cache = cache(input, &mount.kind, &identity);
        let cache = cache.map_err(|error| error.at(input.shared.file, mount.span))?;
        world.tables.push(cache.owners().into());
        world.caches.insert(identity, cache);
    }
    Ok(())
}

/// The identity of a cache; none for another mount. What `from` shows is what the step's key says of it.
fn identity(input: &RunInput<'_, '_>, mount: &RunMount) -> Option<Identity> {
    let bound = bound(mount).map(|(from, path)| bound_name(from, path));
    let from = bound.and_then(|name| input.bound.get(&name).copied());
    Identity::of(&mount.kind, from)
}

/// `type=cache`.
fn cache(input: &RunInput<'_, '_>, kind: &RunMountKind, identity: &Identity) -> Result<Cache> {
    let RunMountKind::Cache {
        id: _,
        sharing,
        from,
        source,
        mode,
        uid,
        gid,
    } = kind
    else {
        let message = "a mount that is no cache";
        return Err(Error::new(ErrorKind::Internal, message));
    };
    let encoding = input.runner.encoding();
    let waits = || {
        let message = format!(
            "a cache mount of step {} is in use: waiting for it",
            input.id.0
        );
        input.shared.events.send(Event::Notice { message });
    };
    let wanted = Wanted {
        identity,
        sharing: *sharing,
        alone: input.runner.capabilities.moves_mounts,
        interrupt: input.shared.interrupt,
        waits: &waits,
    };
    travel::note_use(input.runner, identity);
    let mut fill = |place: &Path, table: &mut SideTable| match from {
        _ if travel::import(input, identity, place, table)? => Ok(()),
        Some(from) => {
            let found = input.sources.source(from)?;
            let path = find(found.tree(), source)?;
            rootfs::lay_out_tree(found.tree(), &path, place, encoding, table)
        }
        None => rootfs::lay_out_empty(place, *mode, (*uid, *gid), encoding, input.shared.now),
    };
    Cache::take(input.shared.store, encoding, &wanted, &mut fill)
}

fn no_secret(id: &str) -> Error {
    let message = format!("the secret `{id}` is required, and was not given");
    Error::new(ErrorKind::Run, message).with_help(format!(
        "give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`"
    ))
}

fn no_agent(id: &str) -> Error {
    let message = format!("the ssh agent or key `{id}` is required, and was not given");
    Error::new(ErrorKind::Run, message).with_help(format!(
        "give it with `--ssh {id}` for the running agent, or `--ssh {id}=KEYFILE`"
    ))
}

pub(super) fn trouble(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot make `{}` for a mount", path.display());
    Error::new(ErrorKind::Run, message).with_source(error)
}
