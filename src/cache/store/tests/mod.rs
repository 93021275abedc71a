//! The store against a plain map, its bounds against what is really allocated, and its hit ratio
//! beside an ideal LRU.

mod bounds;
mod model;
mod ratio;

use super::{Store, node};

/// What an entry without a value of its own counts for.
const ENTRY: usize = Store::<u64>::ENTRY_BYTES;

impl<V> Store<V> {
    /// Asserts what must hold between any two calls.
    fn check_invariants(&self) {
        let mut seen = 0;
        for queue in [&self.small, &self.main] {
            let mut bytes = 0;
            for slot in queue.slots(&self.nodes) {
                let node = node(&self.nodes, slot).expect("a list has nodes only");
                assert_eq!(self.find(node.hash, &node.key), Some(slot));
                bytes += node.bytes;
                seen += 1;
            }
            assert_eq!(queue.bytes(), bytes);
        }
        assert_eq!(self.small.len() + self.main.len(), seen);
        assert_eq!((self.nodes.len(), self.index.len()), (seen, seen));
        assert_eq!(self.small.bytes() + self.main.bytes(), self.bytes);
        assert!(self.bytes <= self.room(), "{} of {}", self.bytes, self.room());
    }
}

/// Random numbers that are the same in every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }
}
