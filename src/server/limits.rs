//! How many connections the descriptors of this process are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, rings, the log, and some to spare.
const RESERVE: u64 = 64;

/// Raises the soft limit of open files to the hard one; returns what is in force now.
pub(super) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let in_force = if raised.is_ok() { maximum } else { current };
    in_force.unwrap_or(u64::MAX)
}

/// Connections that `open_files` descriptors are enough for: each may need one to the backend.
pub(super) fn connections_max(open_files: u64) -> usize {
    usize::try_from(open_files.saturating_sub(RESERVE) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_needs_two_descriptors() {
        assert_eq!(connections_max(20_000), 9_968);
        assert_eq!(connections_max(66), 1);
        assert_eq!(connections_max(0), 1);
    }
}
