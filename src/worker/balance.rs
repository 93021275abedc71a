//! Which worker serves a connection.
//!
//! The kernel spreads connections over the listeners by a hash that knows nothing of load, and
//! tunnels stay for days where they were put. So an accepted connection stays on its core unless
//! that core is clearly above the mean; then it goes to the less loaded of two others. Two, because
//! the least loaded of all would get every connection of a burst.

use crate::config::Accept;
use crate::metrics::Loads;

/// A worker may hold this share of the mean more, in parts of 64, before it hands connections on.
const SLACK_PARTS: usize = 1;
const PARTS: usize = 64;

/// The worker that is to serve a connection accepted by `own`. `random` chooses whom to look at.
pub(super) fn place(loads: &Loads, accept: Accept, own: usize, random: u64) -> usize {
    let count = loads.workers();
    match accept {
        Accept::Kernel => own,
        Accept::Balanced => choose(count, |worker| loads.of(worker), own, random),
        Accept::Single => {
            // From a random one on, so that equals take turns.
            let start = bounded(random, count.max(1));
            let workers = (0..count).map(|index| (start + index) % count);
            workers.min_by_key(|worker| loads.of(*worker)).unwrap_or(own)
        }
    }
}

/// Maps the low half of `random` to a number below `bound`, which is not 0.
fn bounded(random: u64, bound: usize) -> usize {
    usize::try_from(random & 0xffff_ffff).unwrap_or_default() % bound
}

fn choose(count: usize, load: impl Fn(usize) -> usize, own: usize, random: u64) -> usize {
    if count < 2 {
        return own;
    }
    let own_load = load(own);
    let mean = (0..count).map(&load).sum::<usize>() / count;
    if own_load <= mean + mean * SLACK_PARTS / PARTS {
        return own;
    }
    // The others, counted from the one behind `own`: two different ones where there are two.
    let others = count - 1;
    let first = bounded(random, others);
    let second = match others {
        1 => first,
        _ => (first + 1 + bounded(random >> 32, others - 1)) % others,
    };
    let (first, second) = ((own + 1 + first) % count, (own + 1 + second) % count);
    let lesser = if load(second) < load(first) { second } else { first };
    if load(lesser) < own_load { lesser } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Entered;

    fn choose(loads: &[usize], own: usize, random: u64) -> usize {
        super::choose(loads.len(), |worker| loads[worker], own, random)
    }

    #[test]
    fn the_kernels_choice_stands_or_one_listener_spreads() {
        let loads = Loads::new(3);
        let open: Vec<_> = [1, 1, 1, 2].map(|worker| loads.enter(worker)).into();
        assert_eq!(place(&loads, Accept::Kernel, 1, 9), 1);
        for random in 0..9 {
            assert_eq!(place(&loads, Accept::Single, 1, random), 0, "the empty one");
        }
        drop(open);
        let chosen: Vec<_> =
            (0..3).map(|random| place(&loads, Accept::Single, 0, random)).collect();
        assert_eq!(chosen, [0, 1, 2], "equals take turns");
    }

    #[test]
    fn a_connection_stays_unless_its_core_is_clearly_above_the_mean() {
        assert_eq!(choose(&[0], 0, 7), 0, "the only one");
        assert_eq!(choose(&[5, 5], 0, 7), 0);
        assert_eq!(choose(&[5, 9], 0, 7), 0, "below the mean");
        assert_eq!(choose(&[6, 4], 0, 7), 1);
        assert_eq!(choose(&[638, 622], 0, 7), 0, "within the slack");
        assert_eq!(choose(&[660, 620], 0, 7), 1);
    }

    #[test]
    fn it_goes_to_the_less_loaded_of_two_others() {
        for random in [0, 1, 2, 3, u64::MAX, 1 << 32, (1 << 32) + 1] {
            assert_eq!(choose(&[9, 1, 5], 0, random), 1, "of two both are looked at");
            assert_eq!(choose(&[5, 1, 9], 2, random), 1);
            assert_ne!(choose(&[9, 9, 9, 0], 3, random), 2, "an empty core keeps its own");
        }
    }

    /// Numbers without a pattern (xorshift64, Marsaglia 2003).
    struct Random(u64);

    impl Random {
        fn draw(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    /// Lets connections arrive where a hash puts them, until there are 100 a worker.
    fn fill(open: &mut Vec<Entered>, loads: &Loads, random: &mut Random) {
        while open.len() < loads.workers() * 100 {
            let own = bounded(random.draw(), loads.workers());
            open.push(loads.enter(place(loads, Accept::Balanced, own, random.draw())));
        }
    }

    #[test]
    fn long_lived_connections_even_out_though_none_is_ever_moved() {
        for workers in [2, 4, 8, 32] {
            let loads = Loads::new(workers);
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            let mut open = Vec::new();
            fill(&mut open, &loads, &mut random);
            let mut index = 0;
            open.retain(|_| {
                index += 1;
                index % 7 < 3
            });
            fill(&mut open, &loads, &mut random);
            let worst = (0..workers).map(|worker| loads.of(worker)).max().unwrap_or(0);
            assert!(worst <= 105, "{workers} workers: {worst} on one, 100 on the mean");
            drop(open);
            assert!((0..workers).all(|worker| loads.of(worker) == 0));
        }
    }
}
