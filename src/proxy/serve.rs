//! The requests of one client connection, one after another.

use std::rc::Rc;
use std::time::Duration;

use super::decide::{Action, Asked, Gates, ask, decide};
use super::outcome::Outcome;
use super::record::About;
use super::refuse::{Manner, refuse};
use super::shard::{Client, Shard};
use super::upgrade::{self, Switched, Tunnel};
use super::{converse, count, fetch, look_up};
use crate::http1::framing::Framing;
use crate::http1::head::{HeadScanner, RequestHead, Version};
use crate::metrics::Limit;
use crate::net::inbox::{HeadLimit, Size};
use crate::net::{Buffer, Fired, ReadError, failpoint, linger};

/// Requests of one connection after which the others of its core get a turn, when it had no reason to
/// wait: a client may send thousands in one piece.
const REQUESTS_PER_STINT: u32 = 64;

/// How long a connection that has not said anything yet may still speak up during a drain.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// What becomes of the connection after a request.
#[derive(Debug)]
pub(super) enum Next {
    /// Another request may follow.
    Continue,
    /// The answer is complete and was the last: close so that the client can read it.
    Linger,
    /// Nothing more can be said: close at once.
    Drop,
    /// The connection is a tunnel now.
    Tunnel(Box<Switched>),
}

/// A request on its way: everything an action needs to know about it.
pub(super) struct Request<'a> {
    /// The head as it was received.
    pub head: &'a RequestHead<Buffer>,
    /// What it means.
    pub asked: Asked<'a>,
    /// Index of its route and backend.
    pub route: usize,
    /// The path behind the mount prefix.
    pub path: &'a [u8],
    /// Whether the client is trusted to say where the request comes from.
    pub is_trusted: bool,
}

impl<'a> Request<'a> {
    /// What the log may say about it.
    pub(super) fn about(&self, shard: &'a Shard) -> About<'a> {
        About {
            route: shard.config.routes.get(self.route).map_or("", |route| route.name.as_str()),
            method: self.head.method(),
            path: self.asked.target.path,
        }
    }
}

/// Serves requests until the connection ends or becomes a tunnel, which is returned.
///
/// # Cancellation
///
/// The connection is closed; a request that ran is cut off.
pub async fn serve(mut shard: Rc<Shard>, mut client: Client) -> Option<Box<Tunnel>> {
    let (mut served, mut piece) = (0_u32, Piece::default());
    loop {
        let next = match next_head(&mut shard, &mut client, served == 0, &mut piece).await {
            Ok(None) => return None,
            Ok(Some(head)) => {
                let requests_max = shard.config.limits.requests_per_connection_max;
                let is_last = requests_max.is_some_and(|max| served >= max - 1);
                one(&shard, &mut client, head, is_last).await
            }
            Err(outcome) => {
                let next = reject(&shard, &mut client, outcome).await;
                count::request(&shard, &client, "", outcome);
                next
            }
        };
        served = served.wrapping_add(1).max(1);
        match next {
            Next::Continue => {}
            Next::Drop => return None,
            Next::Tunnel(switched) => return Some(Box::new(Tunnel::new(client, *switched))),
            Next::Linger => {
                // A client that cannot be written to can be lingered for all the same.
                client.flush().await.ok();
                linger::close(&client.stream, &mut client.inbox, &client.watch).await;
                return None;
            }
        }
        if served.is_multiple_of(REQUESTS_PER_STINT) && !client.inbox.is_empty() {
            client.watch.pause().await;
        }
    }
}

/// Requests that one read has brought.
#[derive(Default)]
struct Piece {
    /// Which read it was.
    read: u32,
    requests: u32,
}

impl Piece {
    /// Counts a request after so many reads.
    fn count(&mut self, reads: u32) -> u32 {
        self.requests = if self.read == reads { self.requests.saturating_add(1) } else { 1 };
        self.read = reads;
        self.requests
    }
}

/// Reads the next head, unless it is one too many of those that came in one piece.
///
/// `shard` becomes the latest one when a request begins: what waited for it may have waited long.
async fn next_head(
    shard: &mut Rc<Shard>,
    client: &mut Client,
    is_first: bool,
    piece: &mut Piece,
) -> Result<Option<RequestHead<Buffer>>, Outcome> {
    if !await_head(shard, client, is_first).await? {
        return Ok(None);
    }
    let latest = shard.latest();
    if !Rc::ptr_eq(shard, &latest) {
        client.follow(&latest);
        *shard = latest;
    }
    let head = read_head(shard, client).await?;
    let requests = piece.count(client.inbox.reads());
    match shard.config.limits.pipelined_requests_max {
        Some(max) if head.is_some() && requests > max => Err(Outcome::TooManyPipelined),
        Some(_) | None => Ok(head),
    }
}

/// Waits until a head has begun to arrive; `false` is the end of the connection between two requests.
async fn await_head(shard: &Shard, client: &mut Client, is_first: bool) -> Result<bool, Outcome> {
    let mut scanner = HeadScanner::new();
    let is_there = scanner.scan(client.inbox.filled(), shard.config.limits.head_bytes_max);
    if (matches!(is_there, Ok(None)) || client.outbox.is_full()) && client.flush().await.is_err() {
        return Ok(false);
    }
    if is_first {
        // Clients that do not wait for anything have their request here by now.
        client.inbox.read_now(&client.stream, Size::Small)?;
    }
    if !client.inbox.is_empty() {
        Ok(true)
    } else if is_first {
        await_first(shard, client).await
    } else {
        await_another(shard, client).await
    }
}

/// Reads a head that has begun to arrive.
async fn read_head(
    shard: &Shard,
    client: &mut Client,
) -> Result<Option<RequestHead<Buffer>>, Outcome> {
    let limits = &shard.config.limits;
    client.watch.set_in(Some(shard.config.timeouts.head));
    let limit = HeadLimit { bytes_max: limits.head_bytes_max, size: Size::Small };
    let Client { stream, inbox, watch, .. } = client;
    let len = inbox.read_head(stream, watch, HeadScanner::new(), limit).await?;
    let Some(front) = inbox.take_front(len) else { return Ok(None) };
    let slots = shard.scratch.take_slots();
    Ok(Some(RequestHead::parse(front, len, slots, limits.head_fields_max)?))
}

/// Waits for the first byte of a connection; `false` when none will come.
async fn await_first(shard: &Shard, client: &mut Client) -> Result<bool, Outcome> {
    if !shard.draining.get() {
        client.watch.set_in(Some(shard.config.timeouts.head));
        if let Some(filled) = fill_while_idle(client).await {
            return Ok(filled);
        }
    }
    // Accepted before the drain: such a client may be about to speak, or never.
    client.watch.set_in(Some(DRAIN_GRACE));
    let filled = client.inbox.fill(&client.stream, &client.watch, Size::Small).await;
    Ok(matches!(filled, Ok(1..)))
}

/// Waits for the first byte of another request; `false` when none will come.
async fn await_another(shard: &Shard, client: &mut Client) -> Result<bool, Outcome> {
    if !shard.draining.get() {
        client.watch.set_in(Some(shard.config.timeouts.keepalive));
        if let Some(filled) = fill_while_idle(client).await {
            return Ok(filled);
        }
    }
    // Only a request that is on its way already is still taken.
    Ok(matches!(client.inbox.read_now(&client.stream, Size::Small)?, Some(1..)))
}

/// Reads while a drain may end the connection; `None` when it wants to.
async fn fill_while_idle(client: &mut Client) -> Option<bool> {
    client.watch.set_idle(true);
    let filled = client.inbox.fill(&client.stream, &client.watch, Size::Small).await;
    client.watch.set_idle(false);
    match filled {
        Ok(count) => Some(count > 0),
        Err(ReadError::Drain) if client.watch.forgive() => None,
        // Between two requests there is nobody to tell.
        Err(_) => Some(false),
    }
}

/// Answers a head that cannot be used. Nothing after it is parsed.
async fn reject(shard: &Shard, client: &mut Client, outcome: Outcome) -> Next {
    if client.flush().await.is_err() {
        return Next::Drop;
    }
    shard.record.failure(outcome, About { route: "", method: "", path: b"" }, &"refused");
    if client.watch.fired() == Some(Fired::Drain) || outcome.status().is_none() {
        return Next::Drop;
    }
    refuse(shard, client, outcome, Manner { keep: false, answers_head: false }).await;
    Next::Linger
}

/// One request, from its head to its outcome; the connection's last closes it.
async fn one(
    shard: &Rc<Shard>,
    client: &mut Client,
    head: RequestHead<Buffer>,
    is_last: bool,
) -> Next {
    if cfg!(debug_assertions) && head.fields().has("phantom-frame-fail") {
        failpoint::reach("connection");
    }
    let (outcome, next) = match ask(&head) {
        Err(outcome) => (outcome, reject(shard, client, outcome).await),
        Ok(mut asked) => {
            let is_cut = is_last && asked.persists;
            asked.persists &= !is_last;
            let (outcome, next) = carry_out(shard, client, &head, asked).await;
            if is_cut && !matches!(next, Next::Tunnel(_)) {
                shard.counters.limited(Limit::RequestsPerConnection);
            }
            (outcome, next)
        }
    };
    tracing::trace!(target: "phantom_frame::proxy", outcome = outcome.label(), "Request ended");
    count::request(shard, client, head.method(), outcome);
    let (_, slots) = head.into_parts();
    shard.scratch.give_back_slots(slots);
    next
}

async fn carry_out(
    shard: &Rc<Shard>,
    client: &mut Client,
    head: &RequestHead<Buffer>,
    asked: Asked<'_>,
) -> (Outcome, Next) {
    let manner = Manner {
        // Without a field that says so, a client of HTTP/1.0 expects the close.
        keep: asked.persists
            && asked.framing == Framing::Length(0)
            && head.version() == Version::Http11,
        answers_head: head.method() == "HEAD",
    };
    let path = asked.target.path;
    let gates = Gates {
        routes: &shard.config.routes,
        rules: &shard.rules,
        body_bytes_max: shard.config.limits.request_body_bytes_max,
    };
    let decision = match decide(head, &asked, gates) {
        Ok(decision) => decision,
        Err(outcome) => {
            let about = About { route: "", method: head.method(), path };
            shard.record.failure(outcome, about, &"refused by a rule");
            return fail(shard, client, head, (outcome, manner)).await;
        }
    };
    client.route.set(Some(decision.route));
    if decision.action != Action::LookUp && client.flush().await.is_err() {
        return (Outcome::ClientGone, Next::Drop);
    }
    let (route, path, is_trusted) = (decision.route, decision.path, client.is_trusted);
    let request = Request { head, asked, route, path, is_trusted };
    let done = match decision.action {
        Action::LookUp => look_up::run(shard, client, &request).await,
        Action::Pass => fetch::run(shard, client, &request, None).await,
        Action::Tunnel => upgrade::run(shard, client, &request).await,
    };
    match done {
        Ok(done) => done,
        Err(outcome) => fail(shard, client, head, (outcome, manner)).await,
    }
}

/// Answers for a request that was refused, or whose backend failed before it answered.
async fn fail(
    shard: &Shard,
    client: &mut Client,
    head: &RequestHead<Buffer>,
    (outcome, manner): (Outcome, Manner),
) -> (Outcome, Next) {
    if client.flush().await.is_err() || outcome.status().is_none() {
        return (outcome, Next::Drop);
    }
    // What follows a refused upgrade may be the other protocol's bytes: never parsed as requests.
    let is_ambiguous = head.fields().has("upgrade") && converse::has_early_bytes(client);
    let keep = manner.keep && !outcome.poisons() && !shard.draining.get() && !is_ambiguous;
    let kept = refuse(shard, client, outcome, Manner { keep, ..manner }).await;
    (outcome, if kept { Next::Continue } else { Next::Linger })
}
