//! Why the proxy does not start, or does not go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why the proxy could not start. Nothing is left running.
#[derive(Debug)]
pub enum StartError {
    /// The configuration asks for something this host does not have: change it.
    Config(String),
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No driver for the workers: the message holds the remedy.
    Driver(io::Error),
    /// The system has no threads or descriptors left.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(fault) => f.write_str(fault),
            Self::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}{}", remedy(error.kind()))
            }
            Self::Driver(error) => write!(f, "io_uring is refused: {error}; {URING_REMEDY}"),
            Self::System(error) => write!(f, "the system refuses: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What helps when an address cannot be listened on.
fn remedy(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::AddrInUse {
        "; another process listens there: stop it or choose another port"
    } else if kind == io::ErrorKind::PermissionDenied {
        "; ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "; no interface of this host has that address"
    } else {
        ""
    }
}

pub(super) const URING_REMEDY: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the \
     container's seccomp profile, set the sysctl kernel.io_uring_disabled to 0, or choose \
     runtime.driver = \"epoll\"";

/// Why the proxy ended other than by draining.
#[derive(Debug)]
pub enum RunError {
    /// It could not start.
    Start(StartError),
    /// A worker's thread has died of a defect. What it served is lost; end the process.
    WorkerDied,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::WorkerDied => f.write_str("a worker has died"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}
