//! The workers' threads: started one by one, and joined at the end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use super::error::StartError;
use super::run::Event;
use crate::metrics::Counters;
use crate::worker::{self, Rung, Setup};

/// The workers' threads.
pub(super) struct Fleet {
    pub(super) workers: Vec<JoinHandle<()>>,
    /// By worker.
    pub(super) counters: Vec<Arc<Counters>>,
}

impl Fleet {
    /// No worker yet, and the counters for all of them.
    pub(super) fn new(workers: usize, routes: usize) -> Self {
        let counters = (0..workers).map(|_| Arc::new(Counters::new(routes))).collect();
        Self { workers: Vec::with_capacity(workers), counters }
    }

    /// Starts one worker and waits until it has a driver.
    pub(super) fn start(
        &mut self,
        setup: Setup,
        events: Sender<Event>,
    ) -> Result<Rung, StartError> {
        let (told, tells) = channel();
        let thread =
            thread::Builder::new().name(format!("worker-{}", setup.index)).spawn(move || {
                let notice = EndNotice(events);
                worker::run(setup, |started| {
                    told.send(started).ok();
                });
                drop(notice);
            });
        self.workers.push(thread.map_err(StartError::System)?);
        match tells.recv() {
            Ok(Ok(rung)) => Ok(rung),
            Ok(Err(error)) => Err(StartError::Driver(error)),
            Err(_) => Err(StartError::Driver(io::Error::other("the worker died while starting"))),
        }
    }

    pub(super) fn join(self) {
        for worker in self.workers {
            // It has said that it ended without a panic.
            worker.join().ok();
        }
        let total =
            |one: fn(&Counters) -> u64| self.counters.iter().map(|each| one(each)).sum::<u64>();
        tracing::info!(
            connections = total(|c| c.connections.value()),
            requests = total(Counters::requests),
            tunnels = total(Counters::tunnels),
            bytes_client_to_backend = total(|c| c.tunnel_bytes_up.value()),
            bytes_backend_to_client = total(|c| c.tunnel_bytes_down.value()),
            panics = total(|c| c.panics.value()),
            "Drained",
        );
    }
}

/// Tells the control thread that this worker's thread ends, however it does.
struct EndNotice(Sender<Event>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.send(Event::WorkerEnded { panicked: thread::panicking() }).ok();
    }
}
