//! CPUs for the proxy and for the load, and the CPU time of the proxy's threads.
//!
//! The proxy runs in this process, so its time is told apart by thread: those that did not exist
//! before it started are its own. Time comes from `schedstat`, in ns, which is exact only for a thread
//! that sleeps: one that runs has the time since the last tick missing, 4 ms of a sample. So the
//! meter waits until they all sleep.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How often the meter looks whether the proxy sleeps before it makes do with what there is.
/// Arbitrary: a second or so of looking.
const LOOKS_MAX: u32 = 50_000;

static ALL: OnceLock<Vec<usize>> = OnceLock::new();

/// Remembers which CPUs this process may use; call it before any thread is pinned.
pub fn remember_all() {
    all();
}

/// The CPUs this process may use; at least one.
pub fn all() -> &'static [usize] {
    ALL.get_or_init(|| {
        let set = sched_getaffinity(None).expect("asking for our own affinity");
        (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
    })
}

/// The CPU of the proxy.
pub fn of_proxy() -> &'static [usize] {
    all().get(..1).expect("a process has a CPU")
}

/// The CPU of the load; the proxy's, if there is no other.
pub fn of_load() -> &'static [usize] {
    all().get(all().len() - 1..).expect("a process has a CPU")
}

/// Keeps this thread, and those it starts from now on, on these CPUs.
pub fn keep_on(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).expect("these are our own CPUs");
}

/// Returns whether the kernel counts the CPU time of threads in ns.
pub fn is_counted() -> bool {
    Path::new("/proc/self/schedstat").exists()
}

/// Counts the CPU time of every thread started after it.
#[derive(Debug)]
pub struct Meter {
    foreign: HashSet<String>,
}

impl Meter {
    /// Takes down the threads that there are: they are not counted.
    pub fn new() -> Self {
        Self { foreign: threads().collect() }
    }

    /// The CPU time so far of the threads that live now, as soon as none of them runs: call it while
    /// the proxy has nothing to do. A thread that starts and ends between two calls counts in
    /// neither: the load makes use of that.
    pub fn total(&self) -> Duration {
        let own = || threads().filter(|thread| !self.foreign.contains(thread));
        let looks = (0..LOOKS_MAX).take_while(|_| own().any(|thread| is_running(&thread)));
        looks.for_each(|_| thread::yield_now());
        Duration::from_nanos(own().filter_map(|thread| on_cpu(&thread)).sum())
    }
}

fn threads() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc/self/task").expect("our own threads");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Returns whether a thread runs or waits for a CPU.
fn is_running(thread: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    // The name before the state stands in parentheses, and may hold some.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

/// The time a thread ran, in ns; `None` if it has ended.
fn on_cpu(thread: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
