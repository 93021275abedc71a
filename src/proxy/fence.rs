//! The fence around each task: a panic of ours ends what that task served, and nothing else.
//!
//! Without it the panic would unwind through the runtime and end the worker, whose listener the
//! kernel would go on filling.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::shard::Shard;

pin_project! {
    /// A task that ends in order even when it panics.
    ///
    /// Written by hand: as async functions, the two below held the task three times over, 4 KiB of each
    /// connection.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Fenced<F, D> {
        #[pin]
        task: F,
        defect: D,
    }
}

impl<F: Future<Output = ()>, D: Fn()> Future for Fenced<F, D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Unwind safe: after a panic the future is never polled again, only dropped, and what it
        // shares with others is held in no borrow across a wait.
        catch_unwind(AssertUnwindSafe(|| this.task.poll(cx))).unwrap_or_else(|_| {
            (this.defect)();
            Poll::Ready(())
        })
    }
}

/// Runs `connection` on a worker; a panic in it is counted and logged, and drops it.
pub fn contain(connection: impl Future<Output = ()>, shard: Rc<Shard>) -> impl Future<Output = ()> {
    fenced(connection, move || {
        shard.counters.panics.add(1);
        tracing::error!("A defect in the proxy has closed a connection; please report it");
    })
}

/// Runs `task`; a panic in it calls `defect`, and drops it.
pub fn fenced<F: Future<Output = ()>, D: Fn()>(task: F, defect: D) -> Fenced<F, D> {
    Fenced { task, defect }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[test]
    fn a_task_is_held_once() {
        let buffer = [0_u8; 1000];
        let task = async move {
            ready(()).await;
            assert_eq!(buffer.len(), 1000);
        };
        let alone = size_of_val(&task);
        assert!(size_of_val(&fenced(task, || ())) < alone + 64);
    }
}
