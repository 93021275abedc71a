//! Listening sockets that were open before this process: from systemd, or from the process before us.
//!
//! Both hand them over in the way of systemd's socket activation (`LISTEN_FDS`, from descriptor 3 on).
//! A predecessor adds a datagram socket, on which it waits to hear that we are ready. The socket of the
//! control endpoint is the one that is called `control` (`LISTEN_FDNAMES`, systemd's
//! `FileDescriptorName=`).

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;

use listenfd::ListenFd;

/// What a predecessor is told.
const READY: &[u8] = b"ready";

/// What the sockets of the control endpoint are called.
pub(super) const CONTROL: &str = "control";

/// What the other listening sockets are called.
pub(super) const HTTP: &str = "http";

/// What this process was given at its start.
#[derive(Default)]
pub struct Inherited {
    listeners: Vec<Given>,
    predecessor: Option<UnixDatagram>,
}

struct Given {
    address: SocketAddr,
    listener: TcpListener,
    is_control: bool,
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

impl Inherited {
    /// Takes what the environment says was handed over; call it once, early.
    pub fn take() -> Self {
        let mut given = ListenFd::from_env();
        let names = std::env::var_os("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy().into_owned();
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for index in 0..given.len() {
            let is_control = names.next() == Some(CONTROL);
            if let Ok(Some(socket)) = given.take_unix_datagram(index) {
                inherited.predecessor = Some(socket);
            } else if let Ok(Some(listener)) = given.take_tcp_listener(index)
                && let Ok(address) = listener.local_addr()
                && listener.set_nonblocking(true).is_ok()
            {
                inherited.listeners.push(Given { address, listener, is_control });
            }
        }
        inherited
    }

    /// Takes the sockets that listen on `address`, those of the control endpoint or the others; with
    /// port 0, whatever port they have.
    pub(super) fn listeners_on(
        &mut self,
        address: SocketAddr,
        is_control: bool,
    ) -> Vec<TcpListener> {
        let is_it = |given: &Given| {
            let has_port = address.port() == 0 || given.address.port() == address.port();
            given.is_control == is_control && given.address.ip() == address.ip() && has_port
        };
        let all = std::mem::take(&mut self.listeners);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(is_it);
        self.listeners = left;
        taken.into_iter().map(|given| given.listener).collect()
    }

    /// The addresses of what nobody has taken.
    pub(super) fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|given| given.address)
    }

    /// Tells the predecessor, if there is one, that we serve: it drains then.
    ///
    /// # Errors
    ///
    /// It has gone already, which is as good.
    pub(super) fn tell_ready(&self) -> io::Result<()> {
        match &self.predecessor {
            Some(predecessor) => predecessor.send(READY).map(drop),
            None => Ok(()),
        }
    }
}
