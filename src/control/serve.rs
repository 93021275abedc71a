//! Connections of the control endpoint: accepted, bounded, and read as strictly as the data plane's.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::TARGET;
use super::answer::{Answer, Manner};
use super::body::{self, BodyError};
use super::desk::Desk;
use crate::http1::framing::Framing;
use crate::http1::head::{HeadScanner, RequestHead, Version};
use crate::net::inbox::{HeadLimit, Size};
use crate::net::listener::Listener;
use crate::net::{
    Buffer, Inbox, Pool, ReadError, Stream, Sweeper, Watch, clock, linger, relay, sweeper,
};
use crate::proxy::decide::{Asked, ask};
use crate::proxy::fence::fenced;
use crate::proxy::outcome::Outcome;

/// Connections at a time. Arbitrary; more than there are people, scripts and scrapers.
const CONNECTIONS_MAX: usize = 64;

/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of a head.
const HEAD_FIELDS_MAX: usize = 100;

/// To send a whole request, and then again to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// From one request of a connection to the next; more than scrapers usually wait.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// What is left to a kept connection when others wait for its place.
const GRACE: Duration = Duration::from_millis(500);

/// The pause when there is no room, or no descriptor: who waits is in the kernel's queue.
const BACK_OFF: Duration = Duration::from_millis(20);

/// What the tasks of the control thread have in common.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) desk: Desk,
    pool: Rc<Pool>,
    sweeper: Rc<Sweeper>,
    connections: Cell<usize>,
    is_closing: Cell<bool>,
}

/// A connection that counts, until it is dropped.
struct Guest(Rc<Hall>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// The socket.
    pub stream: Stream,
    /// Read and not yet used.
    pub inbox: Inbox,
    /// Its deadline.
    pub watch: Watch,
}

/// What becomes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another request may follow.
    Continue,
    /// The answer was the last: close so that the peer can read it.
    Linger,
    /// Nobody is left to answer.
    Drop,
}

impl Hall {
    pub(super) fn new(desk: Desk) -> Self {
        Self {
            desk,
            pool: Rc::default(),
            sweeper: Rc::new(Sweeper::new(true)),
            connections: Cell::new(0),
            is_closing: Cell::new(false),
        }
    }

    /// Ends the connections that wait for another request, and the others after their answer.
    pub(super) fn close(&self) {
        self.is_closing.set(true);
        self.sweeper.drain_idle();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.get() == 0
    }
}

/// Fires deadlines for as long as the thread lives.
pub(super) async fn sweep(hall: Rc<Hall>) {
    let interval = sweeper::sweep_interval(PATIENCE);
    loop {
        monoio::time::sleep(interval).await;
        hall.sweeper.sweep(clock::now());
        hall.pool.trim();
    }
}

/// Accepts for as long as the thread lives.
pub(super) async fn accept(hall: Rc<Hall>, listener: Listener) {
    loop {
        if hall.connections.get() >= CONNECTIONS_MAX {
            // Whoever only keeps a connection open makes room for whoever has something to ask.
            hall.sweeper.drain_idle();
            monoio::time::sleep(BACK_OFF).await;
            continue;
        }
        if listener.readable().await.is_err() {
            monoio::time::sleep(BACK_OFF).await;
        }
        match listener.try_accept() {
            Ok(Some((socket, _))) => welcome(&hall, socket),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(target: TARGET, %error, "Control connection not accepted");
                monoio::time::sleep(PATIENCE / 10).await;
            }
        }
    }
}

fn welcome(hall: &Rc<Hall>, socket: OwnedFd) {
    hall.connections.set(hall.connections.get() + 1);
    let guest = Guest(Rc::clone(hall));
    // Without a stream the guest has left again.
    let Ok(stream) = Stream::new(socket) else { return };
    let inbox = Inbox::new(Rc::clone(&hall.pool));
    let peer = Peer { stream, inbox, watch: hall.sweeper.watch() };
    let defect = || tracing::error!(target: TARGET, "A defect has closed a control connection");
    monoio::spawn(fenced(serve(guest, peer), defect));
}

/// The requests of one connection, one after another.
async fn serve(guest: Guest, mut peer: Peer) {
    let hall = &guest.0;
    let mut is_first = true;
    loop {
        if !await_request(hall, &mut peer, is_first).await {
            return;
        }
        is_first = false;
        peer.watch.set_in(Some(PATIENCE));
        let next = match read_head(&mut peer).await {
            Ok(head) => one(hall, &mut peer, &head).await,
            Err(error) => refuse(&peer, error.into()).await,
        };
        match next {
            Next::Continue => {}
            Next::Drop => return,
            Next::Linger => return linger::close(&peer.stream, &mut peer.inbox, &peer.watch).await,
        }
    }
}

/// Waits for the first byte of a request; `false` when none will come.
async fn await_request(hall: &Hall, peer: &mut Peer, is_first: bool) -> bool {
    if !peer.inbox.is_empty() {
        // A peer that pipelines does not keep the thread to itself.
        peer.watch.rest().await;
        return true;
    }
    if is_first {
        return fill(peer, PATIENCE).await.is_ok_and(|count| count > 0);
    }
    if !hall.is_closing.get() {
        peer.watch.set_idle(true);
        let filled = fill(peer, KEEPALIVE).await;
        peer.watch.set_idle(false);
        if !matches!(filled, Err(ReadError::Drain)) {
            return filled.is_ok_and(|count| count > 0);
        }
    }
    // Asked to go; but what is on its way already is still answered.
    peer.watch.forgive();
    let grace = if hall.is_closing.get() { Duration::ZERO } else { GRACE };
    fill(peer, grace).await.is_ok_and(|count| count > 0)
}

async fn fill(peer: &mut Peer, patience: Duration) -> Result<usize, ReadError> {
    peer.watch.set_in(Some(patience));
    let Peer { stream, inbox, watch } = peer;
    if let Some(count) = inbox.read_now(stream, Size::Small)? {
        return Ok(count);
    }
    if patience.is_zero() {
        return Ok(0);
    }
    inbox.fill(stream, watch, Size::Small).await
}

async fn read_head(peer: &mut Peer) -> Result<RequestHead<Buffer>, ReadError> {
    let limit = HeadLimit { bytes_max: HEAD_BYTES_MAX, size: Size::Small };
    let Peer { stream, inbox, watch } = peer;
    let len = inbox.read_head(stream, watch, HeadScanner::new(), limit).await?;
    let front = inbox.take_front(len).ok_or(ReadError::Closed)?;
    RequestHead::parse(front, len, Vec::new(), HEAD_FIELDS_MAX).map_err(ReadError::Head)
}

/// Answers a request that cannot be read, as the data plane would. Nothing after it is parsed.
async fn refuse(peer: &Peer, outcome: Outcome) -> Next {
    let Some(status) = outcome.status() else { return Next::Drop };
    let answer = Answer::text(status, outcome.text());
    send(peer, &answer, Manner { keep: false, answers_head: false, date: "" }).await
}

/// One request, from its head to its answer.
async fn one(hall: &Hall, peer: &mut Peer, head: &RequestHead<Buffer>) -> Next {
    let asked = match ask(head) {
        Ok(asked) => asked,
        Err(outcome) => return refuse(peer, outcome).await,
    };
    let (fields, method) = (head.fields(), head.method());
    let answers_head = method == "HEAD";
    let mut keep = asked.persists && head.version() == Version::Http11 && !hall.is_closing.get();
    let answer = match hall.desk.admit(method, asked.target.path, fields) {
        Ok(endpoint) => match read_body(peer, head, &asked).await {
            Ok(body) => hall.desk.carry_out(endpoint, fields.first("content-type"), &body).await,
            Err(BodyError::Read(error)) => return refuse(peer, body_outcome(error)).await,
            Err(BodyError::Malformed) => return refuse(peer, Outcome::BadBody).await,
            Err(BodyError::TooLarge) => {
                keep = false;
                Answer::text(413, "The request body is too large.")
            }
        },
        Err(answer) => {
            // Its body was not read, so that another request cannot be found.
            keep &= asked.framing == Framing::Length(0);
            answer
        }
    };
    send(peer, &answer, Manner { keep: keep && !hall.is_closing.get(), answers_head, date: "" })
        .await
}

/// What a body that did not arrive means.
fn body_outcome(error: ReadError) -> Outcome {
    if matches!(error, ReadError::Timeout) { Outcome::BodyTimeout } else { error.into() }
}

/// Reads the body, after asking for it if the peer waits for that (RFC 9110 §10.1.1).
async fn read_body(
    peer: &mut Peer,
    head: &RequestHead<Buffer>,
    asked: &Asked<'_>,
) -> Result<Vec<u8>, BodyError> {
    let waits = head.version() == Version::Http11
        && asked.framing != Framing::Length(0)
        && peer.inbox.is_empty()
        && head.fields().has_token("expect", "100-continue");
    if waits && !matches!(asked.framing, Framing::Length(n) if n > body::BODY_BYTES_MAX as u64) {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        // A peer that does not take it will not send the body either.
        relay::send(&peer.stream, &peer.watch, go_on).await.ok();
    }
    body::read(peer, asked.framing).await
}

async fn send(peer: &Peer, answer: &Answer, manner: Manner<'_>) -> Next {
    let date = clock::http_date();
    let bytes = answer.to_bytes(Manner { date: &date, ..manner });
    peer.watch.set_in(Some(PATIENCE));
    match relay::send(&peer.stream, &peer.watch, &bytes).await {
        Ok(()) if manner.keep => Next::Continue,
        Ok(()) => Next::Linger,
        Err(_) => Next::Drop,
    }
}
