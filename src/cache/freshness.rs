//! How old a response is when it arrives, and for how long it is fresh (RFC 9111 §4.2).
//!
//! Ages are kept in milliseconds and shown in whole seconds; every sum saturates, because a backend
//! may send any number.

use crate::http1::field::{Fields, is, members};

use super::control::{Directives, parse_seconds};
use super::date::{self, Moment};

/// When the request that brought a response was sent, and when its head had arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// The request was sent to the backend.
    pub sent: Moment,
    /// The response's head had arrived.
    pub received: Moment,
}

/// The longest lifetime that is guessed, in seconds: a day. RFC 9111 §4.2.2 sets no limit.
const HEURISTIC_MAX: u64 = 24 * 60 * 60;

/// The part of the time since the last change that is guessed to pass without another one (RFC 9111
/// §4.2.2): a tenth.
const HEURISTIC_DIVISOR: u64 = 10;

/// Returns how old a response was when it arrived, in milliseconds (RFC 9111 §4.2.3:
/// `corrected_initial_age`).
pub fn initial_age(response: Fields<'_>, times: Times) -> u64 {
    let stated = stated_age(response).unwrap_or(0).saturating_mul(1000);
    let stated = stated.saturating_add(times.received.millis_since(times.sent));
    // In whole seconds, as the Date is: a response does not arrive old because the second ended.
    let apparent = times.received.seconds().saturating_sub(date_of(response, times));
    stated.max(apparent.saturating_mul(1000))
}

/// Returns what the Age field says in seconds. Of several values the first counts, and one that is
/// no number is ignored (RFC 9111 §5.1).
fn stated_age(response: Fields<'_>) -> Option<u64> {
    parse_seconds(members(response.first("age")?).next()?)
}

/// Returns the Date in seconds, or when the response arrived if it has none (RFC 9110 §6.6.1).
fn date_of(response: Fields<'_>, times: Times) -> u64 {
    let date = response.first("date").and_then(date::parse);
    date.unwrap_or_else(|| times.received.seconds())
}

/// Returns for how many seconds a response is fresh by its own word: `s-maxage` before `max-age`
/// before `Expires` (RFC 9111 §4.2.1).
///
/// `is_targeted`: the directives are from a targeted field, beside which `Expires` says nothing.
pub fn explicit_lifetime(
    response: Fields<'_>,
    directives: &Directives,
    is_targeted: bool,
    times: Times,
) -> Option<u64> {
    let stated = directives.s_maxage.or(directives.max_age);
    if stated.is_some() || is_targeted {
        return stated;
    }
    let mut lines = response.all("expires");
    let expires = lines.next()?;
    // Lines that contradict each other, and dates that are none, mean the past (RFC 9111 §5.3).
    let is_one = lines.all(|other| other == expires);
    let expires = date::parse(expires).filter(|_| is_one).unwrap_or(0);
    Some(expires.saturating_sub(date_of(response, times)))
}

/// Returns for how many seconds a response that does not say is guessed to be fresh: a tenth of the
/// time since its `Last-Modified` (RFC 9111 §4.2.2).
pub fn heuristic_lifetime(response: Fields<'_>, times: Times) -> Option<u64> {
    let modified = response.first("last-modified").and_then(date::parse)?;
    let unchanged = date_of(response, times).checked_sub(modified)?;
    Some((unchanged / HEURISTIC_DIVISOR).min(HEURISTIC_MAX))
}

/// Returns whether the response says, to caches of HTTP/1.0, that nothing may be guessed.
///
/// RFC 9111 §5.4 gives `Pragma` no meaning in responses, and those who send it mean this.
pub fn forbids_guessing(response: Fields<'_>) -> bool {
    response.all("pragma").flat_map(members).any(|member| is(member, "no-cache"))
}
