//! The duty of virtual files.
use crate::sandbox::supervisor::Reply;
use crate::sandbox::supervisor::caller::Caller;
use rustix::io::Result;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
#[derive(Debug)]
pub(crate) struct SecretFile {
    pub path: PathBuf,
    pub file: OwnedFd,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}
pub(crate) struct VirtualFiles {
    pub root: PathBuf,
    pub files: Vec<SecretFile>,
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
