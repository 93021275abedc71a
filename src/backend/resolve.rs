//! Turning backend names into addresses, on threads of its own: a lookup blocks.
//!
//! `getaddrinfo` tells no lifetime, so names are asked again every 30 s. A name that cannot be
//! resolved keeps the addresses it had.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Between two lookups of one name.
const AGAIN: Duration = Duration::from_secs(30);

/// Between two lookups of a name that has not been resolved yet.
const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Who is asked for: a name and the port that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// A host name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Name {
    /// The address, if the name is one.
    pub fn literal(&self) -> Option<SocketAddr> {
        let address: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(address, self.port))
    }

    fn look_up(&self) -> io::Result<Arc<[SocketAddr]>> {
        #[expect(clippy::disallowed_methods, reason = "blocks its own thread, not a core")]
        let mut found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        found.dedup();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found.into())
    }
}

/// Keeps the addresses of names up to date until dropped; one thread a name, since one slow answer
/// must not delay the others.
#[derive(Debug)]
pub struct Resolver {
    /// Dropping these ends the threads.
    _stops: Vec<Sender<()>>,
}

impl Resolver {
    /// Starts to resolve; `publish` gets the name's index and its addresses, at first and whenever
    /// they have changed.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn spawn(
        names: Vec<(usize, Name)>,
        publish: impl Fn(usize, Arc<[SocketAddr]>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut stops = Vec::with_capacity(names.len());
        for (index, name) in names {
            let (stop, stopped) = channel();
            let publish = publish.clone();
            thread::Builder::new()
                .name("resolver".to_owned())
                .spawn(move || keep(&name, &stopped, |found| publish(index, found)))?;
            stops.push(stop);
        }
        Ok(Self { _stops: stops })
    }
}

fn keep(name: &Name, stopped: &Receiver<()>, publish: impl Fn(Arc<[SocketAddr]>)) {
    let mut known: Option<Arc<[SocketAddr]>> = None;
    let mut warned = false;
    loop {
        match name.look_up() {
            Ok(found) => {
                warned = false;
                if known.as_ref() != Some(&found) {
                    tracing::info!(host = %name.host, addresses = ?found, "Backend name resolved");
                    publish(Arc::clone(&found));
                    known = Some(found);
                }
            }
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(host = %name.host, %error, "Backend name cannot be resolved");
            }
            Err(_) => {}
        }
        let pause = if known.is_some() { AGAIN } else { AGAIN_AFTER_FAILURE };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
