//! A worker's store: a hit, an insert that evicts, a purge; and how often requests hit.
//!
//! The hit ratios stand beside an ideal LRU of the same bytes, and a scan of ten times the bound
//! beside the memory that the process really has for it.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::mem;

use criterion::{BatchSize, Criterion, Throughput};
use phantom_frame::cache::pattern::PurgePattern;
use phantom_frame::cache::store::Store;

/// Entries of the store that is purged.
const PURGED: usize = 10_000;

/// Entries of the store that is asked: more than fit into a core's own caches.
const ASKED: usize = 100_000;

/// Bytes of an entry here; nothing is allocated for them.
const ENTRY_BYTES: usize = 4_000;

/// Bytes of the store that is scanned with bodies.
const SCANNED_BYTES: usize = 64 << 20;

/// Distinct keys and requests of a trace.
const KEYS: usize = 100_000;
const REQUESTS: usize = 1_000_000;

/// What a hit ends in: shared bytes in the real cache.
type Value = u64;

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    scans(criterion);
    traces(criterion);
    hits(criterion);
    inserts(criterion);
    purges(criterion);
}

fn key(number: usize) -> String {
    format!("GET:/catalogue/section-{}/product-{number}?lang=en", number % 97)
}

fn filled(entries: usize) -> Store<Value> {
    let mut store = Store::new(entries * (ENTRY_BYTES + 64 + Store::<Value>::ENTRY_BYTES));
    for number in 0..entries {
        store.insert(key(number).as_bytes(), number as u64, ENTRY_BYTES).expect("it fits");
    }
    assert_eq!(store.len(), entries);
    store
}

fn hits(criterion: &mut Criterion) {
    let mut store = filled(ASKED);
    let keys: Vec<_> = (0..ASKED).map(key).collect();
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hit/hot", |bencher| {
        let hot = keys[77].as_bytes();
        bencher.iter(|| assert_eq!(store.get(black_box(hot)), Some(&mut 77)));
    });
    group.bench_function("hit/any", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            // A step that has no divisor with the count of keys: all of them, in no near order.
            number = (number + 61_803) % ASKED;
            assert_eq!(store.get(keys[number].as_bytes()), Some(&mut (number as u64)));
        });
    });
    group.bench_function("miss", |bencher| {
        let unknown = key(ASKED);
        bencher.iter(|| assert_eq!(store.get(black_box(unknown.as_bytes())), None));
    });
    group.finish();
}

fn inserts(criterion: &mut Criterion) {
    let mut store = filled(ASKED);
    let mut number = ASKED;
    while store.evictions() == 0 {
        store.insert(key(number).as_bytes(), 0, ENTRY_BYTES).expect("it fits");
        number += 1;
    }
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    group.bench_function("insert and evict", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                key(number)
            },
            |key| {
                let evictions = store.evictions();
                assert_eq!(store.insert(key.as_bytes(), 0, ENTRY_BYTES), Ok(()));
                // Keys differ in length by a byte.
                assert!(store.evictions() <= evictions + 2);
            },
            BatchSize::LargeInput,
        );
    });
    assert!(store.evictions() > 0);
    group.finish();
}

fn purges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("store/purge {PURGED}"));
    group.throughput(Throughput::Elements(PURGED as u64));
    let mut store = filled(PURGED);
    for (name, text) in [
        ("none by its start", "/nothing/*"),
        ("none by its middle", "*/nothing/*"),
        ("none by three pieces", "/catalogue/*/product*lang=fr"),
    ] {
        let pattern = PurgePattern::new(text);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(store.retain(|key, _| !pattern.matches(key)), 0));
        });
    }
    let pattern = PurgePattern::new("/catalogue/*");
    group.bench_function("all", |bencher| {
        bencher.iter_batched_ref(
            || filled(PURGED),
            |store| assert_eq!(store.retain(|key, _| !pattern.matches(key)), PURGED),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Random numbers that are the same in every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 steps are enough")]
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys in the frequency of Zipf's law with the exponent `alpha`; every hundred of them, `scan` keys
/// that never come back.
fn trace(alpha: f64, scan: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let mut add = |rank: u32| {
        sum += f64::from(rank).powf(-alpha);
        sum
    };
    let sums: Vec<_> = (1..).take(KEYS).map(&mut add).collect();
    let (mut random, mut fresh) = (Random(1), KEYS);
    let mut keys = Vec::with_capacity(REQUESTS);
    while keys.len() < REQUESTS {
        keys.extend((0..100).map(|_| {
            let drawn = random.fraction() * sum;
            sums.partition_point(|sum| *sum < drawn)
        }));
        keys.extend(fresh..fresh + scan);
        fresh += scan;
    }
    keys
}

/// Returns the hits of a store for `entries` entries, and those of an ideal LRU.
fn replay(trace: &[usize], entries: usize) -> (usize, usize) {
    let mut store: Store<Value> = Store::new(entries * (Store::<Value>::ENTRY_BYTES + 8 + 1_000));
    let (mut used, mut order) = (HashMap::new(), BTreeMap::new());
    let (mut hits, mut hits_lru) = (0, 0);
    for (now, number) in trace.iter().enumerate() {
        let key = number.to_be_bytes();
        match store.get(&key) {
            Some(_) => hits += 1,
            None => store.insert(&key, 0, 1_000).expect("it fits"),
        }
        match used.insert(*number, now) {
            Some(before) => {
                hits_lru += 1;
                order.remove(&before);
            }
            None if order.len() == entries => {
                let (_, oldest) = order.pop_first().expect("it is full");
                used.remove(&oldest);
            }
            None => {}
        }
        order.insert(now, *number);
    }
    (hits, hits_lru)
}

/// A request of a trace: a lookup, and an insert that evicts when it misses.
fn traces(criterion: &mut Criterion) {
    let mut shown = false;
    let mut store: Store<Value> = Store::new(KEYS / 20 * (Store::<Value>::ENTRY_BYTES + 1_008));
    criterion.bench_function("store/trace", |bencher| {
        if !mem::replace(&mut shown, true) {
            hit_ratios();
        }
        let keys = trace(0.9, 25).into_iter().map(usize::to_be_bytes).collect::<Vec<_>>();
        let mut requests = keys.iter().cycle();
        bencher.iter(|| {
            let key = requests.next().expect("it goes round");
            if store.get(key).is_none() {
                store.insert(key, 0, 1_000).expect("it fits");
            }
        });
    });
}

/// Prints how many of a hundred requests hit; what never comes back cannot hit.
#[expect(clippy::print_stdout, reason = "figures that criterion has no place for")]
fn hit_ratios() {
    println!("hits of 100 requests for {KEYS} keys: store / ideal LRU");
    for alpha in [0.9, 1.0] {
        for scan in [0, 25, 100] {
            let trace = trace(alpha, scan);
            print!("  Zipf {alpha:.1}, {scan:3} scanned for 100:");
            for part in [100, 20, 5] {
                let (ours, lru) = replay(&trace, KEYS / part);
                assert!(ours >= lru, "{ours} hits, {lru} in an LRU");
                let percent = |hits: usize| hits * 1_000 / trace.len();
                let (ours, lru) = (percent(ours), percent(lru));
                print!("  {}.{} / {}.{} (1/{part} fits)", ours / 10, ours % 10, lru / 10, lru % 10);
            }
            println!();
        }
    }
}

/// An insert with a body that is allocated, and one freed for it.
fn scans(criterion: &mut Criterion) {
    let mut shown = false;
    criterion.bench_function("store/scan", |bencher| {
        if !mem::replace(&mut shown, true) {
            resident_memory();
        }
        let mut store = Store::new(SCANNED_BYTES);
        let (mut random, mut numbers) = (Random(3), 0..);
        bencher.iter(|| scan(&mut store, &mut random, numbers.next().expect("no end")));
    });
}

/// Inserts a body, and returns its bytes: up to 256 bytes to 256 KiB, each size as often as its double.
fn scan(store: &mut Store<Box<[u8]>>, random: &mut Random, number: usize) -> usize {
    let bytes = usize::try_from(random.next() % (256 << (number % 11))).expect("small");
    let body = vec![1; bytes].into_boxed_slice();
    store.insert(key(number).as_bytes(), body, bytes).expect("it fits");
    bytes
}

/// Scans a store with ten times its bytes of bodies, and asserts what the process took for it.
///
/// Once, and before the others: what the allocator keeps of an earlier store would hide what this one
/// takes.
#[expect(clippy::print_stdout, reason = "figures that criterion has no place for")]
fn resident_memory() {
    let before = resident_bytes();
    let mut store: Store<Box<[u8]>> = Store::new(SCANNED_BYTES);
    let (mut random, mut scanned, mut number) = (Random(2), 0, 0);
    while scanned < 10 * SCANNED_BYTES {
        scanned += scan(&mut store, &mut random, number);
        number += 1;
    }
    let took = resident_bytes().saturating_sub(before);
    let (entries, counted) = (store.len(), store.bytes());
    println!(
        "a scan: {entries} entries, {SCANNED_BYTES} bytes allowed, {counted} counted, {took} resident"
    );
    assert!(counted <= SCANNED_BYTES);
    assert!(took <= SCANNED_BYTES + SCANNED_BYTES / 2, "the allocator's fragments");
}

/// Bytes of this process in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux system");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kibibytes * 1024
}
