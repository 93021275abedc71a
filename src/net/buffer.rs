//! Buffers of one worker: taken when there is something to read, given back on drop.
//!
//! A connection that waits holds none, so what is out at any moment is what is being moved. The free
//! lists are last in, first out: the buffer that was used last is the one still in the cache.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Capacity in bytes of a small buffer: heads of clients, which may arrive slowly and be held.
pub const SMALL_BYTES: usize = 4 * 1024;

/// Capacity in bytes of a large buffer: bodies, tunnels, heads of backends.
///
/// A buffer smaller than a message and its frame header doubles the system calls; 16 KiB messages
/// cost 19 us in 16 KiB buffers and 11 us in 64 KiB ones.
pub const LARGE_BYTES: usize = 64 * 1024;

/// Free buffers a worker keeps at most, by class: 1 MiB of small and 4 MiB of large ones.
const SMALL_KEPT_MAX: usize = 256;
const LARGE_KEPT_MAX: usize = 64;

/// The free buffers of one worker.
///
/// After a burst the lists shrink again: [`Pool::trim`] frees half of what nobody touched since the
/// last call.
#[derive(Default)]
pub struct Pool {
    small: RefCell<FreeList>,
    large: RefCell<FreeList>,
}

#[derive(Default)]
struct FreeList {
    buffers: Vec<Box<[u8]>>,
    /// The smallest length of `buffers` since the last trim: that many were never needed.
    unused: usize,
}

impl FreeList {
    fn pop(&mut self) -> Option<Box<[u8]>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    fn push(&mut self, buffer: Box<[u8]>, kept_max: usize) {
        if self.buffers.len() < kept_max {
            self.buffers.push(buffer);
        }
    }

    fn trim(&mut self) {
        let surplus = self.unused.div_ceil(2);
        self.buffers.drain(..surplus);
        self.unused = self.buffers.len();
    }
}

impl Pool {
    /// Takes a buffer of [`SMALL_BYTES`].
    pub fn take_small(self: &Rc<Self>) -> Buffer {
        let bytes = self.small.borrow_mut().pop();
        self.wrap(bytes.unwrap_or_else(|| zeroed(SMALL_BYTES)))
    }

    /// Takes a buffer of [`LARGE_BYTES`].
    pub fn take_large(self: &Rc<Self>) -> Buffer {
        let bytes = self.large.borrow_mut().pop();
        self.wrap(bytes.unwrap_or_else(|| zeroed(LARGE_BYTES)))
    }

    /// Takes a buffer of at least `bytes_min` bytes; above [`LARGE_BYTES`] it is not pooled.
    pub fn take(self: &Rc<Self>, bytes_min: usize) -> Buffer {
        match bytes_min {
            0..=SMALL_BYTES => self.take_small(),
            _ if bytes_min <= LARGE_BYTES => self.take_large(),
            _ => self.wrap(zeroed(bytes_min)),
        }
    }

    /// Takes a buffer that is filled with a copy of `bytes`.
    pub fn copy_of(self: &Rc<Self>, bytes: &[u8]) -> Buffer {
        let mut buffer = self.take(bytes.len());
        buffer.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        buffer.advance(bytes.len());
        buffer
    }

    /// Frees half of the buffers that were not used since the last call.
    pub fn trim(&self) {
        self.small.borrow_mut().trim();
        self.large.borrow_mut().trim();
    }

    fn wrap(self: &Rc<Self>, bytes: Box<[u8]>) -> Buffer {
        Buffer { bytes, start: 0, end: 0, pool: Rc::clone(self) }
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        match bytes.len() {
            SMALL_BYTES => self.small.borrow_mut().push(bytes, SMALL_KEPT_MAX),
            LARGE_BYTES => self.large.borrow_mut().push(bytes, LARGE_KEPT_MAX),
            _ => {}
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("small", &self.small.borrow().buffers.len())
            .field("large", &self.large.borrow().buffers.len())
            .finish()
    }
}

fn zeroed(bytes: usize) -> Box<[u8]> {
    // From the allocator's zero pages: memory is touched only when it is read into.
    vec![0; bytes].into_boxed_slice()
}

/// A buffer owned by whoever moves bytes with it; goes back to its pool on drop.
pub struct Buffer {
    bytes: Box<[u8]>,
    /// The filled part is `bytes[start..end]`; `start <= end <= bytes.len()`.
    start: usize,
    end: usize,
    pool: Rc<Pool>,
}

impl Buffer {
    /// The bytes that were read and not yet consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same bytes, to be decoded in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The room behind the filled part.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Declares the first `count` bytes of the spare room filled.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len(), "more bytes than there is room");
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Drops the first `count` filled bytes.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(self.start + count <= self.end, "more bytes than were filled");
        self.start = (self.start + count).min(self.end);
    }

    /// Whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether there is no room behind the filled part.
    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    /// Makes room for one more read while keeping at most `bytes_max` bytes: moves the filled part
    /// to the front, or into a larger buffer.
    ///
    /// Returns whether there is room.
    pub fn make_room(&mut self, bytes_max: usize) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return true;
        }
        let capacity = self.bytes.len();
        if capacity >= bytes_max {
            return false;
        }
        let mut larger = self.pool.take((capacity * 4).min(bytes_max.max(capacity + 1)));
        let filled = self.filled();
        larger.bytes[..filled.len()].copy_from_slice(filled);
        larger.end = filled.len();
        *self = larger;
        true
    }

    /// Splits off what is filled behind the first `at` filled bytes, into a buffer of its own.
    ///
    /// Returns `None` when nothing is there: the usual case, and free.
    pub fn split_off(&mut self, at: usize) -> Option<Self> {
        let rest = &self.bytes[(self.start + at).min(self.end)..self.end];
        if rest.is_empty() {
            return None;
        }
        let mut other = self.pool.take(rest.len());
        other.bytes[..rest.len()].copy_from_slice(rest);
        other.end = rest.len();
        self.end -= rest.len();
        Some(other)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.filled()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.end - self.start, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &Rc<Pool>, text: &[u8]) -> Buffer {
        let mut buffer = pool.take_small();
        buffer.spare_mut()[..text.len()].copy_from_slice(text);
        buffer.advance(text.len());
        buffer
    }

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let pool = Rc::new(Pool::default());
        let first = pool.take_large();
        let address = first.bytes.as_ptr();
        drop(first);
        assert_eq!(pool.take_large().bytes.as_ptr(), address);
    }

    #[test]
    fn splitting_keeps_every_byte_in_order() {
        let pool = Rc::new(Pool::default());
        for at in 0..=5 {
            let mut head = filled(&pool, b"hello");
            let rest = head.split_off(at);
            assert_eq!(head.filled(), &b"hello"[..at]);
            assert_eq!(rest.as_ref().map_or(&b""[..], Buffer::filled), &b"hello"[at..]);
        }
    }

    #[test]
    fn room_is_made_up_to_the_limit_and_no_further() {
        let pool = Rc::new(Pool::default());
        let mut buffer = pool.take_small();
        let mut total = 0;
        while buffer.make_room(20_000) {
            let room = buffer.spare_mut().len();
            buffer.spare_mut().fill(7);
            buffer.advance(room);
            total += room;
        }
        assert!((20_000..=LARGE_BYTES).contains(&total), "{total}");
        assert!(buffer.filled().iter().all(|byte| *byte == 7));
        buffer.consume(1);
        assert!(buffer.make_room(20_000));
    }

    #[test]
    fn trimming_frees_what_a_burst_left_behind() {
        let pool = Rc::new(Pool::default());
        let burst: Vec<_> = (0..40).map(|_| pool.take_large()).collect();
        drop(burst);
        assert_eq!(pool.large.borrow().buffers.len(), 40);
        for _ in 0..12 {
            pool.trim();
        }
        assert_eq!(pool.large.borrow().buffers.len(), 0);
    }

    #[test]
    fn trimming_spares_what_is_in_use() {
        let pool = Rc::new(Pool::default());
        let burst: Vec<_> = (0..8).map(|_| pool.take_large()).collect();
        drop(burst);
        for _ in 0..12 {
            let busy: Vec<_> = (0..8).map(|_| pool.take_large()).collect();
            drop(busy);
            pool.trim();
        }
        assert_eq!(pool.large.borrow().buffers.len(), 8);
    }
}
