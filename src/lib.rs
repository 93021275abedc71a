//! phantom-frame.

pub mod http1;
