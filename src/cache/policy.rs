//! Whether a response may be stored, and whether a stored one may be reused (RFC 9111 §3 and §4).
//!
//! We are a shared cache: what one client got, any other may be given. Where that is not plainly
//! allowed, nothing is stored.

use crate::http1::field::Fields;

use super::control::{Demand, Directives, SECONDS_MAX};
use super::date::Moment;
use super::freshness::{self, Times};
use super::vary;

/// How far a route's responses decide themselves whether they are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Respect {
    /// By RFC 9111.
    #[default]
    Rfc,
    /// Everything is stored that is not plainly somebody's own: for prerendered sites whose backend
    /// says nothing, or says that nothing may be kept. Served until purged, or for `default_ttl`.
    Always,
}

/// The cache rules of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Who decides what is stored.
    pub respect: Respect,
    /// Lifetime in seconds of a response that states none, in the place of a guessed one.
    pub default_ttl: Option<u64>,
}

/// Why a response is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unstorable {
    /// The response says `no-store`.
    NoStore,
    /// The response is `private`.
    Private,
    /// The request was authorized, and nothing says that others may have the response.
    Authorized,
    /// The request had a cookie, and the response says nothing about caches.
    Cookie,
    /// The response sets a cookie, which is somebody's.
    SetCookie,
    /// The status is not one to store without further permission, or at all.
    Status,
    /// `Vary` says `*`, or more than we take: no other request is known to match.
    VaryStar,
    /// `Vary` names `Cookie` or `Authorization` where everything else is stored.
    VaryPersonal,
    /// Neither fresh for any time nor with anything to validate it by.
    NoFreshness,
    /// A part of a representation.
    Partial,
    /// The request says `no-store`.
    RequestNoStore,
}

impl Unstorable {
    /// Returns the word for logs and for `detail` in `Cache-Status`.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorized => "authorized",
            Self::Cookie => "cookie",
            Self::SetCookie => "set-cookie",
            Self::Status => "status",
            Self::VaryStar => "vary-star",
            Self::VaryPersonal => "vary-personal",
            Self::NoFreshness => "no-freshness",
            Self::Partial => "partial",
            Self::RequestNoStore => "request-no-store",
        }
    }
}

/// Returns on what terms the response to a GET may be stored.
///
/// `response` is the backend's head; after a 304 it is the stored head with the 304's fields in it,
/// and `status` the stored one.
///
/// `Set-Cookie` always forbids, although RFC 9111 §7.3 does not: the cookie is the first client's
/// session more often than not, and backends mark such pages `public` by mistake.
///
/// # Errors
///
/// Pass the response on and store nothing. What is stored already under its key stays, unless this
/// was the answer to its validation: then remove it.
pub fn may_store(
    demand: &Demand,
    status: u16,
    response: Fields<'_>,
    times: Times,
    rules: &Rules,
) -> Result<Terms, Unstorable> {
    if demand.no_store() {
        return Err(Unstorable::RequestNoStore);
    }
    match status {
        // 412 and 416 answer a precondition or a range, which are no part of the key.
        0..=199 | 304 | 412 | 416 | 600.. => return Err(Unstorable::Status),
        206 => return Err(Unstorable::Partial),
        _ => {}
    }
    let control = Control::of(response);
    control.permits(demand, status, response, rules.respect)?;
    let terms = match rules.respect {
        Respect::Rfc => by_rfc((&control, demand), status, response, times, rules),
        Respect::Always => always(status, response, times, rules),
    }?;
    Ok(if has_validator(response) { terms.with(Terms::VALIDATOR) } else { terms })
}

/// The directives that count.
struct Control {
    directives: Directives,
    is_targeted: bool,
}

impl Control {
    fn of(response: Fields<'_>) -> Self {
        super::targeted::directives(response).map_or_else(
            || Self { directives: Directives::of(response), is_targeted: false },
            |directives| Self { directives, is_targeted: true },
        )
    }

    /// Returns whether the response says that it is for others than who asked, authorized, for it
    /// (RFC 9111 §3.5).
    fn is_shared(&self) -> bool {
        self.directives.has(Directives::PUBLIC | Directives::MUST_REVALIDATE)
            || self.directives.s_maxage.is_some()
    }

    /// Checks what forbids to store, whatever permits it.
    fn permits(
        &self,
        demand: &Demand,
        status: u16,
        response: Fields<'_>,
        respect: Respect,
    ) -> Result<(), Unstorable> {
        let directives = self.directives;
        let must_understand = directives.has(Directives::MUST_UNDERSTAND);
        if must_understand && !is_understood(status) {
            return Err(Unstorable::Status);
        }
        // Who understands the status ignores the no-store, which is for those who do not (RFC 9111
        // §5.2.2.3).
        if directives.has(Directives::NO_STORE) && (!must_understand || respect != Respect::Rfc) {
            return Err(Unstorable::NoStore);
        }
        if directives.has(Directives::PRIVATE) {
            return Err(Unstorable::Private);
        }
        if response.has("set-cookie") {
            return Err(Unstorable::SetCookie);
        }
        if demand.is_authorized() && (respect == Respect::Always || !self.is_shared()) {
            return Err(Unstorable::Authorized);
        }
        if vary::is_star(response) {
            return Err(Unstorable::VaryStar);
        }
        let is_personal =
            ["cookie", "authorization"].iter().any(|name| response.has_token("vary", name));
        if respect == Respect::Always && is_personal {
            return Err(Unstorable::VaryPersonal);
        }
        Ok(())
    }
}

fn by_rfc(
    (control, demand): (&Control, &Demand),
    status: u16,
    response: Fields<'_>,
    times: Times,
    rules: &Rules,
) -> Result<Terms, Unstorable> {
    let directives = &control.directives;
    let explicit = freshness::explicit_lifetime(response, directives, control.is_targeted, times);
    let is_guessable = is_heuristic(status) || directives.has(Directives::PUBLIC);
    if explicit.is_none() && !is_guessable {
        return Err(Unstorable::Status);
    }
    // A backend that thought of caches would have said something: what it sends to somebody it knows
    // may be his alone.
    if explicit.is_none() && demand.has_cookie() && !directives.has(Directives::PUBLIC) {
        return Err(Unstorable::Cookie);
    }
    let lifetime = explicit.unwrap_or_else(|| implied_lifetime(status, response, times, rules));
    let mut terms = Terms::new(response, times, lifetime);
    terms.stale_while_revalidate = directives.stale_while_revalidate.unwrap_or(0);
    terms.stale_if_error = directives.stale_if_error.unwrap_or(0);
    for (is_set, flag) in [
        (directives.has(Directives::NO_CACHE), Terms::VALIDATE),
        (
            directives.has(Directives::MUST_REVALIDATE | Directives::PROXY_REVALIDATE),
            Terms::NEVER_STALE,
        ),
        (directives.s_maxage.is_some(), Terms::SHARED_LIFETIME),
        (control.is_shared(), Terms::FOR_AUTHORIZED),
    ] {
        terms.flags |= if is_set { flag } else { 0 };
    }
    let is_reusable = !terms.has(Terms::VALIDATE)
        && (terms.stale_millis(times.received) == 0
            || terms.stale_while_revalidate_millis() > 0
            || terms.stale_if_error_millis(0) > 0);
    if is_reusable || has_validator(response) { Ok(terms) } else { Err(Unstorable::NoFreshness) }
}

/// Returns the lifetime in seconds of a response that states none.
fn implied_lifetime(status: u16, response: Fields<'_>, times: Times, rules: &Rules) -> u64 {
    let default = rules.default_ttl.filter(|_| is_lasting(status));
    let guessed = default.or_else(|| freshness::heuristic_lifetime(response, times));
    guessed.filter(|_| !freshness::forbids_guessing(response)).unwrap_or(0)
}

fn always(
    status: u16,
    response: Fields<'_>,
    times: Times,
    rules: &Rules,
) -> Result<Terms, Unstorable> {
    if !(matches!(status, 200..=299) || is_lasting(status)) {
        return Err(Unstorable::Status);
    }
    let mut terms = Terms::new(response, times, 0);
    // From now on, however old the response says it is.
    let lifetime = rules.default_ttl.unwrap_or(SECONDS_MAX).min(SECONDS_MAX);
    terms.lifetime = lifetime.saturating_add(terms.initial_age.div_ceil(1000));
    Ok(terms)
}

/// Returns whether the response has what a conditional request needs.
fn has_validator(response: Fields<'_>) -> bool {
    response.has("etag") || response.has("last-modified")
}

/// Returns whether a response with this status may be kept for a guessed time (RFC 9110 §15.1).
const fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Returns whether a response with this status may be given a lifetime by the route.
const fn is_lasting(status: u16) -> bool {
    matches!(status, 200 | 203 | 301 | 308 | 404 | 410)
}

/// Returns whether we know what this final status asks of a cache: those of RFC 9110 §15 and the
/// registered ones that ask for nothing.
const fn is_understood(status: u16) -> bool {
    matches!(
        status,
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421..=426 | 428
            | 429 | 431 | 451 | 500..=508 | 511
    )
}

/// What a stored response may be used for.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::{Demand, Moment, Reuse, Rules, Times, may_store};
/// use phantom_frame::http1::head::ResponseHead;
///
/// let bytes = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n";
/// let head = ResponseHead::parse(&bytes[..], bytes.len(), Vec::new(), 100).unwrap();
/// let now = Moment::from_seconds(1_000_000);
/// let (demand, times) = (Demand::default(), Times { sent: now, received: now });
/// let terms = may_store(&demand, 200, head.fields(), times, &Rules::default()).unwrap();
/// assert_eq!(terms.reuse(&demand, now), Reuse::Fresh);
/// assert_eq!(terms.ttl(Moment::from_seconds(1_000_061)), -1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// When the response arrived, or was last validated.
    received: Moment,
    /// How old it was then, in milliseconds.
    initial_age: u64,
    /// For how long it is fresh, in seconds of its age.
    lifetime: u64,
    /// For how long after that it may be served while it is validated, in seconds.
    stale_while_revalidate: u64,
    /// For how long after its lifetime it may be served in the place of an error, in seconds.
    stale_if_error: u64,
    flags: u8,
}

/// What to do with a stored response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it: the client takes it although it is stale.
    Stale,
    /// Serve it, and validate it for those who come later.
    StaleWhileRevalidate,
    /// Ask the backend, on condition of the stored validators if there are any.
    Validate,
}

impl Terms {
    /// Never without asking the backend.
    const VALIDATE: u8 = 1;
    /// `must-revalidate` or `proxy-revalidate`: once stale, never without asking.
    const NEVER_STALE: u8 = 1 << 1;
    /// `s-maxage`: as before, except while it is validated for those who come later.
    const SHARED_LIFETIME: u8 = 1 << 2;
    /// Requests with `Authorization` may have it too.
    const FOR_AUTHORIZED: u8 = 1 << 3;
    /// There is something to validate it by.
    const VALIDATOR: u8 = 1 << 4;

    /// For how long after its lifetime a response may be served when the backend cannot be reached,
    /// in seconds: a day. RFC 9111 §4.2.4 sets no limit, and nobody wants last year's page.
    const DISCONNECTED_MAX: u64 = 24 * 60 * 60;

    /// For how long after its lifetime a response with a validator is worth its place, in seconds: a
    /// week. Arbitrary; the store evicts it sooner if it needs the place.
    const VALIDATOR_KEPT: u64 = 7 * 24 * 60 * 60;

    fn new(response: Fields<'_>, times: Times, lifetime: u64) -> Self {
        Self {
            received: times.received,
            initial_age: freshness::initial_age(response, times),
            lifetime: lifetime.min(SECONDS_MAX),
            stale_while_revalidate: 0,
            stale_if_error: 0,
            flags: 0,
        }
    }

    const fn with(mut self, flag: u8) -> Self {
        self.flags |= flag;
        self
    }

    const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Returns when the response arrived, or was last validated.
    pub const fn received(&self) -> Moment {
        self.received
    }

    /// Returns the age in whole seconds, for the Age field (RFC 9111 §4.2.3).
    pub const fn age(&self, now: Moment) -> u64 {
        let seconds = self.age_millis(now) / 1000;
        if seconds < SECONDS_MAX { seconds } else { SECONDS_MAX }
    }

    /// Returns for how many seconds the response stays fresh; negative once it is stale.
    pub fn ttl(&self, now: Moment) -> i64 {
        let age = i64::try_from(self.age_millis(now)).unwrap_or(i64::MAX);
        let lifetime = i64::try_from(self.lifetime_millis()).unwrap_or(i64::MAX);
        lifetime.saturating_sub(age).div_euclid(1000)
    }

    /// Returns what to do with the response for a request that has the same key.
    pub fn reuse(&self, demand: &Demand, now: Moment) -> Reuse {
        let age = self.age_millis(now);
        let is_too_old = demand.max_age.is_some_and(|max| age > max.saturating_mul(1000));
        if !self.is_for(demand) || self.has(Self::VALIDATE) || is_too_old {
            return Reuse::Validate;
        }
        let left = self.lifetime_millis().saturating_sub(age);
        if left > 0 {
            let wanted = demand.min_fresh.unwrap_or(0).saturating_mul(1000);
            return if left >= wanted { Reuse::Fresh } else { Reuse::Validate };
        }
        let stale = self.stale_millis(now);
        if demand.min_fresh.is_some() || self.has(Self::NEVER_STALE) {
            return Reuse::Validate;
        }
        let is_taken = demand.max_stale.is_some_and(|max| stale <= max.saturating_mul(1000));
        if is_taken && !self.has(Self::SHARED_LIFETIME) {
            return Reuse::Stale;
        }
        // Who names the greatest age it takes does not take a stale response (RFC 9111 §5.2.1.1).
        if demand.max_age.is_none() && stale < self.stale_while_revalidate_millis() {
            return Reuse::StaleWhileRevalidate;
        }
        Reuse::Validate
    }

    /// Returns whether the response may be served where the backend answers with a 500, 502, 503 or
    /// 504, or not at all: `stale-if-error` of the response or the request (RFC 5861 §4).
    pub fn may_serve_on_error(&self, demand: &Demand, now: Moment) -> bool {
        let asked = demand.stale_if_error.unwrap_or(0);
        self.may_serve_stale(demand) && self.stale_millis(now) < self.stale_if_error_millis(asked)
    }

    /// Returns whether the response may be served where the backend gives no answer at all: it
    /// cannot be reached, or closes without one (RFC 9111 §4.2.4).
    pub fn may_serve_disconnected(&self, demand: &Demand, now: Moment) -> bool {
        let is_recent = self.stale_millis(now) < Self::DISCONNECTED_MAX * 1000;
        let is_taken = demand.max_age.is_none() && demand.min_fresh.is_none();
        self.may_serve_on_error(demand, now)
            || (self.may_serve_stale(demand) && is_recent && is_taken)
    }

    /// Returns the moment from which on the response is of no use.
    pub const fn keep_until(&self) -> Moment {
        let mut kept = if self.has(Self::VALIDATOR) { Self::VALIDATOR_KEPT } else { 0 };
        if !self.has(Self::VALIDATE | Self::NEVER_STALE) {
            kept = max(kept, self.stale_while_revalidate);
            if !self.has(Self::SHARED_LIFETIME) {
                kept = max(max(kept, self.stale_if_error), Self::DISCONNECTED_MAX);
            }
        }
        let fresh = self.lifetime_millis().saturating_sub(self.initial_age);
        self.received.plus_millis(fresh).plus_millis(kept.saturating_mul(1000))
    }

    /// Returns whether the response may still be of use.
    pub fn is_worth_keeping(&self, now: Moment) -> bool {
        now < self.keep_until()
    }

    /// Returns whether the response has what a conditional request needs.
    pub const fn has_validator(&self) -> bool {
        self.has(Self::VALIDATOR)
    }

    /// Marks the response as stale: from now on it is validated before every use (RFC 9111 §4.4), and
    /// not even an error of the backend is answered with it.
    pub const fn expire(&mut self) {
        self.lifetime = 0;
        self.flags |= Self::VALIDATE;
    }

    const fn age_millis(&self, now: Moment) -> u64 {
        self.initial_age.saturating_add(now.millis_since(self.received))
    }

    const fn lifetime_millis(&self) -> u64 {
        self.lifetime.saturating_mul(1000)
    }

    /// Returns for how long the response has been stale, in milliseconds; 0 while it is fresh, at
    /// least 1 afterwards.
    const fn stale_millis(&self, now: Moment) -> u64 {
        let (age, lifetime) = (self.age_millis(now), self.lifetime_millis());
        if age < lifetime { 0 } else { (age - lifetime).saturating_add(1) }
    }

    const fn stale_while_revalidate_millis(&self) -> u64 {
        if self.has(Self::VALIDATE | Self::NEVER_STALE) {
            return 0;
        }
        self.stale_while_revalidate.saturating_mul(1000)
    }

    const fn stale_if_error_millis(&self, asked: u64) -> u64 {
        if self.has(Self::VALIDATE | Self::NEVER_STALE | Self::SHARED_LIFETIME) {
            return 0;
        }
        max(self.stale_if_error, asked).saturating_mul(1000)
    }

    /// Returns whether a request may have the response without the backend being asked.
    ///
    /// RFC 9111 would give an authorized client what an anonymous one got. A backend that means that
    /// says so; the others have two pages under one address.
    const fn is_for(&self, demand: &Demand) -> bool {
        !demand.no_cache()
            && !demand.no_store()
            && (!demand.is_authorized() || self.has(Self::FOR_AUTHORIZED))
    }

    const fn may_serve_stale(&self, demand: &Demand) -> bool {
        self.is_for(demand) && !self.has(Self::VALIDATE | Self::NEVER_STALE | Self::SHARED_LIFETIME)
    }
}

const fn max(one: u64, other: u64) -> u64 {
    if one > other { one } else { other }
}
