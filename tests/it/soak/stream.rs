//! Known content through a socket: written in random pieces, read and compared as it comes.

use std::io;
use std::thread;
use std::time::Duration;

use super::plan::{content, verify};
use crate::support::peer::reset;
use crate::support::{Peer, Random};

/// Most bytes of one write.
const PIECE_BYTES: usize = 32 * 1024;

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

/// Reads until the other end closes in whatever way, or `most` bytes came; returns how many did, and panics when
/// one is another one.
pub(super) fn read(peer: &mut Peer, seed: u64, most: usize, is_slow: bool) -> usize {
    let mut bytes = 0;
    while bytes < most {
        let some = match peer.try_read_some() {
            Ok(some) => some,
            Err(error) if reset(&error) => break,
            Err(error) => panic!("content {seed}: after {bytes} bytes of {most}: {error}"),
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
    bytes
}
