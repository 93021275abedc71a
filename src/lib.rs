//! phantom-frame: a WebSocket-facing reverse proxy for Linux on `io_uring`.

pub mod config;
pub mod http1;
pub mod server;
