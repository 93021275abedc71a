//! What the log says about requests that did not end as they should.
//!
//! A client's fault is a debug line: nobody outside may fill a disk. A backend's fault is a warning,
//! our own an error, each at most once a second, worker and outcome, with the number left out.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::outcome::{Outcome, Party};
use crate::backend::DialError;
use crate::config::Route;
use crate::net::clock;

/// The target that users filter by.
pub(super) const TARGET: &str = "phantom_frame::proxy";

/// Between two lines about the same outcome.
const PAUSE: Duration = Duration::from_secs(1);

/// Which lines were written last.
#[derive(Debug, Default)]
pub struct Record {
    sites: RefCell<Vec<Site>>,
}

#[derive(Debug)]
struct Site {
    outcome: Outcome,
    last: Instant,
    left_out: u64,
}

/// What is known about a request, for its log line. Never a query, a field or a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path as the client sent it.
    pub path: &'a [u8],
}

impl Record {
    /// Writes the line about `outcome` and its `cause`, if one is due.
    pub(super) fn failure(&self, outcome: Outcome, about: About<'_>, cause: &dyn fmt::Debug) {
        let About { route, method, .. } = about;
        let path = String::from_utf8_lossy(about.path);
        let word = outcome.label();
        match outcome.party() {
            Party::Client => {
                tracing::debug!(target: TARGET, outcome = word, side = "client", route, method, %path, ?cause, "Request failed");
                self.refused_upgrade(outcome, about);
                self.limited(outcome, None);
            }
            Party::Backend => {
                if let Some(left_out) = self.due(outcome) {
                    tracing::warn!(target: TARGET, outcome = word, side = "backend", route, method, %path, ?cause, left_out, "Request failed");
                }
            }
            Party::Proxy => {
                if let Some(left_out) = self.due(outcome) {
                    tracing::error!(target: TARGET, outcome = word, side = "proxy", route, method, %path, ?cause, left_out, "Request failed");
                }
            }
        }
    }

    /// Writes the line about a backend that cannot be connected to, if one is due.
    pub(super) fn unreachable(&self, outcome: Outcome, route: &Route, error: &DialError) {
        let Some(left_out) = self.due(outcome) else { return };
        let cause = match error {
            DialError::NoAddress => "the name has no address".to_owned(),
            DialError::Timeout => "timed out".to_owned(),
            DialError::NoPort => "no port is free; more source_addresses give more".to_owned(),
            DialError::Failed(error) | DialError::Exhausted(error) => error.to_string(),
            DialError::Drain => "shutting down".to_owned(),
        };
        tracing::error!(
            target: TARGET,
            outcome = outcome.label(),
            side = "backend",
            route = route.name,
            left_out,
            "Failed to connect to backend {}:{}: {cause}",
            route.backend.host,
            route.backend.port,
        );
    }

    /// Writes the line about a client that met a limit, if one is due: operators may want to raise it,
    /// or to know who pushes.
    pub(super) fn limited(&self, outcome: Outcome, client: Option<IpAddr>) {
        let Some(limit) = outcome.limit() else { return };
        let Some(left_out) = self.due(outcome) else { return };
        let client = client.map(tracing::field::display);
        tracing::warn!(target: TARGET, limit = limit.key(), client, left_out, "A client has met a limit");
    }

    /// The one refusal that operators look for: it is a matter of configuration.
    fn refused_upgrade(&self, outcome: Outcome, about: About<'_>) {
        if outcome != Outcome::UpgradeRefused {
            return;
        }
        let Some(left_out) = self.due(outcome) else { return };
        tracing::warn!(
            target: TARGET,
            left_out,
            "Upgrade request detected for {} {} but WebSocket support is disabled or not available in current proxy mode",
            about.method,
            String::from_utf8_lossy(about.path),
        );
    }

    /// Whether a line about `outcome` may be written, and how many were left out before it.
    pub(super) fn due(&self, outcome: Outcome) -> Option<u64> {
        self.due_at(outcome, clock::now())
    }

    fn due_at(&self, outcome: Outcome, now: Instant) -> Option<u64> {
        let mut sites = self.sites.borrow_mut();
        let Some(site) = sites.iter_mut().find(|site| site.outcome == outcome) else {
            sites.push(Site { outcome, last: now, left_out: 0 });
            return Some(0);
        };
        if now.duration_since(site.last) < PAUSE {
            site.left_out += 1;
            return None;
        }
        site.last = now;
        Some(std::mem::take(&mut site.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_and_the_next_says_how_many_were_left_out() {
        let record = Record::default();
        let now = clock::now();
        assert_eq!(record.due_at(Outcome::BackendClosed, now), Some(0));
        for _ in 0..7 {
            assert_eq!(record.due_at(Outcome::BackendClosed, now), None);
        }
        assert_eq!(record.due_at(Outcome::BadResponse, now), Some(0), "another outcome");
        assert_eq!(record.due_at(Outcome::BackendClosed, now + PAUSE), Some(7));
    }
}
