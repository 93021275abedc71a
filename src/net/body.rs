//! Reading a body for ourselves: the payload in pieces, without its framing.

use std::time::Duration;

use super::inbox::{Inbox, ReadError, Size};
use super::relay::{RelayError, TRAILER_BYTES_MAX};
use super::stream::Stream;
use super::sweeper::Watch;
use crate::http1::chunked::Decoder;
use crate::http1::framing::Framing;

/// Bytes read without a wait after which the others of this core get a turn: a backend may send faster
/// than we read for as long as it likes.
const BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes read after which a reader rests where the driver makes it necessary.
const BYTES_PER_STINT: usize = 1 << 20;

/// A body that is being read.
#[derive(Debug)]
pub struct BodyReader<'a> {
    from: &'a Stream,
    inbox: &'a mut Inbox,
    watch: &'a Watch,
    idle: Option<Duration>,
    state: State,
    /// Bytes at the front of the inbox that were given out and are consumed by the next call.
    given: usize,
    turn_bytes: usize,
    stint_bytes: usize,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
    Done,
}

impl<'a> BodyReader<'a> {
    /// A reader of the body that begins in `inbox` and goes on in `from`; `idle` is the longest pause.
    pub fn new(
        from: &'a Stream,
        inbox: &'a mut Inbox,
        watch: &'a Watch,
        idle: Option<Duration>,
        framing: Framing,
    ) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(Decoder::new(TRAILER_BYTES_MAX))),
            Framing::UntilClose => State::UntilClose,
        };
        Self { from, inbox, watch, idle, state, given: 0, turn_bytes: 0, stint_bytes: 0 }
    }

    /// Returns the next piece, never empty; `None` at the end of the body. What follows the body
    /// stays in the inbox.
    ///
    /// # Errors
    ///
    /// The body is incomplete or malformed: drop the connection and do not use what came.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read stays in the inbox.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, RelayError> {
        self.inbox.consume(std::mem::take(&mut self.given));
        while !matches!(self.state, State::Done) {
            let filled = self.more().await?;
            let count = self.decode(filled)?;
            if count > 0 {
                return Ok(self.inbox.filled().get(..count));
            }
            self.inbox.consume(std::mem::take(&mut self.given));
        }
        Ok(None)
    }

    /// Finds the payload at the front of the inbox, where `filled` bytes are; returns its length.
    fn decode(&mut self, filled: usize) -> Result<usize, RelayError> {
        if filled == 0 && !matches!(self.state, State::UntilClose) {
            return Err(ReadError::Closed.into());
        }
        let (count, is_done) = match &mut self.state {
            State::Done => (0, true),
            State::UntilClose => (filled, filled == 0),
            State::Length(left) => {
                let count = usize::try_from(*left).map_or(filled, |left| left.min(filled));
                *left -= count as u64;
                (count, *left == 0)
            }
            State::Chunked(decoder) => {
                let decoded = decoder.decode(self.inbox.filled_mut())?;
                self.given = decoded.consumed;
                (decoded.payload, decoded.done)
            }
        };
        // The payload of chunks was moved to the front; what else was decoded goes with it.
        self.given = self.given.max(count);
        if is_done {
            self.state = State::Done;
        }
        Ok(count)
    }

    /// Waits for bytes if none are there; 0 is the end of the stream.
    async fn more(&mut self) -> Result<usize, RelayError> {
        if !self.inbox.is_empty() {
            return Ok(self.inbox.filled().len());
        }
        if self.stint_bytes >= BYTES_PER_STINT {
            self.stint_bytes = 0;
            self.watch.rest().await;
        }
        self.watch.set_in(self.idle);
        let now = if self.turn_bytes < BYTES_PER_TURN {
            self.inbox.read_now(self.from, Size::Large)?
        } else {
            None
        };
        let count = if let Some(count) = now {
            count
        } else {
            self.turn_bytes = 0;
            self.inbox.fill(self.from, self.watch, Size::Large).await?
        };
        self.turn_bytes += count;
        self.stint_bytes += count;
        Ok(count)
    }
}
