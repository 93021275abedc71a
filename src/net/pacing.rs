//! Sockets whose other end is this host: there is no network between, and pacing toward it costs timers only.
//!
//! Where the system's congestion control is BBR, which it often is on hosts with clients far away, the kernel
//! paces every socket by a timer of its own. Streams through a tunnel to a backend on loopback took 2.5 to 3 times
//! the CPU for it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use socket2::{Domain, Socket, Type};

/// The congestion control that every system has and allows everybody (tcp(7)), and that does not pace.
const UNPACED: &str = "reno";

/// Has a socket send unpaced if `peer` is a loopback address and the system's default would pace it.
///
/// Before it connects or listens it has all of its effect, and accepted sockets inherit it. On one that is
/// connected it has less: what has begun to pace goes on, at the higher rate of the other control.
pub fn ease(socket: impl AsFd, peer: IpAddr) {
    static DEFAULT_PACES: OnceLock<bool> = OnceLock::new();
    if peer.to_canonical().is_loopback() && *DEFAULT_PACES.get_or_init(|| default_paces(peer)) {
        // A system that refuses has its reasons, and the socket is as good as before.
        set_tcp_congestion(&socket, UNPACED).ok();
    }
}

/// Asks a new socket: one that we were handed may have been eased by the process before this one.
fn default_paces(peer: IpAddr) -> bool {
    let domain = Domain::for_address(SocketAddr::new(peer, 0));
    Socket::new(domain, Type::STREAM, None)
        .is_ok_and(|socket| tcp_congestion(&socket).is_ok_and(|name| name.starts_with("bbr")))
}
