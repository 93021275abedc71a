//! Answers that are ready and not yet sent: those to pipelined requests leave together.
//!
//! Heads are written one behind the other, bodies are shared with the cache; one system call sends
//! both in their order. Whoever writes to the client by another way must flush first.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::disk::Extent;
use crate::cache::entry::{Body, Entry, Packed};
use crate::net::relay::WriteError;
use crate::net::{Stream, Watch};

/// Parts that one system call gathers.
const SLICES_MAX: usize = 64;

/// Bytes after which the answers are sent although more requests wait.
const BYTES_MAX: u64 = 256 * 1024;

/// Bytes of text for which the room is kept between two flushes: a connection that waits holds no more.
const TEXT_KEPT_MAX: usize = 32 * 1024;

/// Answers on their way to a client.
#[derive(Debug, Default)]
pub struct Outbox {
    text: Vec<u8>,
    /// The end of the text that is part of `parts`.
    sealed: usize,
    parts: Vec<Part>,
    bytes: u64,
}

#[derive(Debug)]
enum Part {
    /// A range of the text.
    Text(Range<usize>),
    /// A range of an entry's body.
    Body(Rc<Entry>, Range<u64>),
    /// A body in a content coding.
    Packed(Rc<Packed>),
}

impl Outbox {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether it is time to flush.
    pub(super) fn is_full(&self) -> bool {
        // Heads without a body, of which many fit into one piece of requests, are not sealed yet.
        let unsealed = (self.text.len() - self.sealed) as u64;
        self.bytes + unsealed >= BYTES_MAX || self.parts.len() >= SLICES_MAX
    }

    /// Where heads are written to.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Adds a range of an entry's body behind what was written.
    pub(super) fn body(&mut self, entry: &Rc<Entry>, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.seal();
        self.bytes += range.end - range.start;
        self.parts.push(Part::Body(Rc::clone(entry), range));
    }

    /// Adds a body in a content coding behind what was written.
    pub(super) fn packed(&mut self, packed: Rc<Packed>) {
        self.seal();
        self.bytes += packed.body.len() as u64;
        self.parts.push(Part::Packed(packed));
    }

    fn seal(&mut self) {
        let end = self.text.len();
        if end > self.sealed {
            self.parts.push(Part::Text(self.sealed..end));
            self.bytes += (end - self.sealed) as u64;
            self.sealed = end;
        }
    }

    /// Sends everything.
    ///
    /// # Errors
    ///
    /// The client is gone, or took nothing for as long as `watch` allows: close the connection.
    ///
    /// # Cancellation
    ///
    /// Part may have been sent: close the connection.
    pub(super) async fn flush(
        &mut self,
        to: &Stream,
        watch: Patience<'_>,
    ) -> Result<(), WriteError> {
        if self.is_empty() {
            return Ok(());
        }
        self.seal();
        let sent = self.send(to, watch).await;
        self.text.clear();
        self.text.shrink_to(TEXT_KEPT_MAX);
        self.parts.clear();
        (self.sealed, self.bytes) = (0, 0);
        sent
    }

    async fn send(&self, to: &Stream, watch: Patience<'_>) -> Result<(), WriteError> {
        let mut run = Run::default();
        for part in &self.parts {
            if run.is_full() {
                run.send(to, watch).await?;
            }
            match part {
                Part::Text(range) => run.push(self.text.get(range.clone()).unwrap_or_default()),
                Part::Packed(packed) => run.push(&packed.body),
                Part::Body(entry, range) => match entry.body() {
                    Body::Memory(pieces) => run.add(to, watch, within(pieces, range)).await?,
                    Body::Disk(extent) => {
                        run.send(to, watch).await?;
                        send_file(to, watch, extent, range.clone()).await?;
                    }
                },
            }
        }
        run.send(to, watch).await
    }
}

/// How long a client may take nothing. However long the whole takes is its own affair: a large answer
/// takes a slow client longer than its next head may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience<'a> {
    /// Fires when it is over.
    pub watch: &'a Watch,
    /// How long it is; `None` is for ever.
    pub idle: Option<Duration>,
}

impl Patience<'_> {
    /// Waits until the client takes more.
    async fn writable(self, to: &Stream) -> Result<(), WriteError> {
        self.watch.set_in(self.idle);
        Ok(self.watch.guard(to.writable()).await??)
    }
}

/// Slices that leave with one system call.
struct Run<'a> {
    slices: [IoSlice<'a>; SLICES_MAX],
    count: usize,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { slices: [IoSlice::new(&[]); SLICES_MAX], count: 0 }
    }
}

impl<'a> Run<'a> {
    fn is_full(&self) -> bool {
        self.count == SLICES_MAX
    }

    fn push(&mut self, bytes: &'a [u8]) {
        if let Some(slot) = self.slices.get_mut(self.count) {
            *slot = IoSlice::new(bytes);
            self.count += 1;
        }
    }

    /// Adds slices, and sends whenever there is no room for more.
    async fn add(
        &mut self,
        to: &Stream,
        watch: Patience<'_>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), WriteError> {
        for slice in slices {
            if self.is_full() {
                self.send(to, watch).await?;
            }
            self.push(slice);
        }
        Ok(())
    }

    async fn send(&mut self, to: &Stream, watch: Patience<'_>) -> Result<(), WriteError> {
        let mut slices = self.slices.get_mut(..self.count).unwrap_or_default();
        self.count = 0;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match to.try_write_vectored(slices) {
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    watch.writable(to).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The parts of `pieces` that lie within `range`.
fn within<'a>(pieces: &'a [Bytes], range: &Range<u64>) -> impl Iterator<Item = &'a [u8]> {
    let mut offset = 0;
    let range = range.clone();
    pieces.iter().filter_map(move |piece| {
        let end = offset + piece.len() as u64;
        let from = range.start.clamp(offset, end) - offset;
        let to = range.end.clamp(offset, end) - offset;
        offset = end;
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        piece.get(from..to).filter(|slice| !slice.is_empty())
    })
}

async fn send_file(
    to: &Stream,
    watch: Patience<'_>,
    extent: &Extent,
    range: Range<u64>,
) -> Result<(), WriteError> {
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        match extent.send_to(to.descriptor(), at, left) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => at += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                watch.writable(to).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_without_a_body_fill_it_too() {
        let mut outbox = Outbox::default();
        let room = usize::try_from(BYTES_MAX).unwrap();
        outbox.text().resize(room - 1, b'x');
        assert!(!outbox.is_full());
        outbox.text().push(b'x');
        assert!(outbox.is_full());
    }

    #[test]
    fn a_range_takes_what_lies_within_it_over_the_ends_of_pieces() {
        let pieces = [Bytes::from("abc"), Bytes::from(""), Bytes::from("def"), Bytes::from("g")];
        for from in 0..=7_u8 {
            for to in from..=7 {
                let range = u64::from(from)..u64::from(to);
                let text: Vec<u8> = within(&pieces, &range).flatten().copied().collect();
                assert_eq!(text, b"abcdefg"[usize::from(from)..usize::from(to)], "{from}..{to}");
            }
        }
    }
}
