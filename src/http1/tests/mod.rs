//! Tests that need room or more than one module: heads, chunked bodies and forwarded heads.

mod chunks;
mod forwards;
mod heads;
mod random;
