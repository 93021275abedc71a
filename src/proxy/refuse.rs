//! The answers that come from us.

use super::outcome::Outcome;
use super::shard::{Client, Shard};
use crate::http1::reply::{self, Reply};
use crate::net::relay;

/// How an answer of ours may be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Whether the connection may go on: the client wants to, and the end of its request is known.
    pub keep: bool,
    /// Whether a HEAD request is answered.
    pub answers_head: bool,
}

/// Sends the answer that goes with `outcome`; returns whether the connection goes on.
///
/// # Cancellation
///
/// Part of the answer may have been sent: close the connection.
pub(super) async fn refuse(
    shard: &Shard,
    client: &Client,
    outcome: Outcome,
    manner: Manner,
) -> bool {
    let Manner { keep, answers_head } = manner;
    let Some(status) = outcome.status() else { return false };
    client.status.set(status);
    let mut head = shard.scratch.take_head();
    shard.date.with(|date| {
        reply::write(
            &mut head,
            &Reply {
                status,
                text: outcome.text(),
                close: !keep,
                date,
                answers_head,
                allow: outcome.allow(),
                retry_after: outcome.retry_after(),
            },
        );
    });
    client.watch.set_in(Some(shard.config.timeouts.head));
    let sent = relay::send(&client.stream, &client.watch, &head).await;
    shard.scratch.give_back_head(head);
    sent.is_ok() && keep
}
