//! Ordinary requests: fetched from the backend through the keep-alive pool and relayed.

use super::converse::{Conversation, Ending, Trouble, converse};
use super::outcome::Outcome;
use super::serve::{Next, Request};
use super::shard::{Client, Shard};
use crate::backend::exchange::replayable;
use crate::backend::{Backend, DialError, Lease};
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
) -> Result<(Outcome, Next), Outcome> {
    let backend = shard.backends.get(request.route).ok_or(Outcome::Internal)?;
    let mut head = shard.scratch.take_head();
    forward::request(&mut head, request.head, &next_hop(shard, client, request)?);
    let talk = Conversation { shard, request, head: &head, offer: None };
    let ended = exchange(&talk, client, backend).await;
    shard.scratch.give_back_head(head);
    ended
}

async fn exchange(
    talk: &Conversation<'_>,
    client: &mut Client,
    backend: &Backend,
) -> Result<(Outcome, Next), Outcome> {
    let Request { head, asked, .. } = talk.request;
    let refuse = |error| unreachable(talk.shard, talk.request, &error);
    let mut lease = backend.take().await.map_err(refuse)?;
    let mut ended = converse(talk, client, &mut lease.connection).await;
    if let Err(Trouble::Answer(error)) = &ended
        && replayable(error, lease.reused, head.method(), asked.framing)
    {
        lease = Lease { connection: backend.dial().await.map_err(refuse)?, reused: false };
        ended = converse(talk, client, &mut lease.connection).await;
    }
    match ended.map_err(|trouble| failed(talk.shard, talk.request, &trouble))? {
        Ending::Delivered(delivered) => {
            if delivered.is_reusable {
                backend.give_back(lease.connection);
            }
            if delivered.outcome != Outcome::Passed {
                let about = talk.request.about(talk.shard);
                talk.shard.record.failure(delivered.outcome, about, &"after the answer had begun");
            }
            Ok((delivered.outcome, delivered.next))
        }
        Ending::Switched(_) => Err(Outcome::BadSwitch),
    }
}

/// Says in the log why the backend cannot be connected to.
pub(super) fn unreachable(shard: &Shard, request: &Request<'_>, error: &DialError) -> Outcome {
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
