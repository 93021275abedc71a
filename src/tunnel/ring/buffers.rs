//! The buffers the kernel receives into: one block of memory, lent and taken back one by one.
//!
//! A buffer is with the kernel, with us, or spare. Spare ones are lent last in, first out and only as
//! many as bursts have needed, so that the memory in use stays in the cache.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring07::Submitter;
use io_uring07::types::BufRingEntry;

/// The only group of buffers in this ring.
pub(super) const GROUP: u16 = 0;

/// The kernel wants the entries on a page of their own.
const ENTRIES_ALIGN: usize = 4096;

/// No more than the allocator gives anyway: for more it would clear, and so touch, all of the memory.
const MEMORY_ALIGN: usize = 16;

/// Buffers lent from the start.
const LENT_MIN: u16 = 64;

/// Equal buffers in one block, and the entries through which they are lent.
#[derive(Debug)]
pub(super) struct Buffers {
    /// `count * bytes_each` bytes.
    memory: NonNull<u8>,
    /// `count` entries; the kernel reads them up to the tail that it finds in the first one.
    entries: NonNull<BufRingEntry>,
    /// A power of two, at most 2^15.
    count: u16,
    bytes_each: u32,
    /// Entries written so far, modulo 2^16.
    tail: u16,
    /// Buffers with the kernel.
    lent: u16,
    /// Buffers that may be with the kernel at a time.
    lent_max: u16,
    /// The fewest that were left with the kernel since the last [`Buffers::trim`].
    lent_low: u16,
    /// Buffers that nobody uses, the one used last on top.
    spare: Vec<u16>,
}

impl Buffers {
    /// Allocates `count` buffers of `bytes_each` bytes; memory is touched only when it is received
    /// into.
    ///
    /// # Errors
    ///
    /// `count` is not a power of two up to 2^15, or there is no memory.
    pub(super) fn new(count: u16, bytes_each: u32) -> io::Result<Self> {
        if !count.is_power_of_two() || count > 1 << 15 || bytes_each == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let memory = allocate(memory_layout(count, bytes_each)?)?;
        let entries = allocate(entries_layout(count)?)?.cast();
        let lent_max = count.min(LENT_MIN);
        let spare = (0..count).rev().collect();
        Ok(Self {
            memory,
            entries,
            count,
            bytes_each,
            tail: 0,
            lent: 0,
            lent_max,
            lent_low: 0,
            spare,
        })
    }

    /// Registers the buffers with a ring, which must be dropped before them.
    ///
    /// # Errors
    ///
    /// The kernel is older than 5.19.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: `entries` points to `count` zeroed entries on pages of their own. They are freed
        // when `self` is dropped, which the caller does after the ring is closed.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// The size of each.
    pub(super) fn bytes_each(&self) -> u32 {
        self.bytes_each
    }

    /// How many are with us: received into, and not given back.
    pub(super) fn held(&self) -> usize {
        usize::from(self.count) - usize::from(self.lent) - self.spare.len()
    }

    /// How many a receive can still find or be given.
    pub(super) fn available(&self) -> usize {
        usize::from(self.lent) + self.spare.len()
    }

    /// The kernel has received into buffer `id`, which is ours until it is given back.
    ///
    /// Returns `false` for a buffer that does not exist.
    pub(super) fn take(&mut self, id: u16) -> bool {
        debug_assert!(id < self.count && self.lent > 0, "a buffer that was not lent");
        self.lent = self.lent.saturating_sub(1);
        self.lent_low = self.lent_low.min(self.lent);
        id < self.count
    }

    /// Gives back a buffer that was taken.
    pub(super) fn give(&mut self, id: u16) {
        debug_assert!(!self.spare.contains(&id), "a buffer given back twice");
        self.spare.push(id);
    }

    /// Lends spare buffers to the kernel. Nothing may be queued to be sent from them.
    pub(super) fn lend(&mut self) {
        if self.lent >= self.lent_max || self.spare.is_empty() {
            return;
        }
        while self.lent < self.lent_max
            && let Some(id) = self.spare.pop()
        {
            self.write_entry(id);
            self.lent += 1;
        }
        self.publish();
    }

    /// A burst found too few: lends twice as many from now on.
    pub(super) fn lend_more(&mut self) {
        self.lent_max = self.lent_max.saturating_mul(2).min(self.count);
    }

    /// Lends half as many from now on, if the other half was not needed since the last call.
    pub(super) fn trim(&mut self) {
        let floor = LENT_MIN.min(self.count);
        if self.lent_low > self.lent_max / 2 && self.lent_max > floor {
            self.lent_max = (self.lent_max / 2).max(floor);
        }
        self.lent_low = self.lent;
    }

    fn write_entry(&mut self, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.address(id).as_ptr() as u64;
        // SAFETY: `index` is below `count`, which is a power of two.
        let mut entry = unsafe { self.entries.add(index) };
        // SAFETY: the entry was zeroed, which is a valid value. The kernel only reads it, and not
        // before the tail has passed it: at most `count` are lent, so it has been consumed. Its last
        // two bytes, which in the first entry hold the tail, are not written by these calls.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address);
        entry.set_len(self.bytes_each);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the base of the entries, which are initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: two aligned bytes inside the first entry, alive as long as `self`, and accessed by
        // the kernel and us with atomic operations only.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count, "no such buffer");
        let offset = usize::from(id.min(self.count - 1)) * self.bytes_each as usize;
        // SAFETY: `offset` is at most `(count - 1) * bytes_each`, inside the allocation.
        unsafe { self.memory.add(offset) }
    }

    /// The bytes that were received into a buffer that is with us.
    pub(super) fn bytes(&self, id: u16, range: Range<u32>) -> &[u8] {
        debug_assert!(range.end <= self.bytes_each, "more than the buffer holds");
        let end = range.end.min(self.bytes_each) as usize;
        let start = (range.start as usize).min(end);
        // SAFETY: `start` is inside the buffer.
        let first = unsafe { self.address(id).add(start) };
        // SAFETY: `end - start` bytes from there are inside the buffer and initialised, since all
        // memory was zeroed. The kernel does not write to it before it is lent again, which needs
        // `&mut self`.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), end - start) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if let Ok(layout) = memory_layout(self.count, self.bytes_each) {
            // SAFETY: allocated in `new` with this layout; no reference outlives `self`.
            unsafe { dealloc(self.memory.as_ptr(), layout) };
        }
        if let Ok(layout) = entries_layout(self.count) {
            // SAFETY: likewise; the kernel holds its own reference to the pages.
            unsafe { dealloc(self.entries.as_ptr().cast(), layout) };
        }
    }
}

fn memory_layout(count: u16, bytes_each: u32) -> io::Result<Layout> {
    let bytes = usize::from(count) * bytes_each as usize;
    Layout::from_size_align(bytes, MEMORY_ALIGN).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn entries_layout(count: u16) -> io::Result<Layout> {
    let bytes = usize::from(count) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes.next_multiple_of(ENTRIES_ALIGN), ENTRIES_ALIGN)
        .map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn allocate(layout: Layout) -> io::Result<NonNull<u8>> {
    debug_assert!(layout.size() > 0, "an allocation has a size");
    // SAFETY: the layout has a size, since both callers check their counts.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_lent_than_bursts_have_needed() {
        let mut buffers = Buffers::new(256, 64).expect("memory");
        buffers.lend();
        assert_eq!((buffers.lent, buffers.held()), (64, 0));
        for id in 0..60 {
            assert!(buffers.take(id));
        }
        assert_eq!((buffers.held(), buffers.available()), (60, 196));
        buffers.lend_more();
        buffers.lend();
        assert_eq!((buffers.lent, buffers.held()), (128, 60));
        for id in 0..60 {
            buffers.give(id);
        }
        buffers.trim();
        assert_eq!(buffers.lent_max, 128, "they were just needed");
        buffers.trim();
        assert_eq!(buffers.lent_max, 64);
        buffers.trim();
        assert_eq!((buffers.lent_max, buffers.held()), (64, 0));
    }

    #[test]
    fn the_one_used_last_is_lent_first() {
        let mut buffers = Buffers::new(128, 64).expect("memory");
        buffers.lend();
        buffers.take(5);
        buffers.give(5);
        buffers.lend();
        assert!(!buffers.spare.contains(&5));
        assert_eq!(buffers.bytes(5, 8..16), [0; 8]);
    }

    #[test]
    fn a_count_that_the_kernel_refuses_is_refused_here() {
        for count in [0, 3, 255, 1 << 15 | 1] {
            assert!(Buffers::new(count, 64).is_err(), "{count}");
        }
        assert!(Buffers::new(4, 0).is_err());
    }
}
