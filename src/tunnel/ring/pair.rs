//! One tunnel as a state machine: its two directions, its deadline and its end.
//!
//! Pure: told the time and what completed, asked for the next step. A tunnel may go only when it
//! [is over](Pair::is_over): then no operation of it is out, so that nothing completes for an entry
//! that was reused.

use super::lane::{Lane, Step};
use crate::net::Fired;
use crate::tunnel::settle::{Broken, settle};
use crate::tunnel::{Side, Summary};

/// Milliseconds since the ring was made.
pub(super) type Millis = u64;

/// How long a tunnel may be silent; `Millis::MAX` is for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// While both directions are open.
    pub idle: Millis,
    /// After one has ended.
    pub half_close: Millis,
}

/// Both directions of a tunnel.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) up: Lane,
    pub(super) down: Lane,
    /// Who ended first.
    first_end: Option<Side>,
    /// Set once: from then on the tunnel closes.
    broken: Option<Broken>,
    /// Whether a drain has said goodbye: what still comes is dropped, until both sides have ended.
    is_leaving: bool,
    deadline: Millis,
    limits: Limits,
}

impl Pair {
    /// A tunnel that begins to be silent at `now`.
    pub(super) fn new(limits: Limits, now: Millis) -> Self {
        Self {
            up: Lane::default(),
            down: Lane::default(),
            first_end: None,
            broken: None,
            is_leaving: false,
            deadline: now.saturating_add(limits.idle),
            limits,
        }
    }

    /// The direction in which `sender` sends.
    pub(super) fn lane(&mut self, sender: Side) -> &mut Lane {
        match sender {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }

    /// What to do next and in which direction; `None` until the next event.
    pub(super) fn step(&mut self) -> Option<(Side, Step)> {
        let closing = self.broken.is_some();
        if let Some(step) = self.up.step(closing) {
            return Some((Side::Client, step));
        }
        self.down.step(closing).map(|step| (Side::Backend, step))
    }

    /// A byte went through: the silence starts anew.
    pub(super) fn moved(&mut self, now: Millis) {
        if self.is_leaving {
            return;
        }
        let patience = match self.first_end {
            None => self.limits.idle,
            Some(_) => self.limits.half_close,
        };
        self.deadline = now.saturating_add(patience);
    }

    /// The end of the direction of `sender` was passed on.
    pub(super) fn ended(&mut self, sender: Side, now: Millis) {
        self.first_end.get_or_insert(sender);
        self.moved(now);
    }

    /// The tunnel is to close; the first cause counts.
    pub(super) fn break_off(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// A drain has said goodbye; the other sides have until `deadline` to do so too.
    pub(super) fn leave(&mut self, deadline: Millis) {
        self.is_leaving = true;
        self.deadline = deadline;
    }

    /// Whether a drain may still choose it.
    pub(super) fn is_running(&self) -> bool {
        self.broken.is_none() && !self.is_leaving
    }

    /// Whether one side has ended its direction.
    pub(super) fn has_ended(&self) -> bool {
        self.first_end.is_some()
    }

    /// Whether the client could be told goodbye a moment later, and not now.
    pub(super) fn is_inside_a_frame(&self) -> bool {
        self.down.frames.is_known() && !self.down.is_between_frames() && !self.has_ended()
    }

    /// Whether nothing that arrives is carried on.
    pub(super) fn drops(&self) -> bool {
        self.broken.is_some() || self.is_leaving
    }

    /// Whether the silence has lasted too long.
    pub(super) fn is_overdue(&self, now: Millis) -> bool {
        self.broken.is_none() && self.deadline <= now
    }

    /// Whether nothing is left to do and nothing is out.
    pub(super) fn is_over(&self) -> bool {
        let done = self.broken.is_some() || (self.up.is_over() && self.down.is_over());
        done && self.up.is_quiet() && self.down.is_quiet()
    }

    /// Whether the end of the other direction than that of `sender` was passed on: then closing the
    /// sockets says what is left to say.
    pub(super) fn is_last(&self, sender: Side) -> bool {
        match sender {
            Side::Client => self.down.is_over(),
            Side::Backend => self.up.is_over(),
        }
    }

    /// What it did, and whether its sockets close with RST.
    pub(super) fn summary(&mut self) -> (Summary, bool) {
        let drained = self.is_leaving.then_some(Broken::Fired(Fired::Drain));
        let verdict = settle(drained.or_else(|| self.broken.take()), self.first_end);
        let summary = Summary {
            client_to_backend_bytes: self.up.sent_bytes(),
            backend_to_client_bytes: self.down.sent_bytes(),
            reason: verdict.reason,
            failure: verdict.failure,
        };
        (summary, verdict.aborts)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::net::Fired;
    use crate::tunnel::CloseReason;

    const LIMITS: Limits = Limits { idle: 100, half_close: 10 };

    fn running() -> Pair {
        let mut pair = Pair::new(LIMITS, 0);
        assert_eq!(pair.step(), Some((Side::Client, Step::Receive)));
        assert_eq!(pair.step(), Some((Side::Backend, Step::Receive)));
        assert_eq!(pair.step(), None);
        pair
    }

    #[test]
    fn it_is_over_when_both_ends_were_passed_on() {
        let mut pair = running();
        pair.lane(Side::Backend).ended();
        assert_eq!(pair.step(), Some((Side::Backend, Step::PassEnd)));
        assert!(!pair.is_last(Side::Backend) && pair.is_last(Side::Client));
        pair.ended(Side::Backend, 0);
        assert!(!pair.is_over());
        pair.lane(Side::Client).ended();
        assert_eq!(pair.step(), Some((Side::Client, Step::PassEnd)));
        pair.ended(Side::Client, 0);
        assert!(pair.is_over());
        let (summary, aborts) = pair.summary();
        assert_eq!((summary.reason, aborts), (CloseReason::BackendClosed, false));
    }

    #[test]
    fn silence_is_measured_from_the_last_byte_and_shorter_after_an_end() {
        let mut pair = running();
        assert!(!pair.is_overdue(99) && pair.is_overdue(100));
        pair.moved(50);
        assert!(!pair.is_overdue(149) && pair.is_overdue(150));
        pair.lane(Side::Client).ended();
        pair.step();
        pair.ended(Side::Client, 60);
        assert!(!pair.is_overdue(69) && pair.is_overdue(70));
        let mut pair = Pair::new(Limits { idle: Millis::MAX, ..LIMITS }, 7);
        pair.moved(8);
        assert!(!pair.is_overdue(Millis::MAX - 1));
    }

    #[test]
    fn a_broken_tunnel_waits_for_what_is_out_and_keeps_the_first_cause() {
        let mut pair = running();
        pair.lane(Side::Client).halted();
        pair.break_off(Broken::At(Side::Client, io::ErrorKind::ConnectionReset.into()));
        pair.break_off(Broken::Fired(Fired::Drain));
        assert!(!pair.is_overdue(Millis::MAX));
        assert_eq!(pair.step(), Some((Side::Backend, Step::StopReceiving)));
        assert!(!pair.is_over());
        pair.lane(Side::Backend).halted();
        assert_eq!(pair.step(), None);
        assert!(pair.is_over());
        let (summary, aborts) = pair.summary();
        assert_eq!((summary.reason, aborts), (CloseReason::ClientReset, true));
    }
}
