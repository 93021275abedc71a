//! How many connections the descriptors of this process are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of the process that are not connections: the log, the control endpoint, and some to spare.
const RESERVE: u64 = 64;

/// Those of each worker: rings, events, listeners and their reserve, and some to spare for further addresses.
const WORKER_RESERVE: u64 = 16;

/// Raises the soft limit of open files to the hard one; returns what is in force now.
pub(super) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let in_force = if raised.is_ok() { maximum } else { current };
    in_force.unwrap_or(u64::MAX)
}

/// Connections that `open_files` descriptors are enough for: each may need one to the backend.
pub(super) fn connections_max(open_files: u64, workers: usize) -> usize {
    let reserve = RESERVE.saturating_add(WORKER_RESERVE.saturating_mul(workers as u64));
    usize::try_from(open_files.saturating_sub(reserve) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_needs_two_descriptors() {
        assert_eq!(connections_max(20_000, 2), 9_952);
        assert_eq!(connections_max(20_000, 64), 9_456);
        assert_eq!(connections_max(66, 1), 1);
        assert_eq!(connections_max(0, 1), 1);
    }
}
