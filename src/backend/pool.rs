//! Idle keep-alive connections to one backend: taken last in, first out.
//!
//! The newest is the one the backend is least likely to have given up on. A connection is looked at
//! before it is taken; what the look cannot see, a close on its way, is what the retry is for.

use std::time::Instant;

use super::{Backend, Connection, DialError};
use crate::net::clock;
use crate::net::stream::Peek;

/// An idle connection and when it was given back.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) since: Instant,
}

/// A connection for one exchange.
#[derive(Debug)]
pub struct Lease {
    /// The connection; owned until given back or dropped.
    pub connection: Connection,
    /// Whether it was open already: only then may it turn out to be stale.
    pub reused: bool,
}

impl Backend {
    /// Takes an idle connection, or dials.
    ///
    /// # Errors
    ///
    /// As [`Backend::dial`].
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn take(&self) -> Result<Lease, DialError> {
        let idle = self.take_idle();
        self.count_idle();
        if let Some(connection) = idle {
            self.tally.of_route().reused.add(1);
            return Ok(Lease { connection, reused: true });
        }
        Ok(Lease { connection: self.dial().await?, reused: false })
    }

    fn take_idle(&self) -> Option<Connection> {
        let now = clock::now();
        let mut idle = self.idle.borrow_mut();
        while let Some(candidate) = idle.pop_back() {
            if self.is_usable(&candidate, now) {
                return Some(candidate.connection);
            }
        }
        None
    }

    pub(super) fn is_usable(&self, idle: &Idle, now: Instant) -> bool {
        // Data nobody asked for is as bad as an end: it would be taken for the next answer.
        now.duration_since(idle.since) < self.rules.idle_age
            && idle.connection.stream.peek() == Peek::Quiet
    }

    /// Returns a connection whose last exchange ended cleanly, with nothing left in it.
    pub fn give_back(&self, connection: Connection) {
        if !connection.inbox.is_empty() || self.rules.idle_max == 0 || self.is_retired.get() {
            return;
        }
        connection.watch.set(None);
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.rules.idle_max {
            // The oldest has the shortest time left.
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: clock::now() });
        drop(idle);
        self.count_idle();
    }

    fn count_idle(&self) {
        self.tally.of_route().pool_idle.set(self.idle.borrow().len() as u64);
    }

    /// Closes the idle connections that are too old or that the backend has closed.
    pub fn reap(&self, now: Instant) {
        self.idle.borrow_mut().retain(|idle| self.is_usable(idle, now));
        self.warm.borrow_mut().retain(|idle| self.is_usable(idle, now));
        self.count_idle();
    }

    /// Closes all idle connections and keeps none from now on.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
        self.warm.borrow_mut().clear();
        self.count_idle();
    }
}
