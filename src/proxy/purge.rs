//! Emptying the cache on request: what is asked for, and one worker's part in it.

use super::shard::Shard;

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Of which routes.
    pub routes: PurgeRoutes,
    /// Which of their entries.
    pub what: PurgeWhat,
}

/// Which routes a purge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeRoutes {
    /// Every route.
    All,
    /// The route with this index.
    One(usize),
}

/// Which entries a purge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeWhat {
    /// Every entry.
    All,
    /// Those whose key matches one of these, in which `*` stands for any characters.
    Patterns(Vec<String>),
}

/// Carries out a purge on this worker; nothing it is for is answered from the cache afterwards.
///
/// This version stores nothing, so there is nothing to forget.
pub fn purge(shard: &Shard, purge: &Purge) {
    tracing::trace!(target: "phantom_frame::proxy", ?purge, "Purged");
    shard.counters.purges.add(1);
}
