//! The process: what stands around the workers.

pub mod log;
