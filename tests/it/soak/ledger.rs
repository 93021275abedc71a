//! What the ends have seen, to be held against what the proxy has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts by name, and the requests that came to the backend.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: Mutex<BTreeMap<String, u64>>,
    ids: Mutex<BTreeSet<u64>>,
}

impl Ledger {
    /// Adds to a count.
    pub(super) fn add(&self, name: &str, more: usize) {
        let more = u64::try_from(more).expect("a length fits 64 bits");
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(name) {
            *count += more;
        } else {
            counts.insert(name.to_owned(), more);
        }
    }

    /// Adds one.
    pub(super) fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Returns a count.
    pub(super) fn value(&self, name: &str) -> u64 {
        lock(&self.counts).get(name).copied().unwrap_or_default()
    }

    /// Returns all counts.
    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// Notes that a request came to the backend; says whether it is the first time.
    pub(super) fn is_first(&self, id: u64) -> bool {
        lock(&self.ids).insert(id)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Who panicked with it has failed the run already; the numbers are still whole.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
