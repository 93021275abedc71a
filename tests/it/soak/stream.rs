//! Known content through a socket: written in random pieces, read and compared as it comes.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use super::plan::{content, verify};
use crate::support::{Closed, Peer, Random};

/// Most bytes of one write or read.
const PIECE_BYTES: usize = 32 * 1024;

/// What came until the other end closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) bytes: usize,
    pub(super) closed: Closed,
}

/// Writes bytes `from..to` of a content in pieces, some after a pause.
///
/// # Errors
///
/// Only the plan knows whether the other end may leave before it has everything.
pub(super) fn write(peer: &mut Peer, seed: u64, from: usize, to: usize) -> io::Result<()> {
    let mut random = Random::new(seed);
    let mut at = from;
    while at < to {
        let next = to.min(at + 1 + random.below(PIECE_BYTES));
        peer.try_send(&content(seed, at, next))?;
        at = next;
        if random.below(16) == 0 {
            thread::sleep(Duration::from_millis(1 + random.next_u64() % 4));
        }
    }
    Ok(())
}

/// Reads until the other end closes, or `most` bytes came; panics when a byte is another one.
pub(super) fn read(peer: &mut Peer, seed: u64, most: usize, is_slow: bool) -> Got {
    let mut bytes = 0;
    while bytes < most {
        let some = match some(peer) {
            Ok(some) => some,
            Err(error) => {
                let is_reset = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                );
                assert!(is_reset, "content {seed}: after {bytes} bytes of {most}: {error}");
                return Got { bytes, closed: Closed::ByReset };
            }
        };
        if some.is_empty() {
            break;
        }
        verify(seed, bytes, &some);
        bytes += some.len();
        if is_slow {
            thread::sleep(Duration::from_millis(2));
        }
    }
    Got { bytes, closed: Closed::InOrder }
}

/// Reads what is there; nothing when the other end closed.
///
/// # Errors
///
/// The other end reset the connection, or the guard expired.
pub(super) fn some(peer: &mut Peer) -> io::Result<Vec<u8>> {
    let early = peer.early().len();
    if early > 0 {
        return Ok(peer.read_exact(early));
    }
    let mut bytes = vec![0; PIECE_BYTES];
    loop {
        match peer.stream().read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
        }
    }
}

/// Reads until the other end closes in whatever way; `None` when it did not within the guard.
pub(super) fn rest(peer: &mut Peer) -> Option<(Vec<u8>, Closed)> {
    let mut bytes = Vec::new();
    loop {
        match some(peer) {
            Ok(some) if some.is_empty() => return Some((bytes, Closed::InOrder)),
            Ok(some) => bytes.extend(some),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => return None,
            Err(_) => return Some((bytes, Closed::ByReset)),
        }
    }
}
