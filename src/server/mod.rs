//! The process: sockets, workers, drain, log.

mod cores;
mod describe;
mod error;
mod fleet;
mod inherit;
mod limits;
pub mod log;
mod names;
mod reload;
mod run;
mod sockets;
mod successor;

pub use describe::describe;
pub use error::{RunError, StartError};
pub use inherit::Inherited;
pub use run::{Handle, Server};
pub use successor::Start;
