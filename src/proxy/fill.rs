//! Fetching an answer for the cache: one request to the backend, whoever waits for it.
//!
//! A fill is a task of its own, so that it survives the client that began it. What it finds out it
//! tells its [`Flight`]; an answer that may not be stored goes, unread, to that client.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::flight::{Answer, Flight, Handoff, How, Need, Span, Stage, Wish};
use super::outcome::Outcome;
use super::record::About;
use super::shard::{Shard, moment};
use super::{borrow, fence, pack};
use crate::backend::exchange::{self, AnswerError, replayable};
use crate::backend::{Backend, Connection, Lease};
use crate::cache::entry::{Body, Choice, Entry};
use crate::cache::{Demand, Reuse, Terms, Times, Vary, VaryKind, conditional, key, may_store};
use crate::http1::forward;
use crate::http1::framing::Framing;
use crate::http1::head::{FIELDS_MAX, ResponseHead};
use crate::net::relay::{self, RelayError, WriteError};
use crate::net::{BodyReader, Buffer};

/// Interim responses (1xx) passed on before an answer. Arbitrary; more than any server sends.
const INTERIM_MAX: usize = 32;

/// Fields that tell a backend which client asks. What else is said on a client's behalf is part of the
/// key.
const ADDRESS_FIELDS: [&str; 2] = ["x-forwarded-for", "forwarded"];

/// Carries out what `flight` wishes for; its stage tells how it ended.
///
/// # Cancellation
///
/// Everyone who waits learns that the fill has failed.
async fn run(shard: Rc<Shard>, flight: Rc<Flight>) {
    let landing = Landing { shard: &shard, flight: &flight };
    let (mut fly, mut abandoned) = (pin!(fly(&shard, &flight)), pin!(flight.abandoned()));
    let flown = poll_fn(|cx| {
        let flown = fly.as_mut().poll(cx);
        if flown.is_pending() && abandoned.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Outcome::ClientGone));
        }
        flown
    });
    if let Err(outcome) = flown.await {
        in_need(&flight, outcome);
    }
    drop(landing);
}

/// Ends the flight, however the fill does.
struct Landing<'a> {
    shard: &'a Shard,
    flight: &'a Rc<Flight>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.shard.flights.remove(self.flight);
        self.flight.fail(Outcome::Internal);
    }
}

/// Begins to carry out `wish`.
pub(super) fn launch(shard: &Rc<Shard>, wish: Wish, has_leader: bool) -> Rc<Flight> {
    let flight = Flight::new(wish, has_leader);
    shard.flights.add(&flight);
    let run = run(Rc::clone(shard), Rc::clone(&flight));
    monoio::spawn(fence::contain(run, Rc::clone(shard)));
    flight
}

/// There is no answer: a stored one that may stand in for it does.
pub(super) fn in_need(flight: &Flight, outcome: Outcome) {
    let now = moment();
    let demand = &flight.wish.demand;
    match &flight.wish.base {
        Some(base) if Need::Silent.permits(base.terms(), demand, now) => {
            flight.advance(Stage::Settled(Rc::clone(base), How::InNeed(Need::Silent)));
        }
        _ => flight.fail(outcome),
    }
}

async fn fly(shard: &Shard, flight: &Flight) -> Result<(), Outcome> {
    if flight.wish.may_borrow && borrow::run(shard, flight).await {
        return Ok(());
    }
    let backend = shard.backends.get(flight.wish.route).ok_or(Outcome::Internal)?;
    let base = flight.wish.base.as_ref();
    let (mut head, mut connection, mut span) = answer(shard, flight, (backend, base)).await?;
    if let (304, Some(base)) = (head.status(), base) {
        if conditional::matches_304(base.head().fields(), head.fields()) {
            confirm(shard, flight, base, &head, span);
            give_back(backend, connection, &head, Framing::Length(0));
            return Ok(());
        }
        // Not about what we have, of which nothing is known any more.
        shard.cache.remove(&flight.wish.key);
        (head, connection, span) = answer(shard, flight, (backend, None)).await?;
    }
    let status = head.status();
    if status == 101 {
        return Err(Outcome::BadSwitch);
    }
    let now = span.received;
    if let Some(base) = &flight.wish.base
        && matches!(status, 500 | 502..=504)
        && Need::Failing(status).permits(base.terms(), &flight.wish.demand, now)
    {
        flight.advance(Stage::Settled(Rc::clone(base), How::InNeed(Need::Failing(status))));
        return Ok(());
    }
    match storable(shard, flight, &head, span) {
        None => {
            unstorable(shard, flight, Handoff { head, connection });
            Ok(())
        }
        Some(plan) => store(shard, flight, Arrival { backend, connection, head, plan }).await,
    }
}

/// Sends the request and reads the final head; once more over a new connection if the first had
/// been closed while it waited (RFC 9112 9.3.1).
async fn answer(
    shard: &Shard,
    flight: &Flight,
    (backend, base): (&Backend, Option<&Rc<Entry>>),
) -> Result<(ResponseHead<Buffer>, Connection, Span), Outcome> {
    let unreachable = |error| {
        let outcome = Outcome::of_dial(&error);
        if let Some(route) = shard.config.routes.get(flight.wish.route) {
            shard.record.unreachable(outcome, route, &error);
        }
        outcome
    };
    let Lease { mut connection, reused } = backend.take().await.map_err(unreachable)?;
    let mut sent = moment();
    let mut read = exchange(shard, flight, (&mut connection, base)).await;
    if let Err(error) = &read
        && replayable(error, reused, "GET", Framing::Length(0))
    {
        connection = backend.dial().await.map_err(unreachable)?;
        sent = moment();
        read = exchange(shard, flight, (&mut connection, base)).await;
    }
    let head = read.map_err(|error| {
        let outcome = Outcome::of_answer(&error);
        shard.record.failure(outcome, about(shard, flight), &error);
        outcome
    })?;
    Ok((head, connection, Span { sent, received: moment() }))
}

fn about<'a>(shard: &'a Shard, flight: &'a Flight) -> About<'a> {
    About {
        route: shard.config.routes.get(flight.wish.route).map_or("", |route| route.name.as_str()),
        method: "GET",
        path: key::parts(&flight.wish.key).1.strip_prefix(b"GET:").unwrap_or_default(),
    }
}

async fn exchange(
    shard: &Shard,
    flight: &Flight,
    (connection, base): (&mut Connection, Option<&Rc<Entry>>),
) -> Result<ResponseHead<Buffer>, AnswerError> {
    let Connection { stream, inbox, watch } = connection;
    watch.set_in(shard.config.timeouts.response_head);
    let mut ask = shard.scratch.take_head();
    ask.extend_from_slice(&flight.wish.front);
    if let Some(base) = base {
        conditional::write_validators(&mut ask, base.head().fields());
    }
    ask.extend_from_slice(b"\r\n");
    let sent = relay::send(stream, watch, &ask).await;
    shard.scratch.give_back_head(ask);
    match sent {
        // It may have answered before it closed.
        Ok(()) | Err(WriteError::Closed | WriteError::Io(_)) => {}
        Err(WriteError::Timeout) => return Err(AnswerError::Timeout),
        Err(WriteError::Drain) => return Err(AnswerError::Drain),
    }
    for interim in 0..INTERIM_MAX {
        let slots = shard.scratch.take_slots();
        let head = exchange::read_head(stream, inbox, watch, shard.answer_limits(), slots)
            .await
            .map_err(|error| error.after(interim))?;
        if !(100..200).contains(&head.status()) || head.status() == 101 {
            return Ok(head);
        }
        let mut out = shard.scratch.take_head();
        forward::informational(&mut out, &head);
        flight.inform(&out);
        shard.scratch.give_back_head(out);
    }
    Err(AnswerError::TooManyInterim)
}

/// How an answer is stored.
struct Plan {
    terms: Terms,
    choice: Option<Choice>,
    framing: Framing,
    head: Bytes,
}

/// An answer whose body is about to be read.
struct Arrival<'a> {
    backend: &'a Backend,
    connection: Connection,
    head: ResponseHead<Buffer>,
    plan: Plan,
}

/// Whether an answer may be stored, by its head.
fn storable(
    shard: &Shard,
    flight: &Flight,
    head: &ResponseHead<Buffer>,
    span: Span,
) -> Option<Plan> {
    let rules = shard.cache_rules(flight.wish.route)?;
    let framing = exchange::framing(head, false).ok()?;
    let is_too_large = matches!(framing, Framing::Length(length) if length > rules.entry_bytes_max);
    if is_too_large || !rules.admits(head.fields().first("content-type")) {
        return None;
    }
    let times = Times { sent: span.sent, received: span.received };
    let (terms, choice) = terms(shard, flight, head, times)?;
    let mut out = Vec::with_capacity(512);
    shard.date.with(|date| forward::stored(&mut out, head, date));
    // Nothing that is kept has room that is not counted.
    let head = out.into_boxed_slice().into();
    Some(Plan { terms, choice, framing, head })
}

fn terms<B: AsRef<[u8]>>(
    shard: &Shard,
    flight: &Flight,
    head: &ResponseHead<B>,
    times: Times,
) -> Option<(Terms, Option<Choice>)> {
    let wish = &flight.wish;
    let rules = shard.cache_rules(wish.route)?;
    let fields = head.fields();
    let stored = may_store(&wish.demand, head.status(), fields, times, &rules.policy);
    let terms = stored
        .inspect_err(
            |why| tracing::debug!(target: super::record::TARGET, "Not stored: {}", why.detail()),
        )
        .ok()?;
    let choice = match Vary::of(fields) {
        VaryKind::None => None,
        VaryKind::Star => return None,
        // What we say there ourselves is another thing for every client.
        VaryKind::Names(vary) if vary.names().any(|name| ADDRESS_FIELDS.contains(&name)) => {
            return None;
        }
        VaryKind::Names(vary) => {
            let secondary = vary.secondary(wish.request.fields())?;
            Some(Choice { vary, secondary })
        }
    };
    Some((terms, choice))
}

/// The answer is for the one alone for whom it was fetched.
pub(super) fn unstorable(shard: &Shard, flight: &Flight, handoff: Handoff) {
    // A server that fails says nothing about the page, nor does what is for an authorized client.
    if handoff.head.status() < 500 && !flight.wish.demand.is_authorized() {
        shard.cache.mark(&flight.wish.key, moment());
    }
    flight.close();
    let handoff = flight.has_leader().then(|| Box::new(handoff));
    flight.advance(Stage::Unstorable(handoff));
}

/// Brings the stored head up to date with a 304 (RFC 9111 4.3.4).
fn confirm(
    shard: &Shard,
    flight: &Flight,
    base: &Rc<Entry>,
    answer: &ResponseHead<Buffer>,
    span: Span,
) {
    let mut out = Vec::with_capacity(512);
    let rules = (conditional::is_taken_from_304, conditional::survives_304);
    shard.date.with(|date| forward::updated(&mut out, base.head(), answer, rules, date));
    let head = Bytes::from(out.into_boxed_slice());
    let times = Times { sent: span.sent, received: span.received };
    let aged = with_age(&head, answer).and_then(|aged| terms(shard, flight, &aged, times));
    let entry = aged.and_then(|(terms, choice)| base.renewed(head, terms, choice));
    let Some(entry) = entry.map(Rc::new) else {
        // It may not be stored any more, and is good for this one answer.
        shard.cache.remove(&flight.wish.key);
        flight.advance(Stage::Settled(Rc::clone(base), How::Confirmed));
        return;
    };
    if !flight.is_doomed() {
        shard.cache.insert(&flight.wish.key, Rc::clone(&entry));
    }
    flight.advance(Stage::Settled(entry, How::Confirmed));
}

/// A stored head with the Age of a 304, which counts and is not stored.
fn with_age(head: &Bytes, answer: &ResponseHead<Buffer>) -> Option<ResponseHead<Vec<u8>>> {
    let mut aged = head.get(..head.len().saturating_sub(2))?.to_vec();
    for age in answer.fields().all("age") {
        forward::write_field(&mut aged, b"Age", age);
    }
    aged.extend_from_slice(b"\r\n");
    let len = aged.len();
    ResponseHead::parse(aged, len, Vec::new(), FIELDS_MAX).ok()
}

/// Reads the body for everyone who waits, and stores it when it is complete.
async fn store(shard: &Shard, flight: &Flight, arrival: Arrival<'_>) -> Result<(), Outcome> {
    let Arrival { backend, mut connection, head, plan } = arrival;
    let Plan { terms, choice, framing, head: stored } = plan;
    let length = match framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    announce(
        shard,
        flight,
        Arriving { head: stored.clone(), terms, choice: choice.clone(), length },
    )?;
    let mut reservation = Reservation::new(shard);
    let received = receive(shard, flight, &mut connection, framing, &mut reservation).await;
    if let Err(error) = received {
        let outcome = Outcome::of_delivery(&error);
        shard.record.failure(outcome, about(shard, flight), &"while it was being stored");
        return Err(outcome);
    }
    let pieces = flight.complete();
    give_back(backend, connection, &head, framing);
    shard.scratch.give_back_slots(head.into_parts().1);
    drop(reservation);
    if let Some(pieces) = pieces {
        keep(shard, flight, Kept { head: stored, terms, choice, pieces }, How::Fetched);
    }
    Ok(())
}

/// An answer whose body is on its way.
pub(super) struct Arriving {
    /// Its head as it will be stored, whole.
    pub head: Bytes,
    /// What it may be used for.
    pub terms: Terms,
    /// For which requests.
    pub choice: Option<Choice>,
    /// Bytes of its body, if known.
    pub length: Option<u64>,
}

/// Tells everyone who waits that an answer arrives.
pub(super) fn announce(shard: &Shard, flight: &Flight, arriving: Arriving) -> Result<(), Outcome> {
    let Arriving { head: whole, terms, choice, length } = arriving;
    let head = ResponseHead::parse(whole.clone(), whole.len(), Vec::new(), FIELDS_MAX);
    let head = head.map_err(|_| Outcome::Internal)?;
    let is_for_all = terms.reuse(&Demand::default(), moment()) == Reuse::Fresh;
    if !is_for_all {
        // Whoever joined must ask for himself, and needs not wait for others who do.
        shard.cache.mark(&flight.wish.key, moment());
        flight.close();
    }
    let varies_by_coding = shard
        .cache_rules(flight.wish.route)
        .is_some_and(|rules| rules.coding_for(head.status(), head.fields(), length).is_some());
    let answer = Answer { head, whole, terms, choice, length, is_for_all, varies_by_coding };
    flight.advance(Stage::Arriving(Rc::new(answer)));
    Ok(())
}

/// Bytes on their way into the cache.
pub(super) struct Reservation<'a> {
    shard: &'a Shard,
    bytes: usize,
}

impl<'a> Reservation<'a> {
    /// Nothing yet.
    pub(super) fn new(shard: &'a Shard) -> Self {
        Self { shard, bytes: 0 }
    }
}

impl Reservation<'_> {
    fn grow(&mut self, bytes: usize) -> bool {
        let has_room = self.shard.cache.reserve(bytes);
        if has_room {
            self.bytes += bytes;
        }
        has_room
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.shard.cache.release(self.bytes);
    }
}

async fn receive(
    shard: &Shard,
    flight: &Flight,
    connection: &mut Connection,
    framing: Framing,
    reservation: &mut Reservation<'_>,
) -> Result<(), RelayError> {
    let Connection { stream, inbox, watch } = connection;
    let mut left = match framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let mut body = BodyReader::new(stream, inbox, watch, shard.config.timeouts.body_idle, framing);
    while let Some(bytes) = body.next().await? {
        flight.append(bytes, left);
        left = left.map(|left| left.saturating_sub(bytes.len() as u64));
        if !reservation.hold(flight, bytes.len()).await {
            return Err(RelayError::Sink(WriteError::Closed));
        }
    }
    Ok(())
}

impl<'a> Reservation<'a> {
    /// Counts bytes that `flight` was given; if they are too many to be stored, waits until those who
    /// read the body have made room. `false` if nobody wants it any more.
    pub(super) async fn hold(&mut self, flight: &Flight, count: usize) -> bool {
        let shard: &'a Shard = self.shard;
        let bytes_max =
            shard.cache_rules(flight.wish.route).map_or(0, |rules| rules.entry_bytes_max);
        if !flight.is_passing() && (flight.received() > bytes_max || !self.grow(count)) {
            // Too large to be stored after all: it goes through, as far as somebody reads it.
            shard.cache.mark(&flight.wish.key, moment());
            flight.close();
            flight.pass_through();
            shard.cache.release(std::mem::take(&mut self.bytes));
        }
        !flight.is_passing() || flight.room().await
    }
}

/// A response whose body is complete.
pub(super) struct Kept {
    /// Its head as it is stored, whole.
    pub head: Bytes,
    /// What it may be used for.
    pub terms: Terms,
    /// For which requests.
    pub choice: Option<Choice>,
    /// Its body.
    pub pieces: Box<[Bytes]>,
}

/// Stores a response, if it was not purged on its way.
pub(super) fn keep(shard: &Shard, flight: &Flight, kept: Kept, how: How) {
    let Kept { head, terms, choice, pieces } = kept;
    let key = &flight.wish.key;
    let Some(rules) = shard.cache_rules(flight.wish.route) else { return };
    let Ok(entry) = Entry::new(head, terms, choice, Body::Memory(pieces)) else { return };
    let is_not_found = rules.is_not_found(entry.head().status(), entry.pieces());
    let is_welcome = !is_not_found || shard.cache.admit_not_found(key);
    let entry = entry.with_not_found(is_not_found);
    let coding = rules.coding_for(entry.head().status(), entry.head().fields(), Some(entry.len()));
    let entry = Rc::new(shard.place(flight.wish.route, entry.with_variation(coding.is_some())));
    // What its owner lends while it confirms it is for this answer: the owner will have a better one.
    let is_passing =
        how == How::Borrowed && terms.reuse(&Demand::default(), moment()) != Reuse::Fresh;
    if is_welcome && !is_passing && !flight.is_doomed() {
        shard.cache.insert(key, Rc::clone(&entry));
        if let Some(coding) = coding {
            pack::later(shard, key, &entry, coding);
        }
    }
    flight.advance(Stage::Settled(entry, how));
}

fn give_back(
    backend: &Backend,
    connection: Connection,
    head: &ResponseHead<Buffer>,
    framing: Framing,
) {
    if exchange::persists(head.version(), head.fields(), framing) {
        backend.give_back(connection);
    }
}
