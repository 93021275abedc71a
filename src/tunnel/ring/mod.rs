//! The tunnels of one worker on a private ring: no task and no buffer for a tunnel that is idle.
//!
//! Both sockets leave the runtime. What arrives is received into buffers that all tunnels share, and
//! sent straight from there. The runtime knows one descriptor and one task, whose turns are bounded:
//! a turn does a limited number of rounds, and then the worker's other tasks have theirs.

mod buffers;
mod carry;
mod chain;
mod engine;
mod farewell;
mod lane;
mod pair;
mod port;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use buffers::Buffers;
use engine::{Engine, Start};
use pair::{Limits, Millis};
use port::Port;

use super::frames::Frames;
use super::{Ends, Patience, Side, Summary};
use crate::net::{Buffer, Stream, clock, failpoint};

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Buffers, a power of two up to 32,768. They must hold a full burst: 64 for 8,000 busy tunnels
    /// meant 68 us a message, 256 meant 13.
    pub buffers: u16,
    /// Bytes of a buffer. 16 KiB and the largest frame header, so that such a message needs one.
    pub buffer_bytes: u32,
    /// Operations that can be queued between two calls of the kernel; more make a call in between.
    pub entries: u32,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self { buffers: 256, buffer_bytes: 16 * 1024 + 256, entries: 2048 }
    }
}

/// The tunnels of one worker. `T` is what belongs to a tunnel and is handed back at its end.
pub struct Ring<T> {
    engine: RefCell<Engine<T>>,
    /// Readable when the ring has something to do, always writable.
    readiness: Stream,
    /// Set when something was asked of the ring outside of its task.
    is_nudged: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whether its task runs, or will.
    is_alive: Cell<bool>,
    /// Where its time begins.
    since: Instant,
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("tunnels", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Ring<T> {
    /// A ring without tunnels, for the thread that calls this. Nothing moves before [`Ring::run`] is
    /// awaited.
    ///
    /// # Errors
    ///
    /// The kernel is older than 6.1 or refuses: use the pump.
    pub fn new(options: RingOptions) -> io::Result<Self> {
        let buffers = Buffers::new(options.buffers, options.buffer_bytes)?;
        let port = Port::new(options.entries, buffers)?;
        let readiness = Stream::new(port.wake_descriptor()?)?;
        Ok(Self {
            engine: RefCell::new(Engine::new(port)),
            readiness,
            is_nudged: Cell::new(false),
            waker: RefCell::default(),
            is_alive: Cell::new(true),
            since: clock::now(),
        })
    }

    /// Tunnels that have not ended, or whose end was not told yet.
    pub fn len(&self) -> usize {
        self.engine.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over both ends of a tunnel; `token` comes back when it has ended.
    ///
    /// The sockets are closed at its end: with FIN after an orderly one or a timeout, with RST where
    /// a side aborted.
    ///
    /// # Errors
    ///
    /// No descriptor is left, or the ring does not run: everything is handed back untouched, for the
    /// pump.
    pub fn adopt(&self, ends: Ends, patience: Patience, token: T) -> Result<(), Box<(Ends, T)>> {
        let mut engine = self.engine.borrow_mut();
        if !self.is_alive.get() || !engine.has_place() {
            return Err(Box::new((ends, token)));
        }
        // Duplicates, because an operation of the runtime, such as a wait that was given up, may
        // still hold the original.
        let (Ok(client), Ok(backend)) = (ends.client.duplicate(), ends.backend.duplicate()) else {
            return Err(Box::new((ends, token)));
        };
        let is_websocket = ends.is_websocket;
        let frames = [&ends.client_early, &ends.backend_early].map(|early| {
            let mut frames = Frames::new(is_websocket);
            frames.follow(early.as_ref().map_or(&[], Buffer::filled));
            frames
        });
        let up = send_early(&ends.backend, ends.client_early);
        let down = send_early(&ends.client, ends.backend_early);
        let early = [(Side::Client, up.0, up.1), (Side::Backend, down.0, down.1)];
        let limits =
            Limits { idle: millis(patience.idle), half_close: millis(patience.half_close) };
        engine.adopt(
            Start { client, backend, limits, token, early, frames },
            self.time(clock::now()),
        );
        drop(engine);
        self.nudge();
        Ok(())
    }

    /// Closes the tunnels whose patience has ended at `now`, and frees what a burst has left behind.
    pub fn sweep(&self, now: Instant) {
        self.engine.borrow_mut().sweep(self.time(now));
        self.nudge();
    }

    /// Tunnels that no drain has ended yet.
    pub fn running(&self) -> usize {
        self.engine.borrow().running()
    }

    /// Closes `due` of the tunnels because the process leaves, picked by `random`, which returns numbers
    /// below 2^32. Peers that speak WebSocket are told so with `code`; where one is in the middle of a
    /// frame its tunnel is left for another call.
    pub fn drain_some(&self, due: usize, code: u16, random: impl FnMut() -> u64) {
        self.engine.borrow_mut().drain_some(due, code, random);
        self.nudge();
    }

    /// Closes every tunnel, for the reason that the process leaves.
    pub fn drain(&self, code: u16) {
        self.engine.borrow_mut().drain(code);
        self.nudge();
    }

    /// Makes the ring work, for as long as it is awaited; `on_end` learns of every tunnel's end.
    ///
    /// Returns only if the ring breaks.
    ///
    /// # Errors
    ///
    /// The kernel refuses to go on. All tunnels were closed, and no further ones are taken over.
    ///
    /// # Cancellation
    ///
    /// All tunnels are closed.
    pub async fn run(self: Rc<Self>, on_end: impl Fn(T, Summary)) -> io::Result<()> {
        let _abandon = Abandon(&self);
        loop {
            // Kept over turns that began with a nudge: dropping it would cost the runtime a cancel.
            let mut readable = pin!(self.readiness.readable());
            while !self.woken(readable.as_mut()).await? {
                self.turns(&on_end).await?;
            }
            self.turns(&on_end).await?;
        }
    }

    /// Waits for something to do; returns whether `readable` is used up.
    async fn woken(
        &self,
        mut readable: Pin<&mut impl Future<Output = io::Result<()>>>,
    ) -> io::Result<bool> {
        poll_fn(|cx| {
            if let Poll::Ready(ready) = readable.as_mut().poll(cx) {
                return Poll::Ready(ready.map(|()| true));
            }
            if self.is_nudged.take() {
                return Poll::Ready(Ok(false));
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Works until nothing is left to do, with pauses for the others of this worker.
    async fn turns(&self, on_end: &impl Fn(T, Summary)) -> io::Result<()> {
        loop {
            self.is_nudged.set(false);
            if !self.is_empty() {
                failpoint::reach("ring");
            }
            let has_more = self.engine.borrow_mut().turn(self.time(clock::now()))?;
            self.tell(on_end);
            if !has_more {
                return Ok(());
            }
            // Always so: a turn of the runtime's driver, and nothing more.
            self.readiness.writable().await?;
        }
    }

    fn tell(&self, on_end: &impl Fn(T, Summary)) {
        loop {
            let ended = self.engine.borrow_mut().take_ended();
            let Some((token, summary)) = ended else { break };
            on_end(token, summary);
        }
    }

    fn nudge(&self) {
        self.is_nudged.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn time(&self, now: Instant) -> Millis {
        millis(Some(now.saturating_duration_since(self.since)))
    }
}

/// Closes all tunnels of a ring whose task ends.
struct Abandon<'a, T>(&'a Ring<T>);

impl<T> Drop for Abandon<'_, T> {
    fn drop(&mut self) {
        self.0.is_alive.set(false);
        // Borrowed only while a panic passes through; then the process ends soon.
        if let Ok(mut engine) = self.0.engine.try_borrow_mut() {
            engine.abandon();
        }
    }
}

/// Sends early bytes; returns how many were taken, and those that were not.
fn send_early(to: &Stream, early: Option<Buffer>) -> (usize, Vec<u8>) {
    let Some(early) = early else { return (0, Vec::new()) };
    let bytes = early.filled();
    // A failure is met again by whoever sends the rest, and is then reported.
    let taken = to.try_write(bytes).unwrap_or(0);
    (taken, bytes.get(taken..).unwrap_or_default().to_vec())
}

fn millis(duration: Option<Duration>) -> Millis {
    duration.map_or(Millis::MAX, |some| Millis::try_from(some.as_millis()).unwrap_or(Millis::MAX))
}
