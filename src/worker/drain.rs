//! How a worker leaves: idle connections at once, tunnels one by one, and what is left at the end.
//!
//! Tunnels that must go are spread over a time and not in the order of their age, since whoever is cut off
//! comes back at once: ten thousand in one second would be a storm for whoever serves them then.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Message, carry_out};
use crate::metrics::Loads;
use crate::net::clock;
use crate::proxy::Shard;
use crate::tunnel::frames::GOING_AWAY;

/// How often a draining worker looks whether its last connection has ended.
const LOOK: Duration = Duration::from_millis(10);

/// After the end of patience: time to say goodbye, to close what is left and to log why.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// How a worker is to leave.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// The end of patience: what is left is closed at this instant.
    pub until: Instant,
    /// How long before that tunnels begin to be closed.
    pub spread: Duration,
    /// What WebSocket clients are told (RFC 6455 7.4).
    pub close_code: u16,
}

impl Leave {
    /// At once.
    pub fn now() -> Self {
        Self { until: clock::now(), spread: Duration::ZERO, close_code: GOING_AWAY }
    }
}

/// What a draining worker looks at.
pub(super) struct Drain {
    pub(super) shard: Rc<Shard>,
    pub(super) mailbox: flume::Receiver<Message>,
    pub(super) loads: Loads,
    pub(super) own: usize,
}

impl Drain {
    /// Lets running requests and tunnels end by themselves for as long as `leave` says, and closes what is
    /// left.
    pub(super) async fn run(mut self, mut leave: Leave) {
        let shard = Rc::clone(&self.shard);
        shard.draining.set(true);
        shard.sweeper.drain_idle();
        for backend in &shard.backends {
            backend.retire();
        }
        if !self.is_empty_by(&mut leave).await {
            shard.sweeper.drain_all();
            if let Some(ring) = &shard.ring {
                ring.drain(leave.close_code);
            }
            let mut last = Leave { until: clock::now() + LAST_WORDS, ..leave };
            self.is_empty_by(&mut last).await;
        }
    }

    /// Waits until no connection is left, and closes tunnels when it is time for that; `false` if some are
    /// left at the end of patience.
    async fn is_empty_by(&mut self, leave: &mut Leave) -> bool {
        let mut spreading = Spreading::new();
        loop {
            // Another worker may have accepted a connection for this one before it drained itself,
            // and patience may end sooner than was said.
            while let Ok(message) = self.mailbox.try_recv() {
                let asked = carry_out(&mut self.shard, message);
                *leave = asked.filter(|asked| asked.until < leave.until).unwrap_or(*leave);
            }
            self.shard.close_code.set(leave.close_code);
            if self.is_empty() {
                return true;
            }
            let now = clock::now();
            if now >= leave.until {
                return false;
            }
            spreading.close_some(&self.shard, leave, now);
            if let Some(ring) = &self.shard.ring {
                // Those that were told goodbye have little time.
                ring.sweep(now);
            }
            monoio::time::sleep(LOOK).await;
        }
    }

    /// Whether nothing waits or runs here. The load counts a connection from before it is handed
    /// over, the sweeper the accept loops too.
    fn is_empty(&self) -> bool {
        let ring_is_empty = self.shard.ring.as_ref().is_none_or(|ring| ring.is_empty());
        self.loads.of(self.own) == 0 && self.shard.sweeper.is_empty() && ring_is_empty
    }
}

/// Which tunnels go when.
struct Spreading {
    last: Instant,
    random: u64,
}

impl Spreading {
    fn new() -> Self {
        Self { last: clock::now(), random: RandomState::new().hash_one(()) | 1 }
    }

    /// Closes as many tunnels as are due since the last time.
    fn close_some(&mut self, shard: &Shard, leave: &Leave, now: Instant) {
        let (since, left) = (now - self.last, leave.until - now);
        self.last = now;
        if left > leave.spread {
            return;
        }
        if let Some(ring) = &shard.ring {
            let due = self.due(ring.running(), since, left);
            if due > 0 {
                ring.drain_some(due, leave.close_code, || self.next());
            }
        }
        let due = self.due(shard.sweeper.tunnels(), since, left);
        if due > 0 {
            shard.sweeper.drain_some(due, || self.next());
        }
    }

    /// How many of `count` are due after `since` of the time that ends in `left`. What is not a whole one is
    /// left to chance, so that few tunnels are spread as well as many.
    fn due(&mut self, count: usize, since: Duration, left: Duration) -> usize {
        let all = (since + left).as_nanos().max(1);
        let scaled = ((count as u128 * since.as_nanos()) << 32) / all;
        usize::try_from((scaled + u128::from(self.next())) >> 32).unwrap_or(count)
    }

    /// A number below 2^32.
    fn next(&mut self) -> u64 {
        // xorshift64 (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads so many tunnels over a second; returns how many have gone in the first half.
    fn gone_early(spreading: &mut Spreading, count: usize) -> usize {
        let step = Duration::from_millis(10);
        let mut running = count;
        let mut half = 0;
        for look in 1..=100_u32 {
            let due = spreading.due(running, step, step * (100 - look));
            assert!(due <= running);
            running -= due;
            half += due * usize::from(look <= 50);
        }
        assert_eq!(running, 0, "{count}: all at the end");
        half
    }

    #[test]
    fn any_number_of_tunnels_is_spread_over_the_time() {
        let mut spreading = Spreading::new();
        for count in [1_usize, 3, 1000] {
            let early: usize = (0..200).map(|_| gone_early(&mut spreading, count)).sum();
            let half = 100 * count;
            assert!(
                (half * 7 / 10..=half * 13 / 10).contains(&early),
                "{count}: {early} of {half}"
            );
        }
    }
}
