//! phantom-frame.

pub mod server;
