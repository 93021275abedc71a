//! The entries of a store in two lists through one slab, newest to oldest.
//!
//! A list links slots, not pointers, so it needs no unsafe code; and an entry anywhere in it can be
//! taken out at once, which purging needs and a ring of slots would not give.

use slab::Slab;

/// A place in the slab. 32 bits, because every entry has three of them; a store of 2^32 entries
/// would be larger than any memory.
pub(super) type Slot = u32;

/// The end of a list.
const NONE: Slot = Slot::MAX;

/// Which list an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// New entries, on probation.
    Small,
    /// Entries that were used again.
    Main,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Node<V> {
    pub(super) key: Box<[u8]>,
    pub(super) value: V,
    /// The hash of `key`, kept so that a growing index does not hash again.
    pub(super) hash: u64,
    /// What the entry counts for; changes only while the node is in no list.
    pub(super) bytes: usize,
    newer: Slot,
    older: Slot,
    pub(super) place: Place,
    /// Uses since the entry came or was last spared; at most [`super::USES_MAX`].
    pub(super) uses: u8,
}

impl<V> Node<V> {
    /// A node in no list yet.
    pub(super) const fn new(key: Box<[u8]>, hash: u64, value: V, bytes: usize) -> Self {
        Self { key, value, hash, bytes, newer: NONE, older: NONE, place: Place::Small, uses: 0 }
    }
}

/// The nodes of a store.
pub(super) type Nodes<V> = Slab<Node<V>>;

/// Returns the node in `slot`.
pub(super) fn node<V>(nodes: &Nodes<V>, slot: Slot) -> Option<&Node<V>> {
    nodes.get(slot as usize)
}

/// Returns the node in `slot`, to be changed.
pub(super) fn node_mut<V>(nodes: &mut Nodes<V>, slot: Slot) -> Option<&mut Node<V>> {
    nodes.get_mut(slot as usize)
}

/// A list of nodes.
#[derive(Debug)]
pub(super) struct Queue {
    newest: Slot,
    oldest: Slot,
    /// The sum of the nodes' bytes.
    bytes: usize,
    len: usize,
}

impl Queue {
    /// An empty list.
    pub(super) const fn new() -> Self {
        Self { newest: NONE, oldest: NONE, bytes: 0, len: 0 }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the slot of the oldest node.
    pub(super) fn oldest(&self) -> Option<Slot> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Puts a node that is in no list at the new end.
    pub(super) fn push<V>(&mut self, nodes: &mut Nodes<V>, slot: Slot) {
        let Some(added) = node_mut(nodes, slot) else { return };
        added.newer = NONE;
        added.older = self.newest;
        self.bytes += added.bytes;
        self.len += 1;
        match node_mut(nodes, self.newest) {
            Some(second) => second.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// Takes a node of this list out of it; it stays in the slab.
    pub(super) fn unlink<V>(&mut self, nodes: &mut Nodes<V>, slot: Slot) {
        let Some(gone) = node(nodes, slot) else { return };
        let (newer, older) = (gone.newer, gone.older);
        self.bytes -= gone.bytes;
        self.len -= 1;
        match node_mut(nodes, newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match node_mut(nodes, older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Returns the slots from the oldest to the newest.
    pub(super) fn slots<V>(&self, nodes: &Nodes<V>) -> impl Iterator<Item = Slot> {
        let newer = |slot: &Slot| node(nodes, *slot).map(|node| node.newer);
        std::iter::successors(self.oldest(), move |slot| newer(slot).filter(|slot| *slot != NONE))
    }
}
