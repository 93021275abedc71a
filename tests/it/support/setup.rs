//! Configurations, scripts and a gate that many tests share.

use std::sync::Arc;

use super::{Backend, BackendConn, Carrier, Driver, GUARD, Proxy, Watched};

/// Returns the `[runtime]` table for this carrier, or driver, and number of unpinned workers.
pub fn runtime(carrier: impl Into<Carrier>, cores: usize) -> String {
    format!("[runtime]\ncores = {cores}\npin = false\n{}", carrier.into().keys())
}

/// Starts a proxy with one worker and one route, to `url`.
///
/// `more` follows the route's keys: further ones of the route, then tables.
pub fn front(driver: Driver, url: &str, more: &str) -> Proxy {
    let route = format!("[server.app]\nproxy_url = \"{url}\"\n{more}\n");
    Proxy::start(driver, &(route + &runtime(driver, 1)))
}

/// As [`front`], with an environment variable.
pub fn front_with(driver: Driver, url: &str, variable: (&str, &str)) -> Proxy {
    let route = format!("[server.app]\nproxy_url = \"{url}\"\n");
    Proxy::start_with(driver, &(route + &runtime(driver, 1)), &[variable])
}

/// Starts a backend that answers each request with its method, target and body as text.
pub fn telling() -> Backend {
    Backend::scripted(|conn, _| tell_all(conn))
}

/// Answers each request with its method, target and body as text, until the proxy leaves.
pub fn tell_all(conn: &mut BackendConn) {
    while let Some(request) = conn.next_request() {
        let body = String::from_utf8_lossy(&request.body);
        let text = format!("{} {} {body}", request.method, request.target);
        conn.send(ok(&text));
    }
}

/// Returns a 200 with this body and its length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A gate between two threads of a test: closed until it is opened, then open for ever.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Watched<bool>>);

impl Gate {
    /// Opens the gate.
    pub fn open(&self) {
        self.0.with(|open| *open = true);
    }

    /// Reports whether the gate is open.
    pub fn is_open(&self) -> bool {
        self.0.with(|open| *open)
    }

    /// Waits until the gate is open; panics with `what` after the guard.
    pub fn pass(&self, what: &str) {
        let passed = self.0.wait(GUARD, |open| open.then_some(()));
        assert!(passed.is_some(), "guard: waited {GUARD:?} until {what}");
    }
}
