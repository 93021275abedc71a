//! Emptying the cache on request: what is asked for, and one worker's part in it.

use super::shard::Shard;
use crate::cache::key;
use crate::cache::pattern::PurgePattern;

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

/// Carries out a purge on this worker: nothing it is for is answered from the cache afterwards, and
/// what is on its way for it is not stored.
pub fn purge(shard: &Shard, purge: &Purge) {
    let patterns: Vec<PurgePattern> = match &purge.what {
        PurgeWhat::All => Vec::new(),
        PurgeWhat::Patterns(texts) => texts.iter().map(|text| PurgePattern::new(text)).collect(),
    };
    let is_all = purge.what == PurgeWhat::All;
    let is_doomed = |key: &[u8]| {
        let (route, name) = key::parts(key);
        let is_of_route = match purge.routes {
            PurgeRoutes::All => true,
            PurgeRoutes::One(one) => one == route,
        };
        is_of_route && (is_all || patterns.iter().any(|pattern| pattern.matches(name)))
    };
    shard.cache.purge(is_doomed);
    shard.flights.doom(is_doomed);
    shard.forgotten.purged();
    shard.counters.purges.add(1);
}
