//! What the benches share: the proxies under load, the load itself, and the CPU it costs.
//!
//! The load is one thread that plays clients and backend alike on blocking sockets: it waits for
//! nothing but the proxy, so it costs every proxy the same.

pub mod cpu;
pub mod heads;
pub mod load;
pub mod rig;
mod tokio_proxy;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of one tunnel in this process: the client, the backend, and the proxy's two.
const TUNNEL_DESCRIPTORS: u64 = 4;

/// Descriptors that are not tunnels: rings, listeners, /proc. Arbitrary, far more than there are.
const OTHER_DESCRIPTORS: u64 = 128;

/// Raises the soft limit of open files to the hard one.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused, the limit stays as it is, and `has_room_for` says what fits.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}

/// Returns whether the limit of open files allows this many tunnels.
pub fn has_room_for(tunnels: usize) -> bool {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = u64::try_from(tunnels).expect("a count of sockets") * TUNNEL_DESCRIPTORS;
    wanted + OTHER_DESCRIPTORS <= limit
}

/// Scales what `done` operations took down to `wanted` of them; neither is 0.
///
/// The load works in rounds over all its connections, criterion counts messages.
#[expect(clippy::cast_precision_loss, reason = "counts of operations in a second")]
pub fn scale(took: std::time::Duration, wanted: u64, done: u64) -> std::time::Duration {
    took.mul_f64(wanted as f64 / done as f64)
}
