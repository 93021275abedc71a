//! Connecting to a backend: every address in turn, under one deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Backend, Connection};
use crate::metrics::ConnectFailure;
use crate::net::listener::start_connect;
use crate::net::stream::shortage;
use crate::net::{Fired, Stream, clock};

/// How long nobody asks again for a port toward an address that has none: each time the kernel looks
/// at all of its ports, which takes it milliseconds.
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// Why no connection could be made.
#[derive(Debug)]
pub enum DialError {
    /// The name has no address, or none is known yet.
    NoAddress,
    /// No address answered in time.
    Timeout,
    /// No port is free toward it, from any of our addresses.
    NoPort,
    /// The process or the host has run out of descriptors or memory.
    Exhausted(io::Error),
    /// Every address refused or failed; the last failure.
    Failed(io::Error),
    /// The process is leaving.
    Drain,
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        if shortage(&error).is_some() { Self::Exhausted(error) } else { Self::Failed(error) }
    }
}

impl Backend {
    /// Connects afresh: to the address that answered last, then to each of the others.
    ///
    /// An address that stays silent gets its share of the time that is left, so that one dead
    /// address of several costs a delay and not the request.
    ///
    /// # Errors
    ///
    /// Nothing was sent to anybody: answer for the backend.
    ///
    /// # Cancellation
    ///
    /// Safe; the attempt is abandoned.
    pub async fn dial(&self) -> Result<Connection, DialError> {
        let addresses = Arc::clone(&self.addresses.borrow());
        let deadline = clock::now() + self.rules.connect_timeout;
        let mut failure = DialError::NoAddress;
        for attempt in 0..addresses.len() {
            let index = (self.preferred.get() + attempt) % addresses.len();
            let Some(address) = addresses.get(index) else { break };
            let share = share_of(deadline, addresses.len() - attempt);
            match self.connect(*address, share).await {
                Ok(connection) => {
                    self.tally.of_route().dialled.add(1);
                    self.preferred.set(index);
                    return Ok(connection);
                }
                Err(DialError::Drain) => return Err(DialError::Drain),
                // Of no use to ask on: every address needs a descriptor.
                Err(error @ DialError::Exhausted(_)) => {
                    self.count(&error);
                    return Err(error);
                }
                Err(error) => {
                    self.count(&error);
                    failure = error;
                }
            }
        }
        if addresses.is_empty() {
            self.count(&failure);
        }
        Err(failure)
    }

    fn count(&self, error: &DialError) {
        let failure = match error {
            DialError::NoAddress => ConnectFailure::NoAddress,
            DialError::Timeout => ConnectFailure::Timeout,
            DialError::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ConnectFailure::Refused
            }
            DialError::NoPort => ConnectFailure::NoPort,
            DialError::Exhausted(_) => ConnectFailure::Exhausted,
            DialError::Failed(_) => ConnectFailure::Other,
            // Our doing.
            DialError::Drain => return,
        };
        self.tally.of_route().connect_failed(failure);
    }

    /// Begins to connect, from the next of our addresses that has a port left.
    fn begin(&self, address: SocketAddr) -> Result<OwnedFd, DialError> {
        let is_of_family = |source: &&IpAddr| source.is_ipv4() == address.is_ipv4();
        if self.has_no_port(address) {
            return Err(DialError::NoPort);
        }
        let sources: Vec<_> = self.rules.sources.iter().filter(is_of_family).copied().collect();
        for attempt in 0..sources.len().max(1) {
            let turn = self.turn.get().wrapping_add(attempt);
            let source = sources.get(turn % sources.len().max(1)).copied();
            match start_connect(address, source, self.rules.keepalive) {
                Ok(socket) => {
                    self.turn.set(turn.wrapping_add(1));
                    return Ok(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.portless.borrow_mut().push((address, clock::now()));
        Err(DialError::NoPort)
    }

    /// Whether there was no port toward `address` a moment ago.
    fn has_no_port(&self, address: SocketAddr) -> bool {
        let mut portless = self.portless.borrow_mut();
        if portless.is_empty() {
            return false;
        }
        let now = clock::now();
        portless.retain(|(_, since)| now.duration_since(*since) < PORT_PAUSE);
        portless.iter().any(|(portless, _)| *portless == address)
    }

    async fn connect(&self, address: SocketAddr, until: Instant) -> Result<Connection, DialError> {
        let connection = self.connection(Stream::new(self.begin(address)?)?);
        connection.watch.set(Some(until));
        let waited = connection.watch.guard(connection.stream.writable()).await;
        match waited? {
            Ok(()) => {}
            Err(Fired::Deadline) => return Err(DialError::Timeout),
            Err(Fired::Drain) => return Err(DialError::Drain),
        }
        connection.stream.connect_outcome()?;
        connection.watch.set(None);
        Ok(connection)
    }
}

/// The instant until which the first of `addresses_left` addresses may take its time.
fn share_of(deadline: Instant, addresses_left: usize) -> Instant {
    let now = clock::now();
    let left = deadline.saturating_duration_since(now);
    let parts = u32::try_from(addresses_left.max(1)).unwrap_or(u32::MAX);
    // An address late in a long list still gets long enough for a local network.
    now + (left / parts).max(Duration::from_millis(50))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::rc::Rc;

    use monoio::{LegacyDriver, RuntimeBuilder};

    use super::*;
    use crate::backend::{Rules, Tally};
    use crate::metrics::Counters;
    use crate::net::{Keepalive, Pool, Sweeper};

    const RULES: Rules = Rules {
        connect_timeout: Duration::from_secs(10),
        idle_max: 0,
        idle_age: Duration::ZERO,
        warm: 0,
        sources: Vec::new(),
        keepalive: Keepalive { idle: None, unacknowledged: None },
    };

    fn backend(addresses: &[SocketAddr]) -> Backend {
        let tally = Tally { counters: Arc::new(Counters::new(1)), route: 0 };
        Backend::new(
            RULES,
            tally,
            addresses.into(),
            Rc::new(Pool::default()),
            Rc::new(Sweeper::new(true)),
        )
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(future)
    }

    /// A port on which nobody listens, as long as the result lives.
    fn refusing() -> (socket2::Socket, SocketAddr) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[test]
    fn every_address_is_tried_and_the_one_that_answered_is_tried_first_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let ((_first, dead), (_second, also_dead)) = (refusing(), refusing());
        run(async {
            let backend = backend(&[dead, also_dead, good]);
            let _one = backend.dial().await.unwrap();
            assert_eq!(backend.preferred.get(), 2);
            let counted = backend.tally.of_route();
            assert_eq!(counted.connects_failed(ConnectFailure::Refused), 2);
            assert_eq!(counted.dialled.value(), 1);
            let _two = backend.dial().await.unwrap();
            assert!(listener.accept().is_ok() && listener.accept().is_ok());
        });
    }

    #[test]
    fn without_an_address_or_with_dead_ones_alone_it_says_so() {
        let (_socket, dead) = refusing();
        run(async {
            let empty = backend(&[]);
            assert!(matches!(empty.dial().await, Err(DialError::NoAddress)));
            let counted = empty.tally.of_route();
            assert_eq!(counted.connects_failed(ConnectFailure::NoAddress), 1);
            assert!(matches!(backend(&[dead, dead]).dial().await, Err(DialError::Failed(_))));
        });
    }

    #[test]
    fn new_addresses_replace_the_old_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_socket, dead) = refusing();
        run(async {
            let backend = backend(&[dead]);
            assert!(backend.dial().await.is_err());
            backend.set_addresses([listener.local_addr().unwrap()].into());
            assert!(backend.dial().await.is_ok());
        });
    }
}
