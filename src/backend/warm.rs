//! Connections made ahead of time, for backends whose connect time shows in a handshake.
//!
//! A warm connection has never carried a request, so an upgrade may have it. It may have been closed
//! while it waited, as any idle connection; whoever takes one must be ready to dial after all.

use std::rc::Rc;

use super::pool::{Idle, Lease};
use super::{Backend, DialError};
use crate::net::clock;

impl Backend {
    /// Takes a connection that never carried a request: a warm one, or else a new one.
    ///
    /// # Errors
    ///
    /// As [`Backend::dial`].
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn fresh(self: &Rc<Self>) -> Result<Lease, DialError> {
        let now = clock::now();
        while let Some(candidate) = { self.warm.borrow_mut().pop() } {
            if self.is_usable(&candidate, now) {
                self.tally.of_route().warm.add(1);
                self.keep_warm();
                return Ok(Lease { connection: candidate.connection, reused: true });
            }
        }
        Ok(Lease { connection: self.dial().await?, reused: false })
    }

    /// Makes the connections that are missing, in a task of its own; call it on the worker's thread.
    ///
    /// A backend that refuses is asked again at the next call, not in a loop.
    pub fn keep_warm(self: &Rc<Self>) {
        let is_full = self.warm.borrow().len() >= self.rules.warm;
        if is_full || self.is_retired.get() || self.is_warming.replace(true) {
            return;
        }
        let backend = Rc::clone(self);
        monoio::spawn(async move { backend.warm_up().await });
    }

    async fn warm_up(&self) {
        while self.warm.borrow().len() < self.rules.warm && !self.is_retired.get() {
            let Ok(connection) = self.dial().await else { break };
            self.warm.borrow_mut().push(Idle { connection, since: clock::now() });
        }
        self.is_warming.set(false);
        if self.is_retired.get() {
            self.warm.borrow_mut().clear();
        }
    }
}
