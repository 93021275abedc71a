//! How many connections each worker has: written where they come and go, read where one is placed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections open on each worker; a cache line pair each.
#[derive(Clone, Debug)]
pub struct Loads(Arc<[Load]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Loads {
    /// All workers without connections.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Load::default()).collect())
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// Connections open on `worker` now.
    pub fn of(&self, worker: usize) -> usize {
        self.0.get(worker).map_or(0, |load| load.0.load(Ordering::Relaxed))
    }

    /// Connections open now, by worker.
    pub fn all(&self) -> Vec<usize> {
        (0..self.workers()).map(|worker| self.of(worker)).collect()
    }

    /// Counts one more on `worker` until the result is dropped.
    ///
    /// Taken by whoever accepts, before the connection is handed over, so that a burst sees its own
    /// effect; dropped by the worker that served it.
    pub fn enter(&self, worker: usize) -> Entered {
        if let Some(load) = self.0.get(worker) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
        Entered { loads: self.clone(), worker }
    }
}

/// One connection that counts as load.
#[derive(Debug)]
pub struct Entered {
    loads: Loads,
    worker: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(load) = self.loads.0.get(self.worker) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
