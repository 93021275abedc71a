//! Descriptors kept in reserve for the day on which no other is left.
//!
//! Without them a connection that cannot be accepted waits in the kernel's queue, and its client for a
//! timeout. With them the client gets an answer: one of the reserve is closed, the connection accepted, answered
//! and closed, and the reserve filled again. Another thread may be faster and have that number; so there are some
//! more.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

/// Arbitrary; each other thread that accepts may take one before this loop is heard again.
const KEPT: usize = 4;

/// The reserve of one accept loop.
#[derive(Debug)]
pub(super) struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Opens them, as far as that is possible.
    pub(super) fn new() -> Self {
        let mut spare = Self(Vec::with_capacity(KEPT));
        spare.restore();
        spare
    }

    /// Closes one, so that something else can be opened; `false` if there is none.
    pub(super) fn spend(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// Opens those that are missing, unless somebody was faster.
    pub(super) fn restore(&mut self) {
        while self.0.len() < KEPT
            && let Some(spare) = open()
        {
            self.0.push(spare);
        }
    }
}

/// The cheapest descriptor there is, which depends on no file system.
fn open() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_spent_until_it_is_restored() {
        let mut spare = Spare::new();
        for _ in 0..2 {
            assert!((0..KEPT).all(|_| spare.spend()) && !spare.spend());
            spare.restore();
        }
    }
}
