//! The files that every RUN finds in its root without having them in its layer: host names, resolver, heredoc scripts.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::step::RunStep;
use crate::sandbox::spec::{Bytes, Mount, MountKind};

/// What `/etc/hosts` holds, with the machine's own name and the names given by `--add-host`.
fn hosts(own: &str, added: &[(String, IpAddr)]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {own}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in added {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// Makes the files in `folder`, and says where they are to be mounted.
///
/// # Errors
/// [`ErrorKind::Store`] where `folder` can't be written.
pub(super) fn prepare(
    folder: &Path,
    added: &[(String, IpAddr)],
    step: &RunStep,
) -> Result<Vec<Mount>> {
    // A machine without the file has no resolver to tell of.
    let resolver = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let mut mounts = vec![
        write(folder, "resolv.conf", &resolver, 0o644, "/etc/resolv.conf")?,
        write(
            folder,
            "hosts",
            hosts(&step.hostname, added).as_bytes(),
            0o644,
            "/etc/hosts",
        )?,
    ];
    for (number, script) in step.scripts.iter().enumerate() {
        let (name, target) = (
            format!("script{number}"),
            format!("/dev/pipes/{}", script.name),
        );
        let text = script.content.as_bytes();
        mounts.push(write(folder, &name, text, 0o755, &target)?);
    }
    Ok(mounts)
}

fn write(folder: &Path, name: &str, content: &[u8], mode: u32, target: &str) -> Result<Mount> {
    let path = folder.join(name);
    let written = std::fs::write(&path, content)
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(mode)));
    written.map_err(|error| {
        let message = format!("cannot write `{}`", path.display());
        Error::new(ErrorKind::Store, message).with_source(error)
    })?;
    Ok(Mount {
        target: Bytes(target.as_bytes().to_vec()),
        kind: MountKind::Bind {
            source: path.into(),
            read_only: false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_hosts_come_last() {
        let added = vec![("db".to_owned(), "10.0.0.7".parse().unwrap())];
        let text = hosts("buildkitsandbox", &added);
        assert!(text.starts_with("127.0.0.1\tlocalhost buildkitsandbox\n"));
        assert!(text.ends_with("\n10.0.0.7\tdb\n"));
    }
}
