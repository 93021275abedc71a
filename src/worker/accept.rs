//! Accepting connections on one worker, and what happens when there are too many.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fence;
use crate::http1::reply::{self, Reply};
use crate::metrics::{Gauge, Permit};
use crate::net::listener::Listener;
use crate::net::{Stream, clock};
use crate::proxy::{self, Shard};

/// Connections accepted before those that were accepted already get a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The pause after the system has refused a descriptor: the connection waits in the queue, and an
/// accept tried at once would fail at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Between two lines about connections that were not accepted.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until the worker drains, and then what the kernel has queued already.
pub(super) async fn run(shard: Rc<Shard>, listener: Listener, connections: Arc<Gauge>) {
    // Idle in the sense of a drain: the watch fires when accepting is to stop.
    let watch = shard.sweeper.watch();
    watch.set_idle(true);
    let mut door = Door { shard, connections, last_line: None };
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

/// Where connections come in.
struct Door {
    shard: Rc<Shard>,
    connections: Arc<Gauge>,
    last_line: Option<Instant>,
}

impl Door {
    /// Accepts what waits, at most `count_max`; returns how many came.
    fn admit_up_to(&mut self, listener: &Listener, count_max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < count_max {
            let Some((socket, address)) = listener.try_accept()? else { break };
            count += 1;
            self.shard.counters.connections.add(1);
            match Stream::new(socket) {
                Ok(stream) => self.admit(stream, address),
                Err(error) => self.complain(&error),
            }
        }
        Ok(count)
    }

    fn admit(&mut self, stream: Stream, address: SocketAddr) {
        match self.connections.admit() {
            Some(permit) => {
                let served = serve(Rc::clone(&self.shard), stream, address, permit);
                monoio::spawn(fence::contain(served, Rc::clone(&self.shard)));
            }
            None => self.turn_away(&stream),
        }
    }

    /// Answers 503 without waiting for anything: a full house has no room for guests that linger.
    fn turn_away(&mut self, stream: &Stream) {
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
async fn serve(shard: Rc<Shard>, stream: Stream, address: SocketAddr, permit: Permit) {
    let client = shard.client(stream, address.ip());
    // On the heap while requests are served, so that a tunnel costs only what the tunnel needs.
    let tunnel = Box::pin(proxy::serve(&shard, client)).await;
    if let Some(tunnel) = tunnel {
        proxy::run_tunnel(&shard, tunnel).await;
    }
    drop(permit);
}
