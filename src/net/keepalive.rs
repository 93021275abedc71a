//! How the kernel finds out that a peer is gone which says nothing any more.
//!
//! Set on a listening socket, since accepted sockets inherit all of it, and on each socket that
//! connects to a backend. This is the only place that knows the options.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Probes that may stay unanswered. Lost segments are usual, three in a row are not.
const PROBES: u32 = 3;

/// The kernel counts in seconds, up to so many (`MAX_TCP_KEEPIDLE`).
const IDLE_SECONDS_MAX: u64 = 32_767;

/// Between two probes: a sixth of the silence before the first, within these seconds.
const INTERVAL_PART: u64 = 6;
const INTERVAL_SECONDS_MAX: u64 = 10;

/// When a silent peer counts as gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the kernel asks whether the peer is there, rounded up to whole seconds;
    /// `None` never asks.
    pub idle: Option<Duration>,
    /// How long what was sent may stay unacknowledged, or unsent because the peer takes nothing;
    /// `None` leaves it to the system, which takes about 15 minutes.
    ///
    /// With probes it takes the place of their number (tcp(7), `TCP_USER_TIMEOUT`): after so much
    /// silence one unanswered probe is enough.
    pub unacknowledged: Option<Duration>,
}

impl Keepalive {
    /// Sets it on a socket that has none of it yet.
    ///
    /// # Errors
    ///
    /// The socket is none of TCP.
    pub fn apply(self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(idle) = self.idle {
            let idle = whole_seconds(idle);
            let interval = (idle / INTERVAL_PART).clamp(1, INTERVAL_SECONDS_MAX);
            let mut probes = TcpKeepalive::new()
                .with_time(Duration::from_secs(idle))
                .with_interval(Duration::from_secs(interval));
            if self.unacknowledged.is_none() {
                probes = probes.with_retries(PROBES);
            }
            socket.set_tcp_keepalive(&probes)?;
        }
        if self.unacknowledged.is_some() {
            socket.set_tcp_user_timeout(self.unacknowledged)?;
        }
        Ok(())
    }

    /// Sets it on a socket that may have any of it.
    ///
    /// # Errors
    ///
    /// As [`Keepalive::apply`].
    pub fn replace(self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_keepalive(false)?;
        socket.set_tcp_user_timeout(None)?;
        self.apply(socket)
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    seconds.clamp(1, IDLE_SECONDS_MAX)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    fn applied(idle: Option<u64>, unacknowledged: Option<u64>) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let millis = Duration::from_millis;
        let (idle, unacknowledged) = (idle.map(millis), unacknowledged.map(millis));
        Keepalive { idle, unacknowledged }.apply(&SockRef::from(&socket)).unwrap();
        socket
    }

    #[test]
    fn what_is_asked_for_is_what_the_kernel_has() {
        let table = [(1, 1, 1), (60_000, 60, 10), (2_500, 3, 1), (90_000_000, 32_767, 10)];
        for (idle, seconds, interval) in table {
            let socket = applied(Some(idle), None);
            assert!(socket.keepalive().unwrap(), "{idle}");
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), seconds, "{idle}");
            assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), interval, "{idle}");
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES, "{idle}");
            assert_eq!(socket.tcp_user_timeout().unwrap(), None, "{idle}");
        }
        let socket = applied(None, Some(1_500));
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn another_setting_leaves_nothing_of_the_old_one() {
        let socket = applied(Some(1), Some(1));
        Keepalive::default().replace(&SockRef::from(&socket)).unwrap();
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}
