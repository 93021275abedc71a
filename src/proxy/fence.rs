//! The fence around each task: a panic of ours ends what that task served, and nothing else.
//!
//! Without it the panic would unwind through the runtime and end the worker, whose listener the
//! kernel would go on filling.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::shard::Shard;

/// Runs `connection` on a worker; a panic in it is counted and logged, and drops it.
pub async fn contain(connection: impl Future<Output = ()>, shard: Rc<Shard>) {
    let defect = || {
        shard.counters.panics.add(1);
        tracing::error!("A defect in the proxy has closed a connection; please report it");
    };
    fenced(connection, defect).await;
}

/// Runs `connection`; a panic in it calls `defect`, and drops it.
pub async fn fenced(connection: impl Future<Output = ()>, defect: impl Fn()) {
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        // Unwind safe: after a panic the future is never polled again, only dropped, and what it
        // shares with others is held in no borrow across a wait.
        catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(cx))).unwrap_or_else(|_| {
            defect();
            Poll::Ready(())
        })
    })
    .await;
}
