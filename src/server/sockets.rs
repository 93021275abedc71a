//! The sockets a server listens on: bound, or taken over from whoever listened before.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::error::StartError;
use super::inherit::{CONTROL, HTTP, Inherited};
use crate::config::{Accept, Config};
use crate::net::listener::{self, Options};
use crate::worker::keepalive;

/// Listening sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// By worker; one or more for each address.
    pub(super) by_worker: Vec<Vec<TcpListener>>,
    /// The addresses, with the ports the kernel chose where 0 was configured.
    pub(super) addresses: Vec<SocketAddr>,
    /// Those of the control endpoint.
    pub(super) control: Vec<TcpListener>,
    /// Its addresses.
    pub(super) control_addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds every configured address once a worker, or takes it over.
    ///
    /// # Errors
    ///
    /// An address is not to be had; nothing is left bound.
    pub(super) fn bind(
        config: &Config,
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<Self, StartError> {
        let mut sockets =
            Self { by_worker: (0..workers).map(|_| Vec::new()).collect(), ..Self::default() };
        let listeners_count = match config.runtime.accept {
            Accept::Single => 1,
            Accept::Balanced | Accept::Kernel => workers,
        };
        let keepalive = keepalive(&config.timeouts);
        let has_ipv4 = config.binds.iter().any(IpAddr::is_ipv4);
        for bind in &config.binds {
            let wanted = SocketAddr::new(*bind, config.http_port);
            // "::" alone serves IPv4 too, as operators expect; beside an IPv4 address it must not.
            let dual_stack = bind.is_unspecified() && !has_ipv4;
            let taken = inherited.listeners_on(wanted, false);
            let group = group(wanted, listeners_count, Options { dual_stack, keepalive }, taken)?;
            sockets.addresses.extend(group.first().and_then(|one| one.local_addr().ok()));
            // More than there are workers, if a predecessor had more: none may be left unattended.
            for (index, listener) in group.into_iter().enumerate() {
                sockets.by_worker[index % workers].push(listener);
            }
        }
        for bind in &config.control_binds {
            let wanted = SocketAddr::new(*bind, config.control_port);
            let options = Options { dual_stack: false, keepalive };
            let group = group(wanted, 1, options, inherited.listeners_on(wanted, true))?;
            sockets.control_addresses.extend(group.first().and_then(|one| one.local_addr().ok()));
            sockets.control.extend(group);
        }
        for address in inherited.left() {
            tracing::warn!(%address, "A socket that was handed over is not configured any more");
        }
        Ok(sockets)
    }

    /// A second descriptor of each, with the name under which it is handed over.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub(super) fn heirlooms(&self) -> io::Result<Vec<(&'static str, TcpListener)>> {
        let http = self.by_worker.iter().flatten().map(|listener| (HTTP, listener));
        let all = http.chain(self.control.iter().map(|listener| (CONTROL, listener)));
        all.map(|(name, listener)| Ok((name, listener.try_clone()?))).collect()
    }
}

/// The sockets on one address, at least `count`: those that were `taken` over, or new ones.
fn group(
    address: SocketAddr,
    count: usize,
    options: Options,
    taken: Vec<TcpListener>,
) -> Result<Vec<TcpListener>, StartError> {
    let group = if taken.is_empty() {
        listener::bind(address, count, options)
    } else {
        tracing::info!("Taking over {} sockets on {address}", taken.len());
        listener::complete(taken, count, options)
    };
    group.map_err(|error| StartError::Listen { address, error })
}
