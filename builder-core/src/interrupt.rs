//! The flag that ends a build early: set by a signal handler or by an embedding program, polled between entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A shared flag. Clones set and see the same one.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    /// The flag of whoever started what this one can stop.
    above: Option<Arc<AtomicBool>>,
}

impl Interrupt {
    /// Uses a flag that something else sets, such as a signal handler.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self { flag, above: None }
    }

    /// A flag of a part of the work: it is set with this one, and may be set alone.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            flag: Arc::default(),
            above: Some(Arc::clone(&self.flag)),
        }
    }

    /// Asks the build to stop at the next entry.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked to stop.
    pub fn is_set(&self) -> bool {
        let above = self.above.as_ref();
        self.flag.load(Ordering::Relaxed) || above.is_some_and(|one| one.load(Ordering::Relaxed))
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
