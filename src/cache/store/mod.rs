//! One worker's entries: a map bounded by bytes that a scan cannot wash out.
//!
//! The policy is S3-FIFO (Yang and others, SOSP 2023). An entry comes on probation, in a queue of a
//! tenth of the bytes; what is used there moves to the main queue, what is not is evicted and
//! remembered by its hash. In the main queue, whatever was used since it was last looked at is
//! spared. A hit adds to a counter: it moves no list, allocates nothing and writes one byte.
//!
//! It is ours, because the one well-kept crate of this kind for a single thread (`quick_cache`) lets
//! an entry that grows in place push the sum above the bound, forgets its ghosts when its capacity is
//! lowered and raised again, sizes them by a guess at the number of entries, and gives out a
//! value to change only under a guard. What was left to wrap was a table and two lists.

mod ghost;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::mem;

use hashbrown::HashTable;

use ghost::{GHOST_BYTES, Ghosts};
use queue::{Node, Nodes, Place, Queue, Slot, node, node_mut};

/// Uses that are counted; the policy's paper shows that more do not help.
const USES_MAX: u8 = 3;

/// Uses on probation that make an entry stay. Two, as some have it, hit less often in every trace of
/// `benches/cache.rs`: by up to 3 of 100 requests under a scan, by 0.1 to 0.4 without.
const USES_TO_STAY: u8 = 1;

/// The part of the bytes that new entries take: a tenth, as in the policy's paper.
const SMALL_PART: usize = 10;

/// Entries that one eviction spares; the next goes, used or not. Bounds the time of an insert to
/// some ten microseconds. A run of so many used entries is rare unless nearly all are.
const SPARED_MAX: usize = 256;

/// Entries that there is room for at least. Arbitrary, some ten kilobytes.
const ROOM_MIN: usize = 64;

/// Bytes that the index takes for an entry at most: a slot and a control byte for each bucket, of
/// which at least 7 in 16 are filled once it has grown.
const INDEX_BYTES: usize = (size_of::<Slot>() + 1) * 16 / 7 + 1;

/// Bytes that an allocator takes for the key beside its length: a header, and rounding up.
const ALLOCATION_BYTES: usize = 16;

/// One worker's entries by key, at most a number of bytes together.
///
/// Belongs to one thread. Values are dropped inside of the calls that evict or replace them, so the
/// drop of a value must not come back to the store.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::store::Store;
///
/// let mut store = Store::new(10_000);
/// assert_eq!(store.insert(b"GET:/", "a page", 4_000), Ok(()));
/// assert_eq!(store.get(b"GET:/"), Some(&mut "a page"));
/// assert_eq!(store.insert(b"GET:/film", "too large", 10_000), Err("too large"));
/// ```
pub struct Store<V> {
    nodes: Nodes<V>,
    index: HashTable<Slot>,
    /// Seeded, and safe against keys made to collide, since peers choose the keys. A hit takes 40 ns
    /// with it (`store/hit/hot`), far less than the system call that sends it.
    hasher: RandomState,
    ghosts: Ghosts,
    small: Queue,
    main: Queue,
    /// The sum of the nodes' bytes; with `reserved`, at most `bytes_max`.
    bytes: usize,
    bytes_max: usize,
    reserved: usize,
    evictions: u64,
}

impl<V> Store<V> {
    /// Bytes that an entry counts for beside its own and its key.
    ///
    /// The upper bound of what the tables take for it: they grow by an eighth and shrink when a
    /// quarter is empty, so a third on top of a slot's size. While a table is replaced, the old one
    /// exists beside the new one; that is not counted.
    pub const ENTRY_BYTES: usize = {
        let slot = size_of::<Node<V>>() + size_of::<usize>() + GHOST_BYTES + INDEX_BYTES;
        slot + slot / 3 + ALLOCATION_BYTES
    };

    /// An empty store for at most `bytes_max` bytes, which it does not allocate yet.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            nodes: Nodes::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            ghosts: Ghosts::new(ROOM_MIN),
            small: Queue::new(),
            main: Queue::new(),
            bytes: 0,
            bytes_max,
            reserved: 0,
            evictions: 0,
        }
    }

    /// Returns the value of `key` and counts it as used.
    pub fn get(&mut self, key: &[u8]) -> Option<&mut V> {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        let node = node_mut(&mut self.nodes, slot)?;
        // Written only where it changes: a hot entry's line then stays clean.
        if node.uses < USES_MAX {
            node.uses += 1;
        }
        Some(&mut node.value)
    }

    /// Returns the value of `key` without counting it as used.
    pub fn peek(&mut self, key: &[u8]) -> Option<&mut V> {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        node_mut(&mut self.nodes, slot).map(|node| &mut node.value)
    }

    /// Inserts or replaces the value of `key`, which takes `bytes` bytes on the heap.
    ///
    /// Evicts others until everything fits. What stood under `key` is gone in any case.
    ///
    /// # Errors
    ///
    /// Returns the value when it is larger than all that is not reserved; serve it without storing it.
    pub fn insert(&mut self, key: &[u8], value: V, bytes: usize) -> Result<(), V> {
        let bytes = Self::weight(key, bytes);
        let hash = self.hasher.hash_one(key);
        let found = self.find(hash, key);
        if bytes > self.room() {
            found.and_then(|slot| self.detach(slot));
            self.shrink_tables();
            return Err(value);
        }
        match found {
            Some(slot) => {
                if let Some(node) = node_mut(&mut self.nodes, slot) {
                    node.value = value;
                }
                self.resize(slot, bytes);
            }
            None => self.add(Node::new(key.into(), hash, value, bytes)),
        }
        self.shrink_tables();
        Ok(())
    }

    /// Says that the value of `key` now takes `bytes` bytes on the heap.
    ///
    /// Evicts others until everything fits, or the entry itself when it alone does not.
    pub fn set_bytes(&mut self, key: &[u8], bytes: usize) {
        let Some(slot) = self.find(self.hasher.hash_one(key), key) else { return };
        let bytes = Self::weight(key, bytes);
        if bytes <= self.room() {
            self.resize(slot, bytes);
        } else if self.detach(slot).is_some() {
            self.evictions += 1;
        }
        self.shrink_tables();
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        let node = self.detach(slot)?;
        self.shrink_tables();
        Some(node.value)
    }

    /// Removes every entry that `keep` does not want to keep, in no order, and returns how many.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &mut V) -> bool) -> usize {
        let before = self.nodes.len();
        for at in 0..self.nodes.capacity() {
            let kept = self.nodes.get_mut(at).is_none_or(|node| keep(&node.key, &mut node.value));
            if let (false, Ok(slot)) = (kept, Slot::try_from(at)) {
                self.detach(slot);
            }
        }
        let removed = before - self.nodes.len();
        self.shrink_tables();
        removed
    }

    /// Changes the bound, and evicts for it.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.make_room(0);
        self.shrink_tables();
    }

    /// Says that `bytes` bytes outside of the store count against its bound, and evicts for them.
    pub fn set_reserved(&mut self, bytes: usize) {
        self.reserved = bytes;
        self.make_room(0);
        self.shrink_tables();
    }

    /// What all entries count for together, without what is reserved.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bound of [`bytes`](Self::bytes) and of what is reserved together.
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Entries that made room for others since the store was made.
    pub const fn evictions(&self) -> u64 {
        self.evictions
    }

    const fn weight(key: &[u8], bytes: usize) -> usize {
        bytes.saturating_add(key.len()).saturating_add(Self::ENTRY_BYTES)
    }

    /// Bytes that entries may count for.
    const fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.reserved)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        let is_it = |slot: &Slot| {
            node(&self.nodes, *slot).is_some_and(|node| node.hash == hash && *node.key == *key)
        };
        self.index.find(hash, is_it).copied()
    }

    fn queue(&mut self, place: Place) -> &mut Queue {
        match place {
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
        }
    }

    /// Adds an entry whose key is not there, and that fits into what is not reserved.
    fn add(&mut self, mut node: Node<V>) {
        // Asked first: making room adds ghosts, which could push out this one.
        if self.ghosts.take(node.hash, self.main.len().max(ROOM_MIN)) {
            node.place = Place::Main;
        }
        self.make_room(node.bytes);
        self.grow_tables();
        self.bytes += node.bytes;
        self.file(node);
    }

    /// Puts a node that is already counted into a slot, its queue and the index.
    fn file(&mut self, node: Node<V>) {
        let (hash, place) = (node.hash, node.place);
        let slot = Slot::try_from(self.nodes.insert(node));
        let slot = slot.expect("2^32 nodes would take 500 GB");
        self.link(place, slot);
        let nodes = &self.nodes;
        let hash_of = |slot: &Slot| queue::node(nodes, *slot).map_or(0, |node| node.hash);
        self.index.insert_unique(hash, slot, hash_of);
    }

    /// Changes what an entry counts for, which fits into what is not reserved.
    fn resize(&mut self, slot: Slot, bytes: usize) {
        let Some(node) = node(&self.nodes, slot) else { return };
        let place = node.place;
        // In no list while room is made for it, so that it cannot be its own victim.
        self.unlink(place, slot);
        if let Some(node) = node_mut(&mut self.nodes, slot) {
            self.bytes = self.bytes - node.bytes + bytes;
            node.bytes = bytes;
        }
        self.make_room(0);
        self.link(place, slot);
    }

    fn link(&mut self, place: Place, slot: Slot) {
        match place {
            Place::Small => self.small.push(&mut self.nodes, slot),
            Place::Main => self.main.push(&mut self.nodes, slot),
        }
    }

    fn unlink(&mut self, place: Place, slot: Slot) {
        match place {
            Place::Small => self.small.unlink(&mut self.nodes, slot),
            Place::Main => self.main.unlink(&mut self.nodes, slot),
        }
    }

    /// Takes an entry out of everything.
    fn detach(&mut self, slot: Slot) -> Option<Node<V>> {
        let node = node(&self.nodes, slot)?;
        let (place, hash) = (node.place, node.hash);
        self.unlink(place, slot);
        if let Ok(found) = self.index.find_entry(hash, |at| *at == slot) {
            found.remove();
        }
        let node = self.nodes.try_remove(slot as usize)?;
        self.bytes -= node.bytes;
        Some(node)
    }

    /// Evicts until `incoming` more bytes fit.
    fn make_room(&mut self, incoming: usize) {
        // The newcomer counts as on probation, so that a large one costs the others there first.
        let small_max = (self.room() / SMALL_PART).saturating_sub(incoming);
        while self.bytes.saturating_add(incoming) > self.room() {
            let Some(node) = self.victim(small_max).and_then(|slot| self.detach(slot)) else {
                return;
            };
            self.evictions += 1;
            if node.place == Place::Small {
                self.ghosts.add(node.hash);
            }
        }
    }

    /// Chooses the entry to evict, and spares those before it that were used.
    fn victim(&mut self, small_max: usize) -> Option<Slot> {
        for _ in 0..SPARED_MAX {
            let slot = self.next_in_line(small_max)?;
            let node = node_mut(&mut self.nodes, slot)?;
            let from = node.place;
            let needed = if from == Place::Small { USES_TO_STAY } else { 1 };
            if node.uses < needed {
                return Some(slot);
            }
            node.uses = if from == Place::Small { 0 } else { node.uses - 1 };
            node.place = Place::Main;
            self.unlink(from, slot);
            self.link(Place::Main, slot);
        }
        self.next_in_line(small_max)
    }

    fn next_in_line(&self, small_max: usize) -> Option<Slot> {
        let small = self.small.oldest().filter(|_| self.small.bytes() > small_max);
        small.or(self.main.oldest()).or(self.small.oldest())
    }

    /// Makes room in the tables for one entry more.
    fn grow_tables(&mut self) {
        let len = self.nodes.len();
        if len == self.nodes.capacity() {
            // Not doubled, as a `Vec` would: that could waste as much as the entries take.
            self.nodes.reserve_exact((len / 8).max(ROOM_MIN));
        }
        if self.nodes.capacity() >= 2 * self.ghosts.capacity() {
            self.ghosts = Ghosts::new(self.nodes.capacity());
        }
    }

    /// Gives memory back when more than a quarter of the slots is empty.
    ///
    /// Moves every entry that is left, but only after a third as many have gone.
    fn shrink_tables(&mut self) {
        let (len, capacity) = (self.nodes.len(), self.nodes.capacity());
        if capacity <= 2 * ROOM_MIN || len >= capacity - capacity / 4 {
            return;
        }
        let room = len + (len / 8).max(ROOM_MIN);
        let mut old = mem::replace(&mut self.nodes, Nodes::with_capacity(room));
        self.index = HashTable::with_capacity(room);
        if self.ghosts.capacity() > room {
            self.ghosts = Ghosts::new(room);
        }
        for place in [Place::Small, Place::Main] {
            let queue = mem::replace(self.queue(place), Queue::new());
            let slots: Vec<_> = queue.slots(&old).collect();
            for node in slots.into_iter().filter_map(|slot| old.try_remove(slot as usize)) {
                self.file(node);
            }
        }
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Store");
        shown.field("len", &self.len()).field("bytes", &self.bytes);
        shown.field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}
