//! The harness: the proxy as a process, and the peers that stand on both sides of it.
//!
//! Whatever blocks here gives up after [`GUARD`] and says what it was waiting for, so that a defect
//! fails one test instead of stopping the run.

#[macro_use]
pub mod driver;
pub mod axum;
pub mod backend;
pub mod cached;
pub mod client;
pub mod control;
pub mod launch;
pub mod message;
pub mod netns;
pub mod pages;
pub mod peer;
pub mod proxy;
pub mod random;
pub mod setup;
pub mod tunnel;
pub mod ws;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::axum::AxumBackend;
pub use self::backend::{Backend, BackendConn, Refusing, Unaccepting};
pub use self::client::Client;
pub use self::driver::{Carrier, Driver};
pub use self::launch::Launch;
pub use self::message::{Request, Response};
pub use self::peer::{Closed, Peer};
pub use self::proxy::Proxy;
pub use self::random::{Checksum, Random, checksum};
pub use self::setup::Gate;

/// How long anything in the harness waits: far longer than a correct proxy ever takes on a busy
/// machine. No test may depend on it passing.
pub const GUARD: Duration = Duration::from_secs(10);

/// A value that threads of the harness change and a test waits on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// Changes or reads the value and wakes whoever waits on it.
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let answer = change(&mut self.lock());
        self.changed.notify_all();
        answer
    }

    /// Waits until `found` answers; `None` after `guard`.
    pub fn wait<R>(
        &self,
        guard: Duration,
        mut found: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + guard;
        let mut value = self.lock();
        loop {
            if let Some(answer) = found(&mut value) {
                return Some(answer);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value =
                self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        // A script that panicked is reported by its owner; its count or list is still whole.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at `condition` until it holds; panics with `what` after [`GUARD`].
///
/// Only for what nobody announces, such as the counts in /proc. For everything else there is an
/// event: a byte, an end of stream, a log line, a script that ended.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GUARD;
    while !condition() {
        assert!(Instant::now() < deadline, "guard: waited {GUARD:?} until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
