//! The calls one by one, and random series of them against a map that forgets nothing.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{ENTRY, Store};

/// A store that fits `entries` entries with a key of one byte and ten bytes of their own.
fn store_of(entries: usize) -> Store<u64> {
    Store::new(entries * (ENTRY + 11))
}

fn filled(entries: u8) -> Store<u64> {
    let mut store = store_of(entries.into());
    for key in 0..entries {
        assert_eq!(store.insert(&[key], key.into(), 10), Ok(()));
    }
    assert_eq!((store.len(), store.evictions()), (entries.into(), 0));
    store
}

/// Looks at a value without using it.
fn value(store: &mut Store<u64>, key: &[u8]) -> Option<u64> {
    store.peek(key).copied()
}

#[test]
fn a_value_is_found_replaced_and_removed() {
    let mut store = store_of(3);
    assert!(store.is_empty());
    assert_eq!(store.get(b"a"), None);
    assert_eq!(store.insert(b"a", 1, 10), Ok(()));
    assert_eq!(store.insert(b"b", 2, 10), Ok(()));
    assert_eq!(store.get(b"a"), Some(&mut 1));
    assert_eq!(store.insert(b"a", 3, 5), Ok(()));
    assert_eq!((value(&mut store, b"a"), store.len()), (Some(3), 2));
    assert_eq!(store.bytes(), 2 * (ENTRY + 1) + 15);
    assert_eq!(store.remove(b"a"), Some(3));
    assert_eq!((store.remove(b"a"), store.len()), (None, 1));
    assert_eq!(store.bytes(), ENTRY + 11);
    assert_eq!(store.evictions(), 0);
    store.check_invariants();
}

#[test]
fn an_entry_that_fits_exactly_is_kept_and_a_byte_more_is_refused() {
    for (bytes, result) in [(9, Ok(())), (10, Ok(())), (11, Err(1)), (usize::MAX, Err(1))] {
        let mut store = store_of(1);
        assert_eq!(store.insert(b"a", 1, bytes), result, "{bytes}");
        assert_eq!(store.get(b"a").is_some(), result.is_ok(), "{bytes}");
        store.check_invariants();
    }
    assert_eq!(Store::new(0).insert(b"a", 1, 0), Err(1));
}

#[test]
fn a_refused_value_leaves_no_older_one_behind() {
    let mut store = filled(3);
    assert_eq!(store.insert(&[1], 7, 10_000), Err(7));
    assert_eq!((value(&mut store, &[1]), store.len()), (None, 2));
    assert_eq!(store.evictions(), 0);
    store.check_invariants();
}

#[test]
fn an_entry_that_grows_evicts_others_and_never_itself() {
    let mut store = filled(10);
    store.set_bytes(&[0], 10 + 3 * (ENTRY + 11));
    assert_eq!(store.get(&[0]), Some(&mut 0));
    assert_eq!((store.len(), store.evictions()), (7, 3));
    store.check_invariants();
    assert_eq!(store.insert(&[0], 5, 10 + 9 * (ENTRY + 11)), Ok(()));
    assert_eq!((value(&mut store, &[0]), store.len()), (Some(5), 1));
    store.check_invariants();
    store.set_bytes(&[0], 11 + 9 * (ENTRY + 11));
    assert_eq!((store.len(), store.evictions()), (0, 10));
    store.set_bytes(b"unknown", usize::MAX);
    store.check_invariants();
}

#[test]
fn an_entry_that_shrinks_makes_room() {
    let mut store = filled(2);
    store.set_bytes(&[0], 0);
    assert_eq!(store.bytes(), 2 * (ENTRY + 1) + 10);
    store.check_invariants();
}

#[test]
fn what_is_reserved_counts_against_the_bound() {
    let mut store = filled(10);
    store.set_reserved(1);
    assert_eq!((store.len(), store.evictions()), (9, 1));
    store.set_reserved(5 * (ENTRY + 11));
    assert_eq!(store.len(), 5);
    assert_eq!(store.insert(b"x", 9, 10 + 5 * (ENTRY + 11)), Err(9), "it fits no more");
    store.set_reserved(usize::MAX);
    assert_eq!((store.len(), store.bytes()), (0, 0));
    store.set_reserved(0);
    assert_eq!(store.insert(b"x", 9, 10), Ok(()));
    assert_eq!(store.bytes_max(), 10 * (ENTRY + 11));
    store.check_invariants();
}

#[test]
fn retain_asks_every_entry_once_and_counts_what_it_removes() {
    let mut store = filled(100);
    let mut asked = Vec::new();
    let removed = store.retain(|key, value| {
        asked.extend_from_slice(key);
        *value += 1;
        *value % 2 == 0
    });
    asked.sort_unstable();
    assert_eq!(asked, (0..100).collect::<Vec<_>>());
    assert_eq!((removed, store.len(), store.evictions()), (50, 50, 0));
    assert_eq!((value(&mut store, &[1]), value(&mut store, &[2])), (Some(2), None));
    store.check_invariants();
    assert_eq!(store.retain(|_, _| false), 50);
    assert_eq!(store.bytes(), 0);
}

#[test]
fn what_was_used_stays_and_what_was_only_looked_at_goes() {
    let mut store = filled(10);
    assert!(store.get(&[0]).is_some() && store.peek(&[1]).is_some());
    for key in 10..15 {
        assert_eq!(store.insert(&[key], 0, 10), Ok(()));
    }
    assert!(store.peek(&[0]).is_some());
    assert!(store.peek(&[1]).is_none());
    store.check_invariants();
}

#[test]
fn one_that_comes_back_soon_after_its_eviction_outlives_newcomers() {
    let mut store = filled(50);
    assert_eq!(store.insert(b"x", 0, 10), Ok(()));
    assert!(store.peek(&[0]).is_none(), "the oldest made room");
    assert_eq!(store.insert(&[0], 0, 10), Ok(()));
    for key in 100..200 {
        assert_eq!(store.insert(&[key], 0, 10), Ok(()));
    }
    assert!(store.peek(&[0]).is_some());
}

#[derive(Clone, Debug)]
enum Call {
    Get(u8),
    Peek(u8),
    Insert(u8, usize),
    SetBytes(u8, usize),
    Remove(u8),
    Retain(u8),
    Reserve(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let bytes = prop_oneof![8 => 0usize..500, 1 => 0usize..20_000];
    prop_oneof![
        6 => any::<u8>().prop_map(Call::Get),
        1 => any::<u8>().prop_map(Call::Peek),
        8 => (any::<u8>(), bytes.clone()).prop_map(|(key, bytes)| Call::Insert(key, bytes)),
        2 => (any::<u8>(), bytes).prop_map(|(key, bytes)| Call::SetBytes(key, bytes)),
        2 => any::<u8>().prop_map(Call::Remove),
        1 => (2u8..9).prop_map(Call::Retain),
        1 => (0usize..12_000).prop_map(Call::Reserve),
    ]
}

/// A store beside what it may contain.
struct Twin {
    store: Store<u64>,
    /// What was inserted last under each key and not removed; the store may have evicted it.
    model: HashMap<u8, u64>,
    /// Tells one insert from another.
    inserts: u64,
    /// Entries that came under a new key, and that left because they were asked to.
    came: u64,
    left: u64,
}

impl Twin {
    fn call(&mut self, call: &Call) {
        match *call {
            Call::Get(key) => {
                let found = self.store.get(&[key]).copied();
                self.check(key, found);
            }
            Call::Peek(key) => {
                let found = value(&mut self.store, &[key]);
                self.check(key, found);
            }
            Call::Insert(key, bytes) => self.insert(key, bytes),
            Call::SetBytes(key, bytes) => self.store.set_bytes(&[key], bytes),
            Call::Remove(key) => {
                let (removed, expected) = (self.store.remove(&[key]), self.model.remove(&key));
                assert!(removed.is_none() || removed == expected);
                self.left += u64::from(removed.is_some());
            }
            Call::Retain(divisor) => {
                let before = self.store.len();
                let removed = self.store.retain(|key, _| key[0] % divisor != 0);
                assert_eq!(self.store.len() + removed, before);
                self.model.retain(|key, _| key % divisor != 0);
                self.left += removed as u64;
            }
            Call::Reserve(bytes) => self.store.set_reserved(bytes),
        }
    }

    fn check(&self, key: u8, found: Option<u64>) {
        assert!(found.is_none() || found == self.model.get(&key).copied());
    }

    fn insert(&mut self, key: u8, bytes: usize) {
        self.inserts += 1;
        let was_there = self.store.peek(&[key]).is_some();
        if self.store.insert(&[key], self.inserts, bytes).is_ok() {
            self.model.insert(key, self.inserts);
            self.came += u64::from(!was_there);
            assert_eq!(self.store.peek(&[key]), Some(&mut self.inserts), "just inserted");
        } else {
            self.model.remove(&key);
            self.left += u64::from(was_there);
            assert!(self.store.peek(&[key]).is_none());
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_called_the_store_is_a_map_that_forgets(
        calls in prop::collection::vec(call(), 1..600),
        bytes_max in 0usize..40_000,
    ) {
        let mut twin = Twin {
            store: Store::new(bytes_max), model: HashMap::new(), inserts: 0, came: 0, left: 0,
        };
        for call in &calls {
            twin.call(call);
            twin.store.check_invariants();
            let gone = twin.left + twin.store.evictions();
            prop_assert_eq!(twin.came - gone, twin.store.len() as u64);
        }
    }
}
