//! Requests that ask to upgrade: on a fresh connection, and after a 101 as a tunnel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::converse::{Conversation, Delivered, Ending};
use super::count;
use super::fetch::{exchange, next_hop};
use super::outcome::{Outcome, Party};
use super::record::TARGET;
use super::serve::{Next, Request};
use super::shard::{Client, Shard};
use crate::backend::{Backend, Connection};
use crate::http1::framing::Framing;
use crate::http1::head::ResponseHead;
use crate::http1::{forward, forwarded, upgrade};
use crate::metrics::{Counters, Excess, Permit, Place, TunnelPlace};
use crate::net::{Buffer, Watch, clock, relay};
use crate::tunnel::{CloseReason, Ends, Patience, Summary, pump};

/// A connection to a backend that has switched protocols.
#[derive(Debug)]
pub(super) struct Switched {
    connection: Connection,
    is_websocket: bool,
    places: Places,
    route: usize,
}

/// What a tunnel occupies besides its connection's place.
#[derive(Debug)]
struct Places {
    /// Its place among all tunnels of the process.
    _permit: Permit,
    /// Its place among the tunnels of its address, where those are limited.
    _of_address: Option<TunnelPlace>,
}

/// Two connections that belong to each other now, and what is needed to say how that ended.
#[derive(Debug)]
pub struct Tunnel {
    ends: Ends,
    watch: Watch,
    places: Places,
    route: usize,
    address: IpAddr,
    since: Instant,
}

/// A tunnel that counts as open, until it is dropped.
#[derive(Debug)]
struct Open {
    counters: Arc<Counters>,
    route: usize,
}

impl Open {
    fn new(counters: &Arc<Counters>, route: usize) -> Self {
        let of_route = counters.route(Some(route));
        of_route.tunnels_begun.add(1);
        of_route.tunnels.rise();
        Self { counters: Arc::clone(counters), route }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.route(Some(self.route)).tunnels.fall();
    }
}

impl Tunnel {
    /// Joins the client's connection with the backend's.
    pub(super) fn new(client: Client, switched: Switched) -> Self {
        let Client { stream, mut inbox, watch, address, .. } = client;
        let Switched { connection, is_websocket, places, route } = switched;
        let Connection { stream: backend, inbox: mut backend_inbox, .. } = connection;
        Self {
            ends: Ends {
                client: stream,
                backend,
                client_early: inbox.take(),
                backend_early: backend_inbox.take(),
                is_websocket,
            },
            watch,
            places,
            route,
            address,
            since: clock::now(),
        }
    }
}

/// Asks the backend to switch. `Ok` after an answer has begun.
///
/// # Errors
///
/// Nothing final was sent to the client: answer with the outcome.
///
/// # Cancellation
///
/// Close the client's connection.
pub(super) async fn run(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
) -> Result<(Outcome, Next), Outcome> {
    let began = clock::now();
    let ended = attempt(shard, client, request).await;
    match &ended {
        Ok((Outcome::Tunnelled, _)) => {
            client.status.set(101);
            shard.counters.upgrade_handshake.observe(clock::now().duration_since(began));
        }
        Ok((outcome, _)) | Err(outcome) => count::rejected(shard, *outcome),
    }
    ended
}

async fn attempt(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
) -> Result<(Outcome, Next), Outcome> {
    let places = admit(shard, client, request)?;
    let about = request.about(shard);
    tracing::info!(
        target: TARGET,
        route = about.route,
        client = %client.address,
        "Upgrade request detected for {} {}, establishing direct proxy tunnel",
        about.method,
        String::from_utf8_lossy(about.path),
    );
    let backend = shard.backends.get(request.route).ok_or(Outcome::Internal)?;

    let mut head = shard.scratch.take_head();
    forward::upgrade_request(&mut head, request.head, &next_hop(shard, client, request)?);
    let offer = upgrade::offer(request.head.version(), request.head.fields());
    let talk = Conversation { shard, request, head: &head, offer, cache_status: None };
    // On a connection that never carried a request: what is left of one would enter the tunnel.
    let ended = exchange(&talk, client, backend, backend.fresh().await).await;
    shard.scratch.give_back_head(head);

    match ended? {
        (Ending::Delivered(delivered), connection) => {
            client.status.set(delivered.status);
            Ok(refused(shard, request, backend, (delivered, connection)))
        }
        (Ending::Switched(answer), connection) => {
            if has_too_many_early_bytes(shard, client) {
                return Err(refused_by_limit(shard, client.address, request, Outcome::EarlyBytes));
            }
            let is_websocket = answer.fields().has_token("upgrade", "websocket");
            let switched = Switched { connection, is_websocket, places, route: request.route };
            Ok(switch(shard, client, answer, switched).await)
        }
    }
}

/// Holds an upgrade against the limits, before anything is done for it.
fn admit(shard: &Shard, client: &Client, request: &Request<'_>) -> Result<Places, Outcome> {
    let refuse = |address, outcome| refused_by_limit(shard, address, request, outcome);
    // Behind a body nothing is known before the body has been read.
    if request.asked.framing == Framing::Length(0) && has_too_many_early_bytes(shard, client) {
        return Err(refuse(client.address, Outcome::EarlyBytes));
    }
    let mut of_address = None;
    if let Some(addresses) = &shard.addresses
        && let Some(address) = asker(shard, client, request)
    {
        let place = addresses.upgrade(address, clock::now());
        of_address = place.map_err(|excess| match excess {
            Excess::Count => refuse(address, Outcome::TooManyTunnelsOfAddress),
            Excess::Rate => refuse(address, Outcome::TooManyUpgradesOfAddress),
        })?;
    }
    let permit = shard.tunnels.admit();
    let permit = permit.ok_or_else(|| refuse(client.address, Outcome::TooManyTunnels))?;
    Ok(Places { _permit: permit, _of_address: of_address })
}

/// The address for which a request counts; `None` if only trusted proxies are known of it.
fn asker(shard: &Shard, client: &Client, request: &Request<'_>) -> Option<IpAddr> {
    if client.is_trusted {
        let is_trusted = |address| shard.trusts(address);
        forwarded::client(request.head.fields(), client.address, is_trusted)
    } else {
        Some(client.address)
    }
}

/// Whether more waits behind the request than may be sent before it is answered.
fn has_too_many_early_bytes(shard: &Shard, client: &Client) -> bool {
    let waiting = client.inbox.filled().len().saturating_add(client.stream.unread());
    waiting > shard.config.limits.early_bytes_max
}

/// Says in the log that a limit was met, if a line is due.
fn refused_by_limit(
    shard: &Shard,
    address: IpAddr,
    request: &Request<'_>,
    outcome: Outcome,
) -> Outcome {
    if outcome.party() == Party::Client {
        shard.record.limited(outcome, Some(address));
    } else {
        shard.record.failure(outcome, request.about(shard), &"limits.tunnels");
    }
    outcome
}

/// Passes the 101 on: from here the connections belong to each other.
async fn switch(
    shard: &Shard,
    client: &Client,
    answer: ResponseHead<Buffer>,
    switched: Switched,
) -> (Outcome, Next) {
    tracing::info!(target: TARGET, "Backend upgrade successful");
    let mut out = shard.scratch.take_head();
    forward::switching(&mut out, &answer);
    shard.scratch.give_back_slots(answer.into_parts().1);
    let watch = &switched.connection.watch;
    watch.set_in(Some(shard.config.timeouts.head));
    let sent = relay::send(&client.stream, watch, &out).await;
    shard.scratch.give_back_head(out);
    if sent.is_err() {
        return (Outcome::ClientGone, Next::Drop);
    }
    tracing::info!(target: TARGET, "Both upgrades successful, establishing bidirectional tunnel");
    (Outcome::Tunnelled, Next::Tunnel(Box::new(switched)))
}

/// The backend has answered with something else, which was relayed like any answer.
fn refused(
    shard: &Shard,
    request: &Request<'_>,
    backend: &Backend,
    answered: (Delivered, Connection),
) -> (Outcome, Next) {
    let (Delivered { status, outcome, next, is_reusable }, connection) = answered;
    if is_reusable {
        backend.give_back(connection);
    }
    tracing::warn!(
        target: TARGET,
        side = "backend",
        route = request.about(shard).route,
        "Backend did not accept upgrade request, status: {status}",
    );
    (outcome, next)
}

/// What a tunnel holds while it runs, and what is said at its end.
#[derive(Debug)]
pub struct Owner {
    place: Place,
    places: Places,
    open: Open,
    client: IpAddr,
    since: Instant,
}

/// Hands a tunnel to the worker's ring, or else runs it to its end. `place` is what the
/// client's connection occupies.
///
/// # Cancellation
///
/// Both connections are closed; what was in transit is lost.
pub async fn run_tunnel(shard: &Shard, tunnel: Box<Tunnel>, place: Place) {
    let Tunnel { mut ends, watch, places, route, address, since } = *tunnel;
    let timeouts = &shard.config.timeouts;
    let patience = Patience { idle: timeouts.tunnel_idle, half_close: timeouts.tunnel_half_close };
    let open = Open::new(&shard.counters, route);
    let mut owner = Owner { place, places, open, client: address, since };
    if let Some(ring) = &shard.ring {
        match ring.adopt(ends, patience, owner) {
            Ok(()) => return,
            Err(refused) => (ends, owner) = *refused,
        }
    }
    watch.set_tunnel();
    let summary = pump::run(&mut ends, &shard.pool, &watch, (patience, &shard.close_code)).await;
    drop(ends);
    end_tunnel(shard, owner, &summary);
}

/// Counts a tunnel that has ended and says how it ended.
pub fn end_tunnel(shard: &Shard, owner: Owner, summary: &Summary) {
    let Owner { place, places, open, client, since } = owner;
    let route = open.route;
    drop((place, places, open));
    let lived = clock::now().duration_since(since);
    shard.counters.tunnel_closed(summary.reason as usize);
    shard.counters.tunnel_duration.observe(lived);
    shard.counters.tunnel_bytes_up.add(summary.client_to_backend_bytes);
    shard.counters.tunnel_bytes_down.add(summary.backend_to_client_bytes);
    let route = shard.config.routes.get(route).map_or("", |route| route.name.as_str());
    log_end(summary, route, client, lived);
}

fn log_end(summary: &Summary, route: &str, client: IpAddr, lived: Duration) {
    let Summary { client_to_backend_bytes: up, backend_to_client_bytes: down, reason, failure } =
        summary;
    let seconds = lived.as_secs_f64();
    match (reason, failure) {
        (CloseReason::ClientLost | CloseReason::BackendLost, Some((side, error))) => {
            tracing::warn!(
                target: TARGET,
                %reason, %side, route, %client, seconds, up, down,
                "Tunnel error: the {side} does not answer any more: {error}",
            );
        }
        (_, Some((side, error))) => tracing::error!(
            target: TARGET,
            %reason, %side, route, %client, seconds, up, down,
            "Tunnel error: {error}",
        ),
        (CloseReason::ClientReset | CloseReason::BackendReset | CloseReason::Error, None) => {
            let side = if *reason == CloseReason::BackendReset { "backend" } else { "client" };
            tracing::warn!(
                target: TARGET,
                %reason, side, route, %client, seconds, up, down,
                "Tunnel error: connection reset by the {side}",
            );
        }
        _ => tracing::info!(
            target: TARGET,
            %reason, route, %client, seconds,
            "Tunnel closed gracefully. Transferred {up} bytes client->backend, {down} bytes backend->client",
        ),
    }
}
