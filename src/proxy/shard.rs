//! The state of one worker, as a connection sees it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::borrow::{self, Loan};
use super::flight::Flights;
use super::outbox::{Outbox, Patience};
use super::pack::Packing;
use super::record::Record;
use super::upgrade::Owner;
use super::{fence, invalidate, pack};
use crate::backend::Backend;
use crate::backend::exchange::AnswerLimits;
use crate::cache::Moment;
use crate::cache::compress::Compressor;
use crate::cache::disk::Disk;
use crate::cache::entry::{Body, Entry};
use crate::cache::local::Cache;
use crate::cache::rules::{KeyFn, RouteRules};
use crate::config::{CacheFill, Config};
use crate::http1::head::FieldSpan;
use crate::metrics::{Addresses, Counters, Gauge};
use crate::net::relay::WriteError;
use crate::net::{Inbox, Pool, Stream, Sweeper, Watch, clock};
use crate::tunnel::Ring;

/// Heads that are written are kept as vectors of at most this many bytes between two requests.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// Vectors kept for reuse.
const SCRATCH_KEPT_MAX: usize = 128;

/// The state of one worker, under one configuration. Nothing in it is shared with another worker,
/// except the gauges and the table of addresses.
///
/// A reload makes another one, which shares with this everything that is in an [`Rc`] and takes its
/// place for what begins from then on; what runs keeps this one to its end.
#[derive(Debug)]
pub struct Shard {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// One a route, in the order of the routes. A reload leaves those alone that it does not concern.
    pub backends: Vec<Rc<Backend>>,
    /// What each route says about caching, in the order of the routes; `None` where it caches nothing.
    pub rules: Vec<Option<RouteRules>>,
    /// By route, the worker's file of bodies, if the route keeps them in one.
    pub disks: Vec<Option<Rc<Disk>>>,
    /// The shard that serves what begins now.
    pub latest: Rc<Latest>,
    /// Buffers.
    pub pool: Rc<Pool>,
    /// Deadlines.
    pub sweeper: Rc<Sweeper>,
    /// The tunnels, where the driver allows it; without it each is a task on the pump.
    pub ring: Option<Rc<Ring<Owner>>>,
    /// Stored responses.
    pub cache: Rc<Cache>,
    /// Fills on their way.
    pub flights: Rc<Flights>,
    /// What was let go of here.
    pub forgotten: Rc<Forgotten>,
    /// What the compressor is at work on.
    pub packing: Rc<Packing>,
    /// The thread that compresses, if a route wants it.
    pub compressor: Option<Compressor>,
    /// Names stored responses, if the library's user does.
    pub key_fn: Option<KeyFn>,
    /// This worker's number.
    pub own: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The way to the workers.
    pub post: Post,
    /// Vectors for heads.
    pub scratch: Rc<Scratch>,
    /// The Date field's value, a second old at most.
    pub date: Rc<Date>,
    /// Tunnels of the whole process.
    pub tunnels: Arc<Gauge>,
    /// Connections and tunnels by client address, of the whole process, where those are limited.
    pub addresses: Option<Arc<Addresses>>,
    /// What this worker did.
    pub counters: Arc<Counters>,
    /// Log lines about failures, at a bounded rate.
    pub record: Rc<Record>,
    /// Whether the process is leaving: connections end after the request that runs.
    pub draining: Rc<Cell<bool>>,
    /// With which code a drain closes WebSocket tunnels.
    pub close_code: Rc<Cell<u16>>,
}

/// Where a worker's shards find the one that serves what begins now.
#[derive(Debug, Default)]
pub struct Latest(RefCell<Weak<Shard>>);

/// How often something was let go of on this worker. What is on its way from another worker may be older.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Purges carried out. Every worker is sent the same ones in the same order: who has carried out
    /// fewer may still have what the others have not.
    pub purges: Cell<u64>,
    /// Purges, and changes by requests.
    pub changes: Cell<u64>,
}

impl Forgotten {
    /// Counts a purge.
    pub(super) fn purged(&self) {
        self.purges.set(self.purges.get() + 1);
        self.changed();
    }

    /// Counts a change.
    pub(super) fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
    }
}

/// Carries letters to the workers, by their number.
#[derive(Clone)]
pub struct Post(Arc<Carrier>);

type Carrier = dyn Fn(usize, Letter) -> Result<(), Letter> + Send + Sync;

impl Post {
    /// Sends by `carrier`, which returns the letter if the worker has ended.
    pub fn new(
        carrier: impl Fn(usize, Letter) -> Result<(), Letter> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(carrier))
    }

    /// Sends a letter; `false` if the worker has ended.
    pub(super) fn send(&self, worker: usize, letter: Letter) -> bool {
        (self.0)(worker, letter).is_ok()
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Post(..)")
    }
}

/// What workers tell each other about the cache.
#[derive(Debug)]
pub enum Letter {
    /// Asks the owner of a key for a response.
    Lend(Box<Loan>),
    /// Asks to drop what is stored under these keys; `done` is dropped when that has happened.
    Invalidate {
        /// Which.
        keys: Arc<[Box<[u8]>]>,
        /// Dropped when it is done.
        done: flume::Sender<()>,
    },
    /// The compressor is done.
    Packed {
        /// With which body.
        number: usize,
        /// What it has made of it.
        body: Option<Bytes>,
    },
}

/// Does what a letter asks for.
pub fn open(shard: &Rc<Shard>, letter: Letter) {
    match letter {
        Letter::Lend(loan) => {
            let lend = borrow::lend(Rc::clone(shard), *loan);
            monoio::spawn(fence::contain(lend, Rc::clone(shard)));
        }
        Letter::Invalidate { keys, done } => {
            invalidate::here(shard, &keys);
            drop(done);
        }
        Letter::Packed { number, body } => pack::arrived(shard, number, body),
    }
}

/// A client connection between two requests.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: Stream,
    /// Read and not yet used.
    pub inbox: Inbox,
    /// Answered and not yet sent.
    pub outbox: Outbox,
    /// Its deadline.
    pub watch: Watch,
    /// The address it comes from; IPv4 where it was mapped into IPv6.
    pub address: IpAddr,
    /// Whether `address` is one of `trusted_proxies`.
    pub is_trusted: bool,
    /// How long it may take nothing of what it is sent.
    idle: Option<Duration>,
    /// The route of the request that runs, for its counters.
    pub(super) route: Cell<Option<usize>>,
    /// The status with which the request that runs is answered, for its counters; 0 before that.
    pub(super) status: Cell<u16>,
}

impl Shard {
    /// The shard for what begins now: this one, or the one that has taken its place.
    pub fn latest(self: &Rc<Self>) -> Rc<Self> {
        self.latest.0.borrow().upgrade().unwrap_or_else(|| Rc::clone(self))
    }

    /// Takes the place of the shard that this one was made from. Whoever calls this keeps it alive.
    pub fn take_over(self: &Rc<Self>) {
        *self.latest.0.borrow_mut() = Rc::downgrade(self);
    }

    /// A client that has just connected.
    pub fn client(&self, stream: Stream, address: IpAddr) -> Client {
        let address = address.to_canonical();
        Client {
            stream,
            inbox: Inbox::new(Rc::clone(&self.pool)),
            outbox: Outbox::default(),
            watch: self.sweeper.watch(),
            address,
            route: Cell::new(None),
            status: Cell::new(0),
            idle: self.config.timeouts.body_idle,
            is_trusted: self.trusts(address),
        }
    }

    /// Whether an address is one of `trusted_proxies`.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(&address))
    }
}

/// The time, as the cache counts it.
pub(super) fn moment() -> Moment {
    Moment(clock::unix_millis())
}

impl Shard {
    /// The rules by which a route caches, if it does.
    pub fn cache_rules(&self, route: usize) -> Option<&RouteRules> {
        self.rules.get(route).and_then(Option::as_ref)
    }

    /// What an answer's head may cost.
    pub fn answer_limits(&self) -> AnswerLimits {
        let limits = &self.config.limits;
        AnswerLimits {
            head_bytes_max: limits.response_head_bytes_max,
            head_fields_max: limits.head_fields_max,
        }
    }

    /// The worker to ask for what is stored under a key, if it is another one.
    pub(super) fn lender(&self, key: &[u8]) -> Option<usize> {
        let is_asked = self.config.cache.fill == CacheFill::Process && !self.draining.get();
        is_asked.then(|| borrow::owner(key, self.workers)).filter(|owner| *owner != self.own)
    }

    /// Puts an entry's body where its route keeps bodies.
    pub(super) fn place(&self, route: usize, entry: Entry) -> Entry {
        let Some(disk) = self.disks.get(route).and_then(Option::as_ref) else { return entry };
        match disk.store(entry.pieces()) {
            Ok(extent) => entry.with_body(Body::Disk(Rc::new(extent))),
            Err(error) => {
                tracing::debug!(%error, "A body is kept in memory: it does not fit into the file");
                entry
            }
        }
    }
}

impl Client {
    /// Goes on under the configuration of `shard`.
    pub(super) fn follow(&mut self, shard: &Shard) {
        self.idle = shard.config.timeouts.body_idle;
        self.is_trusted = shard.trusts(self.address);
    }

    /// Sends the answers that wait.
    ///
    /// # Errors
    ///
    /// The client is gone: close the connection.
    ///
    /// # Cancellation
    ///
    /// Close the connection.
    pub(super) async fn flush(&mut self) -> Result<(), WriteError> {
        let patience = Patience { watch: &self.watch, idle: self.idle };
        self.outbox.flush(&self.stream, patience).await
    }
}

/// Vectors that heads are parsed into and written to, kept so that a request allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    slots: RefCell<Vec<Vec<FieldSpan>>>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl Scratch {
    /// Takes a vector for the fields of a head.
    pub fn take_slots(&self) -> Vec<FieldSpan> {
        self.slots.borrow_mut().pop().unwrap_or_default()
    }

    /// Returns one.
    pub fn give_back_slots(&self, slots: Vec<FieldSpan>) {
        let mut kept = self.slots.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX {
            kept.push(slots);
        }
    }

    /// Takes an empty vector to write a head to.
    pub fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    /// Returns one.
    pub fn give_back_head(&self, mut head: Vec<u8>) {
        let mut kept = self.heads.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX && head.capacity() <= SCRATCH_BYTES_MAX {
            head.clear();
            kept.push(head);
        }
    }
}

/// The value of the Date field, written once a sweep.
#[derive(Debug)]
pub struct Date(RefCell<String>);

impl Default for Date {
    fn default() -> Self {
        Self(RefCell::new(clock::http_date()))
    }
}

impl Date {
    /// Writes the value anew.
    pub fn refresh(&self) {
        *self.0.borrow_mut() = clock::http_date();
    }

    /// Calls `with` with the value: an IMF-fixdate of 29 bytes.
    pub fn with<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        with(self.0.borrow().as_bytes())
    }
}
