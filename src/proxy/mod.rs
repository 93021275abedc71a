//! One client connection: its requests one after another, until it ends or becomes a tunnel.
//!
//! `serve` is the loop, `decide` the rules, `fetch` and `upgrade` the two actions, `converse` what
//! they share: one exchange with a backend. Only `serve` receives the [`Shard`].

mod converse;
pub mod count;
pub mod decide;
mod fetch;
pub mod outcome;
pub mod purge;
mod record;
mod refuse;
mod serve;
mod shard;
mod upgrade;
mod upload;

pub use purge::{Purge, PurgeRoutes, PurgeWhat};
pub use record::Record;
pub use serve::serve;
pub use shard::{Client, Date, Scratch, Shard};
pub use upgrade::{Owner, Tunnel, end_tunnel, run_tunnel};
