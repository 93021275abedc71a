//! The proxy as a library: a builder with the original's names, and a server you run on a thread.
//!
//! The original returned an axum `Router`. Here there is none: workers own their sockets and their
//! runtimes, so what is returned is a [`Proxy`] that binds, runs and can be drained.

mod caching;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::cache::rules::KeyFn;
use crate::config::{
    Cache, CacheRules, Config, Cores, DriverChoice, Fault, Faults, HostHeader, ProxyMode, Secret,
    UpgradeProtocols,
};
use crate::proxy::{Purge, PurgeRoutes, PurgeWhat};
use crate::server::{Handle, RunError, Server, StartError};
use crate::worker::{Purger, Receipt};

/// What to proxy and how; begin with [`CreateProxyConfig::new`].
///
/// # Examples
///
/// ```
/// use phantom_frame::{CreateProxyConfig, create_proxy};
///
/// let config = CreateProxyConfig::new("http://localhost:8080".to_string())
///     .with_websocket_enabled(true)
///     .with_bind("127.0.0.1:0".parse().expect("an address"));
/// let (mut proxy, _cache) = create_proxy(config);
/// let addresses = proxy.bind().expect("a free port");
/// assert!(addresses[0].ip().is_loopback());
/// ```
#[derive(Clone, Debug)]
pub struct CreateProxyConfig {
    /// Where requests go: `http://HOST[:PORT][/BASE]`.
    pub proxy_url: String,
    /// Whether upgrades are allowed; by default they are.
    pub enable_websocket: bool,
    /// Which upgrade protocols are allowed; by default any.
    pub upgrade_protocols: UpgradeProtocols,
    /// Whether methods other than GET are refused with 405; by default they are not.
    pub forward_get_only: bool,
    /// What the Host field says to the backend; by default what the client said.
    pub host_header: HostHeader,
    /// Fetch live, or serve snapshots. Snapshots are not active in this version.
    pub proxy_mode: ProxyMode,
    /// What is cached, and how; the defaults are those of a route in a file.
    pub cache: CacheRules,
    /// How much is cached, and for how long.
    pub cache_limits: Cache,
    /// Names stored responses; by default `GET:/path?query`.
    pub cache_key_fn: Option<KeyFn>,
    /// Where to listen; by default `0.0.0.0:3000`.
    pub bind: SocketAddr,
    /// On which cores to run; by default on all.
    pub cores: Cores,
    /// On which driver to run; by default on `io_uring` where it is allowed.
    pub driver: DriverChoice,
    /// How long a drain waits for tunnels; by default 30 s.
    pub drain_timeout: Option<Duration>,
    /// Where the control endpoint listens; by default there is none.
    pub control: Option<SocketAddr>,
    /// The bearer token of the control endpoint; without one it may listen on loopback only.
    pub control_auth: Option<String>,
}

impl CreateProxyConfig {
    /// A configuration with the defaults, for the backend at `proxy_url`.
    ///
    /// The URL is checked when the proxy binds.
    pub fn new(proxy_url: String) -> Self {
        Self {
            proxy_url,
            enable_websocket: true,
            upgrade_protocols: UpgradeProtocols::Any,
            forward_get_only: false,
            host_header: HostHeader::Preserve,
            proxy_mode: ProxyMode::Dynamic,
            cache: CacheRules::default(),
            cache_limits: Cache::default(),
            cache_key_fn: None,
            bind: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 3000),
            cores: Cores::All,
            driver: DriverChoice::Auto,
            drain_timeout: None,
            control: None,
            control_auth: None,
        }
    }

    /// Allows upgrades, or refuses them with 501.
    #[must_use]
    pub fn with_websocket_enabled(mut self, enabled: bool) -> Self {
        self.enable_websocket = enabled;
        self
    }

    /// Allows only these upgrade protocols, such as `websocket`; others are refused with 501.
    #[must_use]
    pub fn with_upgrade_protocols(mut self, protocols: UpgradeProtocols) -> Self {
        self.upgrade_protocols = protocols;
        self
    }

    /// Refuses every method but GET with 405, or forwards all.
    #[must_use]
    pub fn with_forward_get_only(mut self, enabled: bool) -> Self {
        self.forward_get_only = enabled;
        self
    }

    /// Sets what the Host field says to the backend.
    #[must_use]
    pub fn with_host_header(mut self, host_header: HostHeader) -> Self {
        self.host_header = host_header;
        self
    }

    /// Sets the mode. `PreGenerate` without fallthrough refuses upgrades; its snapshots are not active
    /// in this version.
    #[must_use]
    pub fn with_proxy_mode(mut self, mode: ProxyMode) -> Self {
        self.proxy_mode = mode;
        self
    }

    /// Sets where to listen; a port of 0 takes a free one.
    #[must_use]
    pub fn with_bind(mut self, address: SocketAddr) -> Self {
        self.bind = address;
        self
    }

    /// Sets on which cores to run: one worker each.
    #[must_use]
    pub fn with_cores(mut self, cores: Cores) -> Self {
        self.cores = cores;
        self
    }

    /// Sets on which driver to run.
    #[must_use]
    pub fn with_driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// Sets how long a drain waits for tunnels before it closes them.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// Opens the control endpoint (purges, health, metrics) at this address, behind this token; see
    /// [`control`](crate::control). An address that is not loopback needs a token.
    #[must_use]
    pub fn with_control(mut self, address: SocketAddr, token: Option<String>) -> Self {
        self.control = Some(address);
        self.control_auth = token;
        self
    }

    fn check(self) -> Result<Config, Faults> {
        let mut config = Config::for_backend(&self.proxy_url)?;
        config.binds = vec![self.bind.ip()];
        config.http_port = self.bind.port();
        config.runtime.cores = self.cores;
        config.runtime.driver = self.driver;
        config.cache = self.cache_limits;
        if let Some(timeout) = self.drain_timeout {
            config.drain_timeout = timeout;
        }
        config.control_auth = self.control_auth.map(Secret::new);
        if let Some(address) = self.control {
            config.control_binds = vec![address.ip()];
            config.control_port = address.port();
        }
        if config.exposes_control() {
            return Err(Fault {
                key: "control".to_owned(),
                line: None,
                message: "other hosts could reach the control endpoint".to_owned(),
                remedy: Some("give it a token, or a loopback address".to_owned()),
            }
            .into());
        }
        for route in &mut config.routes {
            route.enable_websocket = self.enable_websocket;
            route.upgrade_protocols = self.upgrade_protocols.clone();
            route.forward_get_only = self.forward_get_only;
            route.host_header = self.host_header.clone();
            route.proxy_mode = self.proxy_mode.clone();
            route.cache = self.cache.clone();
        }
        Ok(config)
    }
}

/// Why a proxy could not be bound.
#[derive(Debug)]
pub enum BindError {
    /// The configuration is at fault: change what is named.
    Config(Faults),
    /// The host is: free the address, or choose another.
    Start(StartError),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(faults) => faults.fmt(f),
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

/// Why a proxy ended other than by draining.
#[derive(Debug)]
pub enum ProxyError {
    /// It could not be bound.
    Bind(BindError),
    /// It could not run, or ran and failed.
    Run(RunError),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProxyError {}

/// A proxy that is configured, then bound, then run.
///
/// # Examples
///
/// ```
/// use phantom_frame::{CreateProxyConfig, create_proxy};
///
/// let config = CreateProxyConfig::new("http://127.0.0.1:8080".to_string())
///     .with_bind("127.0.0.1:0".parse().expect("an address"));
/// let (mut proxy, _cache) = create_proxy(config);
/// proxy.bind().expect("a free port");
/// let handle = proxy.handle().expect("it is bound");
/// let running = std::thread::spawn(move || proxy.run());
/// handle.drain();
/// running.join().expect("no panic").expect("drained");
/// ```
#[derive(Debug)]
pub struct Proxy {
    state: State,
    cache: CacheHandle,
}

#[derive(Debug)]
enum State {
    Configured(Box<CreateProxyConfig>),
    Bound(Box<Server>),
}

impl Proxy {
    /// Listens; returns the addresses, with the port that was chosen where 0 was asked for. Clients
    /// that connect from now on wait until [`Proxy::run`]. Bound already, it only returns them.
    ///
    /// # Errors
    ///
    /// Nothing is listened on. [`BindError`] names what to change.
    pub fn bind(&mut self) -> Result<Vec<SocketAddr>, BindError> {
        if let State::Configured(config) = &self.state {
            let key_fn = config.cache_key_fn.clone();
            let config = config.as_ref().clone().check().map_err(BindError::Config)?;
            let server = Server::bind(config).map_err(BindError::Start)?.with_key_fn(key_fn);
            self.state = State::Bound(Box::new(server));
        }
        match &self.state {
            State::Bound(server) => Ok(server.addresses().to_vec()),
            State::Configured(_) => Ok(Vec::new()),
        }
    }

    /// Where the control endpoint listens; `None` before [`Proxy::bind`], and without one.
    pub fn control_address(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Bound(server) => server.control_addresses().first().copied(),
            State::Configured(_) => None,
        }
    }

    /// A handle that drains this proxy from another thread; `None` before [`Proxy::bind`].
    pub fn handle(&self) -> Option<Handle> {
        match &self.state {
            State::Bound(server) => Some(server.handle()),
            State::Configured(_) => None,
        }
    }

    /// Serves, blocking this thread, until drained through a [`Handle`]. Binds first if that was not
    /// done. Installs no signal handlers.
    ///
    /// # Errors
    ///
    /// It could not start, or a worker died; what it served is lost.
    pub fn run(mut self) -> Result<(), ProxyError> {
        self.bind().map_err(ProxyError::Bind)?;
        match self.state {
            State::Bound(server) => {
                self.cache.add(server.purger());
                server.run().map_err(ProxyError::Run)
            }
            State::Configured(_) => Ok(()),
        }
    }
}

/// A handle on what proxies have cached; can be cloned and sent to any thread.
///
/// It reaches every proxy that was made with it and runs; one that does not run has nothing cached.
#[derive(Clone, Debug, Default)]
pub struct CacheHandle {
    #[expect(clippy::disallowed_types, reason = "programs share it, workers never see it")]
    purgers: Arc<std::sync::Mutex<Vec<Purger>>>,
}

impl CacheHandle {
    /// A handle that belongs to no proxy yet; see [`create_proxy_with_handle`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Purges everything. When this returns, no core answers from what was cached before.
    ///
    /// Blocks this thread until every core has purged, which takes microseconds, or as long as a proxy
    /// takes to start. Called on a worker's own thread it does not wait.
    pub fn invalidate_all(&self) {
        self.purge(&PurgeWhat::All);
    }

    /// Purges what matches `pattern`, in which `*` stands for any characters; otherwise as
    /// [`CacheHandle::invalidate_all`].
    pub fn invalidate(&self, pattern: &str) {
        self.purge(&PurgeWhat::Patterns(vec![pattern.to_owned()]));
    }

    fn purge(&self, what: &PurgeWhat) {
        let send =
            |purger: &Purger| purger.send(Purge { routes: PurgeRoutes::All, what: what.clone() });
        // Sent to all before the first is waited for, and waited for without the lock.
        let receipts: Vec<_> = self.with(|purgers| purgers.iter().map(send).collect());
        receipts.into_iter().for_each(Receipt::wait_blocking);
    }

    fn add(&self, purger: Purger) {
        self.with(|purgers| purgers.push(purger));
    }

    /// Gives the purgers of the proxies that have not ended.
    fn with<T>(&self, then: impl FnOnce(&mut Vec<Purger>) -> T) -> T {
        // A list is whole whenever it can be seen.
        let mut purgers = self.purgers.lock().unwrap_or_else(PoisonError::into_inner);
        purgers.retain(|purger| !purger.is_over());
        then(&mut purgers)
    }
}

/// Makes a proxy of a configuration, and the handle on its cache. Nothing is checked, bound or started
/// yet.
///
/// # Examples
///
/// ```
/// use phantom_frame::{BindError, CreateProxyConfig, create_proxy};
///
/// let (mut proxy, cache) = create_proxy(CreateProxyConfig::new("ftp://files".to_string()));
/// assert!(matches!(proxy.bind(), Err(BindError::Config(_))));
/// cache.invalidate_all();
/// ```
pub fn create_proxy(config: CreateProxyConfig) -> (Proxy, CacheHandle) {
    let cache = CacheHandle::new();
    (create_proxy_with_handle(config, cache.clone()), cache)
}

/// Makes a proxy whose cache answers to `cache`, which may answer for other proxies as well.
pub fn create_proxy_with_handle(config: CreateProxyConfig, cache: CacheHandle) -> Proxy {
    Proxy { state: State::Configured(Box::new(config)), cache }
}
