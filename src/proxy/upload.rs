//! The request on its way to the backend, beside whatever else is going on.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::converse::Trouble;
use crate::backend::exchange::AnswerError;
use crate::net::ReadError;
use crate::net::relay::{RelayError, Relayed};

/// The request on its way up, polled beside whatever else is going on.
pub(super) struct Upload<'a> {
    relay: Pin<&'a mut dyn Future<Output = Result<Relayed, RelayError>>>,
    ended: Option<Result<Relayed, RelayError>>,
}

impl<'a> Upload<'a> {
    /// A request that has yet to begin.
    pub(super) fn new(
        relay: Pin<&'a mut dyn Future<Output = Result<Relayed, RelayError>>>,
    ) -> Self {
        Self { relay, ended: None }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.ended, Some(Ok(_)))
    }

    /// Whether more of a body came than is allowed.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self.ended, Some(Err(RelayError::TooLong)))
    }

    /// Whether the client has sent more than its request.
    pub(super) fn leaves_more(&self) -> bool {
        matches!(self.ended, Some(Ok(Relayed { leaves_more: true, .. })))
    }

    /// Whether the client ended its direction in the middle of its request.
    fn was_cut_short(&self) -> bool {
        matches!(self.ended, Some(Err(RelayError::Source(ReadError::Closed))))
    }

    /// Moves the request on; `true` once, when nothing more will be sent.
    fn has_just_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if let Poll::Ready(end) = self.relay.as_mut().poll(cx) {
            self.ended = Some(end);
        }
        self.ended.is_some()
    }

    /// Awaits `answer` while the request goes up, and then while the client is not `gone`; calls
    /// `on_sent` when nothing more will be sent.
    ///
    /// A backend that does not want the rest may still have an answer; a client that breaks off
    /// will not read one.
    pub(super) async fn until<T>(
        &mut self,
        answer: impl Future<Output = Result<T, AnswerError>>,
        gone: impl Future<Output = ()>,
        on_sent: impl Fn(),
    ) -> Result<T, Trouble> {
        let (mut answer, mut gone) = (pin!(answer), pin!(gone));
        poll_fn(|cx| {
            if self.has_just_ended(cx) {
                on_sent();
            }
            if let Some(Err(error)) = self.ended.take_if(|end| is_senders_fault(end)) {
                return Poll::Ready(Err(Trouble::Upload(error)));
            }
            let answered = answer.as_mut().poll(cx).map_err(Trouble::Answer);
            if answered.is_pending() && self.ended.is_some() && gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Trouble::Gone));
            }
            answered
        })
        .await
    }

    /// Awaits `delivery` while the rest of the request goes up; `None` if that breaks off in a way
    /// that leaves nobody to deliver to.
    ///
    /// A client that only ended its direction may still read: the backend is told the same by
    /// `on_end`.
    pub(super) async fn alongside<T>(
        &mut self,
        delivery: impl Future<Output = T>,
        on_end: impl Fn(),
    ) -> Option<T> {
        let mut delivery = pin!(delivery);
        poll_fn(|cx| {
            if self.has_just_ended(cx) && self.was_cut_short() {
                on_end();
            } else if self.ended.as_ref().is_some_and(is_senders_fault) && !self.was_cut_short() {
                return Poll::Ready(None);
            }
            delivery.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Awaits the end of the request.
    pub(super) async fn finish(&mut self) -> Result<(), Trouble> {
        let end = match self.ended.take() {
            Some(end) => end,
            None => self.relay.as_mut().await,
        };
        end.map(drop).map_err(Trouble::Upload)
    }
}

/// Whether the client broke off: it will not read an answer.
fn is_senders_fault(end: &Result<Relayed, RelayError>) -> bool {
    matches!(end, Err(RelayError::Source(_) | RelayError::Chunk(_) | RelayError::TooLong))
}
