//! Sending a purge to every worker, and waiting until every one has carried it out.
//!
//! A mailbox is unbounded and a message in it is not lost, so neither is a purge, whatever their
//! number. A worker that ends takes its mailbox with it; what waited there counts as carried out, since
//! nobody will be answered from that cache again.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Message, Terms};
use crate::proxy::Purge;

/// How often it is looked whether a worker that has not acknowledged has ended. flume keeps what is in
/// a channel until its last sender is gone, and with it the acknowledgement.
const LOOK: Duration = Duration::from_millis(50);

/// Held while a purge is sent: every worker gets purges in the same order, so that two can tell by
/// their number which of them has carried out more.
#[expect(clippy::disallowed_types, reason = "only those who purge take it")]
static ORDER: std::sync::Mutex<()> = std::sync::Mutex::new(());

thread_local! {
    /// Whether this thread is a worker's.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread is a worker's: it must not wait for workers.
pub(super) fn mark_worker() {
    IS_WORKER.set(true);
}

/// Sends purges, and what else every worker must have carried out, to the workers of one server.
#[derive(Clone, Debug)]
pub struct Purger {
    workers: Vec<flume::Sender<Message>>,
}

/// One worker's promise to carry out what was sent; dropped when it has.
#[derive(Debug)]
pub struct Acknowledgement {
    worker: usize,
    to: flume::Sender<usize>,
}

impl Drop for Acknowledgement {
    fn drop(&mut self) {
        // Nobody has to wait.
        self.to.send(self.worker).ok();
    }
}

/// A purge on its way.
#[derive(Debug)]
#[must_use = "a purge has taken place when its receipt has been awaited"]
pub struct Receipt {
    /// Who has not acknowledged yet.
    awaited: Vec<usize>,
    workers: Vec<flume::Sender<Message>>,
    from: flume::Receiver<usize>,
}

impl Purger {
    /// A purger for the workers with these mailboxes.
    pub fn new(workers: Vec<flume::Sender<Message>>) -> Self {
        Self { workers }
    }

    /// Whether every worker has ended.
    pub fn is_over(&self) -> bool {
        self.workers.iter().all(flume::Sender::is_disconnected)
    }

    /// Has every worker serve under these terms what begins from now on.
    pub fn reload(&self, terms: &Terms) -> Receipt {
        self.send_each(|done| Message::Reload { terms: Box::new(terms.clone()), done })
    }

    /// Sends a purge to every worker.
    pub fn send(&self, purge: Purge) -> Receipt {
        let purge = Arc::new(purge);
        self.send_each(|done| Message::Purge { purge: Arc::clone(&purge), done })
    }

    fn send_each(&self, message: impl Fn(Acknowledgement) -> Message) -> Receipt {
        let (to, from) = flume::unbounded();
        let in_order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
        for (worker, mailbox) in self.workers.iter().enumerate() {
            let done = Acknowledgement { worker, to: to.clone() };
            // A worker that has ended returns the message, whose drop acknowledges it.
            mailbox.send(message(done)).ok();
        }
        drop(in_order);
        Receipt { awaited: (0..self.workers.len()).collect(), workers: self.workers.clone(), from }
    }
}

impl Receipt {
    /// Waits until every worker has carried out the purge.
    ///
    /// # Cancellation
    ///
    /// Safe; the purge goes on.
    pub async fn wait(mut self) {
        while !self.awaited.is_empty() {
            monoio::select! {
                worker = self.from.recv_async() => self.note(worker.ok()),
                () = monoio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    /// The same, blocking this thread. On a worker's thread, which would wait for itself, it returns at
    /// once.
    pub fn wait_blocking(mut self) {
        while !self.awaited.is_empty() && !IS_WORKER.get() {
            match self.from.recv_timeout(LOOK) {
                Ok(worker) => self.note(Some(worker)),
                Err(flume::RecvTimeoutError::Timeout) => self.look(),
                Err(flume::RecvTimeoutError::Disconnected) => self.note(None),
            }
        }
    }

    /// This worker has acknowledged; without one, nobody is left who could.
    fn note(&mut self, worker: Option<usize>) {
        match worker {
            Some(worker) => self.awaited.retain(|awaited| *awaited != worker),
            None => self.awaited.clear(),
        }
    }

    /// Waits no longer for workers that have ended.
    fn look(&mut self) {
        let workers = &self.workers;
        let lives =
            |worker: &usize| workers.get(*worker).is_some_and(|mailbox| !mailbox.is_disconnected());
        self.awaited.retain(lives);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::proxy::{PurgeRoutes, PurgeWhat};

    const EVERYTHING: Purge = Purge { routes: PurgeRoutes::All, what: PurgeWhat::All };

    #[test]
    fn a_purge_is_over_when_the_last_worker_has_carried_it_out() {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| flume::unbounded()).unzip();
        let purger = Purger::new(senders);
        let receipts: Vec<_> = (0..50).map(|_| purger.send(EVERYTHING)).collect();
        let workers: Vec<_> = mailboxes
            .into_iter()
            .map(|mailbox: flume::Receiver<Message>| {
                thread::spawn(move || mailbox.iter().take(50).map(drop).count())
            })
            .collect();
        receipts.into_iter().for_each(Receipt::wait_blocking);
        for worker in workers {
            assert_eq!(worker.join().unwrap(), 50);
        }
    }

    #[test]
    fn a_worker_that_has_ended_is_not_waited_for() {
        let (sender, mailbox) = flume::unbounded();
        let purger = Purger::new(vec![sender]);
        let in_the_mailbox = purger.send(EVERYTHING);
        assert!(!purger.is_over());
        drop(mailbox);
        in_the_mailbox.wait_blocking();
        assert!(purger.is_over());
        purger.send(EVERYTHING).wait_blocking();
    }

    #[test]
    fn a_worker_does_not_wait_for_itself() {
        let (sender, _mailbox) = flume::unbounded();
        let purger = Purger::new(vec![sender]);
        let worker = thread::spawn(move || {
            mark_worker();
            purger.send(EVERYTHING).wait_blocking();
        });
        worker.join().unwrap();
    }
}
