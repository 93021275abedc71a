//! The benches, in one binary: it links once, and its modules share the load.
//!
//! Every bench checks its result. `cargo bench -- --test` runs each of them once and measures
//! nothing; README.md says how to read the figures.

#![expect(clippy::disallowed_types, reason = "the load's sockets block")]
#![expect(unreachable_pub, reason = "the modules of a binary are nobody's interface")]

mod cache;
mod churn;
mod decide;
mod head;
mod policy;
mod support;
mod tunnel;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    support::cpu::remember_all();
    support::raise_open_files();
    // Before the command line, so that `-- --measurement-time 10` wins.
    let defaults = Criterion::default()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let mut criterion = defaults.configure_from_args();
    head::bench(&mut criterion);
    decide::bench(&mut criterion);
    policy::bench(&mut criterion);
    cache::bench(&mut criterion);
    tunnel::bench(&mut criterion);
    churn::bench(&mut criterion);
    criterion.final_summary();
}
