//! Answers that could not be delivered.
//!
//! Before Linux 5.19 (without `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`) a signal takes a call back that the supervisor
//! is working on; when the caller makes it again, it must not be done twice: a directory that was made would be said to
//! exist. Kernels up to 2025 that lose an answer to a signal which comes at the same time are covered where they say so.

use std::collections::HashMap;

use crate::sandbox::supervisor::Reply;
use crate::sandbox::sys::seccomp::Notification;

/// More threads than have an answer to come at any time.
const MOST: usize = 1024;

/// What a call was, in a form that is equal when the same thread begins it again.
#[derive(PartialEq, Eq)]
struct Asked {
    call: (u32, u32),
    arguments: [u64; 6],
    place: u64,
}

impl Asked {
    fn of(notification: &Notification) -> Self {
        Self {
            call: (notification.arch, notification.nr),
            arguments: notification.args,
            place: notification.instruction_pointer,
        }
    }
}

/// The last undelivered answer of each thread.
#[derive(Default)]
pub(super) struct Kept(HashMap<u32, (Asked, Reply)>);

impl Kept {
    /// Keeps an answer whose caller was gone. One that left the call to the kernel has done nothing yet.
    pub(super) fn keep(&mut self, notification: &Notification, reply: Reply) {
        if matches!(reply, Reply::Continue) {
            return;
        }
        // Callers that were killed never come for theirs.
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0
            .insert(notification.pid, (Asked::of(notification), reply));
    }

    /// The answer to a call that was begun before, if there is one.
    pub(super) fn take(&mut self, notification: &Notification) -> Option<Reply> {
        let (asked, _) = self.0.get(&notification.pid)?;
        if *asked != Asked::of(notification) {
            return None;
        }
        self.0.remove(&notification.pid).map(|(_, reply)| reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(id: u64, pid: u32, nr: u32, first: u64) -> Notification {
        Notification {
            id,
            pid,
            nr,
            arch: 1,
            args: [first, 0, 0, 0, 0, 0],
            instruction_pointer: 4096,
        }
    }

    #[test]
    fn an_answer_is_given_once_to_the_call_that_is_begun_again() {
        let mut kept = Kept::default();
        kept.keep(&notification(1, 7, 83, 5), Reply::Value(3));
        for other in [
            notification(2, 8, 83, 5),
            notification(2, 7, 84, 5),
            notification(2, 7, 83, 6),
        ] {
            assert!(kept.take(&other).is_none());
        }
        let again = notification(2, 7, 83, 5);
        assert!(matches!(kept.take(&again), Some(Reply::Value(3))));
        assert!(kept.take(&again).is_none());
    }

    #[test]
    fn what_the_kernel_does_is_not_kept() {
        let mut kept = Kept::default();
        let asked = notification(1, 7, 83, 5);
        kept.keep(&asked, Reply::Continue);
        assert!(kept.take(&asked).is_none());
    }
}
