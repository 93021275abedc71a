//! Accepting connections on one worker, and what happens when there are too many.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Message;
use super::balance;
use crate::config::Accept;
use crate::http1::reply::{self, Reply};
use crate::metrics::{Gauge, Loads, Permit, Place};
use crate::net::listener::Listener;
use crate::net::{Stream, Watch, clock};
use crate::proxy::{self, Shard, fence};

/// Connections accepted before those that were accepted already get a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The pause after the system has refused a descriptor: the connection waits in the queue, and an
/// accept tried at once would fail at once.
const BACK_OFF: Duration = Duration::from_millis(50);

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
                door.complain(&error);
                monoio::time::sleep(BACK_OFF).await;
            }
        }
    }
    // These clients have connected: to them we still exist.
    if let Err(error) = door.admit_up_to(&listener, usize::MAX) {
        door.complain(&error);
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
    last_line: Option<Instant>,
}

impl Door {
    fn new(shard: Rc<Shard>, hall: Hall) -> Self {
        // Any odd number will do: it only breaks ties.
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * hall.own as u64 + 1);
        Self { shard, hall, random, last_line: None }
    }

    /// Accepts what waits, at most `count_max`; returns how many came.
    fn admit_up_to(&mut self, listener: &Listener, count_max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < count_max {
            let Some((socket, address)) = listener.try_accept()? else { break };
            count += 1;
            self.shard.counters.connections.add(1);
            match self.hall.connections.admit() {
                Some(permit) => self.admit(socket, address, permit),
                None => self.turn_away(socket),
            }
        }
        Ok(count)
    }

    fn admit(&mut self, socket: OwnedFd, address: SocketAddr, permit: Permit) {
        let own = self.hall.own;
        // Others may have ended already when this worker drains.
        let worker = if self.shard.draining.get() { own } else { self.choose() };
        let entered = self.hall.loads.enter(worker);
        let guest = Guest { socket, address, place: Place { permit, entered } };
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

    /// Answers 503 without waiting for anything: a full house has no room for guests that linger.
    fn turn_away(&mut self, socket: OwnedFd) {
        let Ok(stream) = Stream::new(socket) else { return };
        let mut head = self.shard.scratch.take_head();
        self.shard.date.with(|date| {
            let text = "Too many connections are open.";
            let reply =
                Reply { status: 503, text, close: true, date, answers_head: false, allow: None };
            reply::write(&mut head, &reply);
        });
        // A new socket takes this much; if not, the close says it all.
        stream.try_write(&head).ok();
        stream.shutdown_write();
        self.shard.scratch.give_back_head(head);
        self.complain(&io::Error::other(
            "as many connections are open as limits.connections allows",
        ));
    }

    fn complain(&mut self, error: &io::Error) {
        let now = clock::now();
        if self.last_line.is_none_or(|last| now.duration_since(last) >= LOG_PAUSE) {
            self.last_line = Some(now);
            tracing::error!(%error, "Connection not accepted");
        }
    }
}

/// One connection, from its first request to the end of its tunnel.
async fn serve(shard: Rc<Shard>, stream: Stream, address: SocketAddr, place: Place) {
    let client = shard.client(stream, address.ip());
    // On the heap while requests are served, so that a tunnel costs only what the tunnel needs.
    let tunnel = Box::pin(proxy::serve(&shard, client)).await;
    if let Some(tunnel) = tunnel {
        proxy::run_tunnel(&shard, tunnel, place).await;
    }
}
