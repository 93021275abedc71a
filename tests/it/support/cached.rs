//! Proxies that cache, their clients on every worker, and pages that may be stored.

use std::sync::Arc;

use super::control::Metrics;
use super::setup::runtime;
use super::{Client, Driver, GUARD, Proxy, Response, Watched, eventually};

/// The values of `cache_fill`.
pub const FILLS: [&str; 2] = ["core", "process"];

/// How a test's proxy caches.
#[derive(Clone, Copy, Debug)]
pub struct Caching<'a> {
    /// `cache_fill`.
    pub fill: &'a str,
    /// How many workers it has.
    pub workers: usize,
    /// Further keys of its one route, then tables.
    pub route: &'a str,
    /// Further keys of `[cache]`.
    pub rules: &'a str,
}

impl Default for Caching<'_> {
    fn default() -> Self {
        Self { fill: "process", workers: 2, route: "", rules: "" }
    }
}

impl Caching<'_> {
    /// Starts a proxy with the one route `app`, to `url`.
    pub fn start(&self, driver: Driver, url: &str) -> Proxy {
        let Self { fill, workers, route, rules } = self;
        let config = format!(
            "[server.app]\nproxy_url = \"{url}\"\n{route}\n\
             [cache]\ncache_fill = \"{fill}\"\n{rules}\n{}",
            runtime(driver, *workers)
        );
        Proxy::start(driver, &config)
    }
}

/// Connects `count` clients or some more, so that each worker has one of them at least.
pub fn clients(proxy: &Proxy, count: usize, workers: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(proxy.addr())).collect();
    loop {
        let mut metrics = Metrics::default();
        eventually("every connection is accepted", || {
            metrics = Metrics::of(proxy);
            metrics.sum("connections_active") >= f64::from(u32::try_from(clients.len()).unwrap())
        });
        let has_one = |worker: usize| {
            metrics.value(&format!("connections_active{{worker=\"{worker}\"}}")) >= 1.0
        };
        if (0..workers).all(has_one) {
            return clients;
        }
        assert!(clients.len() < count + 100, "a worker gets no connection: {metrics:?}");
        clients.push(Client::connect(proxy.addr()));
    }
}

/// Returns a 200 that is fresh for an hour, with this body and its length.
pub fn page(body: &str) -> String {
    answer("Cache-Control: max-age=3600\r\n", body)
}

/// Returns a 200 with these field lines, this body and its length.
pub fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Returns a GET with these field lines.
pub fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// Reports whether a response says that it came out of the store.
pub fn is_hit(response: &Response) -> bool {
    says(response, "hit")
}

/// Reports whether a response says that it was fetched for somebody else.
pub fn is_collapsed(response: &Response) -> bool {
    says(response, "collapsed")
}

fn says(response: &Response, word: &str) -> bool {
    let status = response.field("cache-status").expect("a Cache-Status");
    status.split(';').any(|parameter| parameter.trim() == word)
}

/// A number that scripts add to and a test waits for.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<Watched<usize>>);

impl Count {
    /// Adds one and returns the sum.
    pub fn add(&self) -> usize {
        self.0.with(|sum| {
            *sum += 1;
            *sum
        })
    }

    /// Returns the sum.
    pub fn value(&self) -> usize {
        self.0.with(|sum| *sum)
    }

    /// Waits until the sum is at least `count`.
    pub fn wait_for(&self, count: usize, what: &str) {
        let found = self.0.wait(GUARD, |sum| (*sum >= count).then_some(()));
        assert!(found.is_some(), "guard: waited {GUARD:?} for {count} {what}: {}", self.value());
    }
}
