//! Ordinary requests: fetched from the backend through the keep-alive pool and relayed.

use super::converse::{Conversation, Ending, Trouble, converse};
use super::outcome::Outcome;
use super::serve::{Next, Request};
use super::shard::{Client, Shard};
use crate::backend::exchange::replayable;
use crate::backend::{Backend, Connection, DialError, Lease};
use crate::cache::Status;
use crate::config::{HostHeader, Route};
use crate::http1::forward::{self, NextHop};

/// Fetches and relays. `Ok` after the answer has begun, whatever became of it.
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
    cache_status: Option<Status>,
) -> Result<(Outcome, Next), Outcome> {
    let backend = shard.backends.get(request.route).ok_or(Outcome::Internal)?;
    let mut head = shard.scratch.take_head();
    forward::request(&mut head, request.head, &next_hop(shard, client, request)?);
    let talk = Conversation { shard, request, head: &head, offer: None, cache_status };
    let ended = exchange(&talk, client, backend, backend.take().await).await;
    shard.scratch.give_back_head(head);
    delivered(shard, client, request, ended?)
}

/// Keeps the connection if it may be used again, and says in the log how an answer broke off.
///
/// # Errors
///
/// Nothing final was sent to the client: answer with the outcome.
pub(super) fn delivered(
    shard: &Shard,
    client: &Client,
    request: &Request<'_>,
    (ending, connection): (Ending, Connection),
) -> Result<(Outcome, Next), Outcome> {
    let Ending::Delivered(delivered) = ending else { return Err(Outcome::BadSwitch) };
    client.status.set(delivered.status);
    if delivered.is_reusable
        && let Some(backend) = shard.backends.get(request.route)
    {
        backend.give_back(connection);
    }
    if delivered.outcome != Outcome::Passed {
        let cause = "after the answer had begun";
        shard.record.failure(delivered.outcome, request.about(shard), &cause);
    }
    Ok((delivered.outcome, delivered.next))
}

/// Converses over `lease`, and once more over a new connection if that one had been closed while it
/// waited and the request may be repeated (RFC 9112 9.3.1).
///
/// # Errors
///
/// The log says why; answer with the outcome.
///
/// # Cancellation
///
/// Close the client's connection.
pub(super) async fn exchange(
    talk: &Conversation<'_>,
    client: &mut Client,
    backend: &Backend,
    lease: Result<Lease, DialError>,
) -> Result<(Ending, Connection), Outcome> {
    let Request { head, asked, .. } = talk.request;
    let refuse = |error| unreachable(talk.shard, talk.request, &error);
    let Lease { mut connection, reused } = lease.map_err(refuse)?;
    let mut ended = converse(talk, client, &mut connection).await;
    if let Err(Trouble::Answer(error)) = &ended
        && replayable(error, reused, head.method(), asked.framing)
    {
        connection = backend.dial().await.map_err(refuse)?;
        ended = converse(talk, client, &mut connection).await;
    }
    let ending = ended.map_err(|trouble| failed(talk.shard, talk.request, &trouble))?;
    Ok((ending, connection))
}

/// Says in the log why the backend cannot be connected to.
fn unreachable(shard: &Shard, request: &Request<'_>, error: &DialError) -> Outcome {
    let outcome = Outcome::of_dial(error);
    if let Some(route) = shard.config.routes.get(request.route) {
        shard.record.unreachable(outcome, route, error);
    }
    outcome
}

/// Says in the log why no answer could be begun.
pub(super) fn failed(shard: &Shard, request: &Request<'_>, trouble: &Trouble) -> Outcome {
    let outcome = trouble.outcome();
    shard.record.failure(outcome, request.about(shard), trouble);
    outcome
}

/// What the head for the backend says about the hop to it.
pub(super) fn next_hop<'a>(
    shard: &'a Shard,
    client: &Client,
    request: &Request<'a>,
) -> Result<NextHop<'a>, Outcome> {
    let route = shard.config.routes.get(request.route).ok_or(Outcome::Internal)?;
    let target = &request.asked.target;
    Ok(NextHop {
        base_path: route.backend.base_path.as_bytes(),
        path: request.path,
        query: target.query,
        host: host(route, target.authority),
        client: client.address,
        client_is_trusted: client.is_trusted,
        proto: "http",
        authority: target.authority,
        framing: request.asked.framing,
    })
}

fn host<'a>(route: &'a Route, asked: &'a [u8]) -> &'a [u8] {
    match &route.host_header {
        HostHeader::Preserve if !asked.is_empty() => asked,
        HostHeader::Preserve | HostHeader::Backend => route.backend.authority.as_bytes(),
        HostHeader::Literal(host) => host.as_bytes(),
    }
}
