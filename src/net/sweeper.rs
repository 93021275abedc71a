//! Deadlines of one worker: a table that one task scans, instead of a timer per connection.
//!
//! A connection's [`Watch`] holds a deadline and the waker of the task that waits under it. The scan
//! sets a flag and wakes; the waiting operation is then dropped, which is safe because only
//! readiness is ever awaited. 100,000 entries scan in about 0.3 ms; a timer each would cost 640 B.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use slab::Slab;

use super::clock;
use super::stream::Stream;

/// Why a wait was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The deadline has passed.
    Deadline,
    /// The process drains and this connection must go.
    Drain,
}

/// How long a busy connection rests on the epoll driver; the timer's granularity.
const REST: Duration = Duration::from_millis(1);

/// All watches of one worker.
#[derive(Debug, Default)]
pub struct Sweeper {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Whether a busy connection must rest to let others run.
    needs_rest: bool,
    /// Set when a drain's deadline has passed: nothing is forgiven any more.
    is_over: Cell<bool>,
    /// The most watches at once since somebody asked.
    peak: Cell<usize>,
}

#[derive(Debug, Default)]
struct Entry {
    deadline: Cell<Option<Instant>>,
    fired: Cell<Option<Fired>>,
    /// Set while the connection waits between two requests, where a drain may end it.
    idle: Cell<bool>,
    /// Set once the connection is a tunnel, which a drain may end before its deadline.
    is_tunnel: Cell<bool>,
    /// Set while the task wants to be woken by every sweep.
    ticks: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Picks so many of so many, each as likely as the others (selection sampling, Knuth's algorithm S).
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    due: usize,
    left: usize,
}

impl Pick {
    /// Picks `due` of `left`.
    pub fn new(due: usize, left: usize) -> Self {
        Self { due: due.min(left), left }
    }

    /// Whether the next one is picked; `random` is below 2^32.
    pub fn next(&mut self, random: u64) -> bool {
        let is_picked = (random * self.left as u64) >> 32 < self.due as u64;
        self.left = self.left.saturating_sub(1);
        self.due -= usize::from(is_picked);
        is_picked
    }
}

impl Entry {
    fn is_open_tunnel(&self) -> bool {
        self.is_tunnel.get() && self.fired.get() != Some(Fired::Drain)
    }

    /// Sets the flag and returns whom to wake.
    fn fire(&self, cause: Fired) -> Option<Waker> {
        self.fired.set(Some(cause));
        self.waker.borrow_mut().take()
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.fired.get().is_none() && self.deadline.get().is_some_and(|at| at <= now)
    }
}

impl Sweeper {
    /// A table without watches.
    ///
    /// `needs_rest` says that the driver answers a wait at once when it believes the socket ready, as
    /// epoll does: a fast connection would then keep its core for ever.
    pub fn new(needs_rest: bool) -> Self {
        Self { needs_rest, ..Self::default() }
    }

    /// Adds a watch without a deadline.
    pub fn watch(self: &Rc<Self>) -> Watch {
        let entry = Rc::new(Entry::default());
        let mut entries = self.entries.borrow_mut();
        let key = entries.insert(Rc::clone(&entry));
        self.peak.set(self.peak.get().max(entries.len()));
        Watch { entry, sweeper: Rc::clone(self), key }
    }

    /// Fires every watch whose deadline has passed.
    pub fn sweep(&self, now: Instant) {
        self.fire_where(Fired::Deadline, |entry| entry.is_overdue(now));
        self.wake_each(|entry| {
            entry.ticks.replace(false).then(|| entry.waker.borrow_mut().take()).flatten()
        });
    }

    /// Fires the watches of connections that wait between two requests.
    pub fn drain_idle(&self) {
        self.fire_where(Fired::Drain, |entry| entry.idle.get());
    }

    /// Tunnels that no drain has ended yet.
    pub fn tunnels(&self) -> usize {
        self.entries.borrow().iter().filter(|(_, entry)| entry.is_open_tunnel()).count()
    }

    /// Ends `due` of the tunnels, picked by `random`, which returns numbers below 2^32.
    pub fn drain_some(&self, due: usize, mut random: impl FnMut() -> u64) {
        let mut pick = Pick::new(due, self.tunnels());
        let pick = RefCell::new(move || pick.next(random()));
        self.fire_where(Fired::Drain, |entry| entry.is_open_tunnel() && pick.borrow_mut()());
    }

    /// Fires every watch: the drain's deadline has passed.
    pub fn drain_all(&self) {
        self.is_over.set(true);
        self.fire_where(Fired::Drain, |_| true);
    }

    fn fire_where(&self, cause: Fired, chosen: impl Fn(&Entry) -> bool) {
        self.wake_each(|entry| chosen(entry).then(|| entry.fire(cause)).flatten());
    }

    fn wake_each(&self, waker: impl Fn(&Entry) -> Option<Waker>) {
        // Woken after the scan: a wake may drop a task, and with it an entry of this table.
        let entries = self.entries.borrow();
        let woken: Vec<Waker> = entries.iter().filter_map(|(_, entry)| waker(entry)).collect();
        drop(entries);
        for waker in woken {
            waker.wake();
        }
    }

    /// Watches alive.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// The most watches that were alive at once since the last call.
    pub fn take_peak(&self) -> usize {
        self.peak.replace(self.len())
    }

    /// Whether no watch is alive.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

/// How often the sweeper must run so that no deadline is overshot by more than about an eighth of
/// the shortest timeout: between 5 ms and 1 s.
pub fn sweep_interval(shortest_timeout: Duration) -> Duration {
    (shortest_timeout / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// The deadline of one connection.
///
/// Belongs to one task: it keeps the waker of whoever waited last.
#[derive(Debug)]
pub struct Watch {
    entry: Rc<Entry>,
    sweeper: Rc<Sweeper>,
    key: usize,
}

impl Watch {
    /// Sets or clears the deadline and forgets one that has fired, except a drain.
    pub fn set(&self, deadline: Option<Instant>) {
        self.entry.deadline.set(deadline);
        if self.entry.fired.get() == Some(Fired::Deadline) {
            self.entry.fired.set(None);
        }
    }

    /// Sets the deadline to `timeout` from now; `None` clears it.
    pub fn set_in(&self, timeout: Option<Duration>) {
        self.set(timeout.and_then(|timeout| clock::now().checked_add(timeout)));
    }

    /// Says whether the connection waits between two requests, where a drain may end it.
    pub fn set_idle(&self, idle: bool) {
        self.entry.idle.set(idle);
    }

    /// Says that the connection is a tunnel from now on.
    pub fn set_tunnel(&self) {
        self.entry.is_tunnel.set(true);
    }

    /// Forgets a drain that has fired, because the connection still has something to do; `false` when
    /// the drain's deadline has passed.
    pub fn forgive(&self) -> bool {
        let forgiven = !self.sweeper.is_over.get();
        if forgiven {
            self.entry.fired.set(None);
        }
        forgiven
    }

    /// Why the watch has fired, if it has.
    pub fn fired(&self) -> Option<Fired> {
        self.entry.fired.get()
    }

    /// Awaits `readiness` until the watch fires.
    ///
    /// # Errors
    ///
    /// `Ok(Err(_))` is the cause for which the wait was given up; `Err(_)` a failure of the driver.
    ///
    /// # Cancellation
    ///
    /// As safe as `readiness`, which is dropped when the watch fires: pass only `readable` and
    /// `writable`.
    pub fn guard<F: Future<Output = io::Result<()>>>(&self, readiness: F) -> Guard<'_, F> {
        Guard { watch: self, readiness }
    }

    /// Waits until the peer of `stream` has aborted, by a look at every sweep.
    ///
    /// For waits that have nothing to read from that peer: an armed poll would cost every request
    /// what only an abandoned one gains. Whoever waits under a deadline of the same watch must not
    /// wait here at the same time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn aborted(&self, stream: &Stream) {
        let mut is_armed = false;
        poll_fn(|cx| {
            // Not at the first poll: the peer was there a moment ago.
            let is_due = is_armed && !self.entry.ticks.get();
            if is_due && stream.is_aborted() {
                return Poll::Ready(());
            }
            if !is_armed || is_due {
                is_armed = true;
                self.entry.ticks.set(true);
            }
            self.park(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Lets the other connections of this core run, for one that has not waited for long.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn pause(&self) {
        // Boxed, so that the timer does not make every task larger.
        Box::pin(monoio::time::sleep(REST)).await;
    }

    /// Lets the other connections of this core run, where waiting for readiness does not.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn rest(&self) {
        if self.sweeper.needs_rest {
            self.pause().await;
        }
    }

    fn park(&self, waker: &Waker) {
        let mut parked = self.entry.waker.borrow_mut();
        if !parked.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *parked = Some(waker.clone());
        }
    }
}

pin_project! {
    /// A wait under a deadline; see [`Watch::guard`].
    ///
    /// Written by hand, because an async function would hold the operation twice.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Guard<'a, F> {
        watch: &'a Watch,
        #[pin]
        readiness: F,
    }
}

impl<F: Future<Output = io::Result<()>>> Future for Guard<'_, F> {
    type Output = io::Result<Result<(), Fired>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(cause) = this.watch.entry.fired.get() {
            return Poll::Ready(Ok(Err(cause)));
        }
        let ready = this.readiness.poll(cx);
        if ready.is_pending() {
            this.watch.park(cx.waker());
        }
        ready.map_ok(Ok)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.sweeper.entries.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_overdue_fires_and_a_new_deadline_forgets_it() {
        let sweeper = Rc::new(Sweeper::default());
        let now = clock::now();
        let (early, late, never) = (sweeper.watch(), sweeper.watch(), sweeper.watch());
        early.set(Some(now));
        late.set(Some(now + Duration::from_secs(5)));
        sweeper.sweep(now);
        assert_eq!(early.fired(), Some(Fired::Deadline));
        assert_eq!((late.fired(), never.fired()), (None, None));
        early.set(Some(now + Duration::from_secs(9)));
        assert_eq!(early.fired(), None);
        sweeper.sweep(now + Duration::from_secs(5));
        assert_eq!((early.fired(), late.fired()), (None, Some(Fired::Deadline)));
    }

    #[test]
    fn a_drain_ends_idle_connections_first_and_all_at_its_deadline() {
        let sweeper = Rc::new(Sweeper::default());
        let (idle, busy) = (sweeper.watch(), sweeper.watch());
        idle.set_idle(true);
        sweeper.drain_idle();
        assert_eq!((idle.fired(), busy.fired()), (Some(Fired::Drain), None));
        assert!(idle.forgive());
        assert_eq!(idle.fired(), None);
        sweeper.drain_all();
        assert!(!busy.forgive(), "the deadline has passed");
        busy.set(None);
        assert_eq!(busy.fired(), Some(Fired::Drain), "a new deadline does not undo a drain");
    }

    #[test]
    fn some_tunnels_are_drained_and_nothing_else() {
        let sweeper = Rc::new(Sweeper::default());
        let watches: Vec<_> = (0..100).map(|_| sweeper.watch()).collect();
        watches.iter().step_by(2).for_each(Watch::set_tunnel);
        let mut seed = 1_u64;
        let random = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            seed >> 32
        };
        sweeper.drain_some(20, random);
        assert_eq!(sweeper.tunnels(), 30);
        assert!(watches.iter().skip(1).step_by(2).all(|watch| watch.fired().is_none()));
        let first = watches.iter().take(50).filter(|watch| watch.fired().is_some()).count();
        assert!((3..=17).contains(&first), "picked from everywhere: {first}");
        sweeper.drain_some(99, || u64::from(u32::MAX));
        assert_eq!(sweeper.tunnels(), 0);
    }

    #[test]
    fn a_dropped_watch_leaves_the_table() {
        let sweeper = Rc::new(Sweeper::default());
        let watches: Vec<_> = (0..5).map(|_| sweeper.watch()).collect();
        assert_eq!(sweeper.len(), 5);
        drop(watches);
        assert!(sweeper.is_empty());
        assert_eq!((sweeper.take_peak(), sweeper.take_peak()), (5, 0));
    }
}
