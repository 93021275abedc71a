//! The life of a short tunnel: connect, upgrade, one echo, close.
//!
//! Several at a time, as connections come; an iteration is one of them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use super::support::load::{self, Message};
use super::support::rig::{Clock, Kind, Rig};
use super::support::scale;

/// Tunnels that live at the same time. Arbitrary: enough to keep the proxy from sleeping between
/// the steps of one.
const BATCH: u16 = 16;

/// Bytes of the message.
const PAYLOAD_BYTES: usize = 64;

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    let mut message = Message::frame(PAYLOAD_BYTES);
    // A larger buffer changes nothing for one small message.
    for kind in Kind::all().filter(|&kind| kind != Kind::TokioLarge) {
        let mut rig: Option<Rig> = None;
        for clock in Clock::all() {
            group.bench_function(BenchmarkId::new(clock.label(), kind), |bencher| {
                let rig = rig.get_or_insert_with(|| Rig::apart(kind));
                bencher.iter_custom(|count| time(rig, clock, count, &mut message));
            });
        }
    }
    group.finish();
}

/// Returns what `count` tunnels took.
fn time(rig: &Rig, clock: Clock, count: u64, message: &mut Message) -> Duration {
    let batches = count.div_ceil(BATCH.into());
    let took = rig.time(clock, || {
        (0..batches).for_each(|_| load::churn(rig, BATCH.into(), message));
    });
    scale(took, count, batches * u64::from(BATCH))
}
