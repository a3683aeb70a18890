//! Calls that make an overlay copy a file up, where its record is in the side table: the copy is another inode.

use rustix::io::Result;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::ownership::touch;
use crate::sandbox::supervisor::{Reply, records};

/// `RENAME_EXCHANGE`
const EXCHANGE: u32 = 2;

impl Keeper {
    /// `rename`, `link`, `utimensat` and their relatives: copies the file up first, and takes its record along.
    pub(super) fn copy_up(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        if self.table.is_empty() {
            return Ok(Reply::Continue);
        }
        let (directory, path) = caller.call.path_arguments().unwrap_or((None, 0));
        self.carry(caller, directory, path);
        if caller.call == Call::Renameat2 && caller.word(4) & EXCHANGE != 0 {
            self.carry(caller, Some(2), 3);
        }
        Ok(Reply::Continue)
    }

    /// Whatever fails here, the kernel will fail at too.
    fn carry(&mut self, caller: &Caller<'_>, directory: Option<usize>, path: usize) {
        let Ok((directory, path)) = caller.path_at(directory, path) else {
            return;
        };
        // A link may be asked for the file that a symbolic link leads to.
        let follow =
            caller.call == Call::Linkat && caller.descriptor(4) & libc::AT_SYMLINK_FOLLOW != 0;
        let Ok(object) = caller.object(directory, &path, follow) else {
            return;
        };
        let Ok(stat) = records::look(&object) else {
            return;
        };
        if records::takes_attributes(stat.st_mode) {
            return;
        }
        let Some(record) = records::read(&self.table, &object, &stat) else {
            return;
        };
        if touch(&object, true, true).is_ok() {
            // The kernel goes on in any case; the record is then that of the file as it was.
            let _ = records::write(&mut self.table, &object, stat.st_mode, record);
        }
    }
}
