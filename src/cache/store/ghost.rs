//! The hashes of entries that were evicted on probation: whoever comes back was evicted too soon.
//!
//! A hint, so it may forget: a table of fixed size in which the oldest of four makes room, without
//! chains or allocation. 32 bits of a hash stand for a key; a false match admits one entry too early.

/// Places that a hash can be in. Four, so that neighbours rarely push one another out.
const WAYS: usize = 4;

/// Bytes that the table takes for each entry it remembers.
pub(super) const GHOST_BYTES: usize = size_of::<Ghost>();

#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    /// The upper half of the hash, its lowest bit set; 0 is an empty place.
    print: u32,
    /// The value of `Ghosts::turn` when it came.
    turn: u32,
}

/// What was evicted lately.
#[derive(Debug)]
pub(super) struct Ghosts {
    /// A power of two of buckets.
    buckets: Box<[[Ghost; WAYS]]>,
    /// Evictions so far, modulo 2^32.
    turn: u32,
}

impl Ghosts {
    /// A table for at most `entries` entries, and at least some.
    pub(super) fn new(entries: usize) -> Self {
        let buckets = (entries / WAYS).max(1);
        let buckets = 1 << buckets.ilog2();
        Self { buckets: vec![[Ghost::default(); WAYS]; buckets].into(), turn: 0 }
    }

    /// Entries that fit.
    pub(super) fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Remembers an evicted entry.
    pub(super) fn add(&mut self, hash: u64) {
        self.turn = self.turn.wrapping_add(1);
        let (turn, print) = (self.turn, print(hash));
        let Some(bucket) = self.bucket(hash) else { return };
        let age = |ghost: &Ghost| match ghost.print {
            same if same == print => u32::MAX,
            0 => u32::MAX - 1,
            _ => turn.wrapping_sub(ghost.turn).min(u32::MAX - 2),
        };
        if let Some(oldest) = bucket.iter_mut().max_by_key(|ghost| age(ghost)) {
            *oldest = Ghost { print, turn };
        }
    }

    /// Returns whether an entry is among the `recent` last that were evicted, and forgets it.
    pub(super) fn take(&mut self, hash: u64, recent: usize) -> bool {
        let (turn, print) = (self.turn, print(hash));
        let Some(bucket) = self.bucket(hash) else { return false };
        let Some(found) = bucket.iter_mut().find(|ghost| ghost.print == print) else {
            return false;
        };
        let age = turn.wrapping_sub(found.turn);
        *found = Ghost::default();
        usize::try_from(age).is_ok_and(|age| age < recent)
    }

    fn bucket(&mut self, hash: u64) -> Option<&mut [Ghost; WAYS]> {
        // The lower half, modulo a power of two; the print has the upper half.
        let low = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        let at = low & (self.buckets.len() - 1);
        self.buckets.get_mut(at)
    }
}

fn print(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers as a hash would.
    fn hash(number: u64) -> u64 {
        number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn what_was_evicted_lately_is_known_once() {
        let mut ghosts = Ghosts::new(64);
        assert_eq!(ghosts.capacity(), 64);
        assert!(!ghosts.take(hash(1), 100));
        ghosts.add(hash(1));
        ghosts.add(hash(2));
        assert!(ghosts.take(hash(1), 100));
        assert!(!ghosts.take(hash(1), 100), "it was taken");
        assert!(ghosts.take(hash(2), 1), "the last one");
    }

    #[test]
    fn what_was_evicted_long_ago_is_forgotten() {
        let mut ghosts = Ghosts::new(64);
        ghosts.add(hash(1));
        ghosts.add(hash(2));
        assert!(!ghosts.take(hash(1), 1), "one came after it");
        (0..10_000).for_each(|number| ghosts.add(hash(number)));
        let known = (0..10_000).filter(|number| ghosts.take(hash(*number), usize::MAX)).count();
        assert!((32..=64).contains(&known), "{known}");
    }

    #[test]
    fn a_table_has_room_for_a_power_of_two() {
        for (entries, capacity) in [(0, 4), (1, 4), (4, 4), (64, 64), (100, 64), (1000, 512)] {
            assert_eq!(Ghosts::new(entries).capacity(), capacity, "{entries}");
        }
    }
}
