//! A client that waits for a fill, and is given what the fill brings as it arrives.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::converse::{Conversation, Ending, relay_answer};
use super::fetch;
use super::flight::{Answer, Flight, Handoff, How, Need, Progress, Reader, Turn, Waiter};
use super::hit::{self, HeadOf, Hit};
use super::outcome::Outcome;
use super::serve::{Next, Request};
use super::shard::{Client, Shard, moment};
use crate::cache::conditional::{self, Representation};
use crate::cache::entry::Entry;
use crate::cache::{Demand, Forwarded, Status};
use crate::http1::chunked::{LAST_CHUNK, chunk_head};
use crate::http1::head::Version;
use crate::net::relay;

/// Bytes of a body that are copied for one send.
const BYTES_PER_SEND: usize = 64 * 1024;

/// Room for the line of a chunk.
const CHUNK_LINE_MAX: usize = 18;

/// A client's part in a fill.
pub(super) struct Part<'a> {
    /// What its request said to caches.
    pub demand: &'a Demand,
    /// Why it needs the backend.
    pub why: Forwarded,
    /// Whether the fill was begun for it.
    pub leads: bool,
}

impl Part<'_> {
    /// Whether the client may have an answer: the one for whom it was fetched may in any case, others
    /// if it `is_theirs`.
    fn may_have(&self, is_theirs: bool) -> bool {
        self.leads || is_theirs
    }
}

/// What following a fill came to.
pub(super) enum Followed {
    /// The client has its answer, or will never have one.
    Done((Outcome, Next)),
    /// What came is for others: look again.
    Again,
    /// What came may not be shared: ask the backend.
    Alone,
}

/// Waits for what `flight` brings, and passes it on.
///
/// # Errors
///
/// Nothing final was sent to the client: answer with the outcome.
///
/// # Cancellation
///
/// Close the client's connection; the fill goes on.
pub(super) async fn follow(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: &Request<'_>,
    (flight, part): (&Rc<Flight>, Part<'_>),
) -> Result<Followed, Outcome> {
    let waiter = Waiter::new(flight, part.leads);
    client.watch.set(None);
    let mut informed = 0;
    loop {
        let seen = flight.version();
        if !inform(shard, client, request, (flight, &mut informed)).await {
            return Ok(Followed::Done((Outcome::ClientGone, Next::Drop)));
        }
        match flight.turn() {
            Turn::Wait => {
                if !has_changed(flight, seen, client).await {
                    return Ok(Followed::Done((Outcome::ClientGone, Next::Drop)));
                }
            }
            Turn::Fail(outcome) => return Err(outcome),
            Turn::Take if !part.leads => return Ok(Followed::Alone),
            Turn::Take => {
                let Some(handoff) = flight.take_handoff() else { return Ok(Followed::Alone) };
                return deliver(shard, client, request, (*handoff, &part))
                    .await
                    .map(Followed::Done);
            }
            Turn::Serve(entry, how) => {
                return Ok(serve(shard, client, request, (&entry, how, &part)));
            }
            Turn::Stream(answer)
                if !part.may_have(
                    answer.is_for(part.demand) && answer.suits(request.head.fields()),
                ) =>
            {
                return Ok(Followed::Again);
            }
            // A part of it can be cut out when all of it is here.
            Turn::Stream(_) if part.demand.has_range() && !flight.is_passing() => {
                if let Some(outcome) = flight.failure() {
                    // Broken off for others; of this answer nothing was sent.
                    return Err(outcome.status().map_or(Outcome::BackendClosed, |_| outcome));
                }
                if !has_changed(flight, seen, client).await {
                    return Ok(Followed::Done((Outcome::ClientGone, Next::Drop)));
                }
            }
            Turn::Stream(answer) => {
                return stream(shard, client, request, (&waiter, &answer, &part))
                    .await
                    .map(Followed::Done);
            }
        }
    }
}

/// Passes on the interim responses that have come; `false` if the client has not taken them: it may
/// have got a part, which no final answer may follow.
async fn inform(
    shard: &Shard,
    client: &Client,
    request: &Request<'_>,
    (flight, informed): (&Flight, &mut usize),
) -> bool {
    while let Some(interim) = flight.interim(*informed) {
        *informed += 1;
        if request.head.version() == Version::Http11 {
            client.watch.set_in(Some(shard.config.timeouts.head));
            if relay::send(&client.stream, &client.watch, &interim).await.is_err() {
                return false;
            }
            client.watch.set(None);
        }
    }
    true
}

/// Waits for news; `false` if the client has aborted meanwhile.
async fn has_changed(flight: &Flight, seen: u64, client: &Client) -> bool {
    let (mut news, mut gone) =
        (pin!(flight.changed(seen)), pin!(client.watch.aborted(&client.stream)));
    poll_fn(|cx| {
        if news.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        gone.as_mut().poll(cx).map(|()| false)
    })
    .await
}

/// What Cache-Status says; `code` is the status of the backend's answer, if it gave one.
fn status(part: &Part<'_>, code: Option<u16>, is_stored: bool) -> Status {
    let status = Status::forwarded(part.why);
    let status = code.map_or(status, |code| status.with_status(code));
    let status = if is_stored { status.stored() } else { status };
    if part.leads { status } else { status.collapsed() }
}

/// Answers with an entry that came out of the fill.
fn serve(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
    (entry, how, part): (&Rc<Entry>, How, &Part<'_>),
) -> Followed {
    let now = moment();
    let is_for_him = how.is_for(entry.terms(), part.demand, now);
    if !part.may_have(is_for_him && entry.suits(request.head.fields())) {
        return Followed::Again;
    }
    let counters = &shard.counters.cache;
    let (code, counter) = match how {
        How::Fetched | How::Borrowed => (Some(entry.head().status()), &counters.miss),
        How::Confirmed => (Some(304), &counters.revalidated),
        How::InNeed(Need::Failing(code)) => (Some(code), &counters.stale),
        How::InNeed(Need::Silent) => (None, &counters.stale),
    };
    if part.leads { counter } else { &counters.collapsed }.add(1);
    let is_stored = !matches!(how, How::InNeed(_));
    let status = status(part, code, is_stored).with_ttl(entry.terms().ttl(now));
    let hit = Hit { entry, demand: part.demand, status, now };
    let (code, next) = hit::answer(shard, client, request, &hit);
    client.status.set(code);
    Followed::Done((Outcome::Filled, next))
}

/// Passes on an answer that is being stored, at the client's own pace.
async fn stream(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
    (waiter, answer, part): (&Waiter<'_>, &Answer, &Part<'_>),
) -> Result<(Outcome, Next), Outcome> {
    let counters = &shard.counters.cache;
    if part.leads { &counters.miss } else { &counters.collapsed }.add(1);
    let code = answer.head.status();
    client.status.set(code);
    let is_chunked = answer.length.is_none() && request.head.version() == Version::Http11;
    let is_delimited = answer.length.is_some() || is_chunked;
    let keep = request.asked.persists && is_delimited && !shard.draining.get();
    let status = status(part, Some(code), true);
    let age = answer.terms.age(moment());
    let how = HeadOf { age, status: &status, keep };
    let mut out = shard.scratch.take_head();
    if part.demand.is_conditional() && is_unchanged(request, answer) {
        client.status.set(304);
        hit::write_not_modified(&mut out, answer, request, &how);
        client.watch.set_in(shard.config.timeouts.body_idle);
        let sent = relay::send(&client.stream, &client.watch, &out).await;
        shard.scratch.give_back_head(out);
        return Ok(sent.map_or((Outcome::ClientGone, Next::Drop), |()| filled(keep)));
    }
    hit::write_head(&mut out, answer, request, &how);

    let (flight, reader) = (waiter.flight, Reader::new(waiter));
    let mut sink =
        Sink { client, flight, reader, is_chunked, idle: shard.config.timeouts.body_idle };
    let sent = sink.send_all(&mut out).await;
    shard.scratch.give_back_head(out);
    match sent {
        Ok(()) => Ok(filled(keep)),
        Err(outcome) => {
            if !is_delimited {
                // Only an abort tells this client that what it got is not the whole.
                client.stream.reset_on_drop();
            }
            Ok((outcome, Next::Drop))
        }
    }
}

fn filled(keep: bool) -> (Outcome, Next) {
    (Outcome::Filled, if keep { Next::Continue } else { Next::Linger })
}

fn is_unchanged(request: &Request<'_>, answer: &Answer) -> bool {
    let stored = Representation {
        status: answer.head.status(),
        fields: answer.head.fields(),
        len: answer.length.unwrap_or(0),
        received: answer.terms.received(),
    };
    let verdict = conditional::answer(request.head.method(), request.head.fields(), &stored);
    verdict == conditional::Answer::NotModified
}

/// Where a body that arrives goes to.
struct Sink<'a> {
    client: &'a Client,
    flight: &'a Flight,
    reader: Reader<'a>,
    is_chunked: bool,
    idle: Option<std::time::Duration>,
}

impl Sink<'_> {
    /// Sends what is in `out`, then the body to its end.
    async fn send_all(&mut self, out: &mut Vec<u8>) -> Result<(), Outcome> {
        loop {
            let seen = self.flight.version();
            let progress = self.take(out);
            if !out.is_empty() {
                self.client.watch.set_in(self.idle);
                let sent = relay::send(&self.client.stream, &self.client.watch, out).await;
                sent.map_err(|_| Outcome::ClientGone)?;
                self.client.watch.set(None);
                out.clear();
            }
            match progress {
                Progress::Bytes(_) => {}
                Progress::End => return Ok(()),
                Progress::Broken(outcome) => return Err(outcome),
                Progress::Wait if has_changed(self.flight, seen, self.client).await => {}
                Progress::Wait => return Err(Outcome::ClientGone),
            }
        }
    }

    /// Appends the next piece, framed, or the end.
    fn take(&self, out: &mut Vec<u8>) -> Progress {
        if !self.is_chunked {
            return self.reader.read(out, BYTES_PER_SEND);
        }
        let line_at = out.len();
        out.resize(line_at + CHUNK_LINE_MAX, 0);
        let data_at = out.len();
        let progress = self.reader.read(out, BYTES_PER_SEND);
        let mut line = [0; CHUNK_LINE_MAX];
        let line = match progress {
            Progress::Bytes(count) => chunk_head(count, &mut line),
            Progress::Wait | Progress::End | Progress::Broken(_) => b"",
        };
        // The line is shorter than its room: it goes right in front of the data.
        out.splice(line_at..data_at, line.iter().copied());
        match progress {
            Progress::Bytes(_) => out.extend_from_slice(b"\r\n"),
            Progress::End => {
                out.extend_from_slice(LAST_CHUNK);
                out.extend_from_slice(b"\r\n");
            }
            Progress::Wait | Progress::Broken(_) => {}
        }
        progress
    }
}

/// Relays an answer that may not be stored to the one for whom it was fetched.
async fn deliver(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
    (handoff, part): (Handoff, &Part<'_>),
) -> Result<(Outcome, Next), Outcome> {
    shard.counters.cache.pass.add(1);
    let Handoff { head, mut connection } = handoff;
    let status = Some(status(part, Some(head.status()), false));
    let talk = Conversation { shard, request, head: b"", offer: None, cache_status: status };
    match relay_answer(&talk, client, &mut connection, head).await {
        Ok(delivered) => Ok(fetch::delivered(
            shard,
            client,
            request,
            (Ending::Delivered(delivered), connection),
        )?),
        Err(trouble) => Err(fetch::failed(shard, request, &trouble)),
    }
}
