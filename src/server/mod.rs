//! The process: sockets, workers, drain, log.

mod cores;
mod describe;
mod limits;
pub mod log;
mod run;

pub use describe::describe;
pub use run::{Handle, RunError, Server, StartError};
