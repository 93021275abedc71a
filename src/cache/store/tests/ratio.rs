//! The hit ratio on Zipf traces beside an ideal LRU: only the order is asserted, `benches/cache.rs`
//! prints the figures.

use std::collections::{BTreeMap, HashMap};

use super::{ENTRY, Random, Store};

/// Distinct keys of a trace.
const KEYS: usize = 20_000;

/// Requests of a trace.
const REQUESTS: usize = 300_000;

/// The part of the keys that fit: a fiftieth.
const FIT: usize = KEYS / 50;

/// Keys in the frequency of Zipf's law with the exponent `alpha`, between each two of them `scan` keys
/// that never come back.
fn trace(alpha: f64, scan: usize) -> Vec<u64> {
    let mut sums = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=u32::try_from(KEYS).expect("fits") {
        sum += f64::from(rank).powf(-alpha);
        sums.push(sum);
    }
    let mut random = Random(3);
    let mut fresh = KEYS as u64;
    let mut keys = Vec::with_capacity(REQUESTS);
    while keys.len() < REQUESTS {
        let drawn = f64::from(u32::try_from(random.below(1 << 32)).expect("32 bits"));
        let drawn = drawn / f64::from(u32::MAX) * sum;
        keys.push(sums.partition_point(|sum| *sum < drawn) as u64);
        keys.extend(fresh..fresh + scan as u64);
        fresh += scan as u64;
    }
    keys
}

fn hits_of_store(trace: &[u64]) -> usize {
    let mut store = Store::new(FIT * (ENTRY + 8 + 100));
    let mut hits = 0;
    for key in trace {
        let key_bytes = key.to_be_bytes();
        if store.get(&key_bytes).is_some() {
            hits += 1;
        } else {
            assert_eq!(store.insert(&key_bytes, *key, 100), Ok(()));
        }
    }
    hits
}

fn hits_of_lru(trace: &[u64]) -> usize {
    let (mut used, mut order) = (HashMap::new(), BTreeMap::new());
    let mut hits = 0;
    for (now, key) in trace.iter().enumerate() {
        match used.insert(*key, now) {
            Some(before) => {
                hits += 1;
                order.remove(&before);
            }
            None if order.len() == FIT => {
                let (_, oldest) = order.pop_first().expect("it is full");
                used.remove(&oldest);
            }
            None => {}
        }
        order.insert(now, *key);
    }
    hits
}

#[test]
fn more_requests_hit_than_in_an_ideal_lru() {
    for alpha in [0.9, 1.0] {
        for scan in [0, 1, 3] {
            let trace = trace(alpha, scan);
            let (ours, lru) = (hits_of_store(&trace), hits_of_lru(&trace));
            assert!(ours > lru, "{alpha} {scan}: {ours} hits, {lru} in an LRU");
        }
    }
}

#[test]
fn a_scan_of_ten_times_the_store_leaves_the_used_entries() {
    let mut store = Store::new(FIT * (ENTRY + 8 + 100));
    let hot = 0..FIT as u64 / 2;
    for _ in 0..3 {
        for key in hot.clone() {
            if store.get(&key.to_be_bytes()).is_none() {
                assert_eq!(store.insert(&key.to_be_bytes(), key, 100), Ok(()));
            }
        }
    }
    for key in 0..10 * FIT as u64 {
        assert_eq!(store.insert(&(1_000_000 + key).to_be_bytes(), key, 100), Ok(()));
    }
    let left = hot.clone().filter(|key| store.peek(&key.to_be_bytes()).is_some()).count();
    assert_eq!(left, hot.count());
}
