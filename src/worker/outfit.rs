//! Making a worker's shard out of what the control thread gave it.

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
use crate::config::{CacheStorageMode, Config, Route, Runtime, TunnelEngine};
use crate::metrics::{Addresses, Counters, Gauge};
use crate::net::{Pool, Sweeper};
use crate::proxy::{Date, Flights, Forgotten, Owner, Packing, Post, Record, Scratch, Shard};
use crate::tunnel::{Ring, RingOptions};

/// What a shard is made of.
pub(super) struct Outfit {
    pub(super) index: usize,
    pub(super) config: Arc<Config>,
    pub(super) addresses: Vec<Arc<[SocketAddr]>>,
    pub(super) tunnels: Arc<Gauge>,
    pub(super) by_address: Option<Arc<Addresses>>,
    pub(super) counters: Arc<Counters>,
    pub(super) compressor: Option<Compressor>,
    pub(super) key_fn: Option<KeyFn>,
    pub(super) workers: Vec<flume::Sender<Message>>,
}

impl Outfit {
    /// Makes the shard. `needs_rest` is true on the epoll driver, which has no ring either.
    pub(super) fn shard(self, needs_rest: bool) -> Shard {
        let pool = Rc::new(Pool::default());
        let sweeper = Rc::new(Sweeper::new(needs_rest));
        let config = &self.config;
        let workers = self.workers.len();
        let wants_ring = !needs_rest && config.runtime.tunnel == TunnelEngine::Auto;
        Shard {
            ring: if wants_ring { ring(&config.runtime) } else { None },
            backends: self.backends(&pool, &sweeper),
            cache: cache(config, workers),
            flights: Flights::default(),
            forgotten: Forgotten::default(),
            rules: self.rules(),
            disks: disks(config, workers),
            packing: Packing::default(),
            own: self.index,
            workers,
            pool,
            sweeper,
            scratch: Scratch::default(),
            date: Date::default(),
            record: Record::default(),
            draining: Cell::new(false),
            compressor: self.compressor,
            config: self.config,
            tunnels: self.tunnels,
            addresses: self.by_address,
            counters: self.counters,
            post: post(self.workers),
        }
    }

    fn backends(&self, pool: &Rc<Pool>, sweeper: &Rc<Sweeper>) -> Vec<Rc<Backend>> {
        let config = &self.config;
        let rules = |route: &Route| Rules {
            connect_timeout: config.timeouts.connect,
            idle_max: config.limits.pool_idle_max,
            idle_age: config.limits.pool_idle_age,
            warm: route.warm_connections,
            sources: route.source_addresses.clone(),
        };
        let backend = |(index, (route, addresses)): (usize, (&Route, &Arc<[SocketAddr]>))| {
            let tally = Tally { counters: Arc::clone(&self.counters), route: index };
            let (pool, sweeper) = (Rc::clone(pool), Rc::clone(sweeper));
            Rc::new(Backend::new(rules(route), tally, Arc::clone(addresses), pool, sweeper))
        };
        config.routes.iter().zip(&self.addresses).enumerate().map(backend).collect()
    }

    fn rules(&self) -> Vec<Option<RouteRules>> {
        let rules =
            |route: &Route| RouteRules::new(&route.cache, &self.config.cache, self.key_fn.clone());
        self.config.routes.iter().map(rules).collect()
    }
}

fn cache(config: &Config, workers: usize) -> Cache {
    let share = |whole: usize| whole.div_ceil(workers.max(1));
    let not_found: Vec<usize> =
        config.routes.iter().map(|route| share(route.cache.cache_404_capacity)).collect();
    Cache::new(config.cache.bytes_max / workers.max(1), &not_found)
}

/// By route, the worker's file of bodies, if the route wants one and it can be had. Routes with the same
/// directory have the same file.
fn disks(config: &Config, workers: usize) -> Vec<Option<Rc<Disk>>> {
    let directory = |route: &Route| {
        let is_on_disk = route.cache.storage_mode == CacheStorageMode::Filesystem;
        is_on_disk.then(|| route.cache.directory.clone())
    };
    let directories: BTreeSet<Option<PathBuf>> =
        config.routes.iter().filter_map(directory).collect();
    let shares = workers.max(1) * directories.len().max(1);
    let bytes_max = config.cache.file_bytes_max / shares as u64;
    let open = |directory: Option<PathBuf>| match Disk::open(directory.as_deref(), bytes_max) {
        Ok(disk) => Some((directory, Rc::new(disk))),
        Err(error) => {
            tracing::error!(%error, "Stored bodies stay in memory: there is no file for them");
            None
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
