//! Reading a backend's answer: interim heads first, then the one that counts.

use crate::http1::field::Fields;
use crate::http1::framing::{Framing, FramingError, response_framing};
use crate::http1::head::{FieldSpan, HeadError, HeadScanner, ResponseHead, Version};
use crate::net::inbox::{HeadLimit, Size};
use crate::net::{Buffer, Inbox, ReadError, Stream, Watch};

/// Why a backend's answer cannot be used.
#[derive(Debug)]
pub enum AnswerError {
    /// It closed or aborted; `seen` says whether a part of an answer had come.
    Closed {
        /// Whether at least one byte of this answer was read.
        seen: bool,
    },
    /// It did not answer in time.
    Timeout,
    /// Its head is malformed or larger than we accept.
    Head(HeadError),
    /// Where its body ends is ambiguous (RFC 9112 6.3).
    Framing(FramingError),
    /// It sent more interim responses than anybody needs.
    TooManyInterim,
    /// It switched protocols although nobody asked, or to something else.
    Switched,
    /// The process is leaving.
    Drain,
}

/// What a head may cost.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Bytes of one head.
    pub head_bytes_max: usize,
    /// Fields of one head.
    pub head_fields_max: usize,
}

/// Reads one response head, interim or final, from the front of `inbox`.
///
/// What follows the head stays in the inbox. `slots` is reused for the fields.
///
/// # Errors
///
/// The connection is in an unknown state: drop it.
///
/// # Cancellation
///
/// Safe: what was read stays in the inbox.
pub async fn read_head(
    stream: &Stream,
    inbox: &mut Inbox,
    watch: &Watch,
    limits: AnswerLimits,
    slots: Vec<FieldSpan>,
) -> Result<ResponseHead<Buffer>, AnswerError> {
    let limit = HeadLimit { bytes_max: limits.head_bytes_max, size: Size::Large };
    let read = inbox.read_head(stream, watch, HeadScanner::new(), limit).await;
    let len = read.map_err(|error| AnswerError::from_read(&error, !inbox.is_empty()))?;
    let front = inbox.take_front(len).ok_or(AnswerError::Closed { seen: false })?;
    ResponseHead::parse(front, len, slots, limits.head_fields_max).map_err(AnswerError::Head)
}

impl AnswerError {
    /// The same error after so many interim responses: a part of an answer has been seen then.
    #[must_use]
    pub fn after(self, interim: usize) -> Self {
        match self {
            Self::Closed { seen } => Self::Closed { seen: seen || interim > 0 },
            Self::Timeout
            | Self::Head(_)
            | Self::Framing(_)
            | Self::TooManyInterim
            | Self::Switched
            | Self::Drain => self,
        }
    }

    fn from_read(error: &ReadError, seen: bool) -> Self {
        match error {
            ReadError::Closed | ReadError::Reset | ReadError::Io(_) => Self::Closed { seen },
            ReadError::Timeout => Self::Timeout,
            ReadError::Drain => Self::Drain,
            ReadError::Head(error) => Self::Head(*error),
        }
    }
}

/// Returns how the body of an answer is framed.
///
/// # Errors
///
/// The answer cannot be relayed: drop the connection and answer 502.
pub fn framing(head: &ResponseHead<Buffer>, answers_head: bool) -> Result<Framing, AnswerError> {
    response_framing(answers_head, head.status(), head.version(), head.fields())
        .map_err(AnswerError::Framing)
}

/// Whether the backend keeps its connection open after this answer (RFC 9112 9.3).
pub fn persists(version: Version, fields: Fields<'_>, framing: Framing) -> bool {
    let open = match version {
        Version::Http11 => !fields.has_token("connection", "close"),
        Version::Http10 => {
            fields.has_token("connection", "keep-alive") && !fields.has_token("connection", "close")
        }
    };
    open && framing != Framing::UntilClose
}

/// Whether a request may be sent again after a reused connection turned out to be closed.
///
/// RFC 9112 9.3.1: only if nothing of an answer was seen, and only if doing it twice is doing it
/// once. A request with a body is not kept, so it cannot be sent twice.
pub fn replayable(error: &AnswerError, reused: bool, method: &str, framing: Framing) -> bool {
    matches!(error, AnswerError::Closed { seen: false })
        && reused
        && framing == Framing::Length(0)
        && matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSEEN: AnswerError = AnswerError::Closed { seen: false };

    #[test]
    fn only_an_idempotent_request_without_a_body_is_sent_twice() {
        let none = Framing::Length(0);
        assert!(replayable(&UNSEEN, true, "GET", none));
        assert!(replayable(&UNSEEN, true, "DELETE", none));
        assert!(!replayable(&UNSEEN, true, "POST", none), "may have been done");
        assert!(!replayable(&UNSEEN, true, "PATCH", none));
        assert!(!replayable(&UNSEEN, false, "GET", none), "a fresh connection is not stale");
        assert!(!replayable(&UNSEEN, true, "PUT", Framing::Length(1)), "the body is gone");
        assert!(!replayable(&UNSEEN, true, "PUT", Framing::Chunked));
    }

    #[test]
    fn a_request_whose_answer_had_begun_is_not_sent_twice() {
        let none = Framing::Length(0);
        assert!(!replayable(&AnswerError::Closed { seen: true }, true, "GET", none));
        assert!(!replayable(&AnswerError::Timeout, true, "GET", none));
        assert!(!replayable(&AnswerError::TooManyInterim, true, "GET", none));
    }
}
