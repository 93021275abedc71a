//! What a worker counts, and the process-wide gauges that limits are checked against.
//!
//! A counter has one writer, its worker, and any number of readers, so a plain relaxed add is
//! enough. Gauges and the table of addresses are shared: they are touched once a connection and once a
//! tunnel, never a message.

mod addresses;
mod counters;
mod histogram;
mod loads;
pub mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use addresses::{AddressLimits, Addresses, ConnectionPlace, Excess, Rate, TunnelPlace};
pub use counters::{
    CacheCounters, ConnectFailure, Counters, Limit, OUTCOMES_MAX, REASONS_MAX, RouteCounters,
};
pub use histogram::Histogram;
pub use loads::{Entered, Loads};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn zero() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `count`. Call it from the owning worker only.
    pub fn add(&self, count: u64) {
        self.0.store(self.value().wrapping_add(count), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that one worker sets: how many of something it has now.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Sets the number. Call it from the owning worker only.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// Counts one more. Call it from the owning worker only.
    pub fn rise(&self) {
        self.set(self.value().saturating_add(1));
    }

    /// Counts one less. Call it from the owning worker only.
    pub fn fall(&self) {
        self.set(self.value().saturating_sub(1));
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something exist now in the whole process, with a limit.
#[derive(Debug)]
pub struct Gauge {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl Gauge {
    /// A gauge at zero that admits `max` at a time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { now: AtomicUsize::new(0), max: AtomicUsize::new(max) })
    }

    /// How many exist now.
    pub fn value(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Admits `max` at a time from now on. Those that exist stay, however many they are.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Counts one more until the permit is dropped; `None` at the limit.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max.load(Ordering::Relaxed);
        let admitted = self
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then(|| now + 1));
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
    /// Its place among the connections of its address, where those are limited.
    pub of_address: Option<ConnectionPlace>,
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
        gauge.set_max(1);
        assert!(gauge.admit().is_none());
        drop(second);
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
