//! The integration tests: the built binary over loopback, between peers that share no code with it.
//!
//! One binary, so that it links once. Tests block on sockets with a guard timeout, never on a sleep.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "peers are blocking std sockets on threads of their own, so that they share no code \
              with the proxy; workers run here only in `library`, on threads of their own"
)]

// `cfg(test)` tells clippy that these modules are test code; it always holds here.
#[cfg(test)]
#[macro_use]
#[expect(unreachable_pub, reason = "`pub` marks what tests may call; a binary exports nothing")]
mod support;

// Memory and entries of the cache within their bounds.
#[cfg(test)]
mod cache_bounds;
// Fills whose backend breaks off, refuses or says nothing.
#[cfg(test)]
mod cache_broken;
// Bodies in files.
#[cfg(test)]
mod cache_disk;
// One request to the backend for many clients, and none of them waiting in vain.
#[cfg(test)]
mod cache_fill;
// Bodies that arrive while they are sent on.
#[cfg(test)]
mod cache_follow;
// Bodies too large to be stored, or nearly.
#[cfg(test)]
mod cache_large;
// Bodies in content codings.
#[cfg(test)]
mod cache_packed;
// Purges under load.
#[cfg(test)]
mod cache_purge;
// What must hold for any input: the fuzz targets, which are a workspace of their own.
#[cfg(test)]
#[expect(unreachable_pub, reason = "`pub` is for the fuzzer's binaries")]
#[path = "../fuzz/targets/mod.rs"]
mod targets;

// The command line: what is printed where, and the exit codes.
#[cfg(test)]
mod cli;
// The control endpoint: routes, token, health, purges.
#[cfg(test)]
mod control;
// The control endpoint as an HTTP server.
#[cfg(test)]
mod control_http;
// The metrics after known requests and tunnels.
#[cfg(test)]
mod metrics;
// Configuration files: both forms, the environment, faults, the reference.
#[cfg(test)]
mod config_file;
// Our view of requests beside that of other parsers.
#[cfg(test)]
#[expect(unreachable_pub, reason = "`pub` marks what its tests may call")]
mod differential;
// The fuzz targets over their corpora.
#[cfg(test)]
#[expect(unreachable_pub, reason = "`pub` marks what its tests may call")]
mod fuzz;
// `phantom-frame demo`: the page, and a WebSocket through the tunnel.
#[cfg(test)]
mod demo;
// Signals: what ends at once, what may finish, the exit code.
#[cfg(test)]
mod drain;
// Drivers and cores, and a system that refuses.
#[cfg(test)]
mod driver;
// The harness judged by itself.
#[cfg(test)]
mod balance;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod harness;
// The library in a program of its user's.
#[cfg(test)]
mod library;
// Addresses, limits of connections, leaks.
#[cfg(test)]
mod listen;
// What the log says, in which order and form.
#[cfg(test)]
mod logs;
// What we depend on.
#[cfg(test)]
mod dependencies;
// What a defect of ours costs.
#[cfg(test)]
mod defects;
// From where the backend is connected to.
#[cfg(test)]
mod sources;
// Congestion control toward this host.
#[cfg(test)]
mod loopback;
// What runs out, and who is gone without a word.
#[cfg(test)]
mod exhaustion;
#[cfg(test)]
mod lost_peers;
// Another configuration for a process that serves.
#[cfg(test)]
mod reload;
// Binary upgrades: the next process takes the sockets over.
#[cfg(test)]
mod successor;
// Everything at once, for a while.
#[cfg(test)]
mod soak;
// How tunnels are closed when the process leaves.
#[cfg(test)]
mod drain_spread;
// The binary as a process.
#[cfg(test)]
mod process;
#[cfg(test)]
mod warm;
// What makes an upgrade, and what the backend receives.
#[cfg(test)]
mod upgrade;
// What the backend's answer to an upgrade becomes: a 101, a bad 101, an interim answer.
#[cfg(test)]
mod upgrade_answer;
// Upgrades whose backend fails before it answers, and the limit on tunnels.
#[cfg(test)]
mod upgrade_failed;
// Upgrades that a rule or the backend refuses, and the bytes behind them.
#[cfg(test)]
mod upgrade_refused;
// What a tunnel carries: early bytes, both directions, many beside each other.
#[cfg(test)]
mod tunnel;
// How a tunnel ends, what the other side sees of it, and what the log says.
#[cfg(test)]
mod tunnel_end;
// WebSockets between tokio-tungstenite, axum and the proxy between them.
#[cfg(test)]
mod websocket;
// Thousands of WebSockets at the same time.
#[cfg(test)]
mod crowd;
// Much data, stopped readers, many tunnels; larger with PHANTOM_FRAME_HEAVY=1.
#[cfg(test)]
mod heavy;
// Plain HTTP: bodies in every framing, byte by byte.
#[cfg(test)]
mod http_bodies;
// Plain HTTP between hyper and axum.
#[cfg(test)]
mod http_libraries;
// Pipelined requests and messages cut anywhere.
#[cfg(test)]
mod http_pieces;
// Interim responses: 100, 102, 103.
#[cfg(test)]
mod http_interim;
// Large bodies in constant memory.
#[cfg(test)]
mod http_memory;
// The cache under attack: poisoned keys, broken bodies, slow readers.
#[cfg(test)]
mod cache_review;
// Bodies that move while they are made.
#[cfg(test)]
mod http_streaming;
// Answers of the proxy's own.
#[cfg(test)]
mod http_errors;
// Fields that go on, stay or are added.
#[cfg(test)]
mod http_forwarding;
// Backends by name; IPv6.
#[cfg(test)]
mod http_names;
// Peers that stop.
#[cfg(test)]
mod http_timeouts;
// Which backend gets a request.
#[cfg(test)]
mod routing;
// A termination signal while requests run.
#[cfg(test)]
mod http_drain;
// The keep-alive pool and its retries.
#[cfg(test)]
mod pool;
// Chunked bodies that break the grammar.
#[cfg(test)]
mod strict_chunks;
// Limits of a head.
#[cfg(test)]
mod strict_limits;
// Limits by client address: connections, tunnels, rates.
#[cfg(test)]
mod limits_address;
// Limits of requests: bodies, early bytes, pieces, heads of backends.
#[cfg(test)]
mod limits_request;
// Request heads that are refused.
#[cfg(test)]
mod strict_requests;
// Backends that break the grammar.
#[cfg(test)]
mod strict_responses;
// The cache: one user's page is never another's.
#[cfg(test)]
mod cache_private;
// The cache: nothing is replayed as what it is not.
#[cfg(test)]
mod cache_status;
// The cache: what a stored response is reused for.
#[cfg(test)]
mod cache_reuse;
// The cache: pipelines, old clients, fields of one hop, framings.
#[cfg(test)]
mod cache_wire;
// The cache: the keys that say what is stored.
#[cfg(test)]
mod cache_rules;
// The cache: stale responses.
#[cfg(test)]
mod cache_validate;
// The cache: stale responses that are served all the same.
#[cfg(test)]
mod cache_stale;
// The cache: changes and purges.
#[cfg(test)]
mod cache_change;
// The cache: names of entries that a program makes up.
#[cfg(test)]
mod cache_keys;
// Requests and answers that two servers could read differently.
#[cfg(test)]
#[expect(unreachable_pub, reason = "`pub` marks what its tests may call")]
mod smuggling;
// House rules: layers, sizes, names, markers.
#[cfg(test)]
mod tidy;
// What carries tunnels, and with how many buffers.
#[cfg(test)]
mod tunnel_engine;
