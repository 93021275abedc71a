//! Moving a framed body from one connection to another, and everything that is sent besides it.
//!
//! The framing of the body that comes in and the coding of the body that goes out are independent;
//! chunks are decoded and written anew, so that no extension and no odd chunk line is passed on. At
//! most one buffer is held, and only while the receiver is slower than the sender.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::inbox::{Inbox, ReadError, Size};
use super::stream::{Stream, is_reset};
use super::sweeper::{Fired, Watch};
use crate::http1::chunked::{ChunkError, Decoder, LAST_CHUNK, chunk_head};
use crate::http1::forward;
use crate::http1::framing::Framing;

/// Bytes of a trailer section (RFC 9112 7.1.2) that are accepted.
pub(super) const TRAILER_BYTES_MAX: usize = 8 * 1024;

const CRLF: &[u8] = b"\r\n";

/// Bytes moved without waiting after which the others of this core get a turn.
const BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes moved after which a relay rests where the driver makes it necessary.
const BYTES_PER_STINT: usize = 1024 * 1024;

/// Why nothing more could be written.
#[derive(Debug)]
pub enum WriteError {
    /// The peer does not take more: it closed or aborted.
    Closed,
    /// The deadline passed first.
    Timeout,
    /// The process is leaving.
    Drain,
    /// The system failed.
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        if is_reset(&error) { Self::Closed } else { Self::Io(error) }
    }
}

impl From<Fired> for WriteError {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::Deadline => Self::Timeout,
            Fired::Drain => Self::Drain,
        }
    }
}

/// Why a body was not relayed to its end, by whose doing it was.
#[derive(Debug)]
pub enum RelayError {
    /// The sender: what went out is incomplete, and the receiver must be able to tell.
    Source(ReadError),
    /// The sender's chunks are malformed; nothing after them may be read.
    Chunk(ChunkError),
    /// The sender's body is longer than [`Relay::bytes_max`]; the rest of it is not read.
    TooLong,
    /// The receiver: the rest of the body is not wanted.
    Sink(WriteError),
}

impl From<ReadError> for RelayError {
    fn from(error: ReadError) -> Self {
        Self::Source(error)
    }
}

impl From<ChunkError> for RelayError {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<WriteError> for RelayError {
    fn from(error: WriteError) -> Self {
        Self::Sink(error)
    }
}

/// How the body is framed for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As its bytes: the receiver knows the length, or reads until the close.
    Plain,
    /// In chunks (RFC 9112 7.1).
    Chunked,
}

/// Writes all of `bytes`.
///
/// # Errors
///
/// The receiver is gone or `watch` fired; part may have been sent, so close the connection.
///
/// # Cancellation
///
/// Part of the bytes may have been sent: close the connection.
pub async fn send(to: &Stream, watch: &Watch, bytes: &[u8]) -> Result<(), WriteError> {
    send_all(to, watch, &mut [IoSlice::new(bytes)]).await
}

/// Writes all of the concatenated `slices`, with one system call when the socket has room.
///
/// # Errors
///
/// As [`send`].
///
/// # Cancellation
///
/// As [`send`].
pub async fn send_all(
    to: &Stream,
    watch: &Watch,
    mut slices: &mut [IoSlice<'_>],
) -> Result<(), WriteError> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match to.try_write_vectored(slices) {
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                watch.guard(to.writable()).await??;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A body that was relayed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes of body.
    pub bytes: u64,
    /// Whether the sender has sent more, which waits in its inbox.
    pub leaves_more: bool,
}

/// One direction of an exchange: whence, whither, and how long without a byte.
#[derive(Debug)]
pub struct Relay<'a> {
    /// The sender's socket.
    pub from: &'a Stream,
    /// What was already read from the sender; what follows the body stays in it.
    pub inbox: &'a mut Inbox,
    /// The receiver's socket.
    pub to: &'a Stream,
    /// Fires when nothing moved for `idle`.
    pub watch: &'a Watch,
    /// The longest pause; `None` is for ever.
    pub idle: Option<Duration>,
    /// The longest body that is passed on, in bytes. One that tells its length is for the caller to judge.
    pub bytes_max: u64,
    /// Whether anything was sent, the head included. Begins as `false`.
    pub has_begun: bool,
}

impl Relay<'_> {
    /// Sends `head`, then the body framed by `framing`, written in `coding`.
    ///
    /// The head leaves together with the first bytes of the body if those are there already, and at
    /// once if not.
    ///
    /// # Errors
    ///
    /// [`RelayError`] says whose doing it was. The receiver's connection is in mid-message: close it
    /// so that the body cannot be taken for complete.
    ///
    /// # Cancellation
    ///
    /// Not to be continued after a drop: part of a message may have been sent. Close both.
    pub async fn run(
        &mut self,
        head: &[u8],
        framing: Framing,
        coding: Coding,
    ) -> Result<Relayed, RelayError> {
        self.watch.set_in(self.idle);
        let out = Out { head, turn_bytes: 0, stint_bytes: 0 };
        let bytes = match framing {
            Framing::Length(length) => self.run_length(out, length, coding).await,
            Framing::Chunked => self.run_chunked(out, coding).await,
            Framing::UntilClose => self.run_until_close(out, coding).await,
        }?;
        Ok(Relayed { bytes, leaves_more: !self.inbox.is_empty() })
    }

    async fn run_length(
        &mut self,
        mut out: Out<'_>,
        length: u64,
        coding: Coding,
    ) -> Result<u64, RelayError> {
        let mut left = length;
        while left > 0 {
            let filled = self.more(&mut out).await?;
            if filled == 0 {
                return Err(ReadError::Closed.into());
            }
            let count = usize::try_from(left).map_or(filled, |left| left.min(filled));
            left -= count as u64;
            self.pass(&mut out, count, coding, b"").await?;
            self.inbox.consume(count);
        }
        self.flush(&mut out).await?;
        Ok(length)
    }

    async fn run_chunked(&mut self, mut out: Out<'_>, coding: Coding) -> Result<u64, RelayError> {
        let mut decoder = Decoder::new(TRAILER_BYTES_MAX);
        let mut total = 0;
        loop {
            if self.more(&mut out).await? == 0 {
                return Err(ReadError::Closed.into());
            }
            let decoded = decoder.decode(self.inbox.filled_mut())?;
            total += decoded.payload as u64;
            if total > self.bytes_max {
                return Err(RelayError::TooLong);
            }
            let end =
                if decoded.done { last_chunk(decoder.trailers(), coding) } else { Vec::new() };
            self.pass(&mut out, decoded.payload, coding, &end).await?;
            self.inbox.consume(decoded.consumed);
            if decoded.done {
                return Ok(total);
            }
        }
    }

    async fn run_until_close(
        &mut self,
        mut out: Out<'_>,
        coding: Coding,
    ) -> Result<u64, RelayError> {
        let mut total = 0;
        loop {
            let count = self.more(&mut out).await?;
            if count == 0 {
                let end = last_chunk(b"", coding);
                self.pass(&mut out, 0, coding, &end).await?;
                return Ok(total);
            }
            total += count as u64;
            self.pass(&mut out, count, coding, b"").await?;
            self.inbox.consume(count);
        }
    }

    /// Returns how many bytes wait in the inbox, after reading if none do; 0 is the end.
    ///
    /// A head that has not been sent is sent before this waits.
    async fn more(&mut self, out: &mut Out<'_>) -> Result<usize, RelayError> {
        if !self.inbox.is_empty() {
            return Ok(self.inbox.filled().len());
        }
        if out.turn_bytes < BYTES_PER_TURN
            && let Some(count) = self.inbox.read_now(self.from, Size::Large)?
        {
            return Ok(count);
        }
        self.flush(out).await?;
        if out.stint_bytes >= BYTES_PER_STINT {
            out.stint_bytes = 0;
            self.watch.rest().await;
        }
        out.turn_bytes = 0;
        Ok(self.inbox.fill(self.from, self.watch, Size::Large).await?)
    }

    async fn flush(&mut self, out: &mut Out<'_>) -> Result<(), RelayError> {
        if !out.head.is_empty() {
            self.has_begun = true;
            send(self.to, self.watch, std::mem::take(&mut out.head)).await?;
        }
        Ok(())
    }

    /// Sends the head if it is still owed, the first `count` bytes of the inbox and `end`.
    async fn pass(
        &mut self,
        out: &mut Out<'_>,
        count: usize,
        coding: Coding,
        end: &[u8],
    ) -> Result<(), RelayError> {
        self.watch.set_in(self.idle);
        out.turn_bytes += count;
        out.stint_bytes += count;
        let payload = self.inbox.filled().get(..count).unwrap_or_default();
        let mut line = [0; 18];
        // A chunk of no bytes would end the body.
        let (before, after) = match coding {
            Coding::Chunked if count > 0 => (chunk_head(count, &mut line), CRLF),
            Coding::Chunked | Coding::Plain => (&b""[..], &b""[..]),
        };
        let mut slices = [
            IoSlice::new(std::mem::take(&mut out.head)),
            IoSlice::new(before),
            IoSlice::new(payload),
            IoSlice::new(after),
            IoSlice::new(end),
        ];
        self.has_begun = true;
        send_all(self.to, self.watch, &mut slices).await?;
        Ok(())
    }
}

/// The sending half of a relay that runs.
struct Out<'a> {
    /// What is owed before the body.
    head: &'a [u8],
    /// Bytes since the last wait.
    turn_bytes: usize,
    /// Bytes since the last rest.
    stint_bytes: usize,
}

/// What ends a body in `coding`: the last chunk and the trailers that may be passed on.
fn last_chunk(trailers: &[u8], coding: Coding) -> Vec<u8> {
    if coding == Coding::Plain {
        return Vec::new();
    }
    let mut end = LAST_CHUNK.to_vec();
    forward::trailers(&mut end, trailers);
    end.extend_from_slice(CRLF);
    end
}
