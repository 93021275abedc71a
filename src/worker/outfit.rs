//! Making a worker's shard out of what the control thread gave it, at the start and at a reload.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::Message;
use crate::backend::{Backend, Rules, Tally};
use crate::cache::compress::Compressor;
use crate::cache::disk::Disk;
use crate::cache::local::Cache;
use crate::cache::rules::{KeyFn, RouteRules};
use crate::config::{CacheStorageMode, Config, Mount, Route, Runtime, Timeouts, TunnelEngine};
use crate::metrics::{Addresses, Counters, Gauge};
use crate::net::{Keepalive, Sweeper};
use crate::proxy::{Owner, Post, Shard};
use crate::tunnel::frames::GOING_AWAY;
use crate::tunnel::{Ring, RingOptions};

/// What a shard is made of.
pub(super) struct Outfit {
    pub(super) index: usize,
    pub(super) terms: Terms,
    pub(super) tunnels: Arc<Gauge>,
    pub(super) counters: Arc<Counters>,
    pub(super) key_fn: Option<KeyFn>,
    pub(super) workers: Vec<flume::Sender<Message>>,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// What is known of each route's backend, in the order of the routes.
    pub addresses: Vec<Arc<[SocketAddr]>>,
    /// Connections and tunnels by client address, where those are limited.
    pub by_address: Option<Arc<Addresses>>,
    /// The thread that compresses stored responses, if a route wants it.
    pub compressor: Option<Compressor>,
}

impl Outfit {
    /// Makes the shard. `needs_rest` is true on the epoll driver, which has no ring either.
    pub(super) fn shard(self, needs_rest: bool) -> Rc<Shard> {
        let config = &self.terms.config;
        let workers = self.workers.len();
        let wants_ring = !needs_rest && config.runtime.tunnel == TunnelEngine::Auto;
        let shard = Rc::new(Shard {
            ring: if wants_ring { ring(&config.runtime) } else { None },
            backends: Vec::new(),
            rules: Vec::new(),
            disks: Vec::new(),
            latest: Rc::default(),
            cache: Rc::new(Cache::new(0, &[])),
            flights: Rc::default(),
            forgotten: Rc::default(),
            packing: Rc::default(),
            own: self.index,
            workers,
            pool: Rc::default(),
            sweeper: Rc::new(Sweeper::new(needs_rest)),
            scratch: Rc::default(),
            date: Rc::default(),
            record: Rc::default(),
            draining: Rc::default(),
            close_code: Rc::new(Cell::new(GOING_AWAY)),
            compressor: None,
            key_fn: self.key_fn,
            config: Arc::clone(config),
            tunnels: self.tunnels,
            addresses: None,
            counters: self.counters,
            post: post(self.workers),
        });
        renew(&shard, self.terms)
    }
}

/// Makes the shard that takes the place of `old` under `terms`: what they do not concern goes on in it.
pub(super) fn renew(old: &Shard, terms: Terms) -> Rc<Shard> {
    let Terms { config, addresses, by_address, compressor } = terms;
    let (bytes_max, not_found) = cache_share(&config, old.workers);
    old.cache.resize(bytes_max, &not_found);
    let shard = Rc::new(Shard {
        backends: backends(old, &config, &addresses),
        rules: rules(old, &config),
        disks: disks(old, &config),
        latest: Rc::clone(&old.latest),
        pool: Rc::clone(&old.pool),
        sweeper: Rc::clone(&old.sweeper),
        ring: old.ring.clone(),
        cache: Rc::clone(&old.cache),
        flights: Rc::clone(&old.flights),
        forgotten: Rc::clone(&old.forgotten),
        packing: Rc::clone(&old.packing),
        compressor,
        key_fn: old.key_fn.clone(),
        own: old.own,
        workers: old.workers,
        post: old.post.clone(),
        scratch: Rc::clone(&old.scratch),
        date: Rc::clone(&old.date),
        tunnels: Arc::clone(&old.tunnels),
        addresses: by_address,
        counters: Arc::clone(&old.counters),
        record: Rc::clone(&old.record),
        draining: Rc::clone(&old.draining),
        close_code: Rc::clone(&old.close_code),
        config,
    });
    shard.take_over();
    shard
}

/// One a route. Those that are not as before are new, and the old ones keep no connections any more.
fn backends(old: &Shard, config: &Config, addresses: &[Arc<[SocketAddr]>]) -> Vec<Rc<Backend>> {
    let mut backends = Vec::with_capacity(config.routes.len());
    for (index, (route, addresses)) in config.routes.iter().zip(addresses).enumerate() {
        let rules = Rules {
            connect_timeout: config.timeouts.connect,
            idle_max: config.limits.pool_idle_max,
            idle_age: config.limits.pool_idle_age,
            warm: route.warm_connections,
            sources: route.source_addresses.clone(),
            keepalive: keepalive(&config.timeouts),
        };
        let before = old.config.routes.get(index).zip(old.backends.get(index));
        if let Some((known, backend)) = before {
            let is_same = known.backend == route.backend && backend.suits(&rules);
            if is_same && route.mount != Mount::Gone {
                backends.push(Rc::clone(backend));
                continue;
            }
            backend.retire();
        }
        let tally = Tally { counters: Arc::clone(&old.counters), route: index };
        let (pool, sweeper) = (Rc::clone(&old.pool), Rc::clone(&old.sweeper));
        let backend = Backend::new(rules, tally, Arc::clone(addresses), pool, sweeper);
        if route.mount == Mount::Gone {
            backend.retire();
        }
        backends.push(Rc::new(backend));
    }
    backends
}

/// How the kernel finds out that a peer is gone.
pub fn keepalive(timeouts: &Timeouts) -> Keepalive {
    Keepalive { idle: timeouts.tcp_keepalive, unacknowledged: timeouts.tcp_user_timeout }
}

fn rules(old: &Shard, config: &Config) -> Vec<Option<RouteRules>> {
    let rules = |route: &Route| RouteRules::new(&route.cache, &config.cache, old.key_fn.clone());
    config.routes.iter().map(rules).collect()
}

/// What this worker may keep: bytes of stored responses, and by route how many not-found pages.
fn cache_share(config: &Config, workers: usize) -> (usize, Vec<usize>) {
    let share = |route: &Route| route.cache.cache_404_capacity.div_ceil(workers.max(1));
    let not_found = config.routes.iter().map(share).collect();
    (config.cache.bytes_max / workers.max(1), not_found)
}

/// By route, the worker's file of bodies, if the route wants one and it can be had. Routes with the same
/// directory have the same file; one that is there already stays, with the room that it has.
fn disks(old: &Shard, config: &Config) -> Vec<Option<Rc<Disk>>> {
    let directory = |route: &Route| {
        let is_on_disk = route.cache.storage_mode == CacheStorageMode::Filesystem;
        is_on_disk.then(|| route.cache.directory.clone())
    };
    let mut known = BTreeMap::new();
    for (route, disk) in old.config.routes.iter().zip(&old.disks) {
        known.extend(directory(route).zip(disk.clone()));
    }
    let directories: BTreeSet<Option<PathBuf>> =
        config.routes.iter().filter_map(directory).collect();
    let shares = old.workers.max(1) * directories.len().max(1);
    let bytes_max = config.cache.file_bytes_max / shares as u64;
    let open = |directory: Option<PathBuf>| {
        if let Some(disk) = known.remove(&directory) {
            return Some((directory, disk));
        }
        match Disk::open(directory.as_deref(), bytes_max) {
            Ok(disk) => Some((directory, Rc::new(disk))),
            Err(error) => {
                tracing::error!(%error, "Stored bodies stay in memory: there is no file for them");
                None
            }
        }
    };
    let disks: BTreeMap<_, _> = directories.into_iter().filter_map(open).collect();
    let of_route = |route: &Route| directory(route).and_then(|key| disks.get(&key).cloned());
    config.routes.iter().map(of_route).collect()
}

fn post(workers: Vec<flume::Sender<Message>>) -> Post {
    Post::new(move |worker: usize, letter| {
        let Some(mailbox) = workers.get(worker) else { return Err(letter) };
        match mailbox.send(Message::Letter(letter)) {
            Err(flume::SendError(Message::Letter(letter))) => Err(letter),
            Ok(()) | Err(_) => Ok(()),
        }
    })
}

/// The ring of this worker's tunnels, unless the kernel refuses.
fn ring(runtime: &Runtime) -> Option<Rc<Ring<Owner>>> {
    let options = RingOptions {
        buffers: runtime.tunnel_buffers,
        buffer_bytes: runtime.tunnel_buffer_bytes,
        ..RingOptions::default()
    };
    match Ring::new(options) {
        Ok(ring) => Some(Rc::new(ring)),
        Err(error) => {
            tracing::warn!(%error, "Tunnels run without a ring of their own, which costs more CPU and memory");
            None
        }
    }
}
