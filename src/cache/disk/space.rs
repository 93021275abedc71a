//! Which blocks of a file are free: runs of them, by place and by length.
//!
//! Pure: nothing here knows the file. A run that fits best is used first, then the file grows, and
//! only at its limit is a body laid into several runs.

use std::collections::{BTreeMap, BTreeSet};

/// Runs that one body is laid into at most; each costs a system call to write and to read. Arbitrary.
pub(super) const RUNS_MAX: usize = 64;

/// Neighbouring blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) blocks: u32,
}

/// The blocks of a file of at most `blocks_max` blocks.
#[derive(Debug)]
pub(super) struct Space {
    blocks_max: u32,
    /// Blocks of the file, used and free.
    end: u32,
    used: u32,
    /// The length of each free run by its start. No two touch.
    by_start: BTreeMap<u32, u32>,
    /// The same as length and start.
    by_length: BTreeSet<(u32, u32)>,
}

impl Space {
    /// An empty file.
    pub(super) const fn new(blocks_max: u32) -> Self {
        Self { blocks_max, end: 0, used: 0, by_start: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    pub(super) const fn end(&self) -> u32 {
        self.end
    }

    /// Takes `blocks` blocks, or none when there are too few, or in too many pieces.
    pub(super) fn take(&mut self, blocks: u32) -> Option<Vec<Run>> {
        if blocks == 0 {
            return Some(Vec::new());
        }
        if let Some(&(_, start)) = self.by_length.range((blocks, 0)..).next() {
            return Some(vec![self.cut(start, blocks)]);
        }
        // The last run, when it is free, is part of what the file grows by.
        let start = self.free_tail().unwrap_or(self.end);
        if blocks <= self.blocks_max - start {
            self.grow(start + blocks);
            return Some(vec![self.cut(start, blocks)]);
        }
        self.take_pieces(blocks)
    }

    fn take_pieces(&mut self, blocks: u32) -> Option<Vec<Run>> {
        let at_end = self.free_tail().map_or(0, |start| self.end - start);
        let to_come = self.blocks_max - self.end;
        let largest = self.by_length.iter().rev().take(RUNS_MAX).map(|(length, _)| *length);
        let most = largest.map(u64::from).sum::<u64>() + u64::from(to_come);
        if most < u64::from(blocks) {
            return None;
        }
        if to_come + at_end > 0 {
            self.grow(self.blocks_max);
        }
        let mut runs = Vec::new();
        let mut left = blocks;
        while left > 0 && runs.len() < RUNS_MAX {
            let Some(&(length, start)) = self.by_length.last() else { break };
            runs.push(self.cut(start, length.min(left)));
            left -= length.min(left);
        }
        if left == 0 {
            return Some(runs);
        }
        // What the file grew by came on top of the largest runs; then there is one too many.
        for run in runs {
            self.give_back(run);
        }
        None
    }

    /// Frees a run that was taken.
    pub(super) fn give_back(&mut self, run: Run) {
        self.used -= run.blocks;
        self.free(run);
    }

    /// Takes the free run at the end out of the file, and returns how many blocks the file has left.
    pub(super) fn trim(&mut self) -> u32 {
        if let Some(start) = self.free_tail() {
            self.remove(start);
            self.end = start;
        }
        self.end
    }

    /// The free runs of at least so many blocks.
    pub(super) fn free_runs(&self, blocks_min: u32) -> impl Iterator<Item = Run> {
        let runs = self.by_length.range((blocks_min, 0)..);
        runs.map(|&(blocks, start)| Run { start, blocks })
    }

    fn free_tail(&self) -> Option<u32> {
        let (start, length) = self.by_start.last_key_value()?;
        (start + length == self.end).then_some(*start)
    }

    fn grow(&mut self, end: u32) {
        let run = Run { start: self.end, blocks: end - self.end };
        self.end = end;
        if run.blocks > 0 {
            self.free(run);
        }
    }

    fn free(&mut self, run: Run) {
        let Run { mut start, mut blocks } = run;
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.remove(before);
            (start, blocks) = (before, blocks + length);
        }
        if let Some(length) = self.remove(start + blocks) {
            blocks += length;
        }
        self.by_start.insert(start, blocks);
        self.by_length.insert((blocks, start));
    }

    /// Takes blocks from the front of a free run that has them.
    fn cut(&mut self, start: u32, blocks: u32) -> Run {
        let length = self.remove(start).unwrap_or(blocks);
        if length > blocks {
            self.by_start.insert(start + blocks, length - blocks);
            self.by_length.insert((length - blocks, start + blocks));
        }
        self.used += blocks;
        Run { start, blocks }
    }

    fn remove(&mut self, start: u32) -> Option<u32> {
        let length = self.by_start.remove(&start)?;
        self.by_length.remove(&(length, start));
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Space {
        fn give_back_all(&mut self, runs: &[Run]) {
            for run in runs {
                self.give_back(*run);
            }
        }

        /// Asserts that free runs and `taken` ones make up the file, each block once.
        fn check_invariants(&self, taken: &[Vec<Run>]) {
            assert!(self.end <= self.blocks_max);
            let mut owners = vec![0; self.end as usize];
            let free: Vec<_> = self.free_runs(1).collect();
            for run in taken.iter().flatten().chain(&free) {
                let blocks = run.start as usize..(run.start + run.blocks) as usize;
                owners[blocks].iter_mut().for_each(|owners| *owners += 1);
            }
            assert!(owners.iter().all(|owners| *owners == 1), "{owners:?}");
            assert_eq!(self.used, taken.iter().flatten().map(|run| run.blocks).sum::<u32>());
            assert_eq!(free.len(), self.by_start.len());
            for (start, length) in &self.by_start {
                assert!(!self.by_start.contains_key(&(start + length)), "two free runs touch");
                assert!(self.by_length.contains(&(*length, *start)));
            }
        }
    }

    fn run(start: u32, blocks: u32) -> Run {
        Run { start, blocks }
    }

    #[test]
    fn the_run_that_fits_best_is_used_before_the_file_grows() {
        let mut space = Space::new(100);
        let runs: Vec<_> = [10, 1, 4, 1, 6, 1].map(|blocks| space.take(blocks)).into();
        assert_eq!(space.end(), 23);
        for freed in [0, 2, 4] {
            space.give_back_all(runs[freed].as_deref().expect("taken"));
        }
        assert_eq!(space.take(5), Some(vec![run(16, 5)]));
        assert_eq!(space.take(4), Some(vec![run(11, 4)]));
        assert_eq!(space.take(11), Some(vec![run(23, 11)]), "no run is long enough");
        assert_eq!(space.take(0), Some(vec![]));
        assert_eq!(space.used(), 23 - 20 + 20);
    }

    #[test]
    fn the_file_grows_from_its_free_end() {
        let mut space = Space::new(100);
        assert_eq!(space.take(10), Some(vec![run(0, 10)]));
        assert_eq!(space.take(5), Some(vec![run(10, 5)]));
        space.give_back(run(10, 5));
        assert_eq!(space.take(90), Some(vec![run(10, 90)]));
        assert_eq!(space.take(1), None);
    }

    #[test]
    fn at_the_limit_a_body_is_laid_into_pieces() {
        let mut space = Space::new(10);
        for start in 0..10 {
            assert_eq!(space.take(1), Some(vec![run(start, 1)]));
        }
        for start in [1, 3, 4, 8] {
            space.give_back(run(start, 1));
        }
        assert_eq!(space.take(5), None);
        let runs = space.take(4).expect("four are free");
        assert_eq!(runs, [run(3, 2), run(8, 1), run(1, 1)]);
        assert_eq!(space.used(), 10);
    }

    #[test]
    fn a_body_in_too_many_pieces_is_refused() {
        let pieces = u32::try_from(RUNS_MAX).expect("fits");
        for (free, taken) in [(pieces, true), (pieces + 1, false)] {
            let mut space = Space::new(2 * free);
            (0..2 * free).for_each(|_| assert!(space.take(1).is_some()));
            (0..free).for_each(|at| space.give_back(run(2 * at, 1)));
            assert_eq!(space.take(free).is_some(), taken);
            assert_eq!(space.used(), if taken { 2 * free } else { free });
        }
    }

    #[test]
    fn a_free_end_is_trimmed() {
        let mut space = Space::new(10);
        let runs = space.take(4).into_iter().chain(space.take(4)).flatten().collect::<Vec<_>>();
        assert_eq!(space.trim(), 8);
        space.give_back(runs[1]);
        assert_eq!((space.trim(), space.end()), (4, 4));
        space.give_back(runs[0]);
        assert_eq!(space.trim(), 0);
        assert_eq!(space.take(10), Some(vec![run(0, 10)]));
    }

    proptest! {
        #[test]
        fn every_block_is_free_or_taken_once(
            calls in prop::collection::vec((0u32..40, any::<prop::sample::Index>()), 1..300),
            blocks_max in 0u32..200,
        ) {
            let mut space = Space::new(blocks_max);
            let mut taken: Vec<Vec<Run>> = Vec::new();
            for (blocks, chosen) in calls {
                if blocks % 3 == 0 && !taken.is_empty() {
                    let freed = taken.swap_remove(chosen.index(taken.len()));
                    space.give_back_all(&freed);
                } else if blocks == 1 {
                    space.trim();
                } else {
                    let fits = space.used() + blocks <= blocks_max;
                    let runs = space.take(blocks);
                    prop_assert!(fits || runs.is_none());
                    let got = runs.iter().flatten().map(|run| run.blocks).sum::<u32>();
                    prop_assert!(runs.is_none() || got == blocks);
                    taken.extend(runs);
                }
                space.check_invariants(&taken);
            }
        }
    }
}
