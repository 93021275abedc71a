//! The folder that names sockets: streams, buffers, deadlines, listeners, body relay.
//!
//! One rule carries the rest: the only operations that wait are `readable` and `writable`, and both
//! are safe to drop. Data moves by non-blocking system calls after readiness, on buffers that are
//! owned for the length of one move. So no byte is ever in flight inside a dropped future, a
//! deadline is a flag and a wake, and `io_uring` and epoll run the same code.
//!
//! The alternative, ring receives with an owned buffer each, was measured in a prototype: 17 KB an idle
//! tunnel, one pinned buffer per direction, and a cancelled read can lose data.

pub mod body;
pub mod buffer;
pub mod clock;
pub mod failpoint;
pub mod inbox;
pub mod keepalive;
pub mod linger;
pub mod listener;
pub mod pacing;
pub mod relay;
pub mod stream;
pub mod sweeper;

pub use body::BodyReader;
pub use buffer::{Buffer, Pool};
pub use inbox::{Inbox, ReadError};
pub use keepalive::Keepalive;
pub use stream::Stream;
pub use sweeper::{Fired, Sweeper, Watch};
