//! Keys as texts that stay, and what changes them: one input after the other.

use std::collections::BTreeSet;

use super::{Given, Place, copy, directory, mounted, run, selection, workdir};
use crate::build::copy::Landing;
use crate::build::finder::Source;
use crate::cache::Key;
use crate::digest::{DiffId, Digest};
use crate::image::Layer;
use crate::image::view::View;
use crate::oci::{Descriptor, MediaType};
use crate::plan::step::{
    Account, CacheSharing, Chmod, Chown, CopyFrom, CopySource, CopyStep, Destination, RunMount,
    RunMountKind, RunNetwork, RunScript, RunStep, Spanned, SymbolicMode, WorkdirStep,
};
use crate::platform::Platform;
use crate::sandbox::spec::{Limits, Resource, ResourceLimit};
use crate::source::Span;
use crate::store::Store;

fn layer(text: &str) -> Layer {
    let digest = Digest::of(text.as_bytes());
    Layer::made(
        Descriptor::new(MediaType::LayerTar, digest, 1),
        DiffId(digest),
    )
}

fn spanned<T>(value: T) -> Spanned<T> {
    let span = Span::default();
    Spanned { value, span }
}

/// A place on top of the layers `a`, which is the base, and `b`.
fn at<T>(keyword: &'static str, make: impl FnOnce(&Place<'_>) -> T) -> T {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let place = Place {
        keyword,
        platform: &platform,
        layers: &[layer("a"), layer("b")],
        base: 1,
    };
    make(&place)
}

/// The parts, a line each.
fn text(key: &Key) -> String {
    key.parts()
        .iter()
        .fold(String::new(), |text, (name, value)| {
            text + name + "=" + &value.escape_default().to_string() + "\n"
        })
}

/// That no two of these are equal.
#[track_caller]
fn all_differ(keys: &[(String, Digest)]) {
    for (number, (name, key)) in keys.iter().enumerate() {
        for (other, other_key) in &keys[..number] {
            assert_ne!(key, other_key, "{name} and {other}");
        }
    }
}

fn run_step() -> RunStep {
    RunStep {
        argv: vec!["/bin/sh".into(), "-c".into(), "make".into()],
        scripts: vec![RunScript {
            name: "EOF".into(),
            content: "#!/bin/x\n".into(),
        }],
        args: Vec::new(),
        env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        proxies: Vec::new(),
        workdir: "/w".into(),
        user: "app".into(),
        mounts: mounts(),
        hostname: "buildkitsandbox".into(),
        network: RunNetwork::Default,
        insecure: false,
    }
}

fn mounts() -> Vec<RunMount> {
    let kinds = [
        RunMountKind::Bind {
            from: CopyFrom::Context,
            source: "/".into(),
        },
        RunMountKind::Cache {
            id: "c".into(),
            sharing: CacheSharing::Shared,
            from: None,
            source: "/".into(),
            mode: 0o755,
            uid: 0,
            gid: 0,
        },
        RunMountKind::Tmpfs { size: None },
        RunMountKind::Secret {
            id: "s".into(),
            required: false,
            env: None,
            mode: 0o400,
            uid: 0,
            gid: 0,
        },
        RunMountKind::Ssh {
            id: "default".into(),
            required: false,
            mode: 0o600,
            uid: 0,
            gid: 0,
        },
    ];
    let mount = |(number, kind)| RunMount {
        kind,
        target: Some(format!("/m{number}")),
        read_only: false,
        span: Span::default(),
    };
    kinds.into_iter().enumerate().map(mount).collect()
}

fn given<'a>(step: &RunStep, hosts: &'a [String], limits: &'a Limits) -> Given<'a> {
    Given {
        network: step.network,
        hosts,
        limits,
    }
}

fn of_run(step: &RunStep) -> Key {
    let hosts = ["db".to_owned()];
    at("RUN", |place| {
        run(place, step, given(step, &hosts, &Limits::default()))
    })
}

/// A change of a step, with its name.
type Change<T> = (&'static str, fn(&mut T));

/// What changes the result of a RUN.
const RUN_CHANGES: &[Change<RunStep>] = &[
    ("argv", |step| step.argv[2].push('x')),
    ("another word", |step| step.argv.push(String::new())),
    ("a word less", |step| step.argv.truncate(2)),
    ("a NUL in a word", |step| {
        step.argv = vec!["/bin/sh".into(), "-c\0make".into()];
    }),
    ("a NUL in another", |step| {
        step.argv = vec!["/bin/sh\0-c".into(), "make".into()];
    }),
    ("a script's name", |step| step.scripts[0].name.push('x')),
    ("a script's text", |step| step.scripts[0].content.push('x')),
    ("no script", |step| step.scripts.clear()),
    ("the same script twice", |step| {
        let one = step.scripts[0].clone();
        step.scripts.push(one);
    }),
    ("a value", |step| step.env[0].1.push('x')),
    ("a name", |step| step.env[0].0.push('x')),
    ("a new variable", |step| {
        step.env.push(("C".into(), String::new()));
    }),
    ("a variable less", |step| step.env.truncate(1)),
    ("the order of variables", |step| step.env.reverse()),
    ("a variable twice", |step| {
        step.env.push(("A".into(), "1".into()));
    }),
    ("a variable twice, first", |step| {
        step.env.insert(0, ("A".into(), "3".into()));
    }),
    ("a variable twice, last", |step| {
        step.env.push(("A".into(), "3".into()));
    }),
    ("values that change places", |step| {
        step.env[0].1 = "2".into();
        step.env[1].1 = "1".into();
    }),
    ("workdir", |step| step.workdir.push('x')),
    ("hostname", |step| step.hostname.push('x')),
    ("user", |step| step.user.push('x')),
    ("no user", |step| step.user.clear()),
    ("network", |step| step.network = RunNetwork::None),
    ("security", |step| step.insecure = true),
    ("the order of mounts", |step| step.mounts.swap(0, 1)),
    ("a mount less", |step| step.mounts.truncate(4)),
    ("no mount", |step| step.mounts.clear()),
    ("target 0", |step| step.mounts[0].target = Some("/x".into())),
    ("target 1", |step| step.mounts[1].target = Some("/x".into())),
    ("target 2", |step| step.mounts[2].target = Some("/x".into())),
    ("target 3", |step| step.mounts[3].target = Some("/x".into())),
    ("target 4", |step| step.mounts[4].target = Some("/x".into())),
    ("no target 3", |step| step.mounts[3].target = None),
    ("no target 4", |step| step.mounts[4].target = None),
    ("read-only 0", |step| step.mounts[0].read_only = true),
    ("read-only 1", |step| step.mounts[1].read_only = true),
    ("read-only 2", |step| step.mounts[2].read_only = true),
];

fn of_kind(step: &mut RunStep, number: usize) -> &mut RunMountKind {
    &mut step.mounts[number].kind
}

/// Every field of a mount that is to be changed, as `kind` has it.
macro_rules! change {
    ($number:literal $kind:ident $field:ident = $value:expr) => {
        (
            concat!(
                stringify!($kind),
                " ",
                stringify!($field),
                " ",
                stringify!($value)
            ),
            |step| {
                if let RunMountKind::$kind { $field, .. } = of_kind(step, $number) {
                    *$field = $value;
                }
            },
        )
    };
}

const MOUNT_CHANGES: &[Change<RunStep>] = &[
    change!(1 Cache id = "x".into()),
    change!(1 Cache sharing = CacheSharing::Private),
    change!(1 Cache sharing = CacheSharing::Locked),
    change!(1 Cache mode = 0o700),
    change!(1 Cache uid = 5),
    change!(1 Cache gid = 5),
    change!(2 Tmpfs size = Some(0)),
    change!(2 Tmpfs size = Some(5)),
    change!(3 Secret id = "x".into()),
    change!(3 Secret required = true),
    change!(3 Secret env = Some("V".into())),
    change!(3 Secret env = Some("W".into())),
    change!(3 Secret mode = 0o444),
    change!(3 Secret uid = 5),
    change!(3 Secret gid = 5),
    change!(4 Ssh id = "x".into()),
    change!(4 Ssh required = true),
    change!(4 Ssh mode = 0o666),
    change!(4 Ssh uid = 5),
    change!(4 Ssh gid = 5),
];

/// What doesn't: it is told elsewhere, or by rule.
const RUN_SAME: &[Change<RunStep>] = &[
    ("what the history shows", |step| {
        step.args.push(("A".into(), "1".into()));
    }),
    ("proxies", |step| {
        step.proxies.push(("HTTP_PROXY".into(), "p".into()));
    }),
    ("the host's network", |step| step.network = RunNetwork::Host),
    // Their files are parts of their own.
    change!(0 Bind from = CopyFrom::Stage(1)),
    change!(0 Bind source = "/x".into()),
    change!(1 Cache from = Some(CopyFrom::Stage(1))),
    change!(1 Cache source = "/x".into()),
    ("the place of a flag", |step| step.mounts[0].span.end += 1),
];

#[test]
fn whatever_changes_a_run_changes_its_key() {
    let mut keys = vec![("nothing".to_owned(), of_run(&run_step()).digest())];
    for (name, change) in RUN_CHANGES.iter().chain(MOUNT_CHANGES) {
        let mut step = run_step();
        change(&mut step);
        assert_ne!(step, run_step(), "{name}");
        keys.push(((*name).to_owned(), of_run(&step).digest()));
    }
    let step = run_step();
    for hosts in [
        &[][..],
        &["db".into(), "x".into()],
        &["x".into(), "db".into()],
    ] {
        let key = at("RUN", |place| {
            run(place, &step, given(&step, hosts, &Limits::default()))
        });
        keys.push((format!("hosts {hosts:?}"), key.digest()));
    }
    for (shm_size, soft, hard) in [
        (Some(1), None, None),
        (None, Some(1), None),
        (None, Some(1), Some(2)),
        (Some(1), Some(2), Some(2)),
    ] {
        let limit = |resource| ResourceLimit {
            resource,
            soft,
            hard,
        };
        for resource in [Resource::Core, Resource::Nofile] {
            let limits = Limits {
                shm_size,
                resources: vec![limit(resource)],
            };
            let hosts = ["db".to_owned()];
            let key = at("RUN", |place| {
                run(place, &step, given(&step, &hosts, &limits))
            });
            keys.push((format!("{limits:?}"), key.digest()));
        }
    }
    all_differ(&keys);
    for (name, change) in RUN_SAME {
        let mut step = run_step();
        change(&mut step);
        assert_ne!(step, run_step(), "{name}");
        assert_eq!(of_run(&step).digest(), keys[0].1, "{name}");
    }
}

#[test]
fn what_is_below_changes_a_key() {
    let platforms: [Platform; 2] = ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap());
    let (a, b) = (layer("a"), layer("b"));
    let ab = [a.clone(), b.clone()];
    let ba = [b.clone(), a.clone()];
    let mut stacks: Vec<(String, &[Layer], usize)> = vec![
        ("nothing".to_owned(), &[], 0),
        ("a".to_owned(), &ab[..1], 1),
        ("b".to_owned(), &ba[..1], 1),
    ];
    for base in 0..=2 {
        stacks.push((format!("ab {base}"), &ab, base));
        stacks.push((format!("ba {base}"), &ba, base));
    }
    let step = WorkdirStep {
        path: "/w".into(),
        user: "app".into(),
    };
    let mut keys = Vec::new();
    for platform in &platforms {
        for (name, layers, base) in &stacks {
            let place = Place {
                keyword: "WORKDIR",
                platform,
                layers,
                base: *base,
            };
            let below = workdir(&place, &step);
            keys.push((format!("{platform} {name}"), below.digest()));
            // The same of the others, whose keys are made the same way.
            let other = run(
                &place,
                &run_step(),
                given(&run_step(), &[], &Limits::default()),
            );
            assert_eq!(other.parts()["steps"], below.parts()["steps"]);
        }
    }
    all_differ(&keys);
}

#[test]
fn whatever_changes_a_workdir_changes_its_key() {
    let key = |path: &str, user: &str| {
        let step = WorkdirStep {
            path: path.into(),
            user: user.into(),
        };
        at("WORKDIR", |place| workdir(place, &step))
    };
    let rows = [
        ("/w", "app"),
        ("/x", "app"),
        ("/w", ""),
        ("/w", "5"),
        ("/w", "5:6"),
    ];
    let keys = rows.map(|(path, user)| (format!("{path} {user}"), key(path, user).digest()));
    all_differ(&keys);
}

fn copy_step() -> CopyStep {
    CopyStep {
        add: false,
        from: CopyFrom::Context,
        sources: vec![CopySource::Path(spanned("a".into()))],
        destination: Destination {
            path: "/t".into(),
            directory: false,
            span: Span::default(),
        },
        chown: Some(spanned(Chown {
            user: Some(Account::Id(5)),
            group: None,
        })),
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: None,
        unpack: None,
    }
}

fn chown(step: &mut CopyStep, user: Option<Account>, group: Option<Account>) {
    step.chown = Some(spanned(Chown { user, group }));
}

const COPY_CHANGES: &[Change<CopyStep>] = &[
    ("destination", |step| step.destination.path = "/u".into()),
    ("a directory", |step| step.destination.directory = true),
    ("no owner", |step| step.chown = None),
    ("an owner", |step| chown(step, Some(Account::Id(6)), None)),
    ("a group", |step| {
        chown(step, Some(Account::Id(5)), Some(Account::Id(6)));
    }),
    ("a group alone", |step| {
        chown(step, None, Some(Account::Id(5)));
    }),
    ("a name", |step| {
        chown(step, Some(Account::Name("5".into())), None);
    }),
    ("a mode", |step| step.chmod = Some(Chmod::Octal(0o5))),
    ("another mode", |step| {
        step.chmod = Some(Chmod::Octal(0o755));
    }),
    ("a symbolic mode", |step| {
        step.chmod = Some(symbolic(7, '+', "x"));
    }),
    ("of others", |step| step.chmod = Some(symbolic(3, '+', "x"))),
    ("another operation", |step| {
        step.chmod = Some(symbolic(7, '-', "x"));
    }),
    ("other permissions", |step| {
        step.chmod = Some(symbolic(7, '+', "X"));
    }),
    ("link", |step| step.link = true),
    ("parents", |step| step.parents = true),
];

fn symbolic(who: u8, operation: char, permissions: &str) -> Chmod {
    Chmod::Symbolic(vec![SymbolicMode {
        who,
        operation,
        permissions: permissions.to_owned(),
    }])
}

/// The key of a COPY, less what arrives.
fn of_copy(step: &CopyStep) -> Key {
    at("COPY", |place| copy(place, &Landing::of(step)))
}

#[test]
fn whatever_changes_where_files_land_changes_the_key() {
    let mut keys = vec![("nothing".to_owned(), of_copy(&copy_step()).digest())];
    for (name, change) in COPY_CHANGES {
        let mut step = copy_step();
        change(&mut step);
        keys.push(((*name).to_owned(), of_copy(&step).digest()));
    }
    all_differ(&keys);
}

#[test]
fn the_base_counts_where_it_is_asked() {
    let depends = |step: &CopyStep| of_copy(step).parts().contains_key("base");
    let mut step = copy_step();
    assert!(depends(&step));
    step.link = true;
    assert!(!depends(&step));
    step.chmod = Some(Chmod::Octal(0o755));
    assert!(depends(&step));
    step.chmod = None;
    chown(&mut step, None, Some(Account::Name("staff".into())));
    assert!(depends(&step));
}

/// Layers as a source.
fn source<'s>(store: &'s Store, layers: &[&str]) -> Source<'s> {
    let layers: Vec<Layer> = layers.iter().map(|text| layer(text)).collect();
    Source::View(Box::new(View::new(store, &layers, String::new())), layers)
}

#[test]
fn whatever_changes_a_selection_changes_its_key() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let changes: &[Change<CopyStep>] = &[
        ("nothing", |_| ()),
        ("another source", |step| step.sources = words(&["b"])),
        ("two sources", |step| step.sources = words(&["a", "b"])),
        ("a blank", |step| step.sources = words(&["a b"])),
        ("a quote", |step| step.sources = words(&["a\" \"b"])),
        ("a NUL", |step| step.sources = words(&["a\0b"])),
        ("exclude", |step| step.exclude.push(spanned("a".into()))),
        ("exclude two", |step| {
            step.exclude = vec![spanned("a".into()), spanned("b".into())];
        }),
        ("exclude a blank", |step| {
            step.exclude = vec![spanned("a b".into())];
        }),
        ("parents", |step| step.parents = true),
    ];
    let mut keys = Vec::new();
    for layers in [&[][..], &["a"], &["a", "b"], &["b", "a"]] {
        let source = source(&store, layers);
        for (name, change) in changes {
            let mut step = copy_step();
            change(&mut step);
            let key = selection(&source, &step).unwrap();
            keys.push((format!("{name} {layers:?}"), key.digest()));
        }
        for path in ["/", "/a", "a"] {
            let key = mounted(&source, path).unwrap();
            keys.push((format!("mounted {path} {layers:?}"), key.digest()));
        }
    }
    all_differ(&keys);
    // What isn't of layers alone is not known for ever.
    let source = source(&store, &["a"]);
    let mut step = copy_step();
    step.add = true;
    assert!(selection(&source, &step).is_none());
    let mut step = copy_step();
    step.sources.push(CopySource::Heredoc {
        name: "a".into(),
        content: String::new(),
        span: Span::default(),
    });
    assert!(selection(&source, &step).is_none());
}

fn words(words: &[&str]) -> Vec<CopySource> {
    let words = words.iter().map(|word| (*word).to_owned());
    words.map(spanned).map(CopySource::Path).collect()
}

/// The texts of keys stand in caches that outlive this program: one that changes needs another version of the keys.
#[test]
fn the_texts_of_keys_stay() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let mut run_step = run_step();
    run_step.network = RunNetwork::None;
    change_all(&mut run_step);
    let mut copy_step = copy_step();
    (copy_step.link, copy_step.parents) = (true, true);
    copy_step.destination.directory = true;
    copy_step.exclude.push(spanned("*.md".into()));
    copy_step.chmod = Some(symbolic(6, '=', "rX"));
    let workdir_step = WorkdirStep {
        path: "/w".into(),
        user: "app".into(),
    };
    let from = source(&store, &["a", "b"]);
    let all = [
        ("FROM", at("FROM", directory)),
        ("COPY", of_copy(&copy_step)),
        (
            "WORKDIR",
            at("WORKDIR", |place| workdir(place, &workdir_step)),
        ),
        ("RUN", of_run(&run_step)),
        ("selection", selection(&from, &copy_step).unwrap()),
        ("mounted", mounted(&from, "/src").unwrap()),
    ];
    let found = all.iter().fold(String::new(), |found, (name, key)| {
        found + &format!("[{name}] {}\n{}", key.digest(), text(key))
    });
    let golden = include_str!("golden.txt");
    assert!(found == golden, "{found}");
    // And no name of the code is in them.
    let names = [
        "Some(", "None", "Octal", "Symbolic", "Shared", "Id(", "Spanned",
    ];
    for name in names {
        assert!(!found.contains(name), "{name}");
    }
    let numbers: BTreeSet<Digest> = all.iter().map(|(_, key)| key.digest()).collect();
    assert_eq!(numbers.len(), all.len());
}

/// Gives every mount all fields.
fn change_all(step: &mut RunStep) {
    for (_, change) in MOUNT_CHANGES {
        change(step);
    }
    for mount in &mut step.mounts {
        mount.read_only = true;
    }
}
