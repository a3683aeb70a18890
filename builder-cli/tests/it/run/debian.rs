//! Debian's packages: what their installation leaves is the same in each way of RUN as under real root in a chroot.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use test_support::disk;
use test_support::flatten::Files;
use test_support::tarball::Image;
use test_support::tools::{is_root, require, skip, succeeds, try_run};
use test_support::world::World;

use super::{CHROOT, ORDINARY, RANGE, image_of};

/// What lies in the base as packages to be installed: users, groups, set-group-ID files, a diversion, alternatives.
const PACKAGES: &str = "openssh-client dbus cron";

/// Makes the packages a repository of the base's own, so that RUN needs no network.
const HOOK: &str = "mkdir \"$1/repo\" && mv \"$1\"/var/cache/apt/archives/*.deb \"$1/repo/\" && cd \"$1/repo\" && \
    for f in *.deb; do dpkg-deb -f \"$f\"; echo \"Filename: ./$f\"; echo \"Size: $(stat -c %s \"$f\")\"; \
    echo \"SHA256: $(sha256sum \"$f\" | cut -d' ' -f1)\"; echo; done > Packages";

const SCRIPT: &str = r#"set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] copy:/repo ./' > /etc/apt/sources.list
apt-get update
apt-get install -y --no-install-recommends openssh-client dbus cron
useradd -m -s /bin/sh alice
groupadd -r things
useradd -r -g things -d /srv/things daemonx
adduser --disabled-password --gecos '' bob
adduser --system --group sysx
adduser alice adm
mkdir -p /srv/things/a/b
cp /etc/passwd /srv/things/a/
ln -s a /srv/things/l
chown -R daemonx:things /srv/things
chown -h alice /srv/things/l
install -d -o daemonx -g adm -m 2750 /var/log/things
touch /var/log/things/x
install -o alice -g things -m 6755 /bin/true /usr/local/bin/s
cp /bin/true /usr/local/bin/t
setcap cap_net_bind_service+ep /usr/local/bin/t
cp -a /usr/local/bin/t /usr/local/bin/u
chown bob /usr/local/bin/u
su alice -c 'cd; umask 027; touch f; mkdir d; ln -s f l; mkfifo p; ln f h; id > id'
runuser -u bob -- sh -c 'cd /home/bob && id > id && stat -c "%U %G %a" /srv/things/* . > said'
setpriv --reuid=daemonx --regid=things --clear-groups sh -c 'cd /srv/things && mkdir s && touch s/f'
start-stop-daemon --start --chuid alice --exec /usr/bin/touch -- /home/alice/started
tar -cf /x.tar -C / srv home
mkdir /opt/x
tar -xpf /x.tar -C /opt/x
cp -a /srv /opt/srv
rm /x.tar
mknod -m 640 /opt/null c 1 3
dpkg-statoverride --update --add root crontab 2711 /usr/bin/cal 2>/dev/null || true
dpkg --audit
getcap /usr/local/bin/* > /opt/caps
ls -l /proc/self/exe > /dev/null
"#;

/// Files whose content tells the time, or the order of things.
const CONTENT: &[&str] = &[
    "/var/log/",
    "/var/cache/apt/",
    "/var/cache/ldconfig/aux-cache",
    "/var/lib/apt/",
    "/var/lib/dbus/machine-id",
];

/// Makes the base, and gives the reason where it can't be had.
fn base(to: &Path) -> Result<(), String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("stable");
    let install = format!(
        "--customize-hook=chroot \"$1\" apt-get install --no-install-recommends -y -d {PACKAGES}"
    );
    let hook = format!("--customize-hook={HOOK}");
    let words = [
        "--variant=minbase",
        "--skip=cleanup/apt",
        "--include=libcap2-bin,adduser",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        &install,
        &hook,
        suite,
        to.to_str().unwrap(),
    ];
    try_run(Path::new("mmdebstrap"), &words).map(|_| ())
}

/// What real root makes of it in a chroot with a `/proc`.
fn oracle(world: &World, base: &Path) -> Result<Files, String> {
    let root = world.path("oracle");
    fs::create_dir(&root).unwrap();
    let words = [
        "--numeric-owner",
        "-xpf",
        base.to_str().unwrap(),
        "-C",
        root.to_str().unwrap(),
    ];
    try_run(Path::new("tar"), &words)?;
    let inside = "mount -t proc proc \"$1/proc\" && exec env -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot \"$1\" /bin/sh -c \"umask 022; $2\"";
    try_run(
        Path::new("unshare"),
        &[
            "-m",
            "sh",
            "-c",
            inside,
            "sh",
            root.to_str().unwrap(),
            SCRIPT,
        ],
    )?;
    Ok(disk::read(&root))
}

#[test]
fn packages_install_as_under_real_root() {
    if !is_root() {
        return skip("only root knows what root does");
    }
    if require("mmdebstrap").is_none() || !succeeds("unshare", &["-m", "true"]) {
        return;
    }
    let world = crate::world();
    let tar = world.path("base.tar");
    if let Err(problem) = base(&tar) {
        let end: Vec<&str> = problem.lines().rev().take(5).collect();
        return skip(&format!("no Debian from its mirror: {end:?}"));
    }
    let found: Mutex<Vec<String>> = Mutex::default();
    let wanted = std::thread::scope(|scope| {
        // What each leaves is judged one after the other: three systems in memory are enough.
        let wanted = scope.spawn(|| oracle(&world, &tar));
        let images: Vec<_> = [RANGE, ORDINARY, CHROOT]
            .map(|way| {
                let world = way.world();
                fs::hard_link(&tar, world.path("context/base.tar")).unwrap();
                let dockerfile =
                    format!("FROM scratch\nADD base.tar /\nRUN <<'END'\n{SCRIPT}END\n");
                let outcome = way.build(&world, &dockerfile, "--compression none");
                if outcome.status != 0 {
                    found
                        .lock()
                        .unwrap()
                        .push(format!("{}: {}", way.name, outcome.stderr));
                }
                (way, world, outcome.status == 0)
            })
            .into_iter()
            .filter(|(.., built)| *built)
            .collect();
        let wanted = wanted.join().unwrap().unwrap();
        for (way, world, _) in images {
            let files = Image::open(&image_of(&world)).files();
            found
                .lock()
                .unwrap()
                .extend(differences(way.name, files, &wanted));
        }
        wanted
    });
    let found = found.into_inner().unwrap();
    assert!(
        wanted.len() > 3000,
        "only {} entries were looked at",
        wanted.len()
    );
    assert!(
        found.is_empty(),
        "{} differences\n{}",
        found.len(),
        found.join("\n")
    );
}

fn differences(way: &str, files: Files, wanted: &Files) -> Vec<String> {
    let but = |path: &str| CONTENT.iter().any(|start| path.starts_with(start));
    let mut files = files;
    files.remove(&b"/"[..]);
    let found = disk::differences(&files, wanted, but);
    found
        .into_iter()
        .map(|line| format!("{way}: {line}"))
        .collect()
}
