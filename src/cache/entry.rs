//! One stored response: its head ready to send, its body in shared pieces, its terms.
//!
//! Entries are shared, never changed, except that their terms can be made to end: a hit that is being
//! sent keeps the entry it began with, whatever becomes of the store meanwhile.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::size_of;
use std::rc::Rc;

use bytes::Bytes;

use super::coding::Coding;
use super::disk::Extent;
use super::policy::Terms;
use super::vary::Vary;
use crate::http1::field::Fields;
use crate::http1::head::{FIELDS_MAX, FieldSpan, HeadError, ResponseHead};

/// Where a body is kept.
#[derive(Debug)]
pub enum Body {
    /// In memory, as pieces.
    Memory(Box<[Bytes]>),
    /// In the worker's file.
    Disk(Rc<Extent>),
}

/// The fields of the request that a response depends on, and what they were.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which fields.
    pub vary: Vary,
    /// Their values, normalised.
    pub secondary: Box<[u8]>,
}

impl Choice {
    fn footprint(&self) -> usize {
        let names: usize = self.vary.names().map(|name| name.len() + 32).sum();
        self.secondary.len() + names + 64
    }
}

/// A stored response; see the module.
#[derive(Debug)]
pub struct Entry {
    head: ResponseHead<Bytes>,
    whole: Bytes,
    front: Bytes,
    terms: Cell<Terms>,
    choice: Option<Choice>,
    body: Body,
    len: u64,
    packed: RefCell<Option<Rc<Packed>>>,
    varies_by_coding: bool,
    is_not_found: bool,
}

/// The same response in a content coding.
#[derive(Debug)]
pub struct Packed {
    /// Which.
    pub coding: Coding,
    /// Its head without the last line end.
    pub front: Bytes,
    /// Its body.
    pub body: Bytes,
}

/// What an entry is made of, in a form that can be sent to another thread.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The whole head as [`stored`](crate::http1::forward::stored) wrote it.
    pub head: Bytes,
    /// What it may be used for.
    pub terms: Terms,
    /// For which requests, if not for all.
    pub choice: Option<Choice>,
    /// The body.
    pub body: Box<[Bytes]>,
}

impl Entry {
    /// Makes an entry; `head` is whole and `body` complete.
    ///
    /// # Errors
    ///
    /// The head is not one: do not store the response.
    pub fn new(
        head: Bytes,
        terms: Terms,
        choice: Option<Choice>,
        body: Body,
    ) -> Result<Self, HeadError> {
        let len = match &body {
            Body::Memory(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Body::Disk(extent) => extent.len(),
        };
        let front = head.slice(..head.len().saturating_sub(2));
        let whole = head.clone();
        let head = ResponseHead::parse(head, whole.len(), Vec::new(), FIELDS_MAX)?;
        let (terms, packed) = (Cell::new(terms), RefCell::new(None));
        Ok(Self {
            head,
            whole,
            front,
            terms,
            choice,
            body,
            len,
            packed,
            varies_by_coding: false,
            is_not_found: false,
        })
    }

    /// Says whether it is, or will be, kept in a content coding as well: then a client gets it as it is
    /// only because of what that client accepts.
    #[must_use]
    pub fn with_variation(mut self, varies_by_coding: bool) -> Self {
        self.varies_by_coding = varies_by_coding;
        self
    }

    /// Says whether it counts as a not-found page.
    #[must_use]
    pub fn with_not_found(mut self, is_not_found: bool) -> Self {
        self.is_not_found = is_not_found;
        self
    }

    /// Whether it counts as a not-found page.
    pub fn is_not_found(&self) -> bool {
        self.is_not_found
    }

    /// Puts the body elsewhere.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same body under a head that was brought up to date; `None` if that is not a head.
    pub fn renewed(&self, head: Bytes, terms: Terms, choice: Option<Choice>) -> Option<Self> {
        let body = match &self.body {
            Body::Memory(pieces) => Body::Memory(pieces.clone()),
            Body::Disk(extent) => Body::Disk(Rc::clone(extent)),
        };
        let renewed = Self::new(head, terms, choice, body).ok()?;
        Some(renewed.with_variation(self.varies_by_coding).with_not_found(self.is_not_found))
    }

    /// Whether it is, or will be, kept in a content coding as well.
    pub fn varies_by_coding(&self) -> bool {
        self.varies_by_coding
    }

    /// The head.
    pub fn head(&self) -> &ResponseHead<Bytes> {
        &self.head
    }

    /// The status line and the fields, each with its line end, without the one that ends the head.
    pub fn front(&self) -> &Bytes {
        &self.front
    }

    /// What it may be used for.
    pub fn terms(&self) -> Terms {
        self.terms.get()
    }

    /// Makes it stale from now on: it must be confirmed before it is used again.
    pub fn expire(&self) {
        let mut terms = self.terms.get();
        terms.expire();
        self.terms.set(terms);
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body's pieces, if they are in memory.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.body {
            Body::Memory(pieces) => pieces,
            Body::Disk(_) => &[],
        }
    }

    /// Bytes of the body.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// For which requests it is, if not for all.
    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// Whether it is an answer to a request with these fields.
    pub fn suits(&self, request: Fields<'_>) -> bool {
        self.choice.as_ref().is_none_or(|choice| choice.vary.matches(&choice.secondary, request))
    }

    /// The same response in a content coding, if there is one.
    pub fn packed(&self) -> Option<Rc<Packed>> {
        self.packed.borrow().clone()
    }

    /// Adds the same response in a content coding.
    pub fn pack(&self, packed: Packed) {
        *self.packed.borrow_mut() = Some(Rc::new(packed));
    }

    /// Bytes of memory it takes: what counts against the cache's limit.
    pub fn footprint(&self) -> usize {
        let pieces: usize =
            self.pieces().iter().map(|piece| piece.len() + size_of::<Bytes>()).sum();
        let spans = self.head.fields().iter().count() * size_of::<FieldSpan>();
        let choice = self.choice.as_ref().map_or(0, Choice::footprint);
        let packed = self.packed.borrow().as_ref().map_or(0, |p| p.front.len() + p.body.len() + 96);
        size_of::<Self>() + 32 + self.front.len() + spans + choice + pieces + packed
    }

    /// A copy that can be sent to another thread; the bytes of a body in memory are shared.
    ///
    /// # Errors
    ///
    /// The worker's file cannot be read: the entry is of no use.
    pub fn parts(&self) -> io::Result<Parts> {
        let body: Box<[Bytes]> = match &self.body {
            Body::Memory(pieces) => pieces.clone(),
            Body::Disk(extent) => [read(extent)?].into(),
        };
        let (terms, choice) = (self.terms.get(), self.choice.clone());
        Ok(Parts { head: self.whole.clone(), terms, choice, body })
    }
}

/// Reads a whole body back into memory.
fn read(extent: &Extent) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(extent.len()).map_err(io::Error::other)?];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match extent.read_at(at as u64, rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    Ok(bytes.into())
}

impl Parts {
    /// Makes an entry of this thread.
    ///
    /// # Errors
    ///
    /// As [`Entry::new`].
    pub fn into_entry(self) -> Result<Entry, HeadError> {
        Entry::new(self.head, self.terms, self.choice, Body::Memory(self.body))
    }
}
