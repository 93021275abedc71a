//! What may be stored of a backend's responses, and what a stored one may be used for (RFC 9111).
//!
//! The rules are pure: no socket, no clock, no log. Times are arguments, values opaque bytes, and
//! where a field is in doubt the reading wins that reuses less. The store is one worker's: nothing is
//! shared but the bytes of bodies and the compressor's queue.

pub mod coding;
pub mod compress;
pub mod conditional;
pub mod control;
pub mod date;
pub mod disk;
pub mod entry;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod kind;
pub mod local;
pub mod pattern;
pub mod policy;
pub mod range;
pub mod rules;
pub mod status;
pub mod store;
pub mod targeted;
pub mod vary;

#[cfg(test)]
mod tests;

pub use conditional::{
    Answer, Representation, answer, is_taken_from_304, matches_304, matches_head, must_pass,
    survives_304, write_validators,
};
pub use control::Demand;
pub use date::Moment;
pub use freshness::Times;
pub use invalidation::{invalidated_targets, invalidates};
pub use policy::{Respect, Reuse, Rules, Terms, Unstorable, may_store};
pub use status::{Forwarded, Status};
pub use vary::{Vary, VaryKind};
