//! A descriptor kept in reserve for the day on which no other is left.
//!
//! Without it a connection that cannot be accepted waits in the kernel's queue, and its client for a
//! timeout. With it the client gets an answer: the reserve is closed, the connection accepted, answered
//! and closed, and the reserve opened again.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

/// The reserve of one accept loop.
#[derive(Debug)]
pub(super) struct Spare(Option<OwnedFd>);

impl Spare {
    /// Opens it, if that is possible.
    pub(super) fn new() -> Self {
        Self(open())
    }

    /// Closes it, so that something else can be opened; `false` if there is none.
    pub(super) fn spend(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Opens it again, unless somebody was faster.
    pub(super) fn restore(&mut self) {
        if self.0.is_none() {
            self.0 = open();
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
        assert!(spare.spend() && !spare.spend());
        spare.restore();
        assert!(spare.spend());
    }
}
