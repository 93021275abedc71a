//! The private ring as the engine sees it: operations by name, completions as events.
//!
//! The difficulty is a send that says nothing when all went well. It never waits in the kernel: it
//! has succeeded or failed when the entry that carried it was submitted, so whoever finds the
//! submission queue empty and no event about the send knows that everything was sent.
#![expect(unsafe_code, reason = "entries of the submission queue name descriptors and memory")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring07::squeue::{Entry, Flags};
use io_uring07::types::Fd;
use io_uring07::{IoUring, cqueue, opcode};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::buffers::{Buffers, GROUP};
use super::chain::Piece;
use crate::tunnel::Side;

/// Completions that fit beside each submission entry; more wait in the kernel.
const COMPLETIONS_PER_ENTRY: u32 = 8;

/// Attempts to hand over the submission queue before the ring counts as broken. Each failure is
/// followed by emptying the completion queue, which is what the kernel asks for.
const SUBMIT_ATTEMPTS: u32 = 64;

const POLL_IN: u32 = PollFlags::IN.bits() as u32;
const POLL_OUT: u32 = PollFlags::OUT.bits() as u32;
/// `MSG_WAITALL` makes a short send a failure, so that it is told.
const SEND_ALL_NOW: u32 =
    SendFlags::DONTWAIT.bits() | SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits();

/// One direction of one tunnel: what an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Index of the tunnel's entry.
    pub index: u32,
    /// Tells an entry from the one that was there before.
    pub generation: u32,
    /// Who sends in this direction.
    pub sender: Side,
}

/// What has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A receive: bytes in a buffer, the end, or an error; `more` says whether it is still out. Or a
    /// wait for bytes.
    Received { key: Key, result: i32, buffer: Option<u16>, more: bool },
    /// A send that did not send everything; `batch` is the number it was given.
    Short { batch: u32, result: i32 },
    /// A wait for room.
    Room { key: Key },
}

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const ROOM: u64 = 3;
/// Nobody waits for it.
const SILENT: u64 = 0;

/// Operation: 2 bits, sender: 1, index: 29, generation: 32.
fn user_data(operation: u64, key: Key) -> u64 {
    let backend = u64::from(key.sender == Side::Backend);
    operation << 62 | backend << 61 | u64::from(key.index) << 32 | u64::from(key.generation)
}

#[expect(clippy::cast_possible_truncation, reason = "takes apart what was put together")]
fn key(user_data: u64) -> Key {
    let sender = if user_data >> 61 & 1 == 1 { Side::Backend } else { Side::Client };
    Key { index: (user_data >> 32) as u32 & 0x1fff_ffff, generation: user_data as u32, sender }
}

/// The largest index that an operation can name.
pub(super) const INDEX_MAX: usize = 0x1fff_ffff;

/// A private ring with its buffers.
pub(super) struct Port {
    // Before the buffers: closing the ring ends what the kernel does with them.
    ring: IoUring,
    pub(super) buffers: Buffers,
    eventfd: OwnedFd,
    /// Whether something was queued since the kernel last took everything.
    is_behind: bool,
}

impl Port {
    /// A ring with room for `entries` submissions at once.
    ///
    /// # Errors
    ///
    /// The kernel is older than 6.1 or refuses: use the pump.
    pub(super) fn new(entries: u32, buffers: Buffers) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .setup_clamp()
            .setup_submit_all()
            .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
            // Completions are made inside our own calls, as on the runtime's ring. COOP_TASKRUN, with
            // the ring's own descriptor instead of an eventfd, was measured: no difference.
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
        let ring = builder.build(entries)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_skip_cqe_on_success() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Saves the look-up of the descriptor at every call; does without where it is refused.
        ring.submitter().register_ring_fd().ok();
        buffers.register(&ring.submitter())?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(Self { ring, buffers, eventfd, is_behind: false })
    }

    /// A descriptor that is readable when there is something to do, and always writable.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub(super) fn wake_descriptor(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// Makes the wake descriptor wait for what happens from now on; returns whether something has
    /// happened already.
    pub(super) fn rearm(&mut self) -> bool {
        // Nothing to read is as good.
        rustix::io::read(&self.eventfd, &mut [0_u8; 8][..]).ok();
        // After the read: what came before it has left no other trace.
        self.has_work()
    }

    /// Whether [`Port::enter`] or [`Port::collect`] has something to do.
    pub(super) fn has_work(&mut self) -> bool {
        if self.is_behind || !self.ring.completion().is_empty() {
            return true;
        }
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Lends buffers, submits everything that was queued and appends what has completed.
    ///
    /// # Errors
    ///
    /// The ring is broken: nothing on it will complete any more.
    pub(super) fn enter(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.buffers.lend();
        for _ in 0..SUBMIT_ATTEMPTS {
            if self.has_calls_to_make()
                && let Err(error) = self.ring.submit()
                && !is_passing(&error)
            {
                return Err(error);
            }
            self.collect(events);
            let submission = self.ring.submission();
            // Events about sends must not be among those that wait in the kernel.
            if submission.is_empty() && !submission.cq_overflow() {
                self.is_behind = false;
                return Ok(());
            }
        }
        Err(io::Error::other("the kernel does not take what is queued"))
    }

    /// Has the kernel complete what it can; whether more has completed than there is room for.
    #[cfg(test)]
    pub(super) fn overflows(&mut self) -> bool {
        self.ring.submit().expect("it runs");
        self.ring.submission().cq_overflow()
    }

    fn has_calls_to_make(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    fn collect(&mut self, events: &mut Vec<Event>) {
        events.extend(self.ring.completion().filter_map(|entry| event(&entry)));
    }

    /// Starts to receive everything that arrives, one event per buffer.
    pub(super) fn receive(&mut self, socket: &OwnedFd, key: Key) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(&entry.user_data(user_data(RECEIVE, key)));
    }

    /// Waits until a socket has bytes, its end or an error; one event.
    pub(super) fn await_bytes(&mut self, socket: &OwnedFd, key: Key) {
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), POLL_IN).build();
        self.push(&entry.user_data(user_data(RECEIVE, key)));
    }

    /// Stops the one or the other; its last event says when.
    pub(super) fn stop_receiving(&mut self, key: Key) {
        self.cancel(user_data(RECEIVE, key));
    }

    /// Sends a piece of a buffer, which must not be given back before the next [`Port::enter`] has
    /// returned. An event only if not everything was sent.
    pub(super) fn send(&mut self, socket: &OwnedFd, piece: &Piece, batch: u32) {
        let bytes = self.buffers.bytes(piece.id, piece.range.clone());
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), len)
            .flags(SEND_ALL_NOW.cast_signed())
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(SEND << 62 | u64::from(batch));
        self.push(&entry);
    }

    /// Waits until a socket takes bytes again; one event.
    pub(super) fn await_room(&mut self, socket: &OwnedFd, key: Key) {
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), POLL_OUT).build();
        self.push(&entry.user_data(user_data(ROOM, key)));
    }

    /// Stops that wait; its event comes all the same.
    pub(super) fn stop_awaiting(&mut self, key: Key) {
        self.cancel(user_data(ROOM, key));
    }

    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(SILENT);
        self.push(&entry);
    }

    fn push(&mut self, entry: &Entry) {
        self.is_behind = true;
        for _ in 0..SUBMIT_ATTEMPTS {
            // SAFETY: descriptors are open while an operation on them is out: the engine closes a
            // tunnel's sockets only when it is quiet. The memory is that of `self.buffers`, which is
            // dropped after the ring.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // A failure that lasts is met again, and reported, by `enter`.
            self.ring.submit().ok();
        }
    }
}

/// Whether a call may simply be repeated.
fn is_passing(error: &io::Error) -> bool {
    [Errno::INTR, Errno::AGAIN, Errno::BUSY]
        .iter()
        .any(|passing| error.raw_os_error() == Some(passing.raw_os_error()))
}

fn event(entry: &cqueue::Entry) -> Option<Event> {
    let (data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
    match data >> 62 {
        RECEIVE => Some(Event::Received {
            key: key(data),
            result,
            buffer: cqueue::buffer_select(flags),
            more: cqueue::more(flags),
        }),
        SEND => Some(Event::Short { batch: key(data).generation, result }),
        ROOM => Some(Event::Room { key: key(data) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_kernel() {
        for (index, generation) in [(0, 0), (0x1fff_ffff, u32::MAX), (5, 7)] {
            let client = Key { index, generation, sender: Side::Client };
            let backend = Key { sender: Side::Backend, ..client };
            for (operation, sent) in [(RECEIVE, client), (SEND, backend), (ROOM, backend)] {
                let data = user_data(operation, sent);
                assert_eq!((key(data), data >> 62), (sent, operation));
            }
        }
    }
}
