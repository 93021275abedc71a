//! What a worker counts, and the process-wide gauges that limits are checked against.
//!
//! A counter has one writer, its worker, and any number of readers, so a plain relaxed add is
//! enough. Gauges are shared: they are touched once a connection and once a tunnel, never a message.

mod loads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use loads::{Entered, Loads};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Call it from the owning worker only.
    pub fn add(&self, count: u64) {
        self.0.store(self.value().wrapping_add(count), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker has done since it started. A cache line pair of its own, so that workers do not
/// slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted.
    pub connections: Counter,
    /// Requests that ended, whatever the outcome.
    pub requests: Counter,
    /// Tunnels that ended.
    pub tunnels: Counter,
    /// Bytes carried by ended tunnels, client to backend.
    pub tunnel_bytes_up: Counter,
    /// Bytes carried by ended tunnels, backend to client.
    pub tunnel_bytes_down: Counter,
    /// Connections that were closed because our own code panicked.
    pub panics: Counter,
}

/// How many of something exist now in the whole process, with a limit.
#[derive(Debug)]
pub struct Gauge {
    now: AtomicUsize,
    max: usize,
}

impl Gauge {
    /// A gauge at zero that admits `max` at a time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { now: AtomicUsize::new(0), max })
    }

    /// How many exist now.
    pub fn value(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Counts one more until the permit is dropped; `None` at the limit.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let admitted = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < self.max).then(|| now + 1)
        });
        admitted.is_ok().then(|| Permit(Arc::clone(self)))
    }
}

/// One of the number a [`Gauge`] counts.
#[derive(Debug)]
pub struct Permit(Arc<Gauge>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client connection occupies for as long as it is open, as a tunnel too.
#[derive(Debug)]
pub struct Place {
    /// Its place among all connections of the process.
    pub permit: Permit,
    /// Its place among the connections of its worker.
    pub entered: Entered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_admits_up_to_its_limit_and_again_after_one_has_left() {
        let gauge = Gauge::new(2);
        let first = gauge.admit();
        let second = gauge.admit();
        assert!(first.is_some() && second.is_some());
        assert!(gauge.admit().is_none());
        drop(first);
        assert_eq!(gauge.value(), 1);
        assert!(gauge.admit().is_some());
    }

    #[test]
    fn a_counter_adds_up() {
        let counter = Counter::default();
        counter.add(3);
        counter.add(4);
        assert_eq!(counter.value(), 7);
    }
}
