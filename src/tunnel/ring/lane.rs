//! What one direction of a tunnel does next: pure, told what completed and asked for the next step.
//!
//! The rule: at most one receive, one send and one wait for room are out at a time, and a step that
//! was returned counts as out until its event has come.

use super::chain::Chain;
use crate::tunnel::frames::Frames;
use crate::tunnel::splice::Pipe;

/// Queued bytes above which a direction stops receiving. Eight full buffers: a burst of a streaming
/// sender fits, and a reader that stops costs no more than this and what was already on its way.
pub(super) const QUEUED_MAX: u32 = 128 * 1024;

/// Queued bytes at which it receives again.
pub(super) const QUEUED_LOW: u32 = QUEUED_MAX / 2;

/// Full buffers in a row after which a direction streams: 256 KiB in those of 16 KiB. Splicing costs
/// half of copying a stream, and a third more for requests of 64 KiB.
const STREAK: u8 = 16;

/// The receiving half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receive {
    /// No receive is out.
    #[default]
    Off,
    /// A receive is out and completes with everything that arrives; or, with a pipe, a wait for
    /// bytes.
    On,
    /// It was asked to stop and has not yet.
    Stopping,
    /// No buffer was left; waits for its turn.
    Starved,
    /// The sender has ended its direction.
    Ended,
    /// The receiver has been told so.
    Passed,
}

/// The sending half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Send {
    /// Nothing is out.
    #[default]
    Off,
    /// A send is out.
    On,
    /// The socket took less than everything.
    Stuck,
    /// A wait for room is out.
    Waiting,
    /// It was asked to stop and has not yet.
    Stopping,
}

/// What to do with the kernel next. Whoever asked must do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start a multishot receive.
    Receive,
    /// Wait until bytes have arrived that go through the pipe.
    AwaitBytes,
    /// Stop the one or the other.
    StopReceiving,
    /// Give the direction a pipe, if there is one.
    OpenPipe,
    /// Move what is there into the pipe.
    FillPipe,
    /// Take the pipe back, which is empty.
    ClosePipe,
    /// Send what waits longest.
    Send,
    /// Wait until the socket takes more.
    AwaitRoom,
    /// Stop that wait.
    StopAwaiting,
    /// Everything was sent and the sender has ended: end this direction.
    PassEnd,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Received buffers that wait, behind `spill`.
    pub(super) chain: Chain,
    /// Bytes on the heap that come first: early bytes, and what was moved out of scarce buffers.
    pub(super) spill: Option<Box<Spill>>,
    /// While the direction streams. Then `chain` and `spill` are empty.
    pub(super) pipe: Option<Box<Pipe>>,
    /// Whether it is on the engine's list of the stuck.
    pub(super) is_listed: bool,
    /// Where the bytes end that have arrived, if they are followed.
    pub(super) frames: Frames,
    /// Bytes in `chain` and `spill`, or in the pipe.
    queued: u32,
    /// Bytes that the receiver's socket took.
    sent_bytes: u64,
    receive: Receive,
    send: Send,
    /// Full buffers in a row.
    streak: u8,
}

impl Lane {
    /// What to do next; `None` until the next event.
    pub(super) fn step(&mut self, closing: bool) -> Option<Step> {
        if closing { self.step_to_close() } else { self.step_to_carry() }
    }

    fn step_to_carry(&mut self) -> Option<Step> {
        match self.send {
            Send::Off if self.queued > 0 => {
                self.send = Send::On;
                return Some(Step::Send);
            }
            Send::Stuck => {
                self.send = Send::Waiting;
                return Some(Step::AwaitRoom);
            }
            Send::Off | Send::On | Send::Waiting | Send::Stopping => {}
        }
        match self.receive {
            Receive::Ended if self.queued == 0 => {
                self.receive = Receive::Passed;
                Some(Step::PassEnd)
            }
            Receive::On if self.wants_stop() => {
                self.receive = Receive::Stopping;
                Some(Step::StopReceiving)
            }
            Receive::Off => self.step_to_receive(),
            Receive::On
            | Receive::Stopping
            | Receive::Starved
            | Receive::Ended
            | Receive::Passed => None,
        }
    }

    /// Whether the receive that is out, or the wait for bytes, is not what is wanted.
    fn wants_stop(&self) -> bool {
        match &self.pipe {
            Some(pipe) => pipe.is_tired(),
            None => self.queued > QUEUED_MAX || self.streak >= STREAK,
        }
    }

    fn step_to_receive(&mut self) -> Option<Step> {
        match &self.pipe {
            Some(_) if self.queued > 0 => None,
            Some(pipe) if pipe.is_tired() => {
                self.streak = 0;
                Some(Step::ClosePipe)
            }
            Some(pipe) if pipe.goes_on() => Some(Step::FillPipe),
            Some(_) => {
                self.receive = Receive::On;
                Some(Step::AwaitBytes)
            }
            None if self.streak >= STREAK => {
                // What waits goes first. Without a pipe the streak begins anew.
                let is_empty = self.queued == 0;
                self.streak = if is_empty { 0 } else { self.streak };
                is_empty.then_some(Step::OpenPipe)
            }
            None if self.queued <= QUEUED_LOW => {
                self.receive = Receive::On;
                Some(Step::Receive)
            }
            None => None,
        }
    }

    fn step_to_close(&mut self) -> Option<Step> {
        if self.send == Send::Waiting {
            self.send = Send::Stopping;
            return Some(Step::StopAwaiting);
        }
        if self.receive == Receive::On {
            self.receive = Receive::Stopping;
            return Some(Step::StopReceiving);
        }
        None
    }

    /// So many bytes arrived, which filled a buffer or not.
    pub(super) fn received(&mut self, bytes: u32, is_full: bool) {
        self.queued += bytes;
        self.streak = if is_full { self.streak.saturating_add(1) } else { 0 };
    }

    /// Streams from now on, whatever the buffers tell.
    pub(super) fn stream(&mut self) {
        self.streak = STREAK;
    }

    /// So many bytes went into the pipe; no wait is out.
    pub(super) fn filled(&mut self, bytes: u32) {
        self.queued += bytes;
        self.frames.skip(bytes as usize);
    }

    /// The receive is out no more, for no reason that concerns the connection.
    pub(super) fn halted(&mut self) {
        debug_assert!(matches!(self.receive, Receive::On | Receive::Stopping), "nothing was out");
        self.receive = Receive::Off;
    }

    /// The receive is out no more because no buffer was left. Returns whether the direction wants
    /// one, and must be told by [`Lane::fed`] when it may try again.
    pub(super) fn starved(&mut self) -> bool {
        let wants = self.receive == Receive::On;
        self.receive = if wants { Receive::Starved } else { Receive::Off };
        wants
    }

    /// A buffer is there again.
    pub(super) fn fed(&mut self) {
        if self.receive == Receive::Starved {
            self.receive = Receive::Off;
        }
    }

    /// The sender has ended its direction; the receive is out no more.
    pub(super) fn ended(&mut self) {
        self.receive = Receive::Ended;
    }

    /// The receiver's socket took these bytes on the spot, which were never queued.
    pub(super) fn sent_early(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// The send that was out took `bytes`; `all` says whether that was all of it.
    pub(super) fn sent(&mut self, bytes: u32, all: bool) {
        debug_assert!(self.send == Send::On && bytes <= self.queued, "nothing like it was out");
        self.queued = self.queued.saturating_sub(bytes);
        self.sent_bytes += u64::from(bytes);
        self.send = if all { Send::Off } else { Send::Stuck };
    }

    /// The wait for room is over, because there is some or because it was stopped.
    pub(super) fn room(&mut self) {
        self.send = Send::Off;
    }

    /// Appends bytes to the heap's part; the chain must be empty.
    pub(super) fn queue_spill(&mut self, bytes: &[u8]) {
        debug_assert!(self.chain.is_empty(), "the chain comes behind");
        self.queued += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.spill.get_or_insert_default().append(bytes);
    }

    /// Whether no operation is out, so that the sockets and the entry may go.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.send, Send::Off | Send::Stuck)
            && !matches!(self.receive, Receive::On | Receive::Stopping)
    }

    /// Whether something of ours may be said to the receiver here: everything was sent, and it ends where
    /// a frame does.
    pub(super) fn is_between_frames(&self) -> bool {
        let is_settled = self.queued == 0 && self.send == Send::Off && self.pipe.is_none();
        is_settled && !self.is_over() && self.frames.is_between()
    }

    /// Whether the end of this direction was passed on.
    pub(super) fn is_over(&self) -> bool {
        self.receive == Receive::Passed
    }

    /// Whether its receiver does not take what waits.
    pub(super) fn is_stuck(&self) -> bool {
        matches!(self.send, Send::Stuck | Send::Waiting | Send::Stopping)
    }

    /// Bytes that the receiver's socket took.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

/// Bytes of one direction on the heap.
#[derive(Debug, Default)]
pub(super) struct Spill {
    bytes: Vec<u8>,
    /// The front of `bytes` that was sent.
    start: usize,
}

impl Spill {
    /// What waits.
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Appends what arrived later.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops what was sent; returns whether nothing is left.
    pub(super) fn consume(&mut self, bytes: usize) -> bool {
        self.start += bytes;
        self.start >= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::splice::Pipes;

    const CARRY: bool = false;
    const CLOSE: bool = true;

    fn running() -> Lane {
        let mut lane = Lane::default();
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
        assert_eq!(lane.step(CARRY), None);
        lane
    }

    #[test]
    fn what_arrives_is_sent_once_and_then_the_direction_waits() {
        let mut lane = running();
        lane.received(100, false);
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        lane.received(50, false);
        assert_eq!(lane.step(CARRY), None, "one send at a time");
        lane.sent(100, true);
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        lane.sent(50, true);
        assert_eq!((lane.step(CARRY), lane.sent_bytes()), (None, 150));
    }

    #[test]
    fn the_end_is_passed_on_behind_the_last_byte() {
        let mut lane = running();
        lane.received(10, false);
        lane.ended();
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        assert_eq!(lane.step(CARRY), None);
        lane.sent(4, false);
        assert_eq!(lane.step(CARRY), Some(Step::AwaitRoom));
        assert!(!lane.is_quiet());
        lane.room();
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        lane.sent(6, true);
        assert_eq!(lane.step(CARRY), Some(Step::PassEnd));
        assert_eq!(lane.step(CARRY), None);
        assert!(lane.is_over() && lane.is_quiet());
    }

    #[test]
    fn a_reader_that_stops_stops_the_receive_and_its_reading_starts_it_again() {
        for (queued, stops) in
            [(QUEUED_MAX - 1, false), (QUEUED_MAX, false), (QUEUED_MAX + 1, true)]
        {
            let mut lane = running();
            lane.received(queued, false);
            assert_eq!(lane.step(CARRY), Some(Step::Send));
            assert_eq!(lane.step(CARRY), stops.then_some(Step::StopReceiving), "{queued}");
        }
        let mut lane = running();
        lane.received(QUEUED_MAX + 1, false);
        lane.step(CARRY);
        assert_eq!(lane.step(CARRY), Some(Step::StopReceiving));
        lane.received(1, false);
        assert_eq!(lane.step(CARRY), None, "it stops only once");
        lane.halted();
        lane.sent(QUEUED_MAX + 1 - QUEUED_LOW, false);
        assert_eq!(lane.step(CARRY), Some(Step::AwaitRoom));
        assert_eq!(lane.step(CARRY), None, "one byte above the low mark");
        lane.room();
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        lane.sent(1, false);
        assert_eq!(lane.step(CARRY), Some(Step::AwaitRoom));
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
    }

    #[test]
    fn a_starved_direction_waits_for_its_turn() {
        let mut lane = running();
        assert!(lane.starved());
        assert_eq!(lane.step(CARRY), None);
        assert!(lane.is_quiet());
        lane.fed();
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
        lane.received(QUEUED_MAX + 1, false);
        lane.step(CARRY);
        assert_eq!(lane.step(CARRY), Some(Step::StopReceiving));
        assert!(!lane.starved(), "it did not want one any more");
        lane.fed();
        assert_eq!(lane.step(CARRY), None);
    }

    #[test]
    fn a_receive_that_ends_by_itself_is_started_again() {
        let mut lane = running();
        lane.received(1, false);
        lane.halted();
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
    }

    #[test]
    fn closing_stops_what_is_out_and_waits_for_it() {
        let mut lane = running();
        lane.received(10, false);
        lane.step(CARRY);
        assert_eq!(lane.step(CLOSE), Some(Step::StopReceiving));
        assert_eq!(lane.step(CLOSE), None);
        lane.sent(3, false);
        assert!(!lane.is_quiet());
        lane.halted();
        assert_eq!(lane.step(CLOSE), None, "nothing is sent, nothing is waited for");
        assert!(lane.is_quiet());

        let mut lane = running();
        lane.received(10, false);
        lane.halted();
        lane.step(CARRY);
        lane.sent(3, false);
        assert_eq!(lane.step(CARRY), Some(Step::AwaitRoom));
        lane.ended();
        assert_eq!(lane.step(CLOSE), Some(Step::StopAwaiting));
        assert!(!lane.is_quiet());
        lane.room();
        assert!(lane.is_quiet() && !lane.is_over());
    }

    #[test]
    fn a_direction_that_streams_gets_a_pipe_and_loses_it_when_it_is_quiet() {
        let mut lane = running();
        for _ in 1..STREAK {
            lane.received(10, true);
        }
        lane.received(1, false);
        lane.received(10, true);
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        assert_eq!(lane.step(CARRY), None, "the streak was broken");
        for _ in 1..STREAK {
            lane.received(10, true);
        }
        assert_eq!(lane.step(CARRY), Some(Step::StopReceiving));
        lane.halted();
        assert_eq!(lane.step(CARRY), None, "what waits goes first");
        lane.sent(lane.queued, true);
        assert_eq!(lane.step(CARRY), Some(Step::OpenPipe));
        lane.pipe = Pipes::default().take();
        assert_eq!(lane.step(CARRY), Some(Step::AwaitBytes));
        lane.halted();
        lane.filled(500);
        assert_eq!(lane.step(CARRY), Some(Step::Send));
        assert_eq!(lane.step(CARRY), None, "the pipe is emptied first");
        lane.sent(500, true);
        assert_eq!(lane.step(CARRY), Some(Step::AwaitBytes));
        for _ in 0..2 {
            lane.pipe.as_mut().expect("a pipe").grow_tired();
        }
        assert_eq!(lane.step(CARRY), Some(Step::StopReceiving));
        lane.halted();
        assert_eq!(lane.step(CARRY), Some(Step::ClosePipe));
        lane.pipe = None;
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
    }

    #[test]
    fn a_direction_that_gets_no_pipe_goes_on_without() {
        let mut lane = running();
        for _ in 0..STREAK {
            lane.received(0, true);
        }
        assert_eq!(lane.step(CARRY), Some(Step::StopReceiving));
        lane.halted();
        assert_eq!(lane.step(CARRY), Some(Step::OpenPipe));
        assert_eq!(lane.step(CARRY), Some(Step::Receive));
        assert_eq!(lane.step(CARRY), None);
    }

    #[test]
    fn the_heap_s_part_keeps_its_order() {
        let mut spill = Spill::default();
        spill.append(b"abc");
        assert!(!spill.consume(2));
        spill.append(b"de");
        assert_eq!(spill.waiting(), b"cde");
        assert!(spill.consume(3));
    }
}
