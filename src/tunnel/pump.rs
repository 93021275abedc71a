//! The tunnel on the worker's own runtime: one task, both directions, no buffer while idle.
//!
//! Works on both drivers. The difficulty is the end: each direction ends by itself, and the first
//! cause decides what the log says and whether the other side sees FIN or RST.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::frames::{Frames, GOING_AWAY, close_frame, mask};
use super::settle::{Broken, settle};
use super::{Ends, Patience, Side, Summary};
use crate::net::{Buffer, Fired, Pool, Stream, Watch};

/// Full reads in a row after which a direction lets the others of its core go first: 4 of 64 KiB.
const READS_PER_TURN: u32 = 4;

/// Bytes after which a direction rests where the driver makes it necessary.
const BYTES_PER_STINT: u64 = 1024 * 1024;

/// Looks after a close frame, and the pause between two, before the sockets close: the peers' own ends are
/// awaited, since bytes that nobody reads would make the close a reset.
const LOOKS_MAX: u32 = 100;
const LOOK: Duration = Duration::from_millis(10);

/// What both directions share. Cells, because both run in one task.
struct Pump<'a> {
    pool: &'a Rc<Pool>,
    watch: &'a Watch,
    patience: Patience,
    /// Who ended first.
    first_end: Cell<Option<Side>>,
}

impl Pump<'_> {
    /// Starts the silence anew.
    fn moved(&self) {
        self.watch.set_in(match self.first_end.get() {
            None => self.patience.idle,
            Some(_) => self.patience.half_close,
        });
    }

    /// Notes that `side` has ended its direction; says whether it was the first.
    fn ended(&self, side: Side) -> bool {
        let is_first = self.first_end.get().is_none();
        if is_first {
            self.first_end.set(Some(side));
            self.moved();
        }
        is_first
    }
}

/// What one turn came to.
enum Turn {
    /// So many bytes went through.
    Moved(u64),
    /// The sender has ended its direction, and everything before that went through.
    End,
}

/// One direction.
struct Lane<'a> {
    from: &'a Stream,
    to: &'a Stream,
    sender: Side,
    receiver: Side,
    /// Bytes that the receiver's socket took.
    bytes: &'a Cell<u64>,
    /// Where they end.
    frames: &'a Cell<Frames>,
}

/// Carries bytes both ways until both directions have ended, one side aborts or `watch` fires.
///
/// Drop `ends` afterwards: that closes both sockets, with FIN after an orderly end or a timeout,
/// with RST where the other side aborted. `watch` belongs to the tunnel until then. A drain says goodbye
/// with `close_code` where it may.
///
/// # Cancellation
///
/// Bytes in transit are lost; drop `ends`.
pub async fn run(
    ends: &mut Ends,
    pool: &Rc<Pool>,
    watch: &Watch,
    (patience, close_code): (Patience, &Cell<u16>),
) -> Summary {
    let (client_early, backend_early) = (ends.client_early.take(), ends.backend_early.take());
    let (client, backend) = (&ends.client, &ends.backend);
    let pump = Pump { pool, watch, patience, first_end: Cell::new(None) };
    let (up_bytes, down_bytes) = (Cell::new(0), Cell::new(0));
    let frames = Frames::new(ends.is_websocket);
    let (up_frames, down_frames) = (Cell::new(frames), Cell::new(frames));
    let up = Lane {
        from: client,
        to: backend,
        sender: Side::Client,
        receiver: Side::Backend,
        bytes: &up_bytes,
        frames: &up_frames,
    };
    let down = Lane {
        from: backend,
        to: client,
        sender: Side::Backend,
        receiver: Side::Client,
        bytes: &down_bytes,
        frames: &down_frames,
    };
    pump.moved();
    let mut up_run = pin!(up.carry(&pump, client_early));
    let mut down_run = pin!(down.carry(&pump, backend_early));
    let (mut up_ended, mut down_ended) = (false, false);
    // Not a helper that takes both: what is passed by value is held twice for a tunnel's life.
    let broken = poll_fn(|cx| {
        if !up_ended && let Poll::Ready(end) = up_run.as_mut().poll(cx) {
            end?;
            up_ended = true;
        }
        if !down_ended && let Poll::Ready(end) = down_run.as_mut().poll(cx) {
            end?;
            down_ended = true;
        }
        if up_ended && down_ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
    .err();
    if matches!(broken, Some(Broken::Fired(Fired::Drain))) && pump.first_end.get().is_none() {
        let told = [
            say_goodbye(client, down_frames.get(), close_frame(close_code.get(), None)),
            say_goodbye(backend, up_frames.get(), close_frame(GOING_AWAY, Some(mask()))),
        ];
        if told.contains(&true) {
            // Not part of what every tunnel holds.
            Box::pin(hear_out(client, backend, pool)).await;
        }
    }
    let verdict = settle(broken, pump.first_end.get());
    if verdict.aborts {
        client.reset_on_drop();
        backend.reset_on_drop();
    }
    Summary {
        client_to_backend_bytes: up_bytes.get(),
        backend_to_client_bytes: down_bytes.get(),
        reason: verdict.reason,
        failure: verdict.failure,
    }
}

/// Sends a close frame, the last thing that this peer hears, if one may stand here.
fn say_goodbye(to: &Stream, frames: Frames, (frame, len): ([u8; 8], usize)) -> bool {
    // A socket that takes none of it is full: then the close alone must do.
    let is_sent = frames.is_between() && to.try_write(frame.get(..len).unwrap_or_default()).is_ok();
    if is_sent {
        to.shutdown_write();
    }
    is_sent
}

/// Drops what still comes, until both peers have ended or had their time.
async fn hear_out(client: &Stream, backend: &Stream, pool: &Rc<Pool>) {
    let is_over = |stream: &Stream| {
        let mut buffer = pool.take_large();
        loop {
            match stream.try_read(buffer.spare_mut()) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(_) | Err(_) => return true,
            }
        }
    };
    for _ in 0..LOOKS_MAX {
        let are_over = [is_over(client), is_over(backend)];
        if are_over == [true, true] {
            return;
        }
        monoio::time::sleep(LOOK).await;
    }
}

impl Lane<'_> {
    async fn carry(&self, pump: &Pump<'_>, early: Option<Buffer>) -> Result<(), Broken> {
        if let Some(buffer) = early {
            self.send(pump, buffer).await?;
        }
        let mut stint_bytes = 0;
        loop {
            let readable = pump.watch.guard(self.from.readable()).await;
            readable.map_err(|error| Broken::At(self.sender, error))??;
            match self.turn(pump).await? {
                Turn::Moved(bytes) => stint_bytes += bytes,
                Turn::End => {
                    self.end(pump);
                    return Ok(());
                }
            }
            if stint_bytes >= BYTES_PER_STINT {
                stint_bytes = 0;
                pump.watch.rest().await;
            }
        }
    }

    /// Carries the end of the sender's direction on.
    fn end(&self, pump: &Pump<'_>) {
        // After the second end both sockets close, which says the same.
        if pump.ended(self.sender) {
            self.to.shutdown_write();
        }
    }

    /// Moves what is there, but no more than is fair to the others.
    async fn turn(&self, pump: &Pump<'_>) -> Result<Turn, Broken> {
        let mut bytes = 0;
        for _ in 0..READS_PER_TURN {
            let Some(buffer) = self.receive(pump)? else { break };
            if buffer.is_empty() {
                return Ok(Turn::End);
            }
            let was_full = buffer.is_full();
            bytes += buffer.filled().len() as u64;
            self.send(pump, buffer).await?;
            if !was_full {
                break;
            }
        }
        Ok(Turn::Moved(bytes))
    }

    /// Reads what is there into a buffer from the pool; `None` if nothing is, empty at the end.
    fn receive(&self, pump: &Pump<'_>) -> Result<Option<Buffer>, Broken> {
        let mut buffer = pump.pool.take_large();
        match self.from.try_read(buffer.spare_mut()) {
            Ok(count) => {
                buffer.advance(count);
                Ok(Some(buffer))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Broken::At(self.sender, error)),
        }
    }

    /// Sends all of `buffer`, which goes back to the pool.
    async fn send(&self, pump: &Pump<'_>, mut buffer: Buffer) -> Result<(), Broken> {
        while !buffer.is_empty() {
            match self.to.try_write(buffer.filled()) {
                Ok(count) => {
                    let mut frames = self.frames.get();
                    frames.follow(buffer.filled().get(..count).unwrap_or_default());
                    self.frames.set(frames);
                    buffer.consume(count);
                    self.bytes.set(self.bytes.get() + count as u64);
                    pump.moved();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writable = pump.watch.guard(self.to.writable()).await;
                    writable.map_err(|error| Broken::At(self.receiver, error))??;
                }
                Err(error) => return Err(Broken::At(self.receiver, error)),
            }
        }
        Ok(())
    }
}
