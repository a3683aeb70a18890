//! The duty of virtual files.
use crate::sandbox::supervisor::Reply;
use crate::sandbox::supervisor::caller::Caller;
use rustix::io::Result;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
pub(crate) struct MemoryFile;
pub(crate) struct VirtualFiles {
    pub root: PathBuf,
    pub files: Vec<(PathBuf, OwnedFd)>,
}
pub(super) struct Server;
impl Server {
    pub(super) fn new(_: VirtualFiles) -> Result<Self> {
        Ok(Self)
    }
    pub(super) fn answer(&mut self, _: &Caller<'_>) -> Result<Reply> {
        Ok(Reply::Continue)
    }
}
