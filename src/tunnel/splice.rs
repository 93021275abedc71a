//! Bytes of a direction that streams, moved inside the kernel: socket, pipe, socket.
//!
//! By direct system calls after readiness. The ring's own splice operation would hand each to a
//! kernel thread, at six times the price of a message.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes a pipe should hold: what unprivileged processes may ask for.
const PIPE_BYTES: usize = 1024 * 1024;

/// Below this a pipe is not worth its system calls. The kernel gives less to users who have many.
const PIPE_BYTES_MIN: usize = 64 * 1024;

/// Pipes of one worker at most, and those it keeps. The kernel lets a user have 64 of this size.
const PIPES_MAX: usize = 24;
const PIPES_KEPT_MAX: usize = 8;

/// Bytes after which a direction waits for readiness again, so that the others have their turn. Until
/// then it is emptied without a wait: streams both ways cost 3.3 times less than the tokio baseline
/// that way, and 2.7 times less with a wait after every splice.
const TURN_BYTES: u32 = 1024 * 1024;

/// A splice of fewer bytes is short.
const SHORT_BYTES: u32 = 16 * 1024;

/// Short splices in a row after which a direction does not stream any more.
const SHORTS_MAX: u8 = 32;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// The pipes of one worker. Nobody else knows how many there are, so it counts.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    /// Pipes that directions hold.
    out: Cell<usize>,
}

/// A pipe with bytes on their way.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    /// Bytes in it.
    filled: u32,
    /// Short splices in a row.
    shorts: u8,
    /// Bytes that may still be moved before the next wait.
    turn_bytes: u32,
    /// Whether nothing came since the last [`Pipe::grow_tired`].
    is_quiet: bool,
}

impl Pipes {
    /// Takes an empty pipe; `None` when there are too many, or the system has no more.
    pub(super) fn take(&mut self) -> Option<Box<Pipe>> {
        if self.out.get() >= PIPES_MAX {
            return None;
        }
        let pipe = self.idle.pop().map_or_else(Pipe::new, Some)?;
        self.out.set(self.out.get() + 1);
        Some(Box::new(pipe))
    }

    /// Takes back a pipe; one with bytes in it is closed.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        self.out.set(self.out.get().saturating_sub(1));
        if pipe.filled == 0 && self.idle.len() < PIPES_KEPT_MAX {
            self.idle.push(Pipe { shorts: 0, turn_bytes: 0, is_quiet: false, ..pipe });
        }
    }

    /// Closes one pipe that nobody needed.
    pub(super) fn trim(&mut self) {
        self.idle.pop();
    }

    /// Pipes that directions hold.
    pub(super) fn out(&self) -> usize {
        self.out.get()
    }
}

impl Pipe {
    fn new() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).ok()?;
        let (filled, shorts, turn_bytes, is_quiet) = (0, 0, 0, false);
        let pipe = Self { read, write, capacity, filled, shorts, turn_bytes, is_quiet };
        (capacity >= PIPE_BYTES_MIN).then_some(pipe)
    }

    /// The socket is readable: begins another turn.
    pub(super) fn begin_turn(&mut self) {
        self.turn_bytes = TURN_BYTES;
    }

    /// Whether the turn goes on, so that the socket may be tried without a wait.
    pub(super) fn goes_on(&self) -> bool {
        self.turn_bytes > 0
    }

    /// Moves what is there from a socket into the pipe, which is empty; 0 is the end.
    ///
    /// # Errors
    ///
    /// `AGAIN`: wait until the socket is readable. Anything else: the connection is gone.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> Result<u32, Errno> {
        debug_assert!(self.filled == 0, "a full pipe would look like an empty socket");
        let turn_bytes = std::mem::take(&mut self.turn_bytes);
        let moved = splice(from, None, self.write.as_fd(), None, self.capacity, FLAGS)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        self.filled = moved;
        self.turn_bytes = turn_bytes.saturating_sub(moved);
        self.is_quiet = false;
        self.shorts = if moved < SHORT_BYTES { self.shorts.saturating_add(1) } else { 0 };
        Ok(moved)
    }

    /// Moves what is in the pipe to a socket, as much as it takes.
    ///
    /// # Errors
    ///
    /// `AGAIN`: wait until the socket is writable. Anything else: the connection is gone.
    pub(super) fn empty(&mut self, to: BorrowedFd<'_>) -> Result<u32, Errno> {
        let moved = splice(self.read.as_fd(), None, to, None, self.filled as usize, FLAGS)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX).min(self.filled);
        self.filled -= moved;
        Ok(moved)
    }

    /// Whether the direction does not stream any more.
    pub(super) fn is_tired(&self) -> bool {
        self.shorts >= SHORTS_MAX
    }

    /// Called at times: a direction from which nothing came in between does not stream any more.
    pub(super) fn grow_tired(&mut self) {
        if std::mem::replace(&mut self.is_quiet, true) && self.filled == 0 {
            self.shorts = SHORTS_MAX;
        }
    }

    /// Bytes in the pipe.
    pub(super) fn filled(&self) -> u32 {
        self.filled
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_pass_and_short_ones_make_it_tired() {
        let (mut client, from) = UnixStream::pair().expect("sockets");
        let (to, mut backend) = UnixStream::pair().expect("sockets");
        from.set_nonblocking(true).expect("an option");
        to.set_nonblocking(true).expect("an option");
        let mut pipes = Pipes::default();
        let mut pipe = pipes.take().expect("a pipe");
        assert_eq!(pipe.fill(from.as_fd()), Err(Errno::AGAIN));
        for turn in 0..SHORTS_MAX {
            assert!(!pipe.is_tired(), "{turn}");
            client.write_all(b"hello").expect("room");
            assert_eq!(pipe.fill(from.as_fd()), Ok(5));
            assert_eq!((pipe.empty(to.as_fd()), pipe.filled()), (Ok(5), 0));
            let mut got = [0; 5];
            backend.read_exact(&mut got).expect("bytes");
            assert_eq!(&got, b"hello");
        }
        assert!(pipe.is_tired());
        drop(client);
        assert_eq!(pipe.fill(from.as_fd()), Ok(0));
        pipes.give_back(*pipe);
        assert_eq!((pipes.out(), pipes.idle.len()), (0, 1));
        assert!(!pipes.take().expect("the same").is_tired());
    }

    #[test]
    fn there_are_so_many_and_no_more_and_a_used_one_is_not_kept() {
        let mut pipes = Pipes::default();
        let mut taken: Vec<_> = (0..PIPES_MAX).map_while(|_| pipes.take()).collect();
        if taken.len() == PIPES_MAX {
            assert!(pipes.take().is_none());
        }
        let mut used = taken.pop().expect("at least one");
        used.filled = 1;
        pipes.give_back(*used);
        assert!(pipes.idle.is_empty());
        assert!(pipes.take().is_some());
    }

    #[test]
    fn silence_between_two_looks_makes_it_tired() {
        let mut pipe = Pipe::new().expect("a pipe");
        pipe.grow_tired();
        assert!(!pipe.is_tired());
        pipe.grow_tired();
        assert!(pipe.is_tired());
    }
}
