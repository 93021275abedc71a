//! The configuration: one TOML file, or one URL, turned into a [`Config`] that is valid by
//! construction.
//!
//! Faults are collected, never returned one by one: a person who starts the program sees all of
//! them at once, each with its key, its line and what to do. Keys stand in one table (`schema`),
//! from which reading, defaults, warnings and the reference are made.
//!
//! A file goes one way: text -> tree with lines (`raw`) -> environment (`env`) -> values (`value`,
//! `check`) -> `Config` (`document`).

mod backend_url;
mod check;
mod document;
mod duration;
mod env;
mod fault;
mod raw;
mod renew;
pub mod route;
mod schema;
mod size;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use backend_url::BackendUrl;
pub use fault::{Fault, Faults};
pub use renew::{Renewal, RouteChange};
pub use route::{
    CacheRules, CacheStorageMode, CacheStrategy, CompressStrategy, HostHeader, Mount, ProxyMode,
    Respect, Route, UpgradeProtocols, Webhook, WebhookType,
};
pub use schema::reference;

use crate::metrics::AddressLimits;

/// Everything a process needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; at least one, no two the same.
    pub binds: Vec<IpAddr>,
    /// The port for HTTP; 0 is any free port.
    pub http_port: u16,
    /// The port for HTTPS; `Some` only with both paths below. Not served in this version.
    pub https_port: Option<u16>,
    /// The PEM file of the certificate chain; not read here.
    pub cert_path: Option<PathBuf>,
    /// The PEM file of the private key; not read here.
    pub key_path: Option<PathBuf>,
    /// Addresses of the control endpoint, no two the same; empty opens none, which no file can say.
    pub control_binds: Vec<IpAddr>,
    /// The port of the control endpoint; 0 is any free port.
    pub control_port: u16,
    /// The bearer token of the control endpoint; `Some` unless all of `control_binds` are loopback.
    pub control_auth: Option<Secret>,
    /// At least one, in the order of the file, no two with the same mount.
    pub routes: Vec<Route>,
    /// Threads and their drivers.
    pub runtime: Runtime,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be of things.
    pub limits: Limits,
    /// The stored responses of all routes.
    pub cache: Cache,
    /// How long requests and tunnels may go on once draining began; zero ends them at once.
    pub drain_timeout: Duration,
    /// The last part of that, over which the closing of tunnels is spread; `None` is a third of it.
    pub drain_spread: Option<Duration>,
    /// The form of the log.
    pub log_format: LogFormat,
    /// The least that is logged, where the environment does not say it.
    pub log_level: LogLevel,
    /// Whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Threads and their drivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Which cores run a worker.
    pub cores: Cores,
    /// Whether a worker stays on its core.
    pub pin: bool,
    /// How workers wait for the kernel.
    pub driver: DriverChoice,
    /// Which worker serves a connection.
    pub accept: Accept,
    /// What carries tunnels.
    pub tunnel: TunnelEngine,
    /// Buffers that the tunnels of a core share: a power of two, 4 to 32768.
    pub tunnel_buffers: u16,
    /// Bytes of such a buffer, 1 KiB to 1 MiB.
    pub tunnel_buffer_bytes: u32,
    /// Submission entries of a worker's ring, 64 to 32768; not necessarily a power of two.
    pub ring_entries: u32,
}

/// Which cores run a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All that the process may use: its affinity mask, capped by its CPU quota.
    All,
    /// This many of them, at least 1. Whether there are as many is not known here.
    Count(usize),
    /// The CPUs with these ids; at least one, no two the same. Whether they exist is not known
    /// here.
    Ids(Vec<usize>),
}

/// Which worker serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// The one whose listener the kernel chose, unless it has clearly more than the mean.
    Balanced,
    /// Always the one whose listener the kernel chose.
    Kernel,
    /// The least loaded one; only the first listens.
    Single,
}

/// What carries tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEngine {
    /// A ring of their own where the driver is `io_uring`, else a task each.
    Auto,
    /// A task each.
    Pump,
}

/// How workers wait for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// `io_uring` where the system allows it, else `epoll`.
    Auto,
    /// `io_uring`, or no start.
    IoUring,
    /// `epoll`.
    Epoll,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed through a defect or a lack here.
    Error,
    /// And what others did wrong.
    Warn,
    /// And what went as it should, by connection and tunnel.
    Info,
    /// And what explains it.
    Debug,
    /// And every request.
    Trace,
}

/// How long things may take; `None` is for ever, and no duration is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first to the last byte of a request head.
    pub head: Duration,
    /// From one request of a connection to the next.
    pub keepalive: Duration,
    /// To connect to a backend, all of its addresses together.
    pub connect: Duration,
    /// From the end of the request to the backend's response head.
    pub response_head: Option<Duration>,
    /// Without a byte of a body moving.
    pub body_idle: Option<Duration>,
    /// Without a byte in a tunnel, either way.
    pub tunnel_idle: Option<Duration>,
    /// From the close of one side of a tunnel to the close of the other.
    pub tunnel_half_close: Option<Duration>,
    /// Silence of a connection after which the kernel asks whether its peer is still there.
    pub tcp_keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged, or untaken.
    pub tcp_user_timeout: Option<Duration>,
}

/// How much there may be of things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, 1 KiB to 1 MiB.
    pub head_bytes_max: usize,
    /// Fields of a head, 1 to 512.
    pub head_fields_max: usize,
    /// Bytes of a backend's head, 1 KiB to 1 MiB.
    pub response_head_bytes_max: usize,
    /// Bytes of a request's body, at least 1; `None` is no limit.
    pub request_body_bytes_max: Option<u64>,
    /// Bytes that a client may send behind an upgrade request before the 101.
    pub early_bytes_max: usize,
    /// Requests of one client connection, at least 1; `None` is no limit.
    pub requests_per_connection_max: Option<u32>,
    /// Requests that a client may send in one piece, at least 1; `None` is no limit of their own.
    pub pipelined_requests_max: Option<u32>,
    /// Client connections of the process, at least 1; `None` is as many as `RLIMIT_NOFILE` allows.
    pub connections_max: Option<usize>,
    /// Tunnels of the process, at least 1; `None` is no limit of their own.
    pub tunnels_max: Option<usize>,
    /// What one client address may have.
    pub per_address: AddressLimits,
    /// Idle connections kept per backend and core; 0 keeps none.
    pub pool_idle_max: usize,
    /// How long an idle connection to a backend is kept; not zero.
    pub pool_idle_age: Duration,
}

/// The stored responses of all routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Memory of the process for stored responses, in bytes, divided over the workers.
    pub bytes_max: usize,
    /// The largest body that is stored, in bytes.
    pub entry_bytes_max: u64,
    /// Room of the process for bodies in files, in bytes, divided over the workers.
    pub file_bytes_max: u64,
    /// How long a response is fresh that does not say it; `None` leaves it to a guess by its age.
    pub default_ttl: Option<Duration>,
    /// How often the same response is fetched.
    pub fill: CacheFill,
}

impl Default for Cache {
    fn default() -> Self {
        document::default_cache()
    }
}

/// How often the same response is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFill {
    /// Once by every worker that is asked for it.
    Core,
    /// Once by the worker that owns its key, for all.
    Process,
}

/// A text that must not be logged; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that did not come from a file.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for a comparison, which should take constant time.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A configuration that can be used, and what its author should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Unknown keys (unless they are faults), and keys that have no effect in this version.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Whether the control endpoint would be open to other hosts without asking for a token.
    pub fn exposes_control(&self) -> bool {
        self.control_auth.is_none() && self.control_binds.iter().any(|bind| !is_loopback(*bind))
    }

    /// Returns the defaults with one route, `default`, that sends everything to the backend at
    /// `url`. There is no control endpoint: nobody has named a port for it.
    ///
    /// # Errors
    ///
    /// The URL is not one of a backend: show the fault and end with a usage error. Its key is
    /// `proxy_url` and it has no line.
    pub fn for_backend(url: &str) -> Result<Self, Faults> {
        let route = raw::Table::of("proxy_url", raw::Raw::Text(url.to_owned()));
        let server = raw::Table::of(document::DEFAULT_ROUTE, raw::Raw::Table(route));
        let root = raw::Table::of("server", raw::Raw::Table(server));
        match document::check(&root, true) {
            Ok(loaded) => Ok(Self { control_binds: Vec::new(), ..loaded.config }),
            Err(Faults(mut faults)) => {
                for fault in &mut faults {
                    "proxy_url".clone_into(&mut fault.key);
                }
                Err(Faults(faults))
            }
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Reads and checks the file at `path`; `strict` (`--check`) turns unknown keys into faults.
///
/// `$env:` strings are replaced from the environment of this process and then from the file that
/// the key `dotenv` names; a relative path of that file starts at the current directory.
///
/// # Errors
///
/// Show every fault with the name of the file and end with exit code 1: nothing of a faulty file is
/// used.
pub fn load(path: &Path, strict: bool) -> Result<Loaded, Faults> {
    let text = env::read_file(path).map_err(|error| {
        let remedy = "check the path and the permissions of the file";
        fault::Complaint::new(format!("cannot be read: {error}")).with_remedy(remedy).at("", None)
    })?;
    let mut root = raw::parse(&text)?;
    let dotenv = env::read_dotenv(&root)?;
    env::replace(&mut root, &|name| {
        env::variable_of_process(name).or_else(|| dotenv.get(name).cloned())
    });
    document::check(&root, strict)
}

/// Checks the text of a file: what [`load`] does after reading, with the variables that `env`
/// knows.
///
/// Touches neither files nor the environment; `dotenv` is checked but not followed.
///
/// # Errors
///
/// As for [`load`].
///
/// # Examples
///
/// ```
/// let text = "[server.api]\nproxy_url = '$env:API'\nproxy_port = 80\n";
/// let env = |name: &str| (name == "API").then(|| "http://10.0.0.1".to_owned());
/// let loaded = phantom_frame::config::parse(text, false, &env).unwrap();
/// assert_eq!(loaded.config.routes[0].backend.host, "10.0.0.1");
/// assert_eq!(loaded.warnings[0].line, Some(3));
/// assert!(phantom_frame::config::parse(text, true, &env).is_err());
/// ```
pub fn parse(
    text: &str,
    strict: bool,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Faults> {
    let mut root = raw::parse(text)?;
    env::replace(&mut root, env);
    document::check(&root, strict)
}
