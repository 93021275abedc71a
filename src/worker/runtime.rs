//! The ladder of drivers: the fastest ring this kernel gives us, then slower ones, then epoll.

use std::future::Future;
use std::io;

use io_uring::IoUring;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::config::DriverChoice;

/// Completions that fit beside each submission entry.
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// Which driver a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// `io_uring` with `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1): a quarter cheaper a message.
    Deferred,
    /// `io_uring` with `COOP_TASKRUN` (Linux 5.19).
    Cooperative,
    /// `io_uring` without flags.
    Plain,
    /// Readiness by epoll.
    Epoll,
}

impl Rung {
    /// The word in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Deferred => "io_uring (defer_taskrun)",
            Self::Cooperative => "io_uring (coop_taskrun)",
            Self::Plain => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// The word in metrics: what the kernel offers, without the flags.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Deferred | Self::Cooperative | Self::Plain => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// A runtime on either driver.
pub(super) enum AnyRuntime {
    /// On a ring.
    Uring(Runtime<TimeDriver<IoUringDriver>>),
    /// On epoll.
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl AnyRuntime {
    /// Runs `future` to its end on this thread.
    pub(super) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// Builds the runtime of this thread.
///
/// # Errors
///
/// `io_uring` is asked for and refused, or no driver works: leave, with the remedy.
pub(super) fn build(choice: DriverChoice, ring_entries: u32) -> io::Result<(AnyRuntime, Rung)> {
    if choice == DriverChoice::Epoll {
        return epoll(ring_entries);
    }
    let mut refusal = None;
    for rung in [Rung::Deferred, Rung::Cooperative, Rung::Plain] {
        match ring(rung, ring_entries) {
            Ok(runtime) => return Ok((AnyRuntime::Uring(runtime), rung)),
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) if choice == DriverChoice::IoUring => Err(error),
        _ => epoll(ring_entries),
    }
}

fn ring(rung: Rung, ring_entries: u32) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut flags = IoUring::builder();
    flags.setup_clamp().setup_submit_all().setup_cqsize(ring_entries * COMPLETIONS_PER_ENTRY);
    match rung {
        Rung::Deferred => {
            flags.setup_single_issuer().setup_defer_taskrun();
        }
        Rung::Cooperative => {
            flags.setup_coop_taskrun();
        }
        Rung::Plain | Rung::Epoll => {
            flags = IoUring::builder();
            flags.setup_clamp();
        }
    }
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(ring_entries)
        .uring_builder(flags)
        .enable_timer()
        .build()
}

fn epoll(events: u32) -> io::Result<(AnyRuntime, Rung)> {
    let runtime =
        RuntimeBuilder::<LegacyDriver>::new().with_entries(events).enable_timer().build()?;
    Ok((AnyRuntime::Epoll(runtime), Rung::Epoll))
}
