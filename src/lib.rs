//! phantom-frame: a WebSocket-facing reverse proxy for Linux on `io_uring`.
//!
//! It stands in front of a web backend. A request that asks to upgrade becomes a tunnel of bytes to
//! the backend until both sides have closed; every other request is proxied. One thread a core, each
//! with its own ring, listeners, connections and state; nothing on the way of a byte is shared.
//!
//! As a library: [`CreateProxyConfig`] and [`create_proxy`].
//!
//! # The map
//!
//! The number is the layer. A module imports only from lower layers, never from its own; a folder
//! is one unit. A test holds the rule.
//!
//! | layer | module | what lives there |
//! |---|---|---|
//! | 0 | [`http1`] | HTTP/1.1 on the wire: bytes in, values out |
//! | 0 | [`metrics`] | counters of a worker, gauges of the process, Prometheus text |
//! | 1 | [`config`] | TOML to a checked configuration, every fault with its line |
//! | 1 | [`net`] | the folder that names sockets: streams, buffers, deadlines, relay |
//! | 2 | [`cache`] | one worker's stored responses, and what they may be used for |
//! | 2 | [`tunnel`] | bytes both ways after a 101 |
//! | 2 | [`backend`] | addresses, idle connections, one exchange |
//! | 3 | [`proxy`] | one client connection: serve, decide, fetch, upgrade, refuse |
//! | 4 | [`worker`] | one thread: runtime, accept, fence, mailbox |
//! | 5 | [`control`] | the control endpoint: purges, health, metrics |
//! | 6 | [`server`] | the process: bind, spawn, drain, log |
//! | 7 | `api`, `main` | the library's face and the program's |
//!
//! # The paths of a request
//!
//! Common: `server::Server::run -> worker::run -> accept::run -> fence::contain -> proxy::serve ->
//! read_head -> decide::ask -> decide::decide`. Every gate stands in `decide`, before the actions; what is
//! limited by number stands where it begins: connections in `accept`, tunnels in `upgrade`.
//!
//! - Tunnel: `upgrade::run -> Backend::fresh -> forward::upgrade_request -> exchange -> converse ->
//!   Offer::accepted_by -> forward::switching -> upgrade::run_tunnel -> Ring::adopt | pump::run ->
//!   end_tunnel`. Any answer but a 101 is delivered as an ordinary one.
//! - Pass: `fetch::run -> Backend::take -> forward::request -> exchange -> converse -> Relay::run ->
//!   give_back`. A reused connection that closes before its first byte: once more with `dial`, where
//!   RFC 9112 9.3.1 allows.
//! - Hit: `look_up::run -> key::write -> Cache::find -> Terms::reuse -> hit::answer -> Outbox::flush`, the
//!   last once for all requests that came in one piece.
//! - Miss: `look_up::run -> Flights::join | fill::launch -> follow`, beside it `fill -> Backend::take | borrow
//!   -> forward::fill_request -> read_head -> may_store -> BodyReader -> keep`. What may not be stored goes
//!   with its connection to the client that asked first, and is delivered like a pass.
//! - Bad request: `HeadError | FramingError | TargetError -> Outcome -> refuse -> linger::close`. Nothing
//!   after an ambiguous head is parsed.
//!
//! # Why the data path is our own
//!
//! monoio-http, monoio-transports and monoio-rustls exist and are not used on the data path. The first
//! accepts Content-Length beside Transfer-Encoding, bare LF and two Hosts, panics on a 70 kB field
//! name and buffers whole bodies; the second hands a late answer to the next request on a pooled
//! connection; the third pins 41 KB a connection. monoio-http serves as a comparator in the
//! benches. On monoio itself only readiness is awaited: see [`net`].

pub mod backend;
pub mod cache;
pub mod config;
pub mod control;
pub mod http1;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod server;
pub mod tunnel;
pub mod worker;

mod api;

pub use api::{
    BindError, CacheHandle, CreateProxyConfig, Proxy, ProxyError, create_proxy,
    create_proxy_with_handle,
};
pub use cache::rules::RequestInfo;
pub use config::{
    CacheFill, CacheStorageMode, CacheStrategy, CompressStrategy, Cores, DriverChoice, HostHeader,
    ProxyMode, Respect, UpgradeProtocols,
};
pub use server::{Handle, RunError, StartError};
