//! Listening sockets: one per worker and address, in one `SO_REUSEPORT` group.

use std::io;
use std::net::{self, IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Keepalive, Stream, pacing};

/// Connections the kernel keeps for us between two accepts, capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Connections that failed while they waited, passed over by one accept.
const PASSED_MAX: u32 = 64;

/// How sockets listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether an IPv6 socket takes IPv4 connections too.
    pub dual_stack: bool,
    /// When a silent client counts as gone.
    pub keepalive: Keepalive,
}

/// Binds and listens on `address`; `workers` sockets that share it.
///
/// A port of 0 is chosen by the kernel once and shared by all. Accepted sockets inherit
/// `TCP_NODELAY`, `options.keepalive`, and what [`pacing::ease`] does.
///
/// # Errors
///
/// The address is taken, not ours, or not permitted: say so and leave.
pub fn bind(
    address: SocketAddr,
    workers: usize,
    options: Options,
) -> io::Result<Vec<net::TcpListener>> {
    probe(address, options)?;
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = join(address, options)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Brings a group of sockets that listen on the same address already, and were handed to us, to the
/// number of `workers` at least.
///
/// What is missing joins the group; where the group does not allow it, because whoever made it did
/// not set `SO_REUSEPORT`, several workers accept from one socket.
///
/// # Errors
///
/// No descriptor is left.
pub fn complete(
    mut group: Vec<net::TcpListener>,
    workers: usize,
    options: Options,
) -> io::Result<Vec<net::TcpListener>> {
    for listener in &group {
        pacing::ease(listener, listener.local_addr()?.ip());
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        options.keepalive.replace(&socket)?;
    }
    let Some(address) = group.first().map(net::TcpListener::local_addr).transpose()? else {
        return Ok(group);
    };
    let given = group.len();
    while group.len() < workers {
        let joined = join(address, options);
        let one = match (joined, group.get(group.len() % given)) {
            (Err(_), Some(other)) => other.try_clone()?,
            (joined, _) => joined?,
        };
        group.push(one);
    }
    Ok(group)
}

/// One more socket of a group.
fn join(address: SocketAddr, options: Options) -> io::Result<net::TcpListener> {
    let socket = socket(address, options)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if anybody listens on `address`: `SO_REUSEPORT` alone would share it in silence with an
/// older copy of ourselves, and each would get half of the connections.
fn probe(address: SocketAddr, options: Options) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    socket(address, options)?.bind(&address.into())
}

fn socket(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    options.keepalive.apply(&SockRef::from(&socket))?;
    pacing::ease(&socket, address.ip());
    Ok(socket)
}

/// Non-blocking from birth, which saves two calls.
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// A socket that has begun to connect to `address`, without blocking, from the address `source` if
/// that is said.
///
/// The port is chosen when it connects, so that it need only be free toward `address`: one source has
/// as many connections as it has ports to each backend, not to all together.
///
/// # Errors
///
/// `AddrNotAvailable`: no port is free, or `source` is not ours; try another source. Anything else: the
/// connect failed at once; try the next address.
pub fn start_connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    keepalive: Keepalive,
) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    socket.set_tcp_nodelay(true)?;
    keepalive.apply(&SockRef::from(&socket))?;
    pacing::ease(&socket, address.ip());
    if let Some(source) = source {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            Ok(socket.into())
        }
        Err(error) => Err(error),
    }
}

/// Answers on a socket that was just accepted and closes it, all at once: a [`Stream`] on `io_uring` closes
/// later, and who has no descriptor left needs this one back now.
pub fn dismiss(socket: OwnedFd, answer: &[u8]) {
    // A new socket takes this much; if not, the close says it all.
    rustix::net::send(&socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok();
    rustix::net::shutdown(&socket, Shutdown::Write).ok();
    drop(socket);
}

/// One worker's listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: net::TcpListener,
    /// Whether accepted sockets have inherited what [`pacing::ease`] does.
    is_local: bool,
    /// A second handle, on which the runtime waits; it knows readiness of connected streams only.
    readiness: Stream,
}

impl Listener {
    /// Takes over a listening, non-blocking socket; call it on the worker's own thread.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn new(socket: net::TcpListener) -> io::Result<Self> {
        let readiness = Stream::new(socket.as_fd().try_clone_to_owned()?)?;
        let is_local = socket.local_addr()?.ip().to_canonical().is_loopback();
        Ok(Self { socket, is_local, readiness })
    }

    /// Waits until a connection can be accepted.
    ///
    /// # Errors
    ///
    /// The driver failed.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is accepted.
    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.readable().await
    }

    /// Accepts one connection if one waits; `None` if none does.
    ///
    /// # Errors
    ///
    /// No descriptor or memory is left: back off, since the connection still waits. Or many
    /// connections in a row have failed.
    pub fn try_accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut passed = 0;
        loop {
            match acceptfrom_with(&self.socket, flags) {
                Ok((socket, Some(address))) => match SocketAddr::try_from(address) {
                    Ok(address) => return Ok(Some((self.eased(socket, address), address))),
                    Err(_) => drop(socket),
                },
                Ok((socket, None)) => drop(socket),
                Err(Errno::AGAIN) => return Ok(None),
                // Not for ever: a system that refuses the call itself says the same.
                Err(error) if is_of_the_connection(error) && passed < PASSED_MAX => passed += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn eased(&self, socket: OwnedFd, peer: SocketAddr) -> OwnedFd {
        if !self.is_local {
            pacing::ease(&socket, peer.ip());
        }
        socket
    }
}

/// Whether an accept has failed for the connection that waited and not for us: the client has left, a
/// rule of the firewall forbids it, or the network has failed meanwhile (accept(2) lists these).
fn is_of_the_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
    )
}
