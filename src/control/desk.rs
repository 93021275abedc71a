//! Where requests are carried out: each answer of the control endpoint, without a socket.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::answer::{Answer, Body};
use super::endpoint::{Endpoint, Guard};
use super::json::{self, ByPath, ByPaths, ByPattern, ByPatterns, ByServer, Summary};
use super::{Phase, Status, TARGET};
use crate::config::{Config, Mount, Route, Secret};
use crate::http1::field::Fields;
use crate::metrics::text::{self, Process, Sources, Words};
use crate::metrics::{Addresses, Counters, Loads};
use crate::net::clock;
use crate::proxy::{Purge, PurgeRoutes, PurgeWhat, count};
use crate::worker::Purger;

/// Between two lines about requests without the token: nobody outside may fill a disk.
const WARN_PAUSE: Duration = Duration::from_secs(1);

/// Characters of a pattern that go into the log.
const SHOWN_MAX: usize = 200;

const NO_SNAPSHOTS: &str =
    "No servers running in PreGenerate mode — snapshot operations are not available";
const NOT_PRE_GENERATE: &str = "Snapshot operations are only available in PreGenerate proxy mode";

/// The workers, as far as the control endpoint has to do with them.
#[derive(Debug)]
pub(super) struct Workers {
    /// The way to all of them.
    pub purger: Purger,
    /// What each does.
    pub counters: Vec<Arc<Counters>>,
    /// Connections of each.
    pub loads: Loads,
}

/// What a reload may change.
#[derive(Debug)]
struct Terms {
    guard: Guard,
    words: Words,
    /// The names of the routes by index, `None` for those that are gone.
    routes: Vec<Option<String>>,
    /// Connections and tunnels by client address, where those are limited.
    addresses: Option<Arc<Addresses>>,
}

impl Terms {
    fn new(config: &Config, addresses: Option<Arc<Addresses>>) -> Self {
        let guard = Guard::new(config.control_auth.as_ref().map(Secret::expose));
        // What a route that is gone has done stays in the numbers.
        let words = count::words(config.routes.iter().map(|route| route.name.clone()).collect());
        let name = |route: &Route| (route.mount != Mount::Gone).then(|| route.name.clone());
        Self { guard, words, routes: config.routes.iter().map(name).collect(), addresses }
    }
}

/// Everything that answers need.
#[derive(Debug)]
pub(super) struct Desk {
    status: Arc<Status>,
    workers: Workers,
    terms: RefCell<Terms>,
    began: Instant,
    warned: Cell<Option<Instant>>,
    unwarned: Cell<u64>,
}

impl Desk {
    /// A desk of a process that began at `began`.
    pub(super) fn new(
        (config, addresses): (Arc<Config>, Option<Arc<Addresses>>),
        status: Arc<Status>,
        workers: Workers,
        began: Instant,
    ) -> Self {
        let terms = RefCell::new(Terms::new(&config, addresses));
        let (warned, unwarned) = (Cell::new(None), Cell::new(0));
        Self { status, workers, terms, began, warned, unwarned }
    }

    /// Answers under this configuration from now on.
    pub(super) fn renew(&self, config: &Config, addresses: Option<Arc<Addresses>>) {
        *self.terms.borrow_mut() = Terms::new(config, addresses);
    }

    /// What a request asks for, if it may.
    ///
    /// # Errors
    ///
    /// Answer so, whatever its body says: 404, 405 or 401.
    pub(super) fn admit(
        &self,
        method: &str,
        path: &[u8],
        fields: Fields<'_>,
    ) -> Result<Endpoint, Answer> {
        let endpoint = Endpoint::find(method, path)?;
        if endpoint.needs_token() && !self.terms.borrow().guard.admits(fields) {
            self.warn(clock::now());
            return Err(Answer::empty(401));
        }
        Ok(endpoint)
    }

    fn warn(&self, now: Instant) {
        if self.warned.get().is_some_and(|last| now.duration_since(last) < WARN_PAUSE) {
            self.unwarned.set(self.unwarned.get() + 1);
            return;
        }
        self.warned.set(Some(now));
        let left_out = self.unwarned.take();
        tracing::warn!(target: TARGET, left_out, "Unauthorized control endpoint attempt");
    }

    /// Carries out what was asked for. A purge has reached every worker when this returns.
    pub(super) async fn carry_out(
        &self,
        endpoint: Endpoint,
        content_type: Option<&[u8]>,
        body: &[u8],
    ) -> Answer {
        let answered = match endpoint {
            Endpoint::Health => Ok(Answer::ok("ok")),
            Endpoint::Readiness => Ok(self.readiness()),
            Endpoint::Metrics => Ok(self.metrics()),
            Endpoint::InvalidateAll { old } => Ok(self.invalidate_all(old).await),
            Endpoint::Invalidate => match json::read(content_type, body) {
                Ok(wish) => self.invalidate(wish).await,
                Err(answer) => Err(answer),
            },
            Endpoint::BulkInvalidate => match json::read(content_type, body) {
                Ok(wish) => self.bulk_invalidate(&wish).await,
                Err(answer) => Err(answer),
            },
            Endpoint::Snapshot => json::read(content_type, body)
                .and_then(|wish: ByPath| self.snapshot(wish.server.as_deref())),
            Endpoint::BulkSnapshot { operation } => json::read(content_type, body)
                .and_then(|wish: ByPaths| self.bulk_snapshot(operation, &wish)),
            Endpoint::RefreshAllSnapshots => match content_type {
                None => self.snapshot(None),
                Some(_) => json::read(content_type, body)
                    .and_then(|wish: ByServer| self.snapshot(wish.server.as_deref())),
            },
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    fn readiness(&self) -> Answer {
        match self.status.phase() {
            Phase::Starting => Answer::text(503, "starting"),
            Phase::Ready => Answer::ok("ready"),
            Phase::Draining => Answer::text(503, "draining"),
        }
    }

    fn metrics(&self) -> Answer {
        let process = Process {
            version: env!("CARGO_PKG_VERSION"),
            driver: self.status.driver(),
            uptime_seconds: clock::now().duration_since(self.began).as_secs(),
            open_fds: open_descriptors(),
            max_fds: getrlimit(Resource::Nofile).current,
        };
        let Workers { counters, loads, .. } = &self.workers;
        let terms = self.terms.borrow();
        let sources = Sources {
            workers: counters,
            loads,
            addresses: terms.addresses.as_deref(),
            words: &terms.words,
            process: &process,
        };
        Answer { status: 200, body: Body::Metrics(text::write(&sources)), allow: None }
    }

    async fn purge(&self, routes: PurgeRoutes, what: PurgeWhat) {
        self.workers.purger.send(Purge { routes, what }).wait().await;
    }

    async fn invalidate_all(&self, old: bool) -> Answer {
        let count = self.terms.borrow().routes.iter().flatten().count();
        tracing::info!(
            target: TARGET,
            "invalidate_all triggered via control endpoint ({count} server(s))"
        );
        self.purge(PurgeRoutes::All, PurgeWhat::All).await;
        Answer::ok(if old { "Cache refresh triggered" } else { "Cache invalidated" })
    }

    async fn invalidate(&self, wish: ByPattern) -> Result<Answer, Answer> {
        let routes = self.routes(wish.server.as_deref())?;
        tracing::info!(
            target: TARGET,
            "invalidate('{}') triggered via control endpoint (server={:?})",
            shown(&wish.pattern),
            wish.server,
        );
        self.purge(routes, PurgeWhat::Patterns(vec![wish.pattern])).await;
        Ok(Answer::ok("Pattern invalidation triggered"))
    }

    async fn bulk_invalidate(&self, wish: &ByPatterns) -> Result<Answer, Answer> {
        if wish.patterns.is_empty() {
            return Err(Answer::text(400, "'patterns' must contain at least one item"));
        }
        let routes = self.routes(wish.server.as_deref())?;
        let count = wish.patterns.len();
        tracing::info!(
            target: TARGET,
            "bulk_invalidate(count={count}) triggered via control endpoint (server={:?})",
            wish.server,
        );
        self.purge(routes, PurgeWhat::Patterns(wish.patterns.clone())).await;
        let server = wish.server.as_deref();
        Ok(Summary::new("bulk_invalidate", server, &wish.patterns, None).answer())
    }

    /// No route has snapshots in this version, whatever its mode.
    fn snapshot(&self, server: Option<&str>) -> Result<Answer, Answer> {
        let text = match self.routes(server)? {
            PurgeRoutes::All => NO_SNAPSHOTS,
            PurgeRoutes::One(_) => NOT_PRE_GENERATE,
        };
        Err(Answer::text(400, text))
    }

    fn bulk_snapshot(&self, operation: &'static str, wish: &ByPaths) -> Result<Answer, Answer> {
        if wish.paths.is_empty() {
            return Err(Answer::text(400, "'paths' must contain at least one item"));
        }
        let server = wish.server.as_deref();
        match self.routes(server)? {
            PurgeRoutes::All => Err(Answer::text(400, NO_SNAPSHOTS)),
            PurgeRoutes::One(_) => {
                let error = Some(NOT_PRE_GENERATE);
                Ok(Summary::new(operation, server, &wish.paths, error).answer())
            }
        }
    }

    /// The route with this name, or all of them.
    fn routes(&self, server: Option<&str>) -> Result<PurgeRoutes, Answer> {
        let Some(name) = server else { return Ok(PurgeRoutes::All) };
        let terms = self.terms.borrow();
        let index = terms.routes.iter().position(|route| route.as_deref() == Some(name));
        let unknown = || Answer::text(404, format!("No server named '{name}' found"));
        index.map(PurgeRoutes::One).ok_or_else(unknown)
    }
}

/// A pattern as the log shows it: one line, and not a long one.
fn shown(pattern: &str) -> String {
    pattern.escape_debug().take(SHOWN_MAX).collect()
}

/// Descriptors of this process, the one that counts them left out.
fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some((entries.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(status: &Arc<Status>) -> Desk {
        let config = Arc::new(Config::for_backend("http://127.0.0.1:1").unwrap());
        let counters = vec![Arc::new(Counters::new(1))];
        let (purger, loads) = (Purger::new(Vec::new()), Loads::new(1));
        let workers = Workers { purger, counters, loads };
        Desk::new((config, None), Arc::clone(status), workers, clock::now())
    }

    #[test]
    fn readiness_follows_the_phase() {
        let status = Arc::new(Status::default());
        let desk = desk(&status);
        assert_eq!(desk.readiness(), Answer::text(503, "starting"));
        status.set_phase(Phase::Ready);
        assert_eq!(desk.readiness(), Answer::ok("ready"));
        status.set_phase(Phase::Draining);
        assert_eq!(desk.readiness(), Answer::text(503, "draining"));
    }

    #[test]
    fn one_line_a_second_tells_of_those_without_the_token() {
        let desk = desk(&Arc::default());
        let now = clock::now();
        for _ in 0..9 {
            desk.warn(now);
        }
        assert_eq!(desk.unwarned.get(), 8);
        desk.warn(now + WARN_PAUSE);
        assert_eq!(desk.unwarned.get(), 0, "told with that line");
    }

    #[test]
    fn a_pattern_cannot_forge_or_flood_a_line() {
        assert_eq!(shown("GET:/a?b=\u{fc}*"), "GET:/a?b=\u{fc}*");
        assert_eq!(shown("a\nINFO b\u{1b}"), "a\\nINFO b\\u{1b}");
        assert_eq!(shown(&"x".repeat(10_000)).len(), SHOWN_MAX);
    }
}
