//! RUN in each way in which it is executed.

mod caches;
mod container;
mod debian;
mod identity;
mod isolation;
mod jail;
mod keys;
mod lifecycle;
mod matrix;
mod messages;
mod mounts;
mod reference;
mod signals;
mod subids;

use std::fs;
use std::path::{Path, PathBuf};

use test_support::busybox;
use test_support::tools::{is_root, require, skip};
use test_support::world::{Outcome, Running, World, set_mode};

use crate::world;

/// A way of executing RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Its name, for messages and paths.
    pub(crate) name: &'static str,
    flags: &'static str,
    /// What the program says about it.
    says: &'static str,
    /// Whether the program is run by an ordinary user.
    pub(crate) ordinary: bool,
}

const RANGE: Way = Way {
    name: "range",
    flags: "--run-mode userns --run-ids range",
    says: "RUN is executed by userns: namespaces with all ids, overlay",
    ordinary: false,
};
const SINGLE: Way = Way {
    name: "single",
    flags: "--run-mode userns --run-ids single",
    says: "RUN is executed by userns: namespaces with one id, the others emulated, overlay",
    ordinary: false,
};
const CHROOT: Way = Way {
    name: "chroot",
    flags: "--run-mode chroot",
    says: "RUN is executed by chroot: behind Landlock",
    ordinary: false,
};
const PATHS: Way = Way {
    name: "paths",
    flags: "--run-mode paths",
    says: "RUN is executed by paths: every path resolved by a supervisor",
    ordinary: false,
};
const ORDINARY_PATHS: Way = Way {
    name: "ordinary paths",
    ordinary: true,
    ..PATHS
};
const ORDINARY: Way = Way {
    name: "ordinary",
    ordinary: true,
    ..SINGLE
};

/// An id that is nobody's on any machine.
const SOMEBODY: &str = "54321";

/// The ways that can be tried here: all for root, and the one of ordinary users for them. None without busybox.
pub(crate) fn ways() -> Vec<Way> {
    if require("busybox").is_none() {
        return Vec::new();
    }
    if !is_root() {
        skip("only root can try all ways of RUN; that of ordinary users is tried");
        return vec![SINGLE, PATHS];
    }
    let mut ways = vec![RANGE, SINGLE, CHROOT, PATHS];
    if require("setpriv").is_some() {
        ways.extend([ORDINARY, ORDINARY_PATHS]);
    }
    ways
}

impl Way {
    /// A world in which the program is run in this way, by [`Way::run`].
    pub(crate) fn world(self) -> World {
        let mut world = world();
        if self.ordinary {
            for folder in ["home", "tmp", "out", "store"] {
                fs::create_dir_all(world.path(folder)).unwrap();
                set_mode(&world.path(folder), 0o777);
            }
            let (uid, gid) = (format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}"));
            world.run_through(&["setpriv", &uid, &gid, "--clear-groups"]);
        }
        let to = world.path("bb");
        busybox::base(&to, &require("busybox").unwrap(), busybox::MORE);
        world
    }

    /// Whether RUN is executed by a chroot.
    pub(crate) fn is_chroot(self) -> bool {
        self == CHROOT
    }

    /// Whether ids are real.
    pub(crate) fn has_all_ids(self) -> bool {
        !self.ordinary && (self == RANGE || self.is_chroot())
    }

    /// Whether the host's name is the command's own.
    pub(crate) fn has_own_host_name(self) -> bool {
        self.flags.contains("userns")
    }

    /// Whether a command can have a network of its own.
    pub(crate) fn cuts_network(self) -> bool {
        self.flags.contains("userns")
    }

    /// The flags that ask for it.
    pub(crate) fn words(self) -> Vec<&'static str> {
        self.flags.split(' ').collect()
    }

    /// The arguments of a build in this way of the world's Dockerfile, the output left out.
    pub(crate) fn line(self, more: &str) -> String {
        let flags = self.flags;
        format!("build --progress plain {flags} --build-context bb=@/bb {more} @/context")
    }

    /// Starts a build of a Dockerfile whose base is `FROM bb`.
    pub(crate) fn start(self, world: &World, dockerfile: &str, more: &str) -> Running {
        world.write("context/Dockerfile", dockerfile);
        world.start_line(&self.line(&format!("-t a -o type=oci,dest=@/out/a.tar {more}")))
    }

    /// Builds, and sees that it was done in this way.
    #[track_caller]
    pub(crate) fn build(self, world: &World, dockerfile: &str, more: &str) -> Outcome {
        self.start(world, dockerfile, more).wait().says(self.says)
    }
}

/// Where the builds of [`Way::build`] leave the image.
pub(crate) fn image_of(world: &World) -> PathBuf {
    world.path("out/a.tar")
}

/// Calls `work` with each way, several at once, and fails with everything that it has to say.
pub(crate) fn in_each_way(work: impl Fn(Way) -> Vec<String> + Sync) {
    let ways = ways();
    let found: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = ways
            .iter()
            .map(|way| (way.name, scope.spawn(|| work(*way))))
            .collect();
        let lines = running.into_iter().flat_map(|(name, thread)| {
            let found = thread.join().unwrap_or_else(|_| vec!["panicked".into()]);
            found.into_iter().map(move |line| format!("{name}: {line}"))
        });
        lines.collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_part_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/run");
    let own = fs::read_to_string(folder.join("mod.rs")).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "mod" || own.contains(&format!("\nmod {name};\n")),
            "{} is in no module",
            path.display()
        );
    }
}
