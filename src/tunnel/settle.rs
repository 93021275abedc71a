//! How a tunnel's end is named: pure, and the same for every way of carrying its bytes.
//!
//! The first cause counts. After an orderly end, an abort only follows: of the side that left
//! without hearing the rest, or of the one that has nothing more to say.

use std::io;

use super::{CloseReason, Side};
use crate::net::Fired;
use crate::net::stream::{is_lost, is_reset};

/// Why a direction stopped before its sender's end.
#[derive(Debug)]
pub(super) enum Broken {
    /// This side's socket failed.
    At(Side, io::Error),
    /// The deadline passed, or the process leaves.
    Fired(Fired),
}

impl From<Fired> for Broken {
    fn from(fired: Fired) -> Self {
        Self::Fired(fired)
    }
}

/// What is said and done at the end.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The first cause.
    pub reason: CloseReason,
    /// On which side the system failed and how, where it did.
    pub failure: Option<(Side, io::Error)>,
    /// Whether both sockets close with RST: the other side must not take what it got for the whole.
    pub aborts: bool,
}

/// Names the end of a tunnel that was `broken`, or whose directions have both ended; `first_end` is
/// the side that ended its direction first.
pub(super) fn settle(broken: Option<Broken>, first_end: Option<Side>) -> Verdict {
    let closed = first_end.map(CloseReason::closed_by);
    let (reason, failure, aborts) = match broken {
        // Both directions ended, so somebody was first.
        None => (closed.unwrap_or(CloseReason::ClientClosed), None, false),
        Some(Broken::Fired(Fired::Drain)) => (CloseReason::Drain, None, false),
        Some(Broken::Fired(Fired::Deadline)) => {
            (closed.unwrap_or(CloseReason::IdleTimeout), None, false)
        }
        Some(Broken::At(side, error)) => match closed {
            Some(closed) if is_reset(&error) => (closed, None, true),
            None if is_reset(&error) => (CloseReason::reset_by(side), None, true),
            _ if is_lost(&error) => (CloseReason::lost_by(side), Some((side, error)), true),
            _ => (CloseReason::Error, Some((side, error)), true),
        },
    };
    Verdict { reason, failure, aborts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset() -> Broken {
        Broken::At(Side::Backend, io::ErrorKind::ConnectionReset.into())
    }

    fn lost() -> Broken {
        Broken::At(Side::Client, io::ErrorKind::TimedOut.into())
    }

    fn failed() -> Broken {
        Broken::At(Side::Client, io::ErrorKind::OutOfMemory.into())
    }

    #[test]
    fn the_first_cause_is_named() {
        let (client, backend) = (Some(Side::Client), Some(Side::Backend));
        let table = [
            (None, client, CloseReason::ClientClosed, false),
            (None, backend, CloseReason::BackendClosed, false),
            (Some(Broken::Fired(Fired::Drain)), client, CloseReason::Drain, false),
            (Some(Broken::Fired(Fired::Deadline)), None, CloseReason::IdleTimeout, false),
            (Some(Broken::Fired(Fired::Deadline)), backend, CloseReason::BackendClosed, false),
            (Some(reset()), None, CloseReason::BackendReset, true),
            (Some(reset()), client, CloseReason::ClientClosed, true),
            (Some(lost()), None, CloseReason::ClientLost, true),
            (Some(lost()), backend, CloseReason::ClientLost, true),
            (Some(failed()), None, CloseReason::Error, true),
            (Some(failed()), backend, CloseReason::Error, true),
        ];
        for (broken, first_end, reason, aborts) in table {
            let row = format!("{broken:?} after {first_end:?}");
            let verdict = settle(broken, first_end);
            assert_eq!((verdict.reason, verdict.aborts), (reason, aborts), "{row}");
            let has_failed = matches!(reason, CloseReason::Error | CloseReason::ClientLost);
            assert_eq!(verdict.failure.is_some(), has_failed, "{row}");
        }
    }
}
