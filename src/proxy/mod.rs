//! One client connection: its requests one after another, until it ends or becomes a tunnel.
//!
//! `serve` is the loop, `decide` the rules; `look_up`, `fetch` and `upgrade` are the actions, and
//! `converse` what the last two share: one exchange with a backend. A response that may be stored is
//! fetched by a `fill`, a task of its own; clients `follow` its `flight`, or that of the worker they
//! `borrow` from, and what is stored already is a `hit`, which waits in the `outbox` for those behind it.

mod borrow;
mod converse;
pub mod count;
pub mod decide;
pub mod fence;
mod fetch;
mod fill;
mod flight;
mod follow;
mod hit;
mod invalidate;
mod look_up;
mod outbox;
pub mod outcome;
mod pack;
pub mod purge;
mod record;
mod refuse;
mod serve;
mod shard;
mod upgrade;
mod upload;

pub use borrow::Loan;
pub use flight::Flights;
pub use outbox::Outbox;
pub use pack::Packing;
pub use purge::{Purge, PurgeRoutes, PurgeWhat};
pub use record::Record;
pub use serve::serve;
pub use shard::{Client, Date, Forgotten, Latest, Letter, Post, Scratch, Shard, open};
pub use upgrade::{Owner, Tunnel, end_tunnel, run_tunnel};
