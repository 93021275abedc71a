//! Giving back the memory of a burst of connections.
//!
//! The tasks of connections that have ended, or have become tunnels, leave free blocks in the
//! allocator, and a few living ones above them keep it from giving those back: 120 bytes for each of
//! 9,000 tunnels opened at once, a quarter of what one costs.

use std::time::{Duration, Instant};

/// Connections at once, from which on it was a burst. Their tasks take about 1 MiB.
const BURST: usize = 256;

/// Between two times that the allocator is asked, which takes it a millisecond or so.
const PAUSE: Duration = Duration::from_secs(10);

/// When the allocator was last asked.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// The most connections at once since then.
    peak: usize,
    at: Option<Instant>,
}

impl Relief {
    /// Whether to ask now, when there were `recent` connections at most since the last call.
    pub(super) fn is_due(&mut self, recent: usize, now: Instant) -> bool {
        // Not in the middle of the burst, when what is given back is needed again.
        let has_fallen = self.peak >= BURST && recent < self.peak / 2;
        let is_rested = self.at.is_none_or(|at| now.duration_since(at) >= PAUSE);
        if has_fallen && is_rested {
            *self = Self { peak: recent, at: Some(now) };
            return true;
        }
        self.peak = self.peak.max(recent);
        false
    }
}

/// Gives free blocks of the whole process back to the kernel, where the allocator can.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc offers it to C only")]
pub(super) fn trim() {
    // SAFETY: takes no pointer, and locks what it changes.
    unsafe { libc::malloc_trim(0) };
}

/// Nothing: other allocators are not known to need it.
#[cfg(not(target_env = "gnu"))]
pub(super) fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn it_is_due_once_after_a_burst_and_not_without_one() {
        let now = clock::now();
        let mut relief = Relief::default();
        assert!(!relief.is_due(BURST - 1, now));
        assert!(!relief.is_due(0, now), "too few to matter");
        assert!(!relief.is_due(BURST, now));
        assert!(!relief.is_due(BURST / 2, now), "it goes on");
        assert!(relief.is_due(3, now));
        assert!(!relief.is_due(3, now), "that burst is over");
        assert!(!relief.is_due(BURST, now));
        assert!(!relief.is_due(0, now + PAUSE / 2), "it was asked a moment ago");
        assert!(relief.is_due(0, now + PAUSE));
    }
}
