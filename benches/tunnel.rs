//! Bytes through open tunnels: round trips of messages, streams, and what more workers bring.
//!
//! An iteration is one message or one block, whatever the number of connections: the load runs whole
//! rounds and scales. `wall` is the time that passes, `cpu` what the proxy's threads used of it.

use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use phantom_frame::config::{Accept, Cores, Runtime};

use super::support::load::{Load, Message};
use super::support::rig::{Clock, Kind, Rig, default_runtime, runtime_on_all};
use super::support::{cpu, has_room_for, scale};

/// Connections, and bytes of a message's payload: each with each.
const TUNNELS: [usize; 3] = [1, 64, 1000];
const PAYLOADS: [usize; 3] = [64, 1024, 16 * 1024];

/// Bytes of one write of a stream.
const BLOCK_BYTES: u32 = 256 * 1024;

/// Connections of each thread of the load when workers are compared.
const LANE_TUNNELS: usize = 64;

/// What a load does, so many times.
type Work = fn(&mut Load, rounds: u64);

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    round_trips(criterion);
    streams(criterion);
    workers(criterion);
}

fn round_trips(criterion: &mut Criterion) {
    let sizes = |tunnels| PAYLOADS.map(|payload| (tunnels, payload));
    for (tunnels, payload) in TUNNELS.into_iter().flat_map(sizes) {
        let mut group = criterion.benchmark_group(format!("round_trip/{tunnels}x{payload}"));
        group.throughput(Throughput::Elements(1));
        compare(&mut group, tunnels, &Message::frame(payload), Load::round_trips);
        group.finish();
    }
}

fn streams(criterion: &mut Criterion) {
    for tunnels in TUNNELS {
        let mut group = criterion.benchmark_group(format!("stream/{tunnels}x{BLOCK_BYTES}"));
        group.throughput(Throughput::Bytes(BLOCK_BYTES.into()));
        let block = usize::try_from(BLOCK_BYTES).expect("fits every address space");
        compare(&mut group, tunnels, &Message::block(block), Load::stream);
        group.finish();
    }
}

/// Puts the same load on every proxy, each with one worker.
fn compare(
    group: &mut BenchmarkGroup<'_, WallTime>,
    tunnels: usize,
    message: &Message,
    work: Work,
) {
    group.sampling_mode(SamplingMode::Flat);
    if !has_room_for(tunnels) {
        return;
    }
    for kind in Kind::all() {
        // Set up by the first bench that runs, so that one which is filtered out costs nothing.
        let mut bed: Option<Bed> = None;
        for clock in Clock::all() {
            group.bench_function(BenchmarkId::new(clock.label(), kind), |bencher| {
                let bed = bed.get_or_insert_with(|| Bed::new(kind, tunnels, message));
                bencher.iter_custom(|count| bed.time(clock, count, work));
            });
        }
    }
}

/// A proxy and the tunnels through it, which are closed before the proxy is drained.
struct Bed {
    load: Load,
    rig: Rig,
}

impl Bed {
    fn new(kind: Kind, tunnels: usize, message: &Message) -> Self {
        let rig = Rig::apart(kind);
        Self { load: Load::open(&rig, tunnels, message.clone()), rig }
    }

    fn time(&mut self, clock: Clock, count: u64, work: Work) -> Duration {
        let rounds = count.div_ceil(self.load.len());
        let took = self.rig.time(clock, || work(&mut self.load, rounds));
        scale(took, count, rounds * self.load.len())
    }
}

/// Our own workers and how they share connections, under a load with a thread for each CPU.
///
/// This is the bench for `[runtime] cores`, `accept` and `pin`.
fn workers(criterion: &mut Criterion) {
    let settings = [
        ("1 core", Runtime { cores: Cores::Count(1), ..default_runtime() }),
        ("all cores balanced", runtime_on_all(Accept::Balanced, true)),
        ("all cores kernel", runtime_on_all(Accept::Kernel, true)),
        ("all cores single", runtime_on_all(Accept::Single, true)),
        ("all cores not pinned", runtime_on_all(Accept::Balanced, false)),
    ];
    let mut group = criterion.benchmark_group("workers");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for (name, runtime) in settings {
        let mut hall: Option<Hall> = None;
        for clock in Clock::all() {
            group.bench_function(BenchmarkId::new(clock.label(), name), |bencher| {
                let hall = hall.get_or_insert_with(|| Hall::new(runtime.clone()));
                bencher.iter_custom(|count| hall.time(clock, count));
            });
        }
    }
    group.finish();
}

/// A proxy on every CPU under several loads at once.
struct Hall {
    loads: Vec<Load>,
    rig: Rig,
}

impl Hall {
    fn new(runtime: Runtime) -> Self {
        cpu::keep_on(cpu::all());
        let rig = Rig::ours(runtime, cpu::all());
        let message = Message::frame(1024);
        let lane = |_| Load::open(&rig, LANE_TUNNELS, message.clone());
        Self { loads: cpu::all().iter().map(lane).collect(), rig }
    }

    fn time(&mut self, clock: Clock, count: u64) -> Duration {
        let width: u64 = self.loads.iter().map(Load::len).sum();
        let rounds = count.div_ceil(width);
        let loads = &mut self.loads;
        let took = self.rig.time(clock, || run_all(loads, rounds));
        scale(took, count, rounds * width)
    }
}

/// Runs every load on a thread of its own.
fn run_all(loads: &mut [Load], rounds: u64) {
    thread::scope(|scope| {
        for load in loads {
            scope.spawn(|| load.round_trips(rounds));
        }
    });
}
