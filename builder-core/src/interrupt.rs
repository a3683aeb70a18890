//! The flag that ends a build early: set by a signal handler or by an embedding program, polled between entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A shared flag. Clones set and see the same one.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Uses a flag that something else sets, such as a signal handler.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Asks the build to stop at the next entry.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails with [`ErrorKind::Interrupted`] once the flag is set.
    pub fn check(&self) -> Result<()> {
        if self.is_set() {
            Err(Error::new(ErrorKind::Interrupted, "interrupted"))
        } else {
            Ok(())
        }
    }
}
