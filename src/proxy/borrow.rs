//! Fills through the worker that owns the key, so that a process fetches the same response once.
//!
//! A worker that has no response asks the owner and becomes a client of the owner's fill: what arrives
//! there is passed on piece by piece, through a channel that holds only a few. An answer that may not
//! be stored moves over with its connection.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::fill::{self, Arriving, Kept, Reservation};
use super::flight::{Answer, Flight, Handoff, How, Progress, Reader, Stage, Turn, Waiter, Wish};
use super::outcome::Outcome;
use super::shard::{Letter, Shard, moment};
use crate::cache::entry::{Choice, Entry, Parts};
use crate::cache::local::Found;
use crate::cache::{Demand, Moment, Reuse, Terms};
use crate::http1::head::{FIELDS_MAX, RequestHead, ResponseHead};
use crate::net::{Buffer, Stream};

/// Pieces of a body between two workers.
const PIECES_MAX: usize = 8;

/// Bytes of such a piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// How often the owner may find that what it waited for was for others.
const TURNS_MAX: usize = 4;

/// What a worker asks the owner of a key for.
#[derive(Debug)]
pub struct Loan {
    route: usize,
    key: Box<[u8]>,
    request: RequestHead<Box<[u8]>>,
    front: Box<[u8]>,
    /// What it has itself was confirmed then, and is not good enough.
    newer_than: Option<Moment>,
    is_shared: bool,
    has_leader: bool,
    /// Whether only what is stored is wanted.
    is_peek: bool,
    events: flume::Sender<Event>,
    /// Closes when nobody wants it any more.
    interest: flume::Receiver<()>,
}

/// What the owner tells.
#[derive(Debug)]
enum Event {
    Interim(Box<[u8]>),
    Entry(Box<Lent>),
    Arriving(Box<Head>),
    Piece(Bytes),
    End,
    /// An answer that may not be stored.
    Handoff(Box<Parcel>),
    /// An answer that is for somebody else alone.
    Alone,
    Failed(Outcome),
}

/// A response that is stored.
#[derive(Debug)]
struct Lent {
    parts: Parts,
    how: How,
    /// As in [`Head`].
    purges: u64,
}

#[derive(Debug)]
struct Head {
    /// Purges that the owner had carried out when it looked. Fewer than the borrower had when it asked:
    /// this may be what was purged.
    purges: u64,
    whole: Bytes,
    terms: Terms,
    choice: Option<Choice>,
    length: Option<u64>,
}

/// A connection that moves to another worker in the middle of an answer.
#[derive(Debug)]
struct Parcel {
    head: Vec<u8>,
    early: Vec<u8>,
    socket: OwnedFd,
}

/// The worker that owns a key, of so many.
pub(super) fn owner(key: &[u8], workers: usize) -> usize {
    // The same for every worker, and clients gain nothing by choosing a core.
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(hash % workers.max(1) as u64).unwrap_or(0)
}

/// Gets what `flight` wishes for from the owner of its key. `false` if this worker must ask the backend
/// itself: it is the owner, or the owner is no help and nothing was told to those who wait.
pub(super) async fn run(shard: &Shard, flight: &Flight) -> bool {
    let Some(owner) = shard.lender(&flight.wish.key) else { return false };
    let (events, told) = flume::bounded(PIECES_MAX);
    let (_interested, interest) = flume::bounded(0);
    let wish = &flight.wish;
    let loan = Loan {
        route: wish.route,
        key: wish.key.clone(),
        request: wish.request.detach(),
        front: wish.front.clone(),
        newer_than: wish.base.as_ref().map(|base| base.terms().received()),
        is_shared: wish.is_shared,
        has_leader: flight.has_leader(),
        is_peek: false,
        events,
        interest,
    };
    let purges = shard.forgotten.purges.get();
    if !shard.post.send(owner, Letter::Lend(Box::new(loan))) {
        return false;
    }
    receive(shard, flight, (&told, purges)).await
}

/// Gets what the owner of a key has stored for a request that cannot begin a fill. It is good for this
/// request, and stored here as well unless something was let go of meanwhile.
pub(super) async fn peek(
    shard: &Shard,
    key: &[u8],
    (route, request): (usize, &RequestHead<Buffer>),
) -> Option<Rc<Entry>> {
    let owner = shard.lender(key)?;
    let (events, told) = flume::bounded(PIECES_MAX);
    let (_interested, interest) = flume::bounded(0);
    let loan = Loan {
        route,
        key: key.into(),
        request: request.detach(),
        front: Box::default(),
        newer_than: None,
        is_shared: false,
        has_leader: false,
        is_peek: true,
        events,
        interest,
    };
    let (purges, changes) = (shard.forgotten.purges.get(), shard.forgotten.changes.get());
    if !shard.post.send(owner, Letter::Lend(Box::new(loan))) {
        return None;
    }
    let Ok(Event::Entry(lent)) = told.recv_async().await else { return None };
    // On its way it may have been let go of: whoever asked for that is not answered yet, so this
    // request may still have it, and no later one.
    let is_lasting = lent.purges >= purges && shard.forgotten.changes.get() == changes;
    let entry = Rc::new(lent.parts.into_entry().ok()?);
    if is_lasting {
        shard.cache.insert(key, Rc::clone(&entry));
    }
    Some(entry)
}

async fn receive(
    shard: &Shard,
    flight: &Flight,
    (told, purges): (&flume::Receiver<Event>, u64),
) -> bool {
    loop {
        match told.recv_async().await {
            Ok(Event::Interim(head)) => flight.inform(&head),
            // A purge that has come here has not come there yet.
            Ok(Event::Entry(lent)) if lent.purges < purges => return false,
            Ok(Event::Arriving(head)) if head.purges < purges => return false,
            Ok(Event::Entry(lent)) => {
                let Lent { parts, how, .. } = *lent;
                let Parts { head, terms, choice, body: pieces } = parts;
                fill::keep(shard, flight, Kept { head, terms, choice, pieces }, how);
                return true;
            }
            Ok(Event::Arriving(head)) => return arrive(shard, flight, *head, told).await,
            Ok(Event::Handoff(parcel)) => {
                let Ok(handoff) = unpack(shard, flight.wish.route, *parcel) else { return false };
                fill::unstorable(shard, flight, handoff);
                return true;
            }
            Ok(Event::Failed(outcome)) => {
                fill::in_need(flight, outcome);
                return true;
            }
            Ok(Event::Alone) if !flight.has_leader() => {
                flight.advance(Stage::Unstorable(None));
                return true;
            }
            Ok(Event::Alone | Event::Piece(_) | Event::End)
            | Err(flume::RecvError::Disconnected) => {
                return false;
            }
        }
    }
}

/// Receives a body that is being stored here and there.
async fn arrive(shard: &Shard, flight: &Flight, head: Head, told: &flume::Receiver<Event>) -> bool {
    let Head { whole, terms, choice, length, .. } = head;
    let arriving = Arriving { head: whole.clone(), terms, choice: choice.clone(), length };
    if fill::announce(shard, flight, arriving).is_err() {
        return false;
    }
    let mut reservation = Reservation::new(shard);
    loop {
        match told.recv_async().await {
            Ok(Event::Piece(bytes)) => {
                let left = length.map(|length| length.saturating_sub(flight.received()));
                flight.append(&bytes, left);
                if !reservation.hold(flight, bytes.len()).await {
                    return true;
                }
            }
            Ok(Event::End) => break,
            Ok(Event::Failed(outcome)) => {
                flight.fail(outcome);
                return true;
            }
            Ok(_) | Err(flume::RecvError::Disconnected) => {
                flight.fail(Outcome::Internal);
                return true;
            }
        }
    }
    let pieces = flight.complete();
    drop(reservation);
    if let Some(pieces) = pieces {
        fill::keep(shard, flight, Kept { head: whole, terms, choice, pieces }, How::Fetched);
    }
    true
}

fn unpack(shard: &Shard, route: usize, parcel: Parcel) -> std::io::Result<Handoff> {
    let Parcel { head, early, socket } = parcel;
    let backend = shard.backends.get(route).ok_or(std::io::ErrorKind::NotFound)?;
    let mut connection = backend.adopt(Stream::new(socket)?);
    connection.inbox.put(shard.pool.copy_of(&early));
    let len = head.len();
    let head = ResponseHead::parse(shard.pool.copy_of(&head), len, Vec::new(), FIELDS_MAX)
        .map_err(|_| std::io::ErrorKind::InvalidData)?;
    Ok(Handoff { head, connection })
}

/// The owner's side of [`run`].
///
/// # Cancellation
///
/// The other worker asks the backend itself, or breaks off.
pub(super) async fn lend(shard: Rc<Shard>, loan: Loan) {
    let demand = Demand::of(loan.request.fields());
    // A route that a reload has brought may be known there before it is here.
    let turns = if loan.route < shard.backends.len() { TURNS_MAX } else { 0 };
    for _ in 0..turns {
        let purges = shard.forgotten.purges.get();
        let base = match stored(&shard, &loan, &demand) {
            Ok(entry) => return lend_entry(&loan, &entry, (How::Borrowed, purges)).await,
            Err(_) if loan.is_peek => break,
            Err(base) => base,
        };
        let (flight, leads) = flight(&shard, &loan, (&demand, base));
        if !lend_flight(&loan, &flight, (leads, &demand, purges)).await {
            return;
        }
    }
    tell(&loan, Event::Alone).await;
}

/// A stored response that is good enough, or one that must be confirmed, or nothing.
fn stored(shard: &Rc<Shard>, loan: &Loan, demand: &Demand) -> Result<Rc<Entry>, Option<Rc<Entry>>> {
    let Found::Entry(entry) = shard.cache.find(&loan.key, loan.request.fields()) else {
        return Err(None);
    };
    let terms = entry.terms();
    let is_news = loan.newer_than.is_none_or(|moment| terms.received() > moment);
    match terms.reuse(demand, moment()) {
        Reuse::Fresh | Reuse::Stale if is_news => Ok(entry),
        // For a client that has nothing; whoever confirms what he has wants it confirmed.
        Reuse::StaleWhileRevalidate if loan.newer_than.is_none() => {
            if !shard.flights.has(&loan.key) {
                let base = Some(Rc::clone(&entry));
                fill::launch(shard, loan.wish(demand, base, true), false);
            }
            Ok(entry)
        }
        Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate | Reuse::Validate => {
            Err(Some(entry))
        }
    }
}

fn flight(
    shard: &Rc<Shard>,
    loan: &Loan,
    (demand, base): (&Demand, Option<Rc<Entry>>),
) -> (Rc<Flight>, bool) {
    let is_shared = loan.is_shared && !shard.cache.is_marked(&loan.key, moment());
    if is_shared {
        let newest = shard.cache.newest(&loan.key);
        let known = (newest.as_deref(), demand);
        if let Some(flight) = shard.flights.join(&loan.key, loan.request.fields(), known) {
            return (flight, false);
        }
    }
    let wish = loan.wish(demand, base, is_shared);
    (fill::launch(shard, wish, loan.has_leader), loan.has_leader)
}

/// Waits for news; `false` if nobody wants any.
async fn news_or_nobody(loan: &Loan, flight: &Flight, seen: u64) -> bool {
    let (mut news, mut gone) = (pin!(flight.changed(seen)), pin!(loan.interest.recv_async()));
    poll_fn(|cx| {
        if news.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        gone.as_mut().poll(cx).map(|_| false)
    })
    .await
}

impl Loan {
    /// The same as a wish of this worker's own.
    fn wish(&self, demand: &Demand, base: Option<Rc<Entry>>, is_shared: bool) -> Wish {
        Wish {
            route: self.route,
            key: self.key.clone(),
            request: self.request.detach(),
            front: self.front.clone(),
            demand: *demand,
            base,
            is_shared,
            may_borrow: false,
        }
    }
}

/// Passes on what a fill brings; `true` if it was for others.
async fn lend_flight(
    loan: &Loan,
    flight: &Rc<Flight>,
    (leads, demand, purges): (bool, &Demand, u64),
) -> bool {
    let waiter = Waiter::new(flight, leads);
    let mut informed = 0;
    loop {
        let seen = flight.version();
        while let Some(interim) = flight.interim(informed) {
            informed += 1;
            tell(loan, Event::Interim((*interim).into())).await;
        }
        match flight.turn() {
            Turn::Wait if news_or_nobody(loan, flight, seen).await => {}
            Turn::Wait => return false,
            Turn::Fail(outcome) => {
                tell(loan, Event::Failed(outcome)).await;
                return false;
            }
            Turn::Take => {
                let parcel =
                    if leads { flight.take_handoff().and_then(|it| pack(*it)) } else { None };
                let event = parcel.map_or(Event::Alone, |parcel| Event::Handoff(Box::new(parcel)));
                tell(loan, event).await;
                return false;
            }
            Turn::Serve(entry, how) => {
                let is_for_him = how.is_for(entry.terms(), demand, moment());
                let is_his = is_for_him && entry.suits(loan.request.fields());
                if !leads && !is_his {
                    return true;
                }
                lend_entry(loan, &entry, (how, purges)).await;
                return false;
            }
            Turn::Stream(answer) => {
                let is_his = answer.is_for(demand) && answer.suits(loan.request.fields());
                if !leads && !is_his {
                    return true;
                }
                lend_body(loan, &waiter, (&answer, purges)).await;
                return false;
            }
        }
    }
}

async fn lend_entry(loan: &Loan, entry: &Entry, (how, purges): (How, u64)) {
    let event = match entry.parts() {
        Ok(parts) => Event::Entry(Box::new(Lent { parts, how, purges })),
        Err(error) => {
            tracing::warn!(%error, "A stored response cannot be read");
            Event::Alone
        }
    };
    tell(loan, event).await;
}

async fn lend_body(loan: &Loan, waiter: &Waiter<'_>, (answer, purges): (&Answer, u64)) {
    let head = Head {
        purges,
        whole: answer.whole.clone(),
        terms: answer.terms,
        choice: answer.choice.clone(),
        length: answer.length,
    };
    let (flight, reader) = (waiter.flight, Reader::new(waiter));
    if !tell(loan, Event::Arriving(Box::new(head))).await {
        return;
    }
    loop {
        let seen = flight.version();
        let mut piece = Vec::new();
        match reader.read(&mut piece, PIECE_BYTES_MAX) {
            Progress::Bytes(_) => {
                if !tell(loan, Event::Piece(piece.into())).await {
                    return;
                }
            }
            Progress::Wait => flight.changed(seen).await,
            Progress::End => {
                tell(loan, Event::End).await;
                return;
            }
            Progress::Broken(outcome) => {
                tell(loan, Event::Failed(outcome)).await;
                return;
            }
        }
    }
}

/// Makes a connection ready to move to another worker; `None` if no descriptor is left.
fn pack(handoff: Handoff) -> Option<Parcel> {
    let Handoff { head, mut connection } = handoff;
    let socket = connection.stream.duplicate().ok()?;
    let early = connection.inbox.take().map_or_else(Vec::new, |early| early.filled().to_vec());
    let (head, _) = head.into_parts();
    Some(Parcel { head: head.filled().to_vec(), early, socket })
}

/// Tells the other worker; `false` if nobody listens any more.
async fn tell(loan: &Loan, event: Event) -> bool {
    loan.events.send_async(event).await.is_ok()
}
