//! One connected socket: readiness from the runtime, bytes by non-blocking system calls.
#![expect(unsafe_code, reason = "monoio's stream lends its descriptor only as a number")]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use monoio::net::TcpStream;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};

/// Every send: never blocks, and a closed peer is an error instead of a signal.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// What a look at an idle connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Open, and nothing to read.
    Quiet,
    /// Something to read.
    Data,
    /// Ended or failed.
    Closed,
}

/// A connected TCP socket, owned by the worker that uses it.
///
/// Dropping it closes the socket: with FIN, or with RST when data was unread or
/// [`Stream::reset_on_drop`] was called.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
}

impl Stream {
    /// Takes over a connected, non-blocking socket.
    ///
    /// # Errors
    ///
    /// The driver has no room for another descriptor; the socket is closed.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        #[expect(clippy::disallowed_types, reason = "the way in; it is never used blocking")]
        let socket = std::net::TcpStream::from(socket);
        Ok(Self { tcp: TcpStream::from_std(socket)? })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `self.tcp` owns the descriptor and keeps it open for as long as `self` is
        // borrowed, which is the lifetime of the result.
        unsafe { BorrowedFd::borrow_raw(self.tcp.as_raw_fd()) }
    }

    /// The descriptor, for calls that do not read from it and never block.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd()
    }

    /// A second descriptor of the same socket, which does not know the runtime.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    /// Waits until a read would not block: data, end or error.
    ///
    /// # Errors
    ///
    /// The driver failed; close the connection.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is read.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        // Strict readiness: reads bypass the epoll driver, so its cached state may be out of date.
        self.tcp.readable(false)
    }

    /// Waits until a write would not block.
    ///
    /// # Errors
    ///
    /// The driver failed; close the connection.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is written.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        self.tcp.writable(false)
    }

    /// Reads what is there into the front of `into`; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: await [`Stream::readable`] first. Anything else: the connection is gone.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        debug_assert!(!into.is_empty(), "a read without room looks like the end of the stream");
        loop {
            match rustix::net::recv(self.fd(), &mut *into, RecvFlags::DONTWAIT) {
                Ok((_, count)) => return Ok(count.min(into.len())),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes the front of `bytes`, as much as the socket takes.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: await [`Stream::writable`] first. Anything else: the connection is gone.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(self.fd(), bytes, SEND) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes the front of the concatenated `slices`, as much as the socket takes.
    ///
    /// # Errors
    ///
    /// As [`Stream::try_write`].
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let mut control = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(self.fd(), slices, &mut control, SEND) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks whether anything waits to be read, without taking it.
    pub fn peek(&self) -> Peek {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        match rustix::net::recv(self.fd(), &mut byte[..], flags) {
            Ok((_, 0)) => Peek::Closed,
            Ok(_) => Peek::Data,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    /// Bytes that have arrived and were not read.
    pub fn unread(&self) -> usize {
        // A socket that cannot say has failed: whoever reads it next will know.
        let count = rustix::io::ioctl_fionread(self.fd()).unwrap_or(0);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Whether the peer has aborted the connection. A peer that only ended its direction has not.
    pub fn is_aborted(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.fd(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok()
            && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// Sends FIN: the peer reads the end of the stream, and we still read.
    pub fn shutdown_write(&self) {
        // A peer that is already gone needs no FIN.
        rustix::net::shutdown(self.fd(), Shutdown::Write).ok();
    }

    /// Makes the coming drop send RST, so that the peer cannot take what it got for complete.
    pub fn reset_on_drop(&self) {
        // Without the option the close is an ordinary one, which the peer also notices.
        sockopt::set_socket_linger(self.fd(), Some(Duration::ZERO)).ok();
    }

    /// The outcome of a connect that was started without blocking.
    ///
    /// # Errors
    ///
    /// Why the connect failed; try the next address.
    pub fn connect_outcome(&self) -> io::Result<()> {
        match sockopt::socket_error(self.fd())? {
            Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the process or the host has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Descriptors: `EMFILE`, `ENFILE`.
    Descriptors,
    /// Memory or buffers of the kernel: `ENOMEM`, `ENOBUFS`.
    Memory,
}

/// The shortage that an operation has met, if it is one. It passes; nothing is wrong with the peer.
pub fn shortage(error: &io::Error) -> Option<Shortage> {
    match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => Some(Shortage::Descriptors),
        rustix::io::Errno::NOMEM | rustix::io::Errno::NOBUFS => Some(Shortage::Memory),
        _ => None,
    }
}

/// Whether the kernel has given the peer up: it answers neither data nor probes (see
/// [`Keepalive`](super::Keepalive)), or the network on the way to it is gone.
pub fn is_lost(error: &io::Error) -> bool {
    let host_down = rustix::io::Errno::HOSTDOWN.raw_os_error();
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    ) || error.raw_os_error() == Some(host_down)
}

/// Whether the peer aborted the connection.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}
