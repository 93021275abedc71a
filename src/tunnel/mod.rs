//! Bytes both ways after a 101, until both sides have ended.
//!
//! A tunnel has no framing: nothing here depends on the bytes, and only a drain wants to know where a
//! WebSocket frame ends. What one side does is carried to the
//! other as it is: bytes in order, the end of one direction (half-close) as the end of one
//! direction, an abort as an abort, and a reader that does not read as a writer that may not write.

pub mod frames;
pub mod pump;
pub mod ring;
pub mod summary;

mod settle;
mod splice;

use std::time::Duration;

pub use ring::{Ring, RingOptions};
pub use summary::{CloseReason, Side, Summary};

use crate::net::{Buffer, Stream};

/// Both ends of a tunnel and what was already read from them.
#[derive(Debug)]
pub struct Ends {
    /// The side that asked for the upgrade.
    pub client: Stream,
    /// The side that answered 101.
    pub backend: Stream,
    /// Bytes the client sent right behind its request; the backend gets them first.
    pub client_early: Option<Buffer>,
    /// Bytes the backend sent right behind its 101; the client gets them first.
    pub backend_early: Option<Buffer>,
    /// Whether what follows are frames of RFC 6455, between which a drain can say goodbye.
    pub is_websocket: bool,
}

/// How long a tunnel may be silent. `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// No byte either way.
    pub idle: Option<Duration>,
    /// No byte either way after one direction has ended.
    pub half_close: Option<Duration>,
}
