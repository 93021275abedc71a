//! The process: sockets, workers, drain, log.

mod cores;
mod describe;
mod inherit;
mod limits;
pub mod log;
mod run;
mod sockets;
mod successor;

pub use describe::describe;
pub use inherit::Inherited;
pub use run::{Handle, RunError, Server, StartError};
pub use successor::Start;
