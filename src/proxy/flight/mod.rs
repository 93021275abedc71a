//! A fill as those who wait for it see it: one request to the backend, any number of clients.
//!
//! The task of the fill writes here, the clients read, each at its own pace. Nobody holds a borrow
//! across a wait. What a client has read of the body it remembers itself; a body too large to be kept
//! is held only as far as the slowest client is behind, and the fill waits for that client.

mod reader;
mod table;

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use slab::Slab;

pub(super) use reader::{Reader, Waiter};
pub use table::Flights;

use super::outcome::Outcome;
use super::shard::moment;
use crate::backend::Connection;
use crate::cache::entry::{Choice, Entry};
use crate::cache::{Demand, Moment, Reuse, Terms};
use crate::http1::field::Fields;
use crate::http1::head::{RequestHead, ResponseHead};
use crate::net::Buffer;

/// Bytes of a body too large to be kept that may wait for the slowest client.
const WINDOW_BYTES: u64 = 512 * 1024;

/// The first piece of a body of unknown length, in bytes; each next one is twice as large.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The largest piece of a body, in bytes.
const PIECE_BYTES_MAX: usize = 256 * 1024;

/// What a fill asks, and for whom.
#[derive(Debug)]
pub(super) struct Wish {
    /// Index of the route.
    pub route: usize,
    /// The key under which the answer will be found.
    pub key: Box<[u8]>,
    /// The request that began it.
    pub request: RequestHead<Box<[u8]>>,
    /// The head for the backend without the line end that ends it: conditions may follow.
    pub front: Box<[u8]>,
    /// What that request said to caches.
    pub demand: Demand,
    /// A stored response that the backend is asked to confirm.
    pub base: Option<Rc<Entry>>,
    /// Whether others may wait for it.
    pub is_shared: bool,
    /// Whether another worker may be asked for it.
    pub may_borrow: bool,
}

/// How an entry came out of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Fetched and stored.
    Fetched,
    /// Confirmed by the backend.
    Confirmed,
    /// The backend failed, and the old one may still be used.
    InNeed(Need),
    /// Handed over by another worker.
    Borrowed,
}

/// How a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It gave no usable answer.
    Silent,
    /// It said that it has failed, with this status.
    Failing(u16),
}

impl Need {
    /// Whether a request with this `demand` may be answered with a stored response instead.
    pub(super) fn permits(self, terms: Terms, demand: &Demand, now: Moment) -> bool {
        match self {
            Self::Silent => terms.may_serve_disconnected(demand, now),
            Self::Failing(_) => terms.may_serve_on_error(demand, now),
        }
    }
}

impl How {
    /// Whether others than the one who began the fill may have what came out of it.
    pub(super) fn is_for(self, terms: Terms, demand: &Demand, now: Moment) -> bool {
        match self {
            Self::InNeed(need) => need.permits(terms, demand, now),
            Self::Fetched | Self::Confirmed | Self::Borrowed => is_for(terms, demand, now),
        }
    }
}

/// Whether a response that has just come may be given to others, and to one with this `demand`.
///
/// A client that is authorized gets only what says of itself that such clients may have it: to others
/// the backend may have sent another page.
pub(super) fn is_for(terms: Terms, demand: &Demand, now: Moment) -> bool {
    terms.reuse(&Demand::default(), now) == Reuse::Fresh
        && (!demand.is_authorized() || terms.reuse(demand, now) == Reuse::Fresh)
}

/// How far a fill is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing final has come.
    Asked,
    /// The answer may be stored and its body arrives.
    Arriving(Rc<Answer>),
    /// There is an entry.
    Settled(Rc<Entry>, How),
    /// The answer may not be stored: it is for whoever began the fill.
    Unstorable(Option<Box<Handoff>>),
    /// There is no answer.
    Failed(Outcome),
}

/// What someone who waits for a fill is to do next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Wait for news.
    Wait,
    /// Pass on what arrives.
    Stream(Rc<Answer>),
    /// Use the entry.
    Serve(Rc<Entry>, How),
    /// Take the answer, if it is his.
    Take,
    /// Give up.
    Fail(Outcome),
}

/// An answer that cannot be stored, its body still unread.
#[derive(Debug)]
pub(super) struct Handoff {
    /// Its head.
    pub head: ResponseHead<Buffer>,
    /// Where its body comes from.
    pub connection: Connection,
}

/// The head of an answer that is being stored.
#[derive(Debug)]
pub(super) struct Answer {
    /// As it will be stored, whole.
    pub head: ResponseHead<Bytes>,
    /// The bytes of that.
    pub whole: Bytes,
    /// What it may be used for.
    pub terms: Terms,
    /// For which requests it is.
    pub choice: Option<Choice>,
    /// Bytes of its body, if the backend said so.
    pub length: Option<u64>,
    /// Whether others than the one who began the fill may have it as it is.
    pub is_for_all: bool,
    /// Whether it will also be kept in a content coding.
    pub varies_by_coding: bool,
}

/// What there is to read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes were appended to the caller's vector.
    Bytes(usize),
    /// More will come.
    Wait,
    /// That was all.
    End,
    /// No more will come, and it was not all.
    Broken(Outcome),
}

/// A fill on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) wish: Wish,
    stage: RefCell<Stage>,
    interim: RefCell<Vec<Rc<[u8]>>>,
    body: RefCell<Arriving>,
    /// Counts changes, so that a client that looks away misses none.
    version: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
    /// Where each client is in the body; those who wait for it stand at its beginning.
    readers: RefCell<Slab<u64>>,
    /// Whether the one who began it still waits.
    has_leader: Cell<bool>,
    /// How many wait for it; `None` if nobody has to.
    waiting: Cell<Option<usize>>,
    /// Whether what it fetches was purged meanwhile.
    is_doomed: Cell<bool>,
    /// Whether nobody may join any more.
    is_closed: Cell<bool>,
}

/// The part of a body that is held.
#[derive(Debug, Default)]
struct Arriving {
    pieces: VecDeque<Vec<u8>>,
    /// The whole body, once it is complete; `pieces` is empty then.
    whole: Box<[Bytes]>,
    /// Offset of the first byte held.
    start: u64,
    /// Offset behind the last.
    end: u64,
    is_complete: bool,
    failure: Option<Outcome>,
    /// Whether pieces are dropped once everybody has read them.
    is_passing: bool,
}

impl Flight {
    pub(super) fn new(wish: Wish, has_leader: bool) -> Rc<Self> {
        Rc::new(Self {
            wish,
            stage: RefCell::new(Stage::Asked),
            interim: RefCell::default(),
            body: RefCell::default(),
            version: Cell::new(0),
            waiters: RefCell::default(),
            readers: RefCell::default(),
            has_leader: Cell::new(has_leader),
            waiting: Cell::new(has_leader.then_some(0)),
            is_doomed: Cell::new(false),
            is_closed: Cell::new(false),
        })
    }

    fn stage(&self) -> Ref<'_, Stage> {
        self.stage.borrow()
    }

    /// What someone who waits is to do now.
    pub(super) fn turn(&self) -> Turn {
        match &*self.stage() {
            Stage::Asked => Turn::Wait,
            Stage::Arriving(answer) => Turn::Stream(Rc::clone(answer)),
            Stage::Settled(entry, how) => Turn::Serve(Rc::clone(entry), *how),
            Stage::Unstorable(_) => Turn::Take,
            Stage::Failed(outcome) => Turn::Fail(*outcome),
        }
    }

    /// Goes on to the next stage.
    pub(super) fn advance(&self, stage: Stage) {
        *self.stage.borrow_mut() = stage;
        self.wake();
    }

    /// Ends in failure, unless it has ended already or its answer is arriving, which then breaks.
    pub(super) fn fail(&self, outcome: Outcome) {
        let is_asked = matches!(*self.stage.borrow(), Stage::Asked);
        if is_asked {
            *self.stage.borrow_mut() = Stage::Failed(outcome);
        }
        let mut body = self.body.borrow_mut();
        if !body.is_complete && body.failure.is_none() {
            body.failure = Some(outcome);
        }
        drop(body);
        self.wake();
    }

    /// Takes the answer that is not stored; only one caller gets it.
    pub(super) fn take_handoff(&self) -> Option<Box<Handoff>> {
        match &mut *self.stage.borrow_mut() {
            Stage::Unstorable(handoff) => handoff.take(),
            Stage::Asked | Stage::Arriving(_) | Stage::Settled(..) | Stage::Failed(_) => None,
        }
    }

    /// Waits until nobody waits for an answer that has not come: then it is not worth waiting for.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(super) async fn abandoned(&self) {
        while self.waiting.get() != Some(0) || !self.is_asked() {
            self.changed(self.version.get()).await;
        }
    }

    /// Whether the one who began it still waits.
    pub(super) fn has_leader(&self) -> bool {
        self.has_leader.get()
    }

    /// The one who began it has left: an answer for him alone is nobody's.
    pub(super) fn leader_left(&self) {
        self.has_leader.set(false);
        if self.take_handoff().is_some() {
            self.wake();
        }
    }

    /// Nobody may join any more.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
    }

    /// Its answer must not be stored, and nobody may join any more.
    pub(super) fn doom(&self) {
        self.is_doomed.set(true);
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.is_doomed.get()
    }

    /// Passes on an interim response, ready to send.
    pub(super) fn inform(&self, head: &[u8]) {
        self.interim.borrow_mut().push(head.into());
        self.wake();
    }

    /// The interim response of this number, if it has come.
    pub(super) fn interim(&self, number: usize) -> Option<Rc<[u8]>> {
        self.interim.borrow().get(number).cloned()
    }

    /// Appends to the body; `length_left` is what is still to come, if that is known.
    pub(super) fn append(&self, mut bytes: &[u8], length_left: Option<u64>) {
        let mut body = self.body.borrow_mut();
        body.end += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = body.pieces.back().map_or(0, |piece| piece.capacity() - piece.len());
            if room == 0 {
                let capacity = next_capacity(body.pieces.back(), bytes.len(), length_left);
                body.pieces.push_back(Vec::with_capacity(capacity));
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(piece) = body.pieces.back_mut() {
                piece.extend_from_slice(now);
            }
            bytes = later;
        }
        drop(body);
        self.wake();
    }

    /// Bytes of the body that have come.
    pub(super) fn received(&self) -> u64 {
        self.body.borrow().end
    }

    /// Says that the body is complete; returns its pieces if all of them are still held.
    pub(super) fn complete(&self) -> Option<Box<[Bytes]>> {
        let mut body = self.body.borrow_mut();
        body.is_complete = true;
        let is_whole = !body.is_passing;
        if is_whole {
            let pieces = std::mem::take(&mut body.pieces);
            // The last piece was made for more; what it has too much would stay and not be counted.
            body.whole = pieces.into_iter().map(|piece| piece.into_boxed_slice().into()).collect();
        }
        let whole = is_whole.then(|| body.whole.clone());
        drop(body);
        self.wake();
        whole
    }

    /// Whether it holds only what somebody has yet to read.
    pub(super) fn is_passing(&self) -> bool {
        self.body.borrow().is_passing
    }

    /// From now on holds only what somebody has yet to read.
    pub(super) fn pass_through(&self) {
        self.body.borrow_mut().is_passing = true;
        self.trim();
        // Whoever wanted a part of it cannot wait for the whole any more.
        self.wake();
    }

    /// Why the body broke off, if it did.
    pub(super) fn failure(&self) -> Option<Outcome> {
        self.body.borrow().failure
    }

    /// Whether the slowest reader is too far behind, once the body is not kept.
    fn is_full(&self) -> bool {
        let body = self.body.borrow();
        body.is_passing && body.end - body.start > WINDOW_BYTES
    }

    /// Waits until there is room for more of a body that is not kept; `false` if nobody reads it or
    /// waits for it.
    pub(super) async fn room(&self) -> bool {
        loop {
            self.trim();
            if self.readers.borrow().is_empty() && self.body.borrow().is_passing {
                return false;
            }
            if !self.is_full() {
                return true;
            }
            self.changed(self.version.get()).await;
        }
    }

    fn trim(&self) {
        let slowest = self.readers.borrow().iter().map(|(_, at)| *at).min();
        let mut body = self.body.borrow_mut();
        if !body.is_passing {
            return;
        }
        let slowest = slowest.unwrap_or(body.end);
        while let Some(front) = body.pieces.front()
            && body.start + front.len() as u64 <= slowest
            && !front.is_empty()
        {
            body.start += front.len() as u64;
            body.pieces.pop_front();
        }
    }

    /// A number that grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Waits until something has changed since `seen`.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(super) async fn changed(&self, seen: u64) {
        poll_fn(|cx| {
            if self.version.get() != seen {
                return Poll::Ready(());
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn wake(&self) {
        self.version.set(self.version.get().wrapping_add(1));
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters {
            waiter.wake();
        }
    }
}

/// How large the next piece is.
fn next_capacity(last: Option<&Vec<u8>>, wanted: usize, length_left: Option<u64>) -> usize {
    let known = length_left.map(|left| usize::try_from(left).unwrap_or(usize::MAX));
    let usual = last.map_or(PIECE_BYTES_MIN, |last| last.capacity().saturating_mul(2)).max(wanted);
    known.unwrap_or(usual).clamp(1, PIECE_BYTES_MAX)
}

impl Flight {
    fn is_joinable(&self) -> bool {
        self.wish.is_shared && !self.is_closed.get() && !self.is_doomed.get()
    }

    /// Whether nothing final has come.
    fn is_asked(&self) -> bool {
        matches!(*self.stage(), Stage::Asked)
    }

    /// Whether its answer may suit a request with these fields. `known` is the newest entry under the
    /// same key: its Vary is the best guess until there is an answer.
    fn may_suit(&self, request: Fields<'_>, (known, demand): (Option<&Entry>, &Demand)) -> bool {
        match &*self.stage() {
            Stage::Asked => known.and_then(Entry::choice).is_none_or(|choice| {
                let mine = choice.vary.secondary(self.wish.request.fields());
                mine.is_some_and(|mine| choice.vary.matches(&mine, request))
            }),
            Stage::Arriving(answer) => answer.is_for(demand) && answer.suits(request),
            Stage::Settled(..) | Stage::Unstorable(_) | Stage::Failed(_) => false,
        }
    }
}

impl Answer {
    /// Its head without the line end that ends it.
    pub(super) fn front(&self) -> &[u8] {
        self.whole.get(..self.whole.len().saturating_sub(2)).unwrap_or_default()
    }

    /// Whether a request with this `demand` may have it, although it was not fetched for that.
    pub(super) fn is_for(&self, demand: &Demand) -> bool {
        self.is_for_all && (!demand.is_authorized() || is_for(self.terms, demand, moment()))
    }

    /// Whether it is an answer to a request with these fields.
    pub(super) fn suits(&self, request: Fields<'_>) -> bool {
        self.choice.as_ref().is_none_or(|choice| choice.vary.matches(&choice.secondary, request))
    }
}

/// When an answer was asked for and when its head came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) sent: Moment,
    pub(super) received: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_body_takes_no_more_memory_than_its_bytes() {
        let text = b"GET / HTTP/1.1\r\n\r\n";
        let wish = || Wish {
            route: 0,
            key: Box::default(),
            request: RequestHead::parse(Box::from(&text[..]), text.len(), Vec::new(), 10).unwrap(),
            front: Box::default(),
            demand: Demand::default(),
            base: None,
            is_shared: true,
            may_borrow: false,
        };
        for count in [1, 4096, 4097, 5000, 700_000] {
            let flight = Flight::new(wish(), false);
            flight.append(&vec![b'x'; count], None);
            let pieces = flight.complete().unwrap();
            drop(flight);
            let held: usize = pieces.into_iter().map(|piece| Vec::from(piece).capacity()).sum();
            assert_eq!(held, count);
        }
    }
}
