//! The time of what `SOURCE_DATE_EPOCH` names: the commit's of a repository, the server's of a file, and of an archive
//! without one that of its newest file.

use std::io::Seek as _;

use crate::build::checkout;
use crate::build::elsewhere::{FetchedTree, archive_time};
use crate::build::git::GitSource;
use crate::build::images::{Found, Images};
use crate::build::remote::{Remote, io_error};
use crate::build::request::{BuildRequest, ContextSource};
use crate::dockerfile::Dockerfile;
use crate::error::{Error, Result};
use crate::http::without_user;
use crate::layer::archive::{ArchiveTree, Owners};
use crate::layer::detect_archive;
use crate::plan::PlanOptions;
use crate::plan::epoch::{EpochSource, source};
use crate::timestamp::Timestamp;

/// Puts the time into `options` where `SOURCE_DATE_EPOCH` names something; nothing is asked for a number.
///
/// # Errors
/// What is named can't be had. That it names nothing is a problem of the plan.
pub(super) fn resolve(
    request: &BuildRequest,
    parsed: &Dockerfile,
    images: &mut Images<'_>,
    options: &mut PlanOptions,
) -> Result<()> {
    let found = match source(parsed, options) {
        Err(_) | Ok(None | Some(EpochSource::Seconds(_))) => return Ok(()),
        Ok(Some(EpochSource::Context)) => of_context(&request.context)?,
        Ok(Some(EpochSource::Named(name))) => {
            match images.named(&name, options.target_platform())? {
                Found::Fetched(tree) => tree.time()?,
                Found::Nothing | Found::Image(_) | Found::Directory(_) => None,
            }
        }
        Ok(Some(EpochSource::Url(url))) => match images.remote() {
            Some(remote) => of_url(remote, &url)?,
            None => None,
        },
        Ok(Some(EpochSource::Git { url, checksum })) => match images.remote() {
            Some(remote) => Some(of_commit(remote, &url, checksum.as_deref())?),
            None => None,
        },
    };
    options.set_epoch(found.map(|time| time.seconds));
    Ok(())
}

/// A directory of this machine has no time that another would have too.
fn of_context(context: &ContextSource) -> Result<Option<Timestamp>> {
    match context {
        ContextSource::Directory { .. } => Ok(None),
        ContextSource::Archive(archive) => archive.newest(),
        ContextSource::Fetched(tree) => FetchedTree::time(tree),
        ContextSource::Empty { modified } => Ok(*modified),
    }
}

fn of_url(remote: &Remote<'_>, url: &str) -> Result<Option<Timestamp>> {
    let shown = without_user(url);
    let mut download = remote.fetch(url, &shown)?;
    if download.modified.is_some() {
        return Ok(download.modified);
    }
    let rewound = |error| io_error(&shown, error);
    download.file.rewind().map_err(rewound)?;
    if !matches!(detect_archive(&download.file), Ok(Some(_))) {
        return Ok(None);
    }
    download.file.rewind().map_err(rewound)?;
    // What can't be read to its end as an archive is a file without a time.
    let archive = ArchiveTree::read(remote.store, &shown, download.file, Owners::Root);
    archive.map_or(Ok(None), |archive| archive_time(None, &archive))
}

fn of_commit(remote: &Remote<'_>, url: &str, checksum: Option<&str>) -> Result<Timestamp> {
    let source = GitSource::parse(url, None, checksum)
        .map_err(|error| Error::new(error.kind(), error.message()))?;
    let place = remote.store.temporary_directory()?;
    let checkout = checkout::make(&source, place, remote.git, remote.interrupt)?;
    Ok(checkout.time)
}
