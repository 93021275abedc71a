//! Letting go of what a request has changed (RFC 9111 4.4), on every worker.

use std::sync::Arc;

use super::borrow;
use super::look_up::write_key_of;
use super::serve::Request;
use super::shard::{Letter, Shard};
use crate::cache::invalidated_targets;
use crate::config::{CacheFill, route};
use crate::http1::field::Fields;

/// Drops what is stored under the target of `request`, and under what `answer` says has changed with
/// it; returns when every worker has.
///
/// # Cancellation
///
/// The other workers do it all the same.
pub(super) async fn run(shard: &Shard, request: &Request<'_>, answer: Fields<'_>) {
    let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(1);
    let mut add = |path: &[u8], query: Option<&[u8]>| {
        let mut key = Vec::with_capacity(128);
        write_key_of(shard, &mut key, request, (path, query));
        keys.push(key.into());
    };
    let asked = &request.asked.target;
    add(request.path, asked.query);
    let mut target = request.path.to_vec();
    if let Some(query) = asked.query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    for also in invalidated_targets(asked.authority, &target, answer) {
        let mut parts = also.splitn(2, |byte| *byte == b'?');
        let (path, query) = (parts.next().unwrap_or_default(), parts.next());
        add(path, query);
        // A backend that knows where it is mounted names its pages as clients do.
        if let Some((route, inner)) = route::select(&shard.config.routes, path)
            && route == request.route
            && inner != path
        {
            add(inner, query);
        }
    }
    let keys: Arc<[Box<[u8]>]> = keys.into();
    everywhere(shard, &keys, |_| true).await;
    if shard.config.cache.fill == CacheFill::Process && shard.workers > 1 {
        // Whoever does not own a key may have borrowed it meanwhile from an owner that had not let go
        // of it yet. Now every owner has.
        let owns_all = |worker| keys.iter().all(|key| borrow::owner(key, shard.workers) == worker);
        everywhere(shard, &keys, |worker| !owns_all(worker)).await;
    }
}

/// Drops what is stored under these keys on the chosen workers; returns when they have.
async fn everywhere(shard: &Shard, keys: &Arc<[Box<[u8]>]>, is_chosen: impl Fn(usize) -> bool) {
    if is_chosen(shard.own) {
        here(shard, keys);
    }
    let (done, all_done) = flume::unbounded();
    for worker in (0..shard.workers).filter(|worker| *worker != shard.own && is_chosen(*worker)) {
        let letter = Letter::Invalidate { keys: Arc::clone(keys), done: done.clone() };
        // A worker that has ended stores nothing.
        shard.post.send(worker, letter);
    }
    drop(done);
    while all_done.recv_async().await.is_ok() {}
}

/// Drops what is stored under these keys on this worker.
pub(super) fn here(shard: &Shard, keys: &[Box<[u8]>]) {
    for key in keys {
        shard.cache.remove(key);
    }
    shard.flights.doom(|key| keys.iter().any(|doomed| **doomed == *key));
    shard.forgotten.changed();
}
