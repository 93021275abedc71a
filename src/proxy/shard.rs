//! The state of one worker, as a connection sees it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::record::Record;
use super::upgrade::Owner;
use crate::backend::Backend;
use crate::config::Config;
use crate::http1::head::FieldSpan;
use crate::metrics::{Counters, Gauge};
use crate::net::{Inbox, Pool, Stream, Sweeper, Watch, clock};
use crate::tunnel::Ring;

/// Heads that are written are kept as vectors of at most this many bytes between two requests.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// Vectors kept for reuse.
const SCRATCH_KEPT_MAX: usize = 128;

/// The state of one worker. Nothing in it is shared with another, except the gauges.
#[derive(Debug)]
pub struct Shard {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// One a route, in the order of the routes.
    pub backends: Vec<Rc<Backend>>,
    /// Buffers.
    pub pool: Rc<Pool>,
    /// Deadlines.
    pub sweeper: Rc<Sweeper>,
    /// The tunnels, where the driver allows it; without it each is a task on the pump.
    pub ring: Option<Rc<Ring<Owner>>>,
    /// Vectors for heads.
    pub scratch: Scratch,
    /// The Date field's value, a second old at most.
    pub date: Date,
    /// Tunnels of the whole process.
    pub tunnels: Arc<Gauge>,
    /// What this worker did.
    pub counters: Arc<Counters>,
    /// Log lines about failures, at a bounded rate.
    pub record: Record,
    /// Whether the process is leaving: connections end after the request that runs.
    pub draining: Cell<bool>,
}

/// A client connection between two requests.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: Stream,
    /// Read and not yet used.
    pub inbox: Inbox,
    /// Its deadline.
    pub watch: Watch,
    /// The address it comes from; IPv4 where it was mapped into IPv6.
    pub address: IpAddr,
    /// Whether `address` is one of `trusted_proxies`.
    pub is_trusted: bool,
    /// The route of the request that runs, for its counters.
    pub(super) route: Cell<Option<usize>>,
    /// The status with which the request that runs is answered, for its counters; 0 before that.
    pub(super) status: Cell<u16>,
}

impl Shard {
    /// A client that has just connected.
    pub fn client(&self, stream: Stream, address: IpAddr) -> Client {
        let address = address.to_canonical();
        Client {
            stream,
            inbox: Inbox::new(Rc::clone(&self.pool)),
            watch: self.sweeper.watch(),
            address,
            route: Cell::new(None),
            status: Cell::new(0),
            is_trusted: self.config.trusted_proxies.iter().any(|net| net.contains(&address)),
        }
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
