//! phantom-frame.
