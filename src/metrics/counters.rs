//! What one worker has done since it started, in numbers.
//!
//! Everything has its place from the start, so that counting is an addition at an index: no search, no
//! lock, no allocation. What is counted by an enum of a higher layer stands at the enum's index; the
//! higher layer brings the words when the numbers are written.

use super::{Counter, Histogram, Level};

/// Room for the outcomes of requests; `proxy::outcome` asserts that they fit.
pub const OUTCOMES_MAX: usize = 64;

/// Room for the reasons for which tunnels close; `proxy::count` asserts that they fit.
pub const REASONS_MAX: usize = 16;

/// Methods that are told apart; every other one is the last.
pub(super) const METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];

/// Statuses that are told apart, in order: those of RFC 9110 §15 and the registry, and some that
/// backends are known to send.
const CODES: [u16; 64] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
    305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415,
    416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504,
    505, 506, 507, 508, 510, 511, 520,
];

/// Room for each of [`CODES`], for every other one, and for requests that got no answer.
const CODE_SLOTS: usize = CODES.len() + 2;

/// Where [`code_slot`] puts a status that is not in [`CODES`].
const OTHER_CODE: usize = CODES.len();

/// Where [`code_slot`] puts a request that got no answer.
const NO_CODE: usize = CODES.len() + 1;

/// By status, its place among the slots.
static SLOT_OF_CODE: [u8; 600] = {
    let mut slots = [0; 600];
    let mut code: u16 = 0;
    while (code as usize) < slots.len() {
        slots[code as usize] = slot_of(code);
        code += 1;
    }
    slots
};

#[expect(clippy::cast_possible_truncation, reason = "the slots are fewer than 256")]
const fn slot_of(code: u16) -> u8 {
    let mut slot = 0;
    while slot < CODES.len() {
        if CODES[slot] == code {
            return slot as u8;
        }
        slot += 1;
    }
    OTHER_CODE as u8
}

/// The place of a status; 0 is none.
fn code_slot(status: u16) -> usize {
    match status {
        0 => NO_CODE,
        _ => SLOT_OF_CODE.get(usize::from(status)).map_or(OTHER_CODE, |slot| usize::from(*slot)),
    }
}

/// The place of a method, whose case matters (RFC 9110 §9.1).
fn method_slot(method: &str) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1)
}

/// The word for a slot of statuses.
pub(super) fn code_label(slot: usize) -> String {
    match slot {
        OTHER_CODE => "other".to_owned(),
        NO_CODE => "none".to_owned(),
        _ => CODES.get(slot).map(ToString::to_string).unwrap_or_default(),
    }
}

/// What one worker has done. Cache lines of its own, so that workers do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted.
    pub connections: Counter,
    /// Attempts to accept that failed for want of a descriptor.
    pub accepts_without_descriptor: Counter,
    /// Attempts to accept that failed for another reason.
    pub accepts_failed: Counter,
    /// Connections answered 503 for want of a descriptor.
    pub connections_shed: Counter,
    /// Connections accepted and handed to another worker.
    pub handoffs: Counter,
    /// Bytes carried by ended tunnels, client to backend.
    pub tunnel_bytes_up: Counter,
    /// Bytes carried by ended tunnels, backend to client.
    pub tunnel_bytes_down: Counter,
    /// Connections that were closed because our own code panicked.
    pub panics: Counter,
    /// Purges carried out.
    pub purges: Counter,
    /// What the cache did.
    pub cache: CacheCounters,
    /// How long tunnels lived.
    pub tunnel_duration: Histogram,
    /// From the head of an upgrade request to the 101.
    pub upgrade_handshake: Histogram,
    /// Requests that ended, by outcome.
    outcomes: [Counter; OUTCOMES_MAX],
    /// Upgrades that did not become tunnels, by outcome.
    upgrades_rejected: [Counter; OUTCOMES_MAX],
    /// Tunnels that ended, by reason.
    tunnels_closed: [Counter; REASONS_MAX],
    /// What met a limit, by [`Limit`].
    limited: [Counter; Limit::ALL.len()],
    /// One a route; a reload may add some.
    routes: boxcar::Vec<RouteCounters>,
    /// For requests that no route took.
    no_route: RouteCounters,
}

/// What one worker has done for one route.
#[derive(Debug)]
#[repr(align(128))]
pub struct RouteCounters {
    /// Tunnels open.
    pub tunnels: Level,
    /// Tunnels begun.
    pub tunnels_begun: Counter,
    /// Idle connections kept.
    pub pool_idle: Level,
    /// Connections made, warm ones included.
    pub dialled: Counter,
    /// Idle connections taken.
    pub reused: Counter,
    /// Warm connections taken.
    pub warm: Counter,
    /// Connections that could not be made, by [`ConnectFailure`].
    connect_errors: [Counter; ConnectFailure::ALL.len()],
    /// Requests, by method and status.
    requests: [[Counter; CODE_SLOTS]; METHODS.len()],
}

/// Why an address was not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// There is no address.
    NoAddress,
    /// It did not answer in time.
    Timeout,
    /// It refused.
    Refused,
    /// No port was free toward it.
    NoPort,
    /// No descriptor or memory was left.
    Exhausted,
    /// Whatever else the system said.
    Other,
}

/// A limit of `[limits]` that connections and requests may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of a request's head.
    HeadBytes,
    /// Fields of a request's head.
    HeadFields,
    /// Bytes or fields of a backend's head.
    ResponseHeadBytes,
    /// Bytes of a request's body.
    RequestBodyBytes,
    /// Bytes behind an upgrade request.
    EarlyBytes,
    /// Requests of one connection.
    RequestsPerConnection,
    /// Requests in one piece.
    PipelinedRequests,
    /// Connections of the process.
    Connections,
    /// Tunnels of the process.
    Tunnels,
    /// Connections of one address.
    ConnectionsPerAddress,
    /// Tunnels of one address.
    TunnelsPerAddress,
    /// Connections a second of one address.
    AcceptRatePerAddress,
    /// Upgrade requests a second of one address.
    UpgradeRatePerAddress,
}

impl Limit {
    /// Every limit, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::HeadBytes,
        Self::HeadFields,
        Self::ResponseHeadBytes,
        Self::RequestBodyBytes,
        Self::EarlyBytes,
        Self::RequestsPerConnection,
        Self::PipelinedRequests,
        Self::Connections,
        Self::Tunnels,
        Self::ConnectionsPerAddress,
        Self::TunnelsPerAddress,
        Self::AcceptRatePerAddress,
        Self::UpgradeRatePerAddress,
    ];

    /// Its key in `[limits]`, which is the word in metrics and logs too.
    pub const fn key(self) -> &'static str {
        match self {
            Self::HeadBytes => "head_bytes",
            Self::HeadFields => "head_fields",
            Self::ResponseHeadBytes => "response_head_bytes",
            Self::RequestBodyBytes => "request_body_bytes",
            Self::EarlyBytes => "early_bytes",
            Self::RequestsPerConnection => "requests_per_connection",
            Self::PipelinedRequests => "pipelined_requests",
            Self::Connections => "connections",
            Self::Tunnels => "tunnels",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::TunnelsPerAddress => "tunnels_per_address",
            Self::AcceptRatePerAddress => "accept_rate_per_address",
            Self::UpgradeRatePerAddress => "upgrade_rate_per_address",
        }
    }
}

impl ConnectFailure {
    /// Every failure, in the order of the enum.
    pub const ALL: [Self; 6] =
        [Self::NoAddress, Self::Timeout, Self::Refused, Self::NoPort, Self::Exhausted, Self::Other];

    /// The word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::NoPort => "no_port",
            Self::Exhausted => "exhausted",
            Self::Other => "other",
        }
    }
}

/// What the cache of one worker did. Each request that asked it is counted once.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Answered from a fresh entry.
    pub hit: Counter,
    /// Answered from a stale entry, as RFC 5861 allows.
    pub stale: Counter,
    /// Answered from an entry that the backend has confirmed.
    pub revalidated: Counter,
    /// Fetched, to be stored.
    pub miss: Counter,
    /// Answered from a fetch that another request had begun.
    pub collapsed: Counter,
    /// Fetched, not to be stored.
    pub pass: Counter,
    /// Bytes of bodies that were answered from entries.
    pub hit_bytes: Counter,
    /// Bytes of entries kept now.
    pub bytes: Level,
    /// Entries kept now.
    pub entries: Level,
    /// Entries removed to make room.
    pub evictions: Counter,
}

impl Counters {
    /// Zeros for a worker that serves so many routes.
    pub fn new(routes: usize) -> Self {
        Self {
            connections: Counter::default(),
            accepts_without_descriptor: Counter::default(),
            accepts_failed: Counter::default(),
            connections_shed: Counter::default(),
            handoffs: Counter::default(),
            tunnel_bytes_up: Counter::default(),
            tunnel_bytes_down: Counter::default(),
            panics: Counter::default(),
            purges: Counter::default(),
            cache: CacheCounters::default(),
            tunnel_duration: Histogram::default(),
            upgrade_handshake: Histogram::default(),
            outcomes: [const { Counter::zero() }; OUTCOMES_MAX],
            upgrades_rejected: [const { Counter::zero() }; OUTCOMES_MAX],
            tunnels_closed: [const { Counter::zero() }; REASONS_MAX],
            limited: [const { Counter::zero() }; Limit::ALL.len()],
            routes: (0..routes).map(|_| RouteCounters::default()).collect(),
            no_route: RouteCounters::default(),
        }
    }

    /// Makes room for so many routes in all. What was counted stays.
    pub fn grow(&self, routes: usize) {
        while self.routes.count() < routes {
            self.routes.push(RouteCounters::default());
        }
    }

    /// What was done for a route; `None` is for requests that no route took.
    pub fn route(&self, route: Option<usize>) -> &RouteCounters {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.no_route)
    }

    /// Counts a request that has ended. `status` is what it was answered with, 0 for nothing;
    /// `outcome` is the index of its outcome.
    pub fn request(&self, route: Option<usize>, method: &str, status: u16, outcome: usize) {
        if let Some(counter) = self.outcomes.get(outcome) {
            counter.add(1);
        }
        let by_code = self.route(route).requests.get(method_slot(method));
        if let Some(counter) = by_code.and_then(|codes| codes.get(code_slot(status))) {
            counter.add(1);
        }
    }

    /// Counts an upgrade that did not become a tunnel, by the index of its outcome.
    pub fn upgrade_rejected(&self, outcome: usize) {
        if let Some(counter) = self.upgrades_rejected.get(outcome) {
            counter.add(1);
        }
    }

    /// Counts a tunnel that has ended, by the index of its reason.
    pub fn tunnel_closed(&self, reason: usize) {
        if let Some(counter) = self.tunnels_closed.get(reason) {
            counter.add(1);
        }
    }

    /// Counts what met a limit.
    pub fn limited(&self, limit: Limit) {
        self.limited[limit as usize].add(1);
    }

    /// How often this limit was met.
    pub fn limited_by(&self, limit: Limit) -> u64 {
        self.limited[limit as usize].value()
    }

    /// Requests that ended with the outcome at this index.
    pub fn requests_with(&self, outcome: usize) -> u64 {
        self.outcomes.get(outcome).map_or(0, Counter::value)
    }

    /// Upgrades that did not become tunnels, with the outcome at this index.
    pub fn upgrades_rejected_with(&self, outcome: usize) -> u64 {
        self.upgrades_rejected.get(outcome).map_or(0, Counter::value)
    }

    /// Tunnels that ended for the reason at this index.
    pub fn tunnels_closed_for(&self, reason: usize) -> u64 {
        self.tunnels_closed.get(reason).map_or(0, Counter::value)
    }

    /// Requests that ended, whatever the outcome.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().map(Counter::value).sum()
    }

    /// Tunnels that ended, whatever the reason.
    pub fn tunnels(&self) -> u64 {
        self.tunnels_closed.iter().map(Counter::value).sum()
    }
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            tunnels: Level::default(),
            tunnels_begun: Counter::default(),
            pool_idle: Level::default(),
            dialled: Counter::default(),
            reused: Counter::default(),
            warm: Counter::default(),
            connect_errors: [const { Counter::zero() }; ConnectFailure::ALL.len()],
            requests: [const { [const { Counter::zero() }; CODE_SLOTS] }; METHODS.len()],
        }
    }
}

impl RouteCounters {
    /// Counts an address that could not be connected to.
    pub fn connect_failed(&self, failure: ConnectFailure) {
        self.connect_errors[failure as usize].add(1);
    }

    /// Addresses that could not be connected to, for this reason.
    pub fn connects_failed(&self, failure: ConnectFailure) -> u64 {
        self.connect_errors[failure as usize].value()
    }

    /// By index of [`METHODS`] and slot of the status, what is not zero.
    pub(super) fn requests(&self) -> impl Iterator<Item = ((usize, usize), u64)> {
        let rows = self.requests.iter().enumerate();
        rows.flat_map(|(method, codes)| {
            codes.iter().enumerate().map(move |(slot, count)| ((method, slot), count.value()))
        })
        .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_status_and_method_has_its_place() {
        for (slot, code) in CODES.iter().enumerate() {
            assert_eq!(code_slot(*code), slot);
            assert_eq!(code_label(slot), code.to_string());
        }
        assert!(CODES.is_sorted());
        for code in [1, 299, 599, 600, 999, u16::MAX] {
            assert_eq!(code_label(code_slot(code)), "other", "{code}");
        }
        assert_eq!(code_label(code_slot(0)), "none");
        for (slot, method) in METHODS.iter().enumerate() {
            assert_eq!(method_slot(method), slot);
        }
        assert_eq!(METHODS[method_slot("PROPFIND")], "other");
        assert_eq!(METHODS[method_slot("get")], "other", "the case matters");
    }

    #[test]
    fn a_failure_and_a_limit_stand_at_their_index() {
        for (index, failure) in ConnectFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index);
        }
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }

    #[test]
    fn what_has_no_place_is_counted_as_nobodys_or_not_at_all() {
        let counters = Counters::new(1);
        counters.request(Some(7), "GET", 200, OUTCOMES_MAX);
        counters.request(None, "GET", 200, 0);
        counters.request(Some(0), "GET", 200, 1);
        counters.tunnel_closed(REASONS_MAX);
        counters.upgrade_rejected(OUTCOMES_MAX);
        let total = |route| counters.route(route).requests().map(|(_, count)| count).sum::<u64>();
        assert_eq!((total(None), total(Some(0))), (2, 1));
        assert_eq!((counters.requests(), counters.tunnels()), (2, 0));
    }
}
