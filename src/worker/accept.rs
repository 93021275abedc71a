//! Accepting connections on one worker, and what happens when there are too many.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Message;
use super::balance;
use super::spare::Spare;
use crate::config::Accept;
use crate::http1::reply::{self, Reply};
use crate::metrics::{ConnectionPlace, Excess, Gauge, Limit, Loads, Permit, Place};
use crate::net::listener::{self, Listener};
use crate::net::stream::{Shortage, shortage};
use crate::net::{Stream, Watch, clock};
use crate::proxy::outcome::RETRY_SECONDS;
use crate::proxy::{self, Shard, fence};

/// Connections accepted before those that were accepted already get a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The pause after the system has refused a descriptor: the connection waits in the queue, and an
/// accept tried at once would fail at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Connections answered 503 between two such pauses.
const SHEDS_PER_TURN: usize = 64;

/// Between two lines about connections that were not accepted.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What accepting needs besides the shard.
#[derive(Clone, Debug)]
pub(super) struct Hall {
    /// This worker.
    pub own: usize,
    /// Who serves what is accepted here.
    pub accept: Accept,
    /// Connections of the whole process.
    pub connections: Arc<Gauge>,
    /// Connections by worker.
    pub loads: Loads,
    /// The mailboxes of all workers.
    pub workers: Vec<flume::Sender<Message>>,
}

/// A connection that was accepted by one worker and is served by another, or by the same.
#[derive(Debug)]
pub struct Guest {
    socket: OwnedFd,
    address: SocketAddr,
    place: Place,
}

/// Accepts until `watch` says that the worker drains, and then what the kernel has queued already.
pub(super) async fn run(shard: Rc<Shard>, listener: Listener, hall: Hall, watch: Watch) {
    let mut door = Door::new(shard, hall);
    loop {
        match watch.guard(listener.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(error) => {
                door.complain(&error);
                monoio::time::sleep(BACK_OFF).await;
            }
        }
        match door.admit_up_to(&listener, ACCEPTS_PER_TURN) {
            Ok(count) if count == ACCEPTS_PER_TURN => watch.rest().await,
            Ok(_) => {}
            Err(error) => {
                door.shed(&listener, &error);
                monoio::time::sleep(BACK_OFF).await;
            }
        }
    }
    // These clients have connected: to them we still exist.
    if let Err(error) = door.admit_up_to(&listener, usize::MAX) {
        door.shed(&listener, &error);
    }
}

/// Serves a connection on this worker.
pub(super) fn welcome(shard: &Rc<Shard>, guest: Guest) {
    let Guest { socket, address, place } = guest;
    match Stream::new(socket) {
        Ok(stream) => {
            let served = serve(Rc::clone(shard), stream, address, place);
            monoio::spawn(fence::contain(served, Rc::clone(shard)));
        }
        Err(error) => tracing::error!(%error, "Connection not served"),
    }
}

/// Where connections come in.
struct Door {
    shard: Rc<Shard>,
    hall: Hall,
    random: u64,
    spare: Spare,
    /// Lines about the system, about `limits.connections`, and about limits by address.
    error_lines: Pace,
    full_lines: Pace,
    address_lines: Pace,
}

/// What a connection is to occupy.
struct Places {
    permit: Permit,
    of_address: Option<ConnectionPlace>,
}

impl Door {
    fn new(shard: Rc<Shard>, hall: Hall) -> Self {
        // Any odd number will do: it only breaks ties.
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * hall.own as u64 + 1);
        Self {
            shard,
            hall,
            random,
            spare: Spare::new(),
            error_lines: Pace::default(),
            full_lines: Pace::default(),
            address_lines: Pace::default(),
        }
    }

    /// Accepts what waits, at most `count_max`; returns how many came.
    fn admit_up_to(&mut self, listener: &Listener, count_max: usize) -> io::Result<usize> {
        self.shard = self.shard.latest();
        // Before others have what has become free: one client answered is less than all of them.
        self.spare.restore();
        let mut count = 0;
        while count < count_max {
            let Some((socket, address)) = listener.try_accept()? else { break };
            count += 1;
            self.shard.counters.connections.add(1);
            match self.places(address.ip()) {
                Ok(places) => self.admit(socket, address, places),
                Err(limit) => self.turn_away(socket, address.ip(), limit),
            }
        }
        Ok(count)
    }

    /// What a connection from this address is to occupy, or the limit that it meets.
    fn places(&self, address: IpAddr) -> Result<Places, Limit> {
        let mut of_address = None;
        // The address first: one that has enough is not told that everybody has.
        if let Some(addresses) = &self.shard.addresses
            && !self.shard.trusts(address.to_canonical())
        {
            of_address =
                addresses.connect(address, clock::now()).map_err(|excess| match excess {
                    Excess::Count => Limit::ConnectionsPerAddress,
                    Excess::Rate => Limit::AcceptRatePerAddress,
                })?;
        }
        let permit = self.hall.connections.admit().ok_or(Limit::Connections)?;
        Ok(Places { permit, of_address })
    }

    fn admit(&mut self, socket: OwnedFd, address: SocketAddr, places: Places) {
        let own = self.hall.own;
        // Others may have ended already when this worker drains.
        let worker = if self.shard.draining.get() { own } else { self.choose() };
        let entered = self.hall.loads.enter(worker);
        let Places { permit, of_address } = places;
        let guest = Guest { socket, address, place: Place { permit, entered, of_address } };
        let Some(mailbox) = self.hall.workers.get(worker).filter(|_| worker != own) else {
            return welcome(&self.shard, guest);
        };
        self.shard.counters.handoffs.add(1);
        // A worker that has ended returns the message.
        if let Err(flume::SendError(Message::Serve(guest))) = mailbox.send(Message::Serve(guest)) {
            welcome(&self.shard, guest);
        }
    }

    fn choose(&mut self) -> usize {
        // xorshift64 (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        balance::place(&self.hall.loads, self.hall.accept, self.hall.own, self.random)
    }

    /// Answers 503, or 429 for the address's own limits, without waiting for anything: a full house has
    /// no room for guests that linger.
    fn turn_away(&mut self, socket: OwnedFd, address: IpAddr, limit: Limit) {
        self.shard.counters.limited(limit);
        let (status, text, retry_after) = if limit == Limit::ConnectionsPerAddress {
            (429, "Too many connections are open from your address.", RETRY_SECONDS)
        } else if limit == Limit::AcceptRatePerAddress {
            // The slowest rate is one a second.
            (429, "Connections come too fast from your address.", 1)
        } else {
            (503, "Too many connections are open.", RETRY_SECONDS)
        };
        self.tell(limit, address);
        self.dismiss(socket, status, text, retry_after);
    }

    /// Answers and closes, without waiting for anything.
    fn dismiss(&self, socket: OwnedFd, status: u16, text: &str, retry_after: u32) {
        let mut head = self.shard.scratch.take_head();
        self.shard.date.with(|date| {
            let retry_after = Some(retry_after);
            let (answers_head, allow) = (false, None);
            let reply = Reply { status, text, close: true, date, answers_head, allow, retry_after };
            reply::write(&mut head, &reply);
        });
        listener::dismiss(socket, &head);
        self.shard.scratch.give_back_head(head);
    }

    /// Says that a connection met a limit, if a line is due.
    fn tell(&mut self, limit: Limit, address: IpAddr) {
        let is_full = limit == Limit::Connections;
        let pace = if is_full { &mut self.full_lines } else { &mut self.address_lines };
        let Some(left_out) = pace.due(clock::now()) else { return };
        if is_full {
            let error = "as many connections are open as limits.connections allows";
            tracing::error!(error, left_out, "Connection not accepted");
        } else {
            let client = address.to_canonical();
            tracing::warn!(limit = limit.key(), %client, left_out, "Connection turned away");
        }
    }

    /// The system has refused to accept. Where it has no descriptor for what waits, the one kept in
    /// reserve is enough to say so to some; what still waits then does so until the next turn.
    fn shed(&mut self, listener: &Listener, error: &io::Error) {
        if shortage(error) != Some(Shortage::Descriptors) {
            self.shard.counters.accepts_failed.add(1);
            return self.complain(error);
        }
        self.shard.counters.accepts_without_descriptor.add(1);
        let mut answered = 0;
        while answered < SHEDS_PER_TURN && self.spare.spend() {
            let accepted = listener.try_accept();
            let Ok(Some((socket, _))) = accepted else { break };
            self.dismiss(socket, 503, "The proxy has run out of descriptors.", RETRY_SECONDS);
            answered += 1;
            self.spare.restore();
        }
        self.spare.restore();
        self.shard.counters.connections.add(answered as u64);
        self.shard.counters.connections_shed.add(answered as u64);
        if let Some(left_out) = self.error_lines.due(clock::now()) {
            tracing::error!(
                %error, answered, left_out,
                "No descriptor is left for connections, so they are answered 503: raise RLIMIT_NOFILE \
                 or lower limits.connections",
            );
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if let Some(left_out) = self.error_lines.due(clock::now()) {
            tracing::error!(%error, left_out, "Connection not accepted");
        }
    }
}

/// Lines of one kind, at a bounded rate.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    left_out: u64,
}

impl Pace {
    /// Whether a line may be written, and how many were left out before it.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// One connection, from its first request to the end of its tunnel.
async fn serve(shard: Rc<Shard>, stream: Stream, address: SocketAddr, place: Place) {
    let client = shard.client(stream, address.ip());
    // On the heap while requests are served, so that a tunnel costs only what the tunnel needs.
    let tunnel = Box::pin(proxy::serve(Rc::clone(&shard), client)).await;
    if let Some(tunnel) = tunnel {
        proxy::run_tunnel(&shard.latest(), tunnel, place).await;
    }
}
