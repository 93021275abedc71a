//! Requests that the cache may answer: from a stored response, or from a fill that is shared.

use std::rc::Rc;

use super::flight::{Flight, Wish};
use super::follow::{Followed, Part, follow};
use super::hit::{self, Hit};
use super::outcome::Outcome;
use super::serve::{Next, Request};
use super::shard::{Client, Shard, moment};
use super::{borrow, fetch, fill};
use crate::cache::entry::Entry;
use crate::cache::key::{self, Name, Site};
use crate::cache::local::Found;
use crate::cache::rules::RequestInfo;
use crate::cache::{Demand, Forwarded, Reuse, Status, conditional};
use crate::http1::forward;

/// How often a request may find out that what it waited for is not for it, before it asks the
/// backend for itself.
const TURNS_MAX: usize = 4;

/// Fields that make some backends take a GET for another method.
const METHOD_FIELDS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Answers from the cache, or through it. `Ok` after an answer has begun or waits in the outbox.
///
/// # Errors
///
/// Nothing final was sent to the client: answer with the outcome.
///
/// # Cancellation
///
/// Close the client's connection. A fill goes on without it.
pub(super) async fn run(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: &Request<'_>,
) -> Result<(Outcome, Next), Outcome> {
    let demand = Demand::of(request.head.fields());
    let mut key = shard.scratch.take_head();
    write_key(shard, &mut key, request);
    // Apart, so that a hit does not pay for the room that waiting takes.
    let done = match seek(shard, client, request, &demand, &key) {
        Sought::Answered(done) => Ok(done),
        Sought::Nothing(why) => {
            Box::pin(fetch_through(shard, client, request, (&demand, &key, why))).await
        }
    };
    shard.scratch.give_back_head(key);
    done
}

/// What a look into the store led to.
enum Sought {
    /// The answer waits in the outbox.
    Answered((Outcome, Next)),
    /// The backend must be asked, or asked again.
    Nothing(Lack),
}

/// Whether the backend may be told something else than what such requests are told apart by: its answer
/// is for nobody else.
fn is_odd(request: &Request<'_>) -> bool {
    let fields = request.head.fields();
    forward::withholds(fields) || METHOD_FIELDS.iter().any(|name| fields.has(name))
}

/// What the store lacks.
struct Lack {
    why: Forwarded,
    base: Option<Rc<Entry>>,
}

fn seek(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: &Request<'_>,
    demand: &Demand,
    key: &[u8],
) -> Sought {
    let lack = |why| Sought::Nothing(Lack { why, base: None });
    if demand.no_store() || conditional::must_pass(request.head.fields()) {
        return lack(Forwarded::Bypass);
    }
    let entry = match shard.cache.find(key, request.head.fields()) {
        Found::Entry(entry) => entry,
        Found::Other => return lack(Forwarded::VaryMiss),
        Found::Nothing => return lack(Forwarded::UriMiss),
    };
    reuse(shard, client, request, (demand, key, entry))
}

/// Answers with a stored response, if the request may have it.
fn reuse(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: &Request<'_>,
    (demand, key, entry): (&Demand, &[u8], Rc<Entry>),
) -> Sought {
    let (now, terms) = (moment(), entry.terms());
    let hit = match terms.reuse(demand, now) {
        Reuse::Fresh | Reuse::Stale => &shard.counters.cache.hit,
        Reuse::StaleWhileRevalidate => {
            refresh(shard, client, request, (demand, key, &entry));
            &shard.counters.cache.stale
        }
        Reuse::Validate => {
            let why = if terms.ttl(now) > 0 { Forwarded::Request } else { Forwarded::Stale };
            return Sought::Nothing(Lack { why, base: Some(entry) });
        }
    };
    hit.add(1);
    shard.counters.cache.hit_bytes.add(entry.len());
    let status = Status::hit(terms.ttl(now));
    let (code, next) =
        hit::answer(shard, client, request, &Hit { entry: &entry, demand, status, now });
    client.status.set(code);
    Sought::Answered((Outcome::Hit, next))
}

/// Asks the backend, alone or together with others who want the same.
async fn fetch_through(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: &Request<'_>,
    (demand, key, mut lack): (&Demand, &[u8], Lack),
) -> Result<(Outcome, Next), Outcome> {
    if demand.only_if_cached() {
        return Err(Outcome::NotCached);
    }
    if !client.outbox.is_empty() {
        if client.flush().await.is_err() {
            return Ok((Outcome::ClientGone, Next::Drop));
        }
        // What was found may have been let go of while the client took its time.
        match seek(shard, client, request, demand, key) {
            Sought::Answered(done) => return Ok(done),
            Sought::Nothing(next) => lack = next,
        }
    }
    if is_odd(request) {
        lack = Lack { why: Forwarded::Bypass, base: None };
    }
    for _ in 0..TURNS_MAX {
        // A part of something unknown, or a head without a body, is nothing to store.
        let wants_part = request.head.method() == "HEAD" || demand.has_range();
        let is_partial = wants_part && lack.base.is_none();
        if lack.why == Forwarded::Bypass {
            break;
        }
        if is_partial {
            let wanted = (request.route, request.head);
            if lack.base.is_none()
                && let Some(entry) = borrow::peek(shard, key, wanted).await
                && let Sought::Answered(done) = reuse(shard, client, request, (demand, key, entry))
            {
                return Ok(done);
            }
            break;
        }
        let (flight, leads) = flight(shard, client, request, (demand, key, &lack))?;
        let part = Part { demand, why: lack.why, leads };
        match follow(shard, client, request, (&flight, part)).await? {
            Followed::Done(done) => return Ok(done),
            Followed::Alone => break,
            Followed::Again => match seek(shard, client, request, demand, key) {
                Sought::Answered(done) => return Ok(done),
                Sought::Nothing(next) => lack = next,
            },
        }
    }
    shard.counters.cache.pass.add(1);
    fetch::run(shard, client, request, Some(Status::forwarded(lack.why))).await
}

/// A fill that runs already and may suit, or a new one, and whether it was begun for this request.
fn flight(
    shard: &Rc<Shard>,
    client: &Client,
    request: &Request<'_>,
    (demand, key, lack): (&Demand, &[u8], &Lack),
) -> Result<(Rc<Flight>, bool), Outcome> {
    let is_marked = shard.cache.is_marked(key, moment());
    // What an authorized client gets is his alone more often than not.
    let is_shared = !is_marked && !demand.is_authorized();
    if is_shared {
        let newest = shard.cache.newest(key);
        let fields = request.head.fields();
        if let Some(flight) = shard.flights.join(key, fields, (newest.as_deref(), demand)) {
            return Ok((flight, false));
        }
    }
    let wish = wish(shard, client, request, (demand, key, lack.base.as_ref()))?;
    // An answer that is nobody else's is not the owner's to fetch either.
    let wish = Wish { is_shared, may_borrow: !is_marked, ..wish };
    Ok((fill::launch(shard, wish, true), true))
}

/// Confirms a stale response for those who come later.
fn refresh(
    shard: &Rc<Shard>,
    client: &Client,
    request: &Request<'_>,
    (demand, key, entry): (&Demand, &[u8], &Rc<Entry>),
) {
    if !shard.flights.has(key)
        && !is_odd(request)
        && let Ok(wish) = wish(shard, client, request, (demand, key, Some(entry)))
    {
        fill::launch(shard, wish, false);
    }
}

fn wish(
    shard: &Shard,
    client: &Client,
    request: &Request<'_>,
    (demand, key, base): (&Demand, &[u8], Option<&Rc<Entry>>),
) -> Result<Wish, Outcome> {
    let mut next_hop = fetch::next_hop(shard, client, request)?;
    let authority = key::canonical(next_hop.authority);
    if std::ptr::eq(next_hop.host, next_hop.authority) {
        next_hop.host = &authority;
    }
    next_hop.authority = &authority;
    let mut front = shard.scratch.take_head();
    forward::fill_request(&mut front, request.head, &next_hop);
    let wish = Wish {
        route: request.route,
        key: key.into(),
        request: request.head.detach(),
        front: front.as_slice().into(),
        demand: *demand,
        base: base.cloned(),
        is_shared: true,
        may_borrow: true,
    };
    shard.scratch.give_back_head(front);
    Ok(wish)
}

/// Writes what a request is found by.
pub(super) fn write_key(shard: &Shard, out: &mut Vec<u8>, request: &Request<'_>) {
    write_key_of(shard, out, request, (request.path, request.asked.target.query));
}

/// Writes what a request for this path and query would be found by, that is like `request` otherwise.
pub(super) fn write_key_of(
    shard: &Shard,
    out: &mut Vec<u8>,
    request: &Request<'_>,
    (path, query): (&[u8], Option<&[u8]>),
) {
    let made = made_name(shard, request, (path, query));
    let name = match &made {
        Some(made) => Name::Made(made.as_bytes()),
        None => Name::Usual { path, query },
    };
    key::write(out, request.route, site(request), name);
}

/// What a request calls the place of what it asks for.
fn site<'a>(request: &Request<'a>) -> Site<'a> {
    let trusted = request.is_trusted.then(|| request.head.fields());
    Site { authority: request.asked.target.authority, trusted }
}

/// What the key function of the library's user calls a GET for this path and query. It is not asked
/// about what is no text: replaced by a mark, different paths would look the same.
fn made_name(
    shard: &Shard,
    request: &Request<'_>,
    (path, query): (&[u8], Option<&[u8]>),
) -> Option<String> {
    let rules = shard.cache_rules(request.route).filter(|rules| rules.names_keys())?;
    rules.key_name(&RequestInfo {
        method: "GET",
        path: str::from_utf8(path).ok()?,
        query: str::from_utf8(query.unwrap_or_default()).ok()?,
        headers: request.head.fields(),
    })
}
