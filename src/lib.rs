//! phantom-frame.

pub mod config;
