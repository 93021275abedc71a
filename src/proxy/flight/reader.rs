//! Those who wait for a flight, and where each of them is in its body.

use std::cell::Cell;

use super::{Flight, Progress};
use crate::proxy::outcome::Outcome;

/// Somebody who waits for a flight.
#[derive(Debug)]
pub(in crate::proxy) struct Waiter<'a> {
    /// What he waits for.
    pub(in crate::proxy) flight: &'a Flight,
    leads: bool,
    /// His place in the body until he reads: the fill may be far ahead before he has a turn, and what
    /// it drops meanwhile he would miss.
    place: Cell<Option<usize>>,
}

impl<'a> Waiter<'a> {
    /// One more; `leads` says that the flight was begun for him.
    pub(in crate::proxy) fn new(flight: &'a Flight, leads: bool) -> Self {
        flight.waiting.set(flight.waiting.get().map(|count| count + 1));
        let place = Cell::new(Some(flight.readers.borrow_mut().insert(0)));
        Self { flight, leads, place }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let flight = self.flight;
        flight.waiting.set(flight.waiting.get().map(|count| count.saturating_sub(1)));
        if let Some(place) = self.place.take() {
            flight.readers.borrow_mut().try_remove(place);
        }
        if self.leads {
            flight.leader_left();
        }
        if flight.waiting.get() == Some(0) || flight.is_passing() {
            flight.wake();
        }
    }
}

/// A client's place in the body of a flight.
#[derive(Debug)]
pub(in crate::proxy) struct Reader<'a> {
    flight: &'a Flight,
    number: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning, in the place of one who has waited.
    pub(in crate::proxy) fn new(waiter: &Waiter<'a>) -> Self {
        let flight = waiter.flight;
        let number = waiter.place.take();
        let number = number.unwrap_or_else(|| flight.readers.borrow_mut().insert(0));
        Self { flight, number }
    }

    /// Copies up to `bytes_max` of what comes next to the end of `out`, and goes on behind it.
    pub(in crate::proxy) fn read(&self, out: &mut Vec<u8>, bytes_max: usize) -> Progress {
        let body = self.flight.body.borrow();
        let mut readers = self.flight.readers.borrow_mut();
        let Some(at) = readers.get_mut(self.number) else {
            return Progress::Broken(Outcome::Internal);
        };
        if *at < body.start {
            // What comes next is not here any more: anything else would be taken for it.
            return Progress::Broken(Outcome::Internal);
        }
        let before = out.len();
        let mut offset = body.start;
        let slices = body.pieces.iter().map(Vec::as_slice);
        for piece in slices.chain(body.whole.iter().map(|piece| &**piece)) {
            let skip = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            let left = bytes_max - (out.len() - before);
            let rest = piece.get(skip.min(piece.len())..).unwrap_or_default();
            let part = rest.get(..left.min(rest.len())).unwrap_or_default();
            out.extend_from_slice(part);
            *at += part.len() as u64;
            offset += piece.len() as u64;
        }
        let count = out.len() - before;
        let is_passing = body.is_passing;
        match (count, body.failure) {
            (1.., _) => {
                drop((body, readers));
                if is_passing {
                    // The fill may be waiting for room.
                    self.flight.wake();
                }
                Progress::Bytes(count)
            }
            (0, Some(outcome)) => Progress::Broken(outcome),
            (0, None) if body.is_complete => Progress::End,
            (0, None) => Progress::Wait,
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.flight.readers.borrow_mut().try_remove(self.number);
        if self.flight.body.borrow().is_passing {
            self.flight.wake();
        }
    }
}
