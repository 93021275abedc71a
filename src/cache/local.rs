//! One worker's cache: pages by key, each with the responses that its Vary tells apart.
//!
//! A page may also carry a mark that says that its last answer could not be stored. Requests for it
//! then do not wait for each other: whoever waits for what turns out to be his alone has waited for
//! nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::size_of;
use std::rc::Rc;

use super::date::Moment;
use super::entry::{Body, Entry};
use super::key;
use super::store::Store;
use crate::http1::field::Fields;

/// Responses to different requests for one resource. A request names its variant, so without a limit
/// clients could fill the cache with one page.
const VARIANTS_MAX: usize = 32;

/// The keys of a route's not-found pages, which are listed by their age, may take one part in so many of
/// the bytes of the cache.
const NOT_FOUND_PART: usize = 16;

/// How long a page is marked after an answer that could not be stored, in milliseconds.
const MARK_MILLIS: u64 = 30_000;

/// What is stored under one key; the newest response is the last.
#[derive(Debug, Default)]
struct Page {
    entries: Vec<Rc<Entry>>,
    marked_until: Option<Moment>,
}

impl Page {
    fn footprint(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.footprint()).sum();
        entries + size_of::<Self>() + self.entries.capacity() * size_of::<Rc<Entry>>()
    }
}

/// What is known under a key.
#[derive(Debug)]
pub enum Found {
    /// A response to this request.
    Entry(Rc<Entry>),
    /// Only responses to other requests for the same resource.
    Other,
    /// Nothing.
    Nothing,
}

/// Numbers about a cache, for its gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of memory that count against the limit.
    pub bytes: usize,
    /// Pages.
    pub pages: usize,
    /// Pages that had to make room, ever.
    pub evictions: u64,
}

/// The not-found pages of a route.
#[derive(Debug)]
struct NotFound {
    /// The oldest first; some may have been evicted or purged meanwhile.
    keys: VecDeque<Box<[u8]>>,
    /// Bytes of the keys.
    bytes: usize,
    /// How many are kept.
    max: usize,
}

/// The stored responses of one worker.
#[derive(Debug)]
pub struct Cache {
    store: RefCell<Store<Page>>,
    /// Bytes of bodies that are on their way in.
    in_flight: Cell<usize>,
    /// By route.
    not_found: RefCell<Vec<NotFound>>,
}

impl Cache {
    /// An empty cache that keeps up to `bytes_max` bytes, and of each route as many not-found pages
    /// as `not_found_max` says.
    pub fn new(bytes_max: usize, not_found_max: &[usize]) -> Self {
        let keeping = |max: &usize| NotFound { keys: VecDeque::new(), bytes: 0, max: *max };
        let not_found = not_found_max.iter().map(keeping).collect();
        Self {
            store: RefCell::new(Store::new(bytes_max)),
            in_flight: Cell::new(0),
            not_found: RefCell::new(not_found),
        }
    }

    /// Keeps up to `bytes_max` bytes from now on, and of each route as many not-found pages as
    /// `not_found_max` says; what is too much leaves.
    pub fn resize(&self, bytes_max: usize, not_found_max: &[usize]) {
        self.store.borrow_mut().set_bytes_max(bytes_max);
        let mut routes = self.not_found.borrow_mut();
        for (index, max) in not_found_max.iter().enumerate() {
            let Some(own) = routes.get_mut(index) else {
                routes.push(NotFound { keys: VecDeque::new(), bytes: 0, max: *max });
                continue;
            };
            own.max = *max;
            while own.keys.len() > own.max
                && let Some(oldest) = own.keys.pop_front()
            {
                own.bytes -= oldest.len();
                self.forget_not_found(&oldest);
            }
        }
    }

    /// Looks for an answer to a request with these fields; a use, for the eviction.
    pub fn find(&self, key: &[u8], request: Fields<'_>) -> Found {
        let mut store = self.store.borrow_mut();
        match store.get(key) {
            None => Found::Nothing,
            Some(page) => match page.entries.iter().rev().find(|entry| entry.suits(request)) {
                Some(entry) => Found::Entry(Rc::clone(entry)),
                None if page.entries.is_empty() => Found::Nothing,
                None => Found::Other,
            },
        }
    }

    /// Whether the last answer under this key could not be stored, not long ago.
    pub fn is_marked(&self, key: &[u8], now: Moment) -> bool {
        let mut store = self.store.borrow_mut();
        store.peek(key).and_then(|page| page.marked_until).is_some_and(|until| now < until)
    }

    /// Marks a page: its last answer could not be stored.
    pub fn mark(&self, key: &[u8], now: Moment) {
        let until = Moment(now.0.saturating_add(MARK_MILLIS));
        self.change(key, |page| page.marked_until = Some(until));
    }

    /// The Vary of the newest response under this key, as an entry that has it.
    pub fn newest(&self, key: &[u8]) -> Option<Rc<Entry>> {
        self.store.borrow_mut().peek(key).and_then(|page| page.entries.last().cloned())
    }

    /// Stores a response in place of one that it supersedes; an entry that is larger than the whole
    /// cache is not stored.
    pub fn insert(&self, key: &[u8], entry: Rc<Entry>) {
        self.change(key, |page| {
            page.marked_until = None;
            page.entries.retain(|old| !supersedes(&entry, old));
            if page.entries.len() >= VARIANTS_MAX {
                page.entries.remove(0);
            }
            page.entries.push(entry);
        });
    }

    /// Counts a page as not found; the oldest such pages of its route leave for it. `false` if none are
    /// kept: do not store it.
    pub fn admit_not_found(&self, key: &[u8]) -> bool {
        let mut routes = self.not_found.borrow_mut();
        let Some(own) = routes.get_mut(key::parts(key).0) else { return false };
        if own.max == 0 {
            return false;
        }
        if self.is_not_found(key) {
            // It is on the list already.
            return true;
        }
        let bytes_max = self.store.borrow().bytes_max() / NOT_FOUND_PART;
        while own.keys.len() >= own.max || own.bytes + key.len() > bytes_max {
            let Some(oldest) = own.keys.pop_front() else { return false };
            own.bytes -= oldest.len();
            self.forget_not_found(&oldest);
        }
        own.bytes += key.len();
        own.keys.push_back(key.into());
        true
    }

    fn is_not_found(&self, key: &[u8]) -> bool {
        let mut store = self.store.borrow_mut();
        store.peek(key).is_some_and(|page| page.entries.iter().any(|entry| entry.is_not_found()))
    }

    /// Drops a page if it still is a not-found one.
    fn forget_not_found(&self, key: &[u8]) {
        if self.is_not_found(key) {
            self.remove(key);
        }
    }

    /// Says that the footprint of an entry under this key has changed.
    pub fn recount(&self, key: &[u8]) {
        let mut store = self.store.borrow_mut();
        if let Some(bytes) = store.peek(key).map(|page| page.footprint()) {
            store.set_bytes(key, bytes);
        }
    }

    /// Drops everything under this key.
    pub fn remove(&self, key: &[u8]) {
        self.store.borrow_mut().remove(key);
    }

    /// Drops the pages whose key is accepted; returns how many.
    pub fn purge(&self, doomed: impl Fn(&[u8]) -> bool) -> usize {
        self.store.borrow_mut().retain(|key, _| !doomed(key))
    }

    /// Counts bytes of a body that is on its way in against the limit; `false` if there is no room
    /// even with everything else evicted. What was reserved must be released.
    pub fn reserve(&self, bytes: usize) -> bool {
        let wanted = self.in_flight.get().saturating_add(bytes);
        let mut store = self.store.borrow_mut();
        if wanted > store.bytes_max() {
            return false;
        }
        self.in_flight.set(wanted);
        store.set_reserved(wanted);
        true
    }

    /// Gives back what was reserved.
    pub fn release(&self, bytes: usize) {
        let left = self.in_flight.get().saturating_sub(bytes);
        self.in_flight.set(left);
        self.store.borrow_mut().set_reserved(left);
    }

    /// How large it is now.
    pub fn extent(&self) -> Extent {
        let store = self.store.borrow();
        let bytes = store.bytes() + self.in_flight.get();
        Extent { bytes, pages: store.len(), evictions: store.evictions() }
    }

    fn change(&self, key: &[u8], change: impl FnOnce(&mut Page)) {
        let mut store = self.store.borrow_mut();
        if let Some(page) = store.peek(key) {
            change(page);
            let bytes = page.footprint();
            store.set_bytes(key, bytes);
        } else {
            let mut page = Page::default();
            change(&mut page);
            let bytes = page.footprint();
            // A page that is larger than the cache is not kept.
            store.insert(key, page, bytes).ok();
        }
    }
}

/// Whether `new` answers the requests that `old` answers.
fn supersedes(new: &Entry, old: &Entry) -> bool {
    match (new.choice(), old.choice()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(new), Some(old)) => new.vary == old.vary && new.secondary == old.secondary,
    }
}

/// Whether a stored body is in the worker's file.
pub fn is_on_disk(entry: &Entry) -> bool {
    matches!(entry.body(), Body::Disk(_))
}
