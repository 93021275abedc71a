//! Which received buffers wait in which direction, in order, without a heap of its own per tunnel.
//!
//! Every buffer of the ring has one link. A direction holds the first and the last of its chain, so
//! an idle tunnel pays four bytes a direction for a queue that can hold every buffer there is.

use std::ops::Range;

/// No buffer. Buffer ids are below 2^15.
const NONE: u16 = u16::MAX;

/// The buffers of one direction, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u16,
    last: u16,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Chain {
    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

/// What waits in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The buffer.
    pub id: u16,
    /// The bytes in it that were not sent.
    pub range: Range<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u16,
    start: u32,
    end: u32,
}

/// The links of all buffers.
#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// Links for the buffers `0..count`.
    pub(super) fn new(count: u16) -> Self {
        Self(vec![Link { next: NONE, start: 0, end: 0 }; usize::from(count)])
    }

    /// Appends the first `bytes` bytes of buffer `id`, which is in no chain.
    pub(super) fn push(&mut self, chain: &mut Chain, id: u16, bytes: u32) {
        let Some(link) = self.0.get_mut(usize::from(id)) else { return };
        *link = Link { next: NONE, start: 0, end: bytes };
        match self.0.get_mut(usize::from(chain.last)) {
            Some(last) if !chain.is_empty() => last.next = id,
            _ => chain.first = id,
        }
        chain.last = id;
    }

    /// What waits longest.
    pub(super) fn front(&self, chain: Chain) -> Option<Piece> {
        let link = self.0.get(usize::from(chain.first))?;
        Some(Piece { id: chain.first, range: link.start..link.end })
    }

    /// What waits behind the piece in buffer `id`.
    pub(super) fn after(&self, id: u16) -> Option<Piece> {
        let first = self.0.get(usize::from(id))?.next;
        self.front(Chain { first, last: first })
    }

    /// Drops the first `bytes` bytes of the front; returns the buffer if that emptied it.
    pub(super) fn consume(&mut self, chain: &mut Chain, bytes: u32) -> Option<u16> {
        let link = self.0.get_mut(usize::from(chain.first))?;
        debug_assert!(bytes <= link.end - link.start, "more bytes than wait");
        link.start = link.end.min(link.start.saturating_add(bytes));
        (link.start == link.end).then(|| self.pop(chain)).flatten()
    }

    /// Takes the front out of the chain.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<u16> {
        let next = self.0.get(usize::from(chain.first))?.next;
        let id = std::mem::replace(&mut chain.first, next);
        if next == NONE {
            chain.last = NONE;
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directions_share_the_links_and_keep_their_order() {
        let mut links = Links::new(4);
        let (mut up, mut down) = (Chain::default(), Chain::default());
        links.push(&mut up, 2, 10);
        links.push(&mut down, 0, 5);
        links.push(&mut up, 3, 20);
        assert_eq!(links.front(up), Some(Piece { id: 2, range: 0..10 }));
        assert_eq!(links.after(2), Some(Piece { id: 3, range: 0..20 }));
        assert_eq!(links.after(3), None);
        assert_eq!(links.consume(&mut up, 4), None);
        assert_eq!(links.front(up), Some(Piece { id: 2, range: 4..10 }));
        assert_eq!(links.consume(&mut up, 6), Some(2));
        assert_eq!(links.consume(&mut up, 20), Some(3));
        assert_eq!(links.front(up), None);
        assert!(up.is_empty());
        assert_eq!(links.pop(&mut down), Some(0));
        assert_eq!(links.pop(&mut down), None);
    }

    #[test]
    fn an_emptied_chain_begins_anew() {
        let mut links = Links::new(2);
        let mut chain = Chain::default();
        for id in [1, 0, 1] {
            links.push(&mut chain, id, 1);
            assert_eq!(links.consume(&mut chain, 1), Some(id));
        }
        assert!(chain.is_empty());
    }
}
