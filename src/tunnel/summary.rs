//! How a tunnel ended: whose doing it was, and what went through.

use std::fmt;
use std::io;

/// One of the two parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asked for the upgrade.
    Client,
    /// Who answered it.
    Backend,
}

impl Side {
    /// The other party.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Backend => "backend",
        })
    }
}

/// Why a tunnel ended. The first cause counts: who closes after the other only follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client ended its direction first.
    ClientClosed,
    /// The backend ended its direction first.
    BackendClosed,
    /// The client aborted.
    ClientReset,
    /// The backend aborted.
    BackendReset,
    /// The client answers no more, neither data nor probes: it vanished without a word.
    ClientLost,
    /// The backend likewise.
    BackendLost,
    /// No byte either way for `tunnel_idle`.
    IdleTimeout,
    /// The process left.
    Drain,
    /// The system failed on one side. Stays the last: see
    /// [`CloseReason::ALL`].
    Error,
}

impl CloseReason {
    /// Every reason, in the order of the enum, whose last is [`CloseReason::Error`]: the number of a
    /// reason is its index.
    pub const ALL: [Self; Self::Error as usize + 1] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::ClientReset,
        Self::BackendReset,
        Self::ClientLost,
        Self::BackendLost,
        Self::IdleTimeout,
        Self::Drain,
        Self::Error,
    ];

    /// The word in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::ClientLost => "client_lost",
            Self::BackendLost => "backend_lost",
            Self::IdleTimeout => "idle_timeout",
            Self::Drain => "drain",
            Self::Error => "error",
        }
    }

    /// The reason when `side` ended its direction first.
    pub const fn closed_by(side: Side) -> Self {
        match side {
            Side::Client => Self::ClientClosed,
            Side::Backend => Self::BackendClosed,
        }
    }

    /// The reason when `side` aborted.
    pub const fn reset_by(side: Side) -> Self {
        match side {
            Side::Client => Self::ClientReset,
            Side::Backend => Self::BackendReset,
        }
    }

    /// The reason when `side` answers no more.
    pub const fn lost_by(side: Side) -> Self {
        match side {
            Side::Client => Self::ClientLost,
            Side::Backend => Self::BackendLost,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a tunnel did.
#[derive(Debug)]
pub struct Summary {
    /// Bytes the backend's socket took, early bytes included.
    pub client_to_backend_bytes: u64,
    /// Bytes the client's socket took, early bytes included.
    pub backend_to_client_bytes: u64,
    /// Why it ended.
    pub reason: CloseReason,
    /// On which side the system failed and how, where it did; a lost peer is such a failure.
    pub failure: Option<(Side, io::Error)>,
}
