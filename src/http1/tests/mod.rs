//! Tests that need room or more than one module: heads, chunked bodies and forwarded heads.

mod chunks;
mod heads;
mod random;
