//! One exchange with a backend: the request goes up while the answer comes down.
//!
//! Both run in one task, because either side may speak first: a backend may answer before it has
//! read the body, and the client may be waiting for that answer before it sends the rest.

use std::pin::pin;

use super::invalidate;
use super::outcome::Outcome;
use super::serve::{Next, Request};
use super::shard::{Client, Shard};
use super::upload::Upload;
use crate::backend::Connection;
use crate::backend::exchange::{self, AnswerError};
use crate::cache::{Status, invalidates};
use crate::http1::forward::{self, ReplyFraming, ResponseForward};
use crate::http1::framing::Framing;
use crate::http1::head::{ResponseHead, Version};
use crate::http1::upgrade::Offer;
use crate::net::relay::{self, Coding, Relay, RelayError};
use crate::net::stream::Peek;
use crate::net::{Buffer, Inbox, ReadError, Stream, Watch};

/// Interim responses (1xx) relayed before an answer. Arbitrary; more than any server sends.
const INTERIM_MAX: usize = 32;

/// What is said to the backend, and what it may answer.
pub(super) struct Conversation<'a> {
    /// The worker's state.
    pub shard: &'a Shard,
    /// The client's request.
    pub request: &'a Request<'a>,
    /// The head to send, ready.
    pub head: &'a [u8],
    /// The upgrade that the request offers, if a 101 is welcome.
    pub offer: Option<Offer<'a>>,
    /// What the answer says about the cache's part in it, if the cache has one.
    pub cache_status: Option<Status>,
}

/// How an exchange ended for the client.
pub(super) enum Ending {
    /// The answer was relayed, or as much of it as could be.
    Delivered(Delivered),
    /// The backend has switched protocols. Nothing was sent to the client yet.
    Switched(ResponseHead<Buffer>),
}

/// An answer that went to the client.
pub(super) struct Delivered {
    /// Its status.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// What becomes of the client's connection.
    pub next: Next,
    /// Whether the backend's connection may carry another exchange.
    pub is_reusable: bool,
}

/// Why no answer could be begun. Nothing final was sent to the client.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request did not get through, by the client's doing.
    Upload(RelayError),
    /// The backend gave no usable answer.
    Answer(AnswerError),
    /// The backend's answer broke before anything of it had been passed on.
    Delivery(RelayError),
    /// The client has aborted the connection.
    Gone,
}

impl Trouble {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Upload(error) => Outcome::of_upload(error),
            Self::Answer(error) => Outcome::of_answer(error),
            Self::Delivery(RelayError::Source(ReadError::Timeout)) => Outcome::ResponseTimeout,
            Self::Delivery(RelayError::Source(ReadError::Closed | ReadError::Reset)) => {
                Outcome::BackendClosed
            }
            Self::Delivery(_) => Outcome::BadResponse,
            Self::Gone => Outcome::ClientGone,
        }
    }
}

/// Whether the client has sent more than its request.
pub(super) fn has_early_bytes(client: &Client) -> bool {
    !client.inbox.is_empty() || client.stream.peek() == Peek::Data
}

/// Sends the request and relays the answer.
///
/// # Errors
///
/// Nothing final was sent to the client: try again if that is safe, or answer for the backend. Drop
/// the connection.
///
/// # Cancellation
///
/// Close both connections: either may be in mid-message.
pub(super) async fn converse(
    talk: &Conversation<'_>,
    client: &mut Client,
    connection: &mut Connection,
) -> Result<Ending, Trouble> {
    let timeouts = &talk.shard.config.timeouts;
    let Client { stream: client_stream, inbox: client_inbox, watch: client_watch, .. } = client;
    let Connection { stream, inbox, watch } = connection;
    let framing = talk.request.asked.framing;
    let coding = if framing == Framing::Chunked { Coding::Chunked } else { Coding::Plain };
    let mut up = Relay {
        from: client_stream,
        inbox: client_inbox,
        to: stream,
        watch: client_watch,
        idle: timeouts.body_idle,
        bytes_max: talk.shard.config.limits.request_body_bytes_max.unwrap_or(u64::MAX),
        has_begun: false,
    };
    let mut relay = pin!(up.run(talk.head, framing, coding));
    let mut upload = Upload::new(relay.as_mut());

    watch.set(None);
    let answer = async {
        for interim in 0..INTERIM_MAX {
            let slots = talk.shard.scratch.take_slots();
            let head = exchange::read_head(stream, inbox, watch, talk.shard.answer_limits(), slots)
                .await
                .map_err(|error| error.after(interim))?;
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                return Ok(head);
            }
            talk.interim(&head, client_stream, watch).await;
        }
        Err(AnswerError::TooManyInterim)
    };
    let gone = client_watch.aborted(client_stream);
    let head = upload.until(answer, gone, || watch.set_in(timeouts.response_head)).await?;

    if head.status() == 101 {
        if !talk.offer.is_some_and(|offer| offer.accepted_by(head.fields())) {
            return Err(Trouble::Answer(AnswerError::Switched));
        }
        upload.finish().await?;
        return Ok(Ending::Switched(head));
    }

    let ends = Ends { client: client_stream, stream, inbox, watch };
    Ok(Ending::Delivered(pass_on(talk, ends, head, Some(&mut upload)).await?))
}

/// Relays the answer with this `head`, whose body is still to be read, to a request without a body.
///
/// # Errors
///
/// As [`converse`].
///
/// # Cancellation
///
/// Close both connections.
pub(super) async fn relay_answer(
    talk: &Conversation<'_>,
    client: &Client,
    connection: &mut Connection,
    head: ResponseHead<Buffer>,
) -> Result<Delivered, Trouble> {
    let Connection { stream, inbox, watch } = connection;
    pass_on(talk, Ends { client: &client.stream, stream, inbox, watch }, head, None).await
}

/// Whence an answer comes and where it goes.
struct Ends<'a> {
    client: &'a Stream,
    stream: &'a Stream,
    inbox: &'a mut Inbox,
    watch: &'a Watch,
}

async fn pass_on(
    talk: &Conversation<'_>,
    ends: Ends<'_>,
    head: ResponseHead<Buffer>,
    upload: Option<&mut Upload<'_>>,
) -> Result<Delivered, Trouble> {
    let Ends { client, stream, inbox, watch } = ends;
    let plan = talk.plan(&head, upload.as_deref(), client).map_err(Trouble::Answer)?;
    talk.invalidate(&head).await;
    let mut out = talk.shard.scratch.take_head();
    talk.write_head(&mut out, &head, &plan);
    let idle = talk.shard.config.timeouts.body_idle;
    let mut down = Relay {
        from: stream,
        inbox,
        to: client,
        watch,
        idle,
        bytes_max: u64::MAX,
        has_begun: false,
    };
    let delivery = down.run(&out, plan.framing, plan.coding);
    let (delivered, is_sent, is_too_long) = match upload {
        Some(upload) => {
            let delivered = upload.alongside(delivery, || stream.shutdown_write()).await;
            (delivered, upload.is_complete(), upload.is_too_long())
        }
        None => (Some(delivery.await), true, false),
    };
    talk.shard.scratch.give_back_head(out);
    let delivered = match delivered {
        // Only what was sent is spoken for.
        Some(Err(error)) if !down.has_begun => return Err(Trouble::Delivery(error)),
        Some(delivered) => delivered.map_err(|error| Outcome::of_delivery(&error)),
        None if is_too_long => Err(Outcome::BodyTooLarge),
        None => Err(Outcome::BadBody),
    };

    let is_reusable = delivered.is_ok()
        && is_sent
        && exchange::persists(head.version(), head.fields(), plan.framing);
    let status = head.status();
    talk.shard.scratch.give_back_slots(head.into_parts().1);
    let (outcome, next) = plan.next(delivered.err(), client);
    Ok(Delivered { status, outcome, next, is_reusable })
}

/// How an answer goes to the client.
struct Plan {
    /// As it comes.
    framing: Framing,
    /// As it leaves.
    coding: Coding,
    /// Whether the client's connection goes on afterwards.
    keep: bool,
}

impl Plan {
    /// What becomes of the client after the answer, or after its `failure`.
    fn next(&self, failure: Option<Outcome>, client: &Stream) -> (Outcome, Next) {
        match failure {
            None if self.keep => (Outcome::Passed, Next::Continue),
            None => (Outcome::Passed, Next::Linger),
            Some(outcome) => {
                if self.reply_framing() == ReplyFraming::UntilClose {
                    // Only an abort tells this client that what it got is not the whole.
                    client.reset_on_drop();
                }
                (outcome, Next::Drop)
            }
        }
    }

    fn reply_framing(&self) -> ReplyFraming {
        match (self.framing, self.coding) {
            (Framing::Length(_), _) => ReplyFraming::AsReceived,
            (_, Coding::Chunked) => ReplyFraming::Chunked,
            (_, Coding::Plain) => ReplyFraming::UntilClose,
        }
    }
}

impl Conversation<'_> {
    fn plan(
        &self,
        head: &ResponseHead<Buffer>,
        upload: Option<&Upload<'_>>,
        client: &Stream,
    ) -> Result<Plan, AnswerError> {
        let request = self.request;
        let framing = exchange::framing(head, request.head.method() == "HEAD")?;
        let is_delimited = matches!(framing, Framing::Length(_));
        let knows_chunks = request.head.version() == Version::Http11;
        let coding = if !is_delimited && knows_chunks { Coding::Chunked } else { Coding::Plain };
        // Behind an upgrade that was not granted, bytes may belong to the protocol that was asked
        // for; they must never be parsed as another request.
        let is_ambiguous = self.offer.is_some()
            && (upload.is_some_and(Upload::leaves_more) || client.peek() == Peek::Data);
        let keep = request.asked.persists
            && upload.is_none_or(Upload::is_complete)
            && (is_delimited || knows_chunks)
            && !is_ambiguous
            && !self.shard.draining.get();
        Ok(Plan { framing, coding, keep })
    }

    fn write_head(&self, out: &mut Vec<u8>, head: &ResponseHead<Buffer>, plan: &Plan) {
        let connection = match (plan.keep, self.request.head.version()) {
            (false, _) => forward::Connection::Close,
            (true, Version::Http11) => forward::Connection::Implied,
            (true, Version::Http10) => forward::Connection::KeepAlive,
        };
        let mut lines = self.shard.scratch.take_head();
        if let Some(status) = &self.cache_status {
            lines.extend_from_slice(b"Cache-Status: ");
            status.with_status(head.status()).write(&mut lines);
            lines.extend_from_slice(b"\r\n");
        }
        self.shard.date.with(|date| {
            let framing = plan.reply_framing();
            let how = ResponseForward { framing, connection, date, lines: &lines };
            forward::response(out, head, &how);
        });
        self.shard.scratch.give_back_head(lines);
    }

    /// Lets go of what is stored under what the request may have changed (RFC 9111 4.4), before the
    /// client learns that it has.
    async fn invalidate(&self, head: &ResponseHead<Buffer>) {
        let method = self.request.head.method();
        if self.shard.cache_rules(self.request.route).is_some()
            && invalidates(method, head.status())
        {
            // Boxed: most requests change nothing.
            Box::pin(invalidate::run(self.shard, self.request, head.fields())).await;
        }
    }

    /// Passes on an interim response. A client that does not take it gets nothing more.
    async fn interim(&self, head: &ResponseHead<Buffer>, client: &Stream, watch: &Watch) {
        if self.request.head.version() == Version::Http10 {
            return;
        }
        let mut out = self.shard.scratch.take_head();
        forward::informational(&mut out, head);
        if relay::send(client, watch, &out).await.is_err() {
            // It may have got a part, which no final answer may follow.
            client.shutdown_write();
        }
        self.shard.scratch.give_back_head(out);
    }
}
