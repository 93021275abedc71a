//! A backend as one worker sees it: its addresses, its idle connections, and one exchange at a time.

pub mod dial;
pub mod exchange;
pub mod pool;
pub mod resolve;
pub mod warm;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use dial::DialError;
pub use pool::Lease;

use crate::metrics::{Counters, RouteCounters};
use crate::net::{Inbox, Keepalive, Pool, Stream, Sweeper, Watch};

/// A connection to a backend and what was read from it.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Read and not yet used.
    pub inbox: Inbox,
    /// Its deadline.
    pub watch: Watch,
}

/// How connections to a backend are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest wait for a connection, over all addresses.
    pub connect_timeout: Duration,
    /// Idle connections kept at most.
    pub idle_max: usize,
    /// An idle connection older than this is closed.
    pub idle_age: Duration,
    /// Connections made ahead of time.
    pub warm: usize,
    /// Our addresses to connect from, in turn; none leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// When a silent backend counts as gone.
    pub keepalive: Keepalive,
}

/// Where a backend counts: the place of its route among the counters of the worker.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The worker's counters.
    pub counters: Arc<Counters>,
    /// Index of the route.
    pub route: usize,
}

impl Tally {
    fn of_route(&self) -> &RouteCounters {
        self.counters.route(Some(self.route))
    }
}

/// One backend, as one worker sees it.
#[derive(Debug)]
pub struct Backend {
    rules: Rules,
    tally: Tally,
    /// In the resolver's order; replaced whole by a message from the control thread.
    addresses: RefCell<Arc<[SocketAddr]>>,
    /// Index of the address that answered last: tried first.
    preferred: Cell<usize>,
    /// Which of our addresses is next.
    turn: Cell<usize>,
    /// Addresses toward which no port was free, and when that was.
    portless: RefCell<Vec<(SocketAddr, Instant)>>,
    /// Have carried an exchange; the newest last.
    idle: RefCell<VecDeque<pool::Idle>>,
    /// Have carried nothing yet.
    warm: RefCell<Vec<pool::Idle>>,
    is_warming: Cell<bool>,
    /// Set when the worker drains: nothing is kept any more.
    is_retired: Cell<bool>,
    buffers: Rc<Pool>,
    sweeper: Rc<Sweeper>,
}

impl Backend {
    /// A backend without idle connections.
    pub fn new(
        rules: Rules,
        tally: Tally,
        addresses: Arc<[SocketAddr]>,
        buffers: Rc<Pool>,
        sweeper: Rc<Sweeper>,
    ) -> Self {
        Self {
            rules,
            tally,
            addresses: RefCell::new(addresses),
            preferred: Cell::new(0),
            turn: Cell::new(0),
            portless: RefCell::default(),
            idle: RefCell::default(),
            warm: RefCell::default(),
            is_warming: Cell::new(false),
            is_retired: Cell::new(false),
            buffers,
            sweeper,
        }
    }

    /// Whether it can go on under these rules.
    pub fn suits(&self, rules: &Rules) -> bool {
        self.rules == *rules && !self.is_retired.get()
    }

    /// Replaces the addresses; running and idle connections stay.
    pub fn set_addresses(&self, addresses: Arc<[SocketAddr]>) {
        if *self.addresses.borrow() != addresses {
            self.preferred.set(0);
            *self.addresses.borrow_mut() = addresses;
        }
    }

    /// A connection to it that another worker has made; what it is in the middle of is the caller's to
    /// know.
    pub fn adopt(&self, stream: Stream) -> Connection {
        self.connection(stream)
    }

    fn connection(&self, stream: Stream) -> Connection {
        Connection {
            stream,
            inbox: Inbox::new(Rc::clone(&self.buffers)),
            watch: self.sweeper.watch(),
        }
    }
}
