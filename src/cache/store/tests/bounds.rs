//! Memory as the allocator sees it, and time as a count of steps.

use allocation_counter::measure;

use super::{Random, Store};

/// Bytes of the stores here.
const BYTES_MAX: usize = 4 << 20;

/// Inserts entries with a body of `size(n)` bytes until ten times the bound has gone through.
fn scan(store: &mut Store<Box<[u8]>>, prefix: &str, mut size: impl FnMut() -> usize) {
    let mut inserted = 0;
    for number in 0.. {
        let (key, body) = (format!("GET:/{prefix}/{number}"), vec![7; size()].into_boxed_slice());
        inserted += body.len() + key.len();
        let bytes = body.len();
        assert!(store.insert(key.as_bytes(), body, bytes).is_ok());
        assert!(store.bytes() <= BYTES_MAX);
        if inserted > 10 * BYTES_MAX {
            break;
        }
    }
}

#[test]
fn a_scan_of_ten_times_the_bound_stays_within_it_in_real_memory() {
    let mut random = Random(1);
    for size_max in [1, 100, 3_000, 200_000] {
        let mut store = Store::new(BYTES_MAX);
        let mut counted = 0;
        let info = measure(|| {
            scan(&mut store, "scan", || random.below(size_max));
            counted = store.bytes();
        });
        let real = usize::try_from(info.bytes_current).expect("more allocated than freed");
        assert!(real <= BYTES_MAX, "{size_max}: {real}");
        assert!(real <= counted, "{size_max}: {real} are counted as {counted}");
        // The tables while they grow, the body and the key on their way in.
        let peak = usize::try_from(info.bytes_max).expect("fits");
        assert!(peak <= BYTES_MAX + BYTES_MAX / 4 + size_max, "{size_max}: peak {peak}");
    }
}

#[test]
fn tables_made_for_small_entries_are_given_back_for_large_ones() {
    let mut random = Random(2);
    let mut store = Store::new(BYTES_MAX);
    let info = measure(|| {
        scan(&mut store, "small", || random.below(30));
        scan(&mut store, "large", || 10_000 + random.below(10_000));
    });
    assert!(usize::try_from(info.bytes_current).expect("fits") <= store.bytes());
    store.check_invariants();
    let info = measure(|| {
        store.retain(|_, _| false);
    });
    assert!(info.bytes_current < 0);
    assert!(store.nodes.capacity() <= 200, "{}", store.nodes.capacity());
    assert!(store.index.capacity() <= 500, "{}", store.index.capacity());
}

#[test]
fn a_hit_allocates_nothing() {
    let mut store = Store::new(BYTES_MAX);
    for number in 0..1_000 {
        let key = format!("GET:/page/{number}");
        assert!(store.insert(key.as_bytes(), number, 100).is_ok());
    }
    let info = measure(|| {
        for _ in 0..10 {
            assert_eq!(store.get(b"GET:/page/7"), Some(&mut 7));
            assert_eq!(store.get(b"GET:/page/x"), None);
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn one_eviction_spares_a_bounded_number_of_entries() {
    let mut store: Store<u64> = Store::new(BYTES_MAX);
    let mut number = 0_u64;
    while store.evictions() == 0 {
        assert!(store.insert(&number.to_be_bytes(), number, 10).is_ok());
        number += 1;
    }
    let mut use_often = |key: &u64| (0..3).all(|_| store.get(&key.to_be_bytes()).is_some());
    let used = (0..number).filter(&mut use_often).count();
    assert_eq!(used, store.len());
    let evicted = store.evictions();
    assert!(store.insert(b"newcomer", 0, 10).is_ok());
    assert_eq!(store.evictions(), evicted + 1, "although every entry was used");
    assert_eq!(store.main.len(), super::super::SPARED_MAX, "those were spared");
    store.check_invariants();
}
