//! The backend that `phantom-frame demo` puts behind the proxy: a page, and a WebSocket that echoes.
//!
//! It is a separate server on a port of its own, on plain threads and with another implementation of
//! WebSocket, so that what the page shows has really gone through two sockets and the tunnel.

mod backend;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

/// Starts the backend on a free port of 127.0.0.1 and returns its address.
///
/// Its threads live as long as the process; nothing waits for them at the end.
///
/// # Errors
///
/// The system refuses a socket or a thread: there is no demo without one.
pub(crate) fn start_backend() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name("demo".to_owned())
        .spawn(move || backend::accept_loop(&listener))?;
    Ok(address)
}
