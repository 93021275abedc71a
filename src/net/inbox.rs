//! What was read from a connection and not yet used: part of a head, early bytes, part of a body.

use std::io;
use std::rc::Rc;

use super::buffer::{Buffer, LARGE_BYTES, Pool};
use super::stream::{Stream, is_reset};
use super::sweeper::{Fired, Watch};
use crate::http1::head::{HeadError, HeadScanner};

/// Why nothing more could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The peer ended the stream where more was owed.
    Closed,
    /// The peer aborted the connection.
    Reset,
    /// The deadline passed first.
    Timeout,
    /// The process is leaving.
    Drain,
    /// What was read is not a head that we accept. Answer, close, and parse nothing after it.
    Head(HeadError),
    /// The system failed.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if is_reset(&error) { Self::Reset } else { Self::Io(error) }
    }
}

impl From<Fired> for ReadError {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::Deadline => Self::Timeout,
            Fired::Drain => Self::Drain,
        }
    }
}

/// How large the first buffer of an empty inbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For heads of clients, which may be held while they arrive slowly.
    Small,
    /// For everything that is passed on at once.
    Large,
}

/// The read side of a connection. Holds a buffer only while there are bytes in it.
#[derive(Debug)]
pub struct Inbox {
    buffer: Option<Buffer>,
    pool: Rc<Pool>,
    reads: u32,
}

impl Inbox {
    /// An empty inbox that takes its buffers from `pool`.
    pub fn new(pool: Rc<Pool>) -> Self {
        Self { buffer: None, pool, reads: 0 }
    }

    /// What was read and not yet used.
    pub fn filled(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::filled)
    }

    /// The same bytes, to be decoded in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], Buffer::filled_mut)
    }

    /// How often something was read; begins anew after 2^32.
    pub fn reads(&self) -> u32 {
        self.reads
    }

    /// Whether nothing waits to be used.
    pub fn is_empty(&self) -> bool {
        self.filled().is_empty()
    }

    /// Drops the first `count` bytes; an emptied buffer goes back to the pool.
    pub fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(count);
            if buffer.is_empty() {
                self.buffer = None;
            }
        }
    }

    /// Takes everything that waits; the caller owns the buffer.
    pub fn take(&mut self) -> Option<Buffer> {
        self.buffer.take()
    }

    /// Puts what was read elsewhere into an empty inbox.
    pub fn put(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
    }

    /// Takes the first `len` bytes as a buffer of their own; what follows stays.
    pub fn take_front(&mut self, len: usize) -> Option<Buffer> {
        let mut front = self.buffer.take()?;
        self.buffer = front.split_off(len);
        Some(front)
    }

    /// Reads what is there now, without waiting; `None` when nothing is, `Some(0)` at the end.
    ///
    /// # Errors
    ///
    /// The connection is gone; close it.
    pub fn read_now(&mut self, stream: &Stream, size: Size) -> Result<Option<usize>, ReadError> {
        self.read_up_to(stream, size, LARGE_BYTES)
    }

    fn read_up_to(
        &mut self,
        stream: &Stream,
        size: Size,
        bytes_max: usize,
    ) -> Result<Option<usize>, ReadError> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| match size {
            Size::Small => self.pool.take_small(),
            Size::Large => self.pool.take_large(),
        });
        if !buffer.make_room(bytes_max) {
            self.buffer = Some(buffer);
            return Err(ReadError::Head(HeadError::TooLong));
        }
        let read = stream.try_read(buffer.spare_mut());
        if let Ok(count) = &read {
            buffer.advance(*count);
            self.reads = self.reads.wrapping_add(1);
        }
        self.buffer = (!buffer.is_empty()).then_some(buffer);
        match read {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for more bytes and reads them behind what is there; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// The connection is gone, or `watch` fired; close it, after an answer if one is owed.
    ///
    /// # Cancellation
    ///
    /// Safe: bytes are read and kept in one step, after the wait.
    pub async fn fill(
        &mut self,
        stream: &Stream,
        watch: &Watch,
        size: Size,
    ) -> Result<usize, ReadError> {
        self.fill_up_to(stream, watch, size, LARGE_BYTES).await
    }

    async fn fill_up_to(
        &mut self,
        stream: &Stream,
        watch: &Watch,
        size: Size,
        bytes_max: usize,
    ) -> Result<usize, ReadError> {
        loop {
            watch.guard(stream.readable()).await??;
            if let Some(count) = self.read_up_to(stream, size, bytes_max)? {
                return Ok(count);
            }
        }
    }

    /// Reads until a whole head waits at the front; returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Head`]: answer and close. [`ReadError::Closed`]: the stream ended inside the head,
    /// or before it. [`ReadError::Timeout`]: `watch` fired first.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read stays in the inbox.
    pub async fn read_head(
        &mut self,
        stream: &Stream,
        watch: &Watch,
        mut scanner: HeadScanner,
        limit: HeadLimit,
    ) -> Result<usize, ReadError> {
        loop {
            let found = scanner.scan(self.filled(), limit.bytes_max);
            if let Some(len) = found.map_err(ReadError::Head)? {
                return Ok(len);
            }
            // One byte more than the limit must fit, so that the scanner sees the excess.
            let room = limit.bytes_max + 1;
            if self.fill_up_to(stream, watch, limit.size, room).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }
}

/// How long a head may be and what it is read into.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimit {
    /// Bytes of the head, its empty line included.
    pub bytes_max: usize,
    /// The first buffer.
    pub size: Size,
}
