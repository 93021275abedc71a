//! One thread on one core: its runtime, its listeners, its shard of state, its mailbox.
//!
//! A worker owns everything it touches. The control thread sends it [`Message`]s and learns by
//! joining the thread that it has ended.

mod accept;
mod balance;
mod drain;
mod outfit;
mod purger;
mod relief;
mod runtime;
mod spare;

use std::io;
use std::net::{self, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use accept::Guest;
pub use drain::Leave;
pub use outfit::{Terms, keepalive};
pub use purger::{Acknowledgement, Purger, Receipt};
pub use runtime::Rung;

use accept::Hall;
use outfit::Outfit;

use crate::cache::rules::KeyFn;
use crate::config::Config;
use crate::metrics::{Counters, Gauge, Loads};
use crate::net::listener::Listener;
use crate::net::{clock, failpoint, sweeper};
use crate::proxy::{self, Letter, Owner, Purge, Shard, fence, purge};
use crate::tunnel::Ring;

/// Between two lines about addresses that could not be told apart.
const UNTRACKED_PAUSE: Duration = Duration::from_secs(1);

/// What the control thread tells a worker.
#[derive(Debug)]
pub enum Message {
    /// The backend of this route has these addresses now.
    Addresses {
        /// Index of the route.
        route: usize,
        /// In the order in which to try them.
        addresses: Arc<[SocketAddr]>,
    },
    /// Serve this connection, which another worker has accepted.
    Serve(Guest),
    /// Serve under these terms what begins from now on.
    Reload {
        /// The terms.
        terms: Box<Terms>,
        /// Its drop says that this worker does.
        done: Acknowledgement,
    },
    /// Carry out this purge, then drop the acknowledgement.
    Purge {
        /// What is to be forgotten.
        purge: Arc<Purge>,
        /// Its drop says that this worker has.
        done: Acknowledgement,
    },
    /// About the cache, from another worker or the compressor.
    Letter(Letter),
    /// Accept nothing new, finish what runs, and close what is left at this instant.
    Drain(Leave),
}

/// Everything a worker starts with.
#[derive(Debug)]
pub struct Setup {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU to run on, if it is to be pinned.
    pub cpu: Option<usize>,
    /// What a reload may change.
    pub terms: Terms,
    /// Its own sockets of the listening groups.
    pub listeners: Vec<net::TcpListener>,
    /// Where the control thread's messages arrive.
    pub mailbox: flume::Receiver<Message>,
    /// The mailboxes of all workers, this one's included.
    pub workers: Vec<flume::Sender<Message>>,
    /// Connections of the whole process.
    pub connections: Arc<Gauge>,
    /// Connections by worker.
    pub loads: Loads,
    /// Tunnels of the whole process.
    pub tunnels: Arc<Gauge>,
    /// What this worker does.
    pub counters: Arc<Counters>,
    /// Names stored responses, if the library's user does.
    pub key_fn: Option<KeyFn>,
}

/// Runs a worker on this thread until it has drained; `started` is told the driver, or why there
/// is none.
pub fn run(setup: Setup, started: impl FnOnce(io::Result<Rung>)) {
    purger::mark_worker();
    if let Some(cpu) = setup.cpu {
        pin(cpu);
    }
    let runtime = &setup.terms.config.runtime;
    let (mut runtime, rung) = match runtime::build(runtime.driver, runtime.ring_entries) {
        Ok(built) => built,
        Err(error) => return started(Err(error)),
    };
    started(Ok(rung));
    runtime.block_on(live(setup, rung));
}

/// Keeps this thread on one CPU. Without it the worker still works, only less evenly.
fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "Worker cannot be pinned to its CPU");
    }
}

async fn live(setup: Setup, rung: Rung) {
    let Setup { mailbox, listeners, index, .. } = setup;
    let (loads, workers) = (setup.loads.clone(), setup.workers.clone());
    let hall = Hall {
        own: index,
        accept: setup.terms.config.runtime.accept,
        connections: setup.connections,
        loads: setup.loads,
        workers: setup.workers,
    };
    let outfit = Outfit {
        index,
        terms: setup.terms,
        tunnels: setup.tunnels,
        counters: setup.counters,
        key_fn: setup.key_fn,
        workers,
    };
    let mut shard = outfit.shard(rung == Rung::Epoll);
    monoio::spawn(sweep(Rc::clone(&shard)));
    if let Some(ring) = &shard.ring {
        let carrying = carry(Rc::clone(ring), Rc::clone(&shard));
        monoio::spawn(fence::contain(carrying, Rc::clone(&shard)));
    }
    for listener in listeners {
        match Listener::new(listener) {
            Ok(listener) => {
                // Idle in the sense of a drain, and from now on: a drain may come before the task
                // has run once.
                let watch = shard.sweeper.watch();
                watch.set_idle(true);
                monoio::spawn(accept::run(Rc::clone(&shard), listener, hall.clone(), watch));
            }
            Err(error) => tracing::error!(worker = index, %error, "Worker cannot listen"),
        }
    }
    // What is left are the accept loops' own copies: the mailboxes close when accepting has ended.
    drop(hall);
    let leave = obey(&mut shard, &mailbox).await;
    drain::Drain { shard, mailbox, loads, own: index }.run(leave).await;
}

/// Runs the tunnels of the ring.
async fn carry(ring: Rc<Ring<Owner>>, shard: Rc<Shard>) {
    let ended =
        ring.run(|owner, summary| proxy::end_tunnel(&shard.latest(), owner, &summary)).await;
    if let Err(error) = ended {
        tracing::error!(%error, "The ring of the tunnels has failed; its tunnels were closed");
    }
}

/// Carries out messages until one asks to drain.
async fn obey(shard: &mut Rc<Shard>, mailbox: &flume::Receiver<Message>) -> Leave {
    loop {
        match mailbox.recv_async().await {
            Ok(message) => {
                if let Some(leave) = carry_out(shard, message) {
                    return leave;
                }
            }
            // The control thread is gone: so is the process, soon.
            Err(flume::RecvError::Disconnected) => return Leave::now(),
        }
    }
}

/// Carries out one message; returns how to leave if it asks for that.
fn carry_out(shard: &mut Rc<Shard>, message: Message) -> Option<Leave> {
    match message {
        Message::Drain(leave) => return Some(leave),
        Message::Serve(guest) => accept::welcome(shard, guest),
        Message::Reload { terms, done } => {
            *shard = outfit::renew(shard, *terms);
            drop(done);
        }
        Message::Purge { purge, done } => {
            purge::purge(shard, &purge);
            drop(done);
        }
        Message::Letter(letter) => proxy::open(shard, letter),
        Message::Addresses { route, addresses } => {
            if let Some(backend) = shard.backends.get(route) {
                backend.set_addresses(addresses);
            }
        }
    }
    None
}

/// Fires deadlines and tidies up, for as long as the worker lives.
async fn sweep(mut shard: Rc<Shard>) {
    for backend in &shard.backends {
        backend.keep_warm();
    }
    let mut untracked = Untracked { told: 0, at: clock::now() };
    let mut relief = relief::Relief::default();
    loop {
        let interval = sweeper::sweep_interval(shortest_timeout(&shard.config));
        monoio::time::sleep(interval).await;
        shard = shard.latest();
        failpoint::reach("worker");
        let now = clock::now();
        shard.sweeper.sweep(now);
        if let Some(ring) = &shard.ring {
            ring.sweep(now);
        }
        shard.date.refresh();
        shard.pool.trim();
        if relief.is_due(shard.sweeper.take_peak(), now) {
            relief::trim();
        }
        if let Some(addresses) = &shard.addresses {
            addresses.tidy(now);
            if shard.own == 0 {
                untracked.tell(addresses.untracked(), now);
            }
        }
        tell_cache(&shard);
        for backend in &shard.backends {
            backend.reap(now);
            backend.keep_warm();
        }
    }
}

/// What was said last about addresses that could not be told apart.
struct Untracked {
    told: u64,
    at: Instant,
}

impl Untracked {
    /// Writes a line if there are more, and a line is due.
    fn tell(&mut self, count: u64, now: Instant) {
        if count > self.told && now.duration_since(self.at) >= UNTRACKED_PAUSE {
            let more = count - self.told;
            tracing::warn!(
                more,
                "More client addresses than limits.tracked_addresses: their limits are not held"
            );
            *self = Self { told: count, at: now };
        }
    }
}

/// Brings the gauges of the cache up to date.
fn tell_cache(shard: &Shard) {
    let (extent, counters) = (shard.cache.extent(), &shard.counters.cache);
    counters.bytes.set(extent.bytes as u64);
    counters.entries.set(extent.pages as u64);
    counters.evictions.add(extent.evictions.saturating_sub(counters.evictions.value()));
}

fn shortest_timeout(config: &Config) -> Duration {
    let timeouts = &config.timeouts;
    let optional = [
        timeouts.response_head,
        timeouts.body_idle,
        timeouts.tunnel_idle,
        timeouts.tunnel_half_close,
    ];
    optional
        .into_iter()
        .flatten()
        .fold(timeouts.head.min(timeouts.keepalive).min(timeouts.connect), Duration::min)
}
