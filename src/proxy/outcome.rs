//! How a request ended: one table that gives the status we answer, the word in the log and whose
//! doing it was. Every error of the lower layers becomes an outcome here and nowhere else.

use crate::backend::DialError;
use crate::backend::exchange::AnswerError;
use crate::http1::framing::FramingError;
use crate::http1::head::HeadError;
use crate::http1::target::TargetError;
use crate::metrics::Limit;
use crate::net::ReadError;
use crate::net::relay::{RelayError, WriteError};

/// After so many seconds a place may be free again: as good a guess as any. Arbitrary.
pub const RETRY_SECONDS: u32 = 5;

/// Whose doing an outcome was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Whoever connected to us.
    Client,
    /// Whom we connected to.
    Backend,
    /// This process and its host.
    Proxy,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered out of the cache.
    Hit,
    /// Answered out of the cache after the backend was asked.
    Filled,
    /// Relayed to its end.
    Passed,
    /// Became a tunnel.
    Tunnelled,
    /// The head breaks the grammar.
    BadHead,
    /// The head is longer than we accept.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The head speaks another version of HTTP.
    BadVersion,
    /// Where the body ends is ambiguous.
    BadFraming,
    /// The body has a transfer coding other than chunked.
    UnknownCoding,
    /// The request target breaks the grammar.
    BadTarget,
    /// The Host field is missing, doubled or malformed.
    BadHost,
    /// CONNECT: we are no forward proxy.
    Connect,
    /// No route serves this path.
    NoRoute,
    /// The route forwards GET only.
    GetOnly,
    /// The route does not allow this upgrade.
    UpgradeRefused,
    /// The body's chunks break the grammar.
    BadBody,
    /// The body stopped arriving.
    BodyTimeout,
    /// The client left before its answer was complete.
    ClientGone,
    /// No address of the backend accepts.
    BackendUnreachable,
    /// No port is free to connect to the backend from.
    NoPort,
    /// No descriptor or no memory is left to connect to the backend with.
    Exhausted,
    /// No address of the backend answered the connect in time.
    ConnectTimeout,
    /// The backend did not begin its answer in time.
    ResponseTimeout,
    /// The backend closed before it answered.
    BackendClosed,
    /// The backend's answer is malformed.
    BadResponse,
    /// The backend switched protocols unasked, or to another protocol.
    BadSwitch,
    /// The backend stopped in the middle of its answer.
    BackendBroke,
    /// The client wants an answer out of the cache or none, and there is none.
    NotCached,
    /// As many tunnels are open as we allow.
    TooManyTunnels,
    /// The process is leaving.
    Draining,
    /// The head has more fields than we accept.
    TooManyFields,
    /// The body is longer than we accept.
    BodyTooLarge,
    /// More requests came in one piece than we accept.
    TooManyPipelined,
    /// More came behind an upgrade request than we accept before it is answered.
    EarlyBytes,
    /// The client's address has as many tunnels open as it may.
    TooManyTunnelsOfAddress,
    /// The client's address asked for upgrades too often.
    TooManyUpgradesOfAddress,
    /// The backend's head is longer or has more fields than we accept.
    ResponseHeadTooLarge,
    /// Our own limits or the system failed us. Stays the last: see [`Outcome::ALL`].
    Internal,
}

impl Outcome {
    /// Every outcome, in the order of the enum, whose last is [`Outcome::Internal`]: the number of an
    /// outcome is its index.
    pub const ALL: [Self; Self::Internal as usize + 1] = [
        Self::Hit,
        Self::Filled,
        Self::Passed,
        Self::Tunnelled,
        Self::BadHead,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BadVersion,
        Self::BadFraming,
        Self::UnknownCoding,
        Self::BadTarget,
        Self::BadHost,
        Self::Connect,
        Self::NoRoute,
        Self::GetOnly,
        Self::UpgradeRefused,
        Self::BadBody,
        Self::BodyTimeout,
        Self::ClientGone,
        Self::BackendUnreachable,
        Self::NoPort,
        Self::Exhausted,
        Self::ConnectTimeout,
        Self::ResponseTimeout,
        Self::BackendClosed,
        Self::BadResponse,
        Self::BadSwitch,
        Self::BackendBroke,
        Self::NotCached,
        Self::TooManyTunnels,
        Self::Draining,
        Self::TooManyFields,
        Self::BodyTooLarge,
        Self::TooManyPipelined,
        Self::EarlyBytes,
        Self::TooManyTunnelsOfAddress,
        Self::TooManyUpgradesOfAddress,
        Self::ResponseHeadTooLarge,
        Self::Internal,
    ];
}

/// A row of the table.
#[derive(Clone, Copy)]
struct Row {
    label: &'static str,
    party: Party,
    /// What we answer; 0 where nothing can be answered any more.
    status: u16,
    text: &'static str,
}

const fn row(label: &'static str, party: Party, status: u16, text: &'static str) -> Row {
    Row { label, party, status, text }
}

/// A row for requests that met a limit.
struct Limited {
    outcome: Outcome,
    limit: Limit,
    row: Row,
}

const fn limited(outcome: Outcome, limit: Limit, row: Row) -> Limited {
    Limited { outcome, limit, row }
}

/// The part of the table that is about limits.
const LIMITED: [Limited; 9] = {
    use Limit::{
        EarlyBytes, HeadBytes, HeadFields, PipelinedRequests, RequestBodyBytes, ResponseHeadBytes,
        Tunnels, TunnelsPerAddress, UpgradeRatePerAddress,
    };
    use Party::{Backend, Client, Proxy};
    [
        limited(
            Outcome::HeadTooLarge,
            HeadBytes,
            row("head_too_large", Client, 431, "The request head is too large."),
        ),
        limited(
            Outcome::TooManyFields,
            HeadFields,
            row("too_many_fields", Client, 431, "The request head has too many fields."),
        ),
        limited(
            Outcome::BodyTooLarge,
            RequestBodyBytes,
            row("body_too_large", Client, 413, "The request body is too large."),
        ),
        limited(
            Outcome::TooManyPipelined,
            PipelinedRequests,
            row("too_many_pipelined", Client, 429, "Too many requests came at once."),
        ),
        limited(
            Outcome::EarlyBytes,
            EarlyBytes,
            row("early_bytes", Client, 413, "Too much came before the upgrade was answered."),
        ),
        limited(
            Outcome::TooManyTunnels,
            Tunnels,
            row("too_many_tunnels", Proxy, 503, "Too many tunnels are open."),
        ),
        limited(
            Outcome::TooManyTunnelsOfAddress,
            TunnelsPerAddress,
            row("too_many_tunnels_of_address", Client, 429, "Your address has too many tunnels."),
        ),
        limited(
            Outcome::TooManyUpgradesOfAddress,
            UpgradeRatePerAddress,
            row("too_many_upgrades_of_address", Client, 429, "Your address upgrades too often."),
        ),
        limited(
            Outcome::ResponseHeadTooLarge,
            ResponseHeadBytes,
            row("response_head_too_large", Backend, 502, "The backend's head is too large."),
        ),
    ]
};

const fn limited_row(outcome: Outcome) -> Row {
    let mut at = 0;
    while at < LIMITED.len() {
        if LIMITED[at].outcome as usize == outcome as usize {
            return LIMITED[at].row;
        }
        at += 1;
    }
    row("internal", Party::Proxy, 500, "The proxy failed.")
}

impl Outcome {
    #[expect(clippy::too_many_lines, reason = "a table, one row an outcome")]
    const fn row(self) -> Row {
        use Party::{Backend, Client, Proxy};
        match self {
            Self::Hit => row("hit", Client, 0, ""),
            Self::Filled => row("filled", Client, 0, ""),
            Self::Passed => row("passed", Client, 0, ""),
            Self::Tunnelled => row("tunnelled", Client, 0, ""),
            Self::BadHead => row("bad_head", Client, 400, "The request is malformed."),
            Self::HeadTimeout => {
                row("head_timeout", Client, 408, "The request did not arrive in time.")
            }
            Self::BadVersion => {
                row("bad_version", Client, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
            }
            Self::BadFraming => {
                row("bad_framing", Client, 400, "The length of the request body is ambiguous.")
            }
            Self::UnknownCoding => row(
                "unknown_coding",
                Client,
                501,
                "The only transfer coding understood here is chunked.",
            ),
            Self::BadTarget => row("bad_target", Client, 400, "The request target is malformed."),
            Self::BadHost => {
                row("bad_host", Client, 400, "The request needs exactly one valid Host field.")
            }
            Self::Connect => row("connect", Client, 405, "This is not a forward proxy."),
            Self::NoRoute => row("no_route", Client, 404, "No route serves this path."),
            Self::GetOnly => row("get_only", Client, 405, "Only GET is allowed here."),
            Self::UpgradeRefused => {
                row("upgrade_refused", Client, 501, "This upgrade is not available here.")
            }
            Self::BadBody => row("bad_body", Client, 400, "The request body is malformed."),
            Self::BodyTimeout => {
                row("body_timeout", Client, 408, "The request body did not arrive in time.")
            }
            Self::ClientGone => row("client_gone", Client, 0, ""),
            Self::BackendUnreachable => {
                row("backend_unreachable", Backend, 502, "The backend cannot be reached.")
            }
            Self::NoPort => row("no_port", Proxy, 503, "No connection to the backend is free."),
            Self::Exhausted => row("exhausted", Proxy, 503, "The proxy has run out of room."),
            Self::ConnectTimeout => {
                row("connect_timeout", Backend, 504, "The backend did not accept in time.")
            }
            Self::ResponseTimeout => {
                row("response_timeout", Backend, 504, "The backend did not answer in time.")
            }
            Self::BackendClosed => {
                row("backend_closed", Backend, 502, "The backend closed before it answered.")
            }
            Self::BadResponse => {
                row("bad_response", Backend, 502, "The backend's answer is malformed.")
            }
            Self::BadSwitch => {
                row("bad_switch", Backend, 502, "The backend switched protocols unasked.")
            }
            Self::BackendBroke => row("backend_broke", Backend, 0, ""),
            Self::NotCached => row("not_cached", Client, 504, "The cache has no answer to this."),
            Self::Draining => row("draining", Proxy, 503, "The proxy is shutting down."),
            Self::HeadTooLarge
            | Self::TooManyFields
            | Self::BodyTooLarge
            | Self::TooManyPipelined
            | Self::EarlyBytes
            | Self::TooManyTunnels
            | Self::TooManyTunnelsOfAddress
            | Self::TooManyUpgradesOfAddress
            | Self::ResponseHeadTooLarge => limited_row(self),
            Self::Internal => row("internal", Proxy, 500, "The proxy failed."),
        }
    }

    /// The word in logs and metrics.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// Whose doing it was.
    pub const fn party(self) -> Party {
        self.row().party
    }

    /// The status to answer with, if an answer is still possible.
    pub const fn status(self) -> Option<u16> {
        match self.row().status {
            0 => None,
            status => Some(status),
        }
    }

    /// What the short body of the answer says.
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// The methods to name in an Allow field, for a 405.
    pub const fn allow(self) -> Option<&'static str> {
        if matches!(self, Self::GetOnly) {
            Some("GET")
        } else if matches!(self, Self::Connect) {
            Some("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")
        } else {
            None
        }
    }

    /// The limit that was met, if one was.
    pub fn limit(self) -> Option<Limit> {
        // What nearly every request ends with takes no search.
        if matches!(self, Self::Hit | Self::Filled | Self::Passed | Self::Tunnelled) {
            return None;
        }
        LIMITED.iter().find(|row| row.outcome == self).map(|row| row.limit)
    }

    /// After how many seconds the client may try again, if waiting helps.
    pub fn retry_after(self) -> Option<u32> {
        if matches!(
            self,
            Self::TooManyTunnels | Self::TooManyTunnelsOfAddress | Self::NoPort | Self::Exhausted
        ) {
            return Some(RETRY_SECONDS);
        }
        // The slowest rate is one a second.
        matches!(self, Self::TooManyUpgradesOfAddress | Self::TooManyPipelined).then_some(1)
    }

    /// Whether nothing that follows this request on its connection may be parsed: its own end is
    /// unknown.
    pub const fn poisons(self) -> bool {
        !matches!(
            self,
            Self::NoRoute
                | Self::GetOnly
                | Self::UpgradeRefused
                | Self::BackendUnreachable
                | Self::NoPort
                | Self::Exhausted
                | Self::ConnectTimeout
                | Self::ResponseTimeout
                | Self::BackendClosed
                | Self::BadResponse
                | Self::BadSwitch
                | Self::NotCached
                | Self::TooManyTunnels
                | Self::TooManyTunnelsOfAddress
                | Self::TooManyUpgradesOfAddress
                | Self::ResponseHeadTooLarge
        )
    }
}

impl From<HeadError> for Outcome {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Syntax | HeadError::BareLineFeed => Self::BadHead,
            HeadError::TooLong => Self::HeadTooLarge,
            HeadError::TooManyFields => Self::TooManyFields,
            HeadError::Version => Self::BadVersion,
        }
    }
}

impl From<FramingError> for Outcome {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::UnknownCoding => Self::UnknownCoding,
            FramingError::BadLength
            | FramingError::TwoLengths
            | FramingError::TwoFramings
            | FramingError::ChunkedNotFinal
            | FramingError::ChunkedOnHttp10 => Self::BadFraming,
        }
    }
}

impl From<TargetError> for Outcome {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::BadTarget => Self::BadTarget,
            TargetError::NoHost | TargetError::TwoHosts | TargetError::BadHost => Self::BadHost,
            TargetError::Connect => Self::Connect,
        }
    }
}

/// A client that could not be read while its head was awaited.
impl From<ReadError> for Outcome {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed | ReadError::Reset | ReadError::Io(_) => Self::ClientGone,
            ReadError::Timeout => Self::HeadTimeout,
            ReadError::Drain => Self::Draining,
            ReadError::Head(error) => error.into(),
        }
    }
}

impl Outcome {
    /// A backend that could not be connected to.
    pub const fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::NoAddress | DialError::Failed(_) => Self::BackendUnreachable,
            DialError::Timeout => Self::ConnectTimeout,
            DialError::NoPort => Self::NoPort,
            DialError::Exhausted(_) => Self::Exhausted,
            DialError::Drain => Self::Draining,
        }
    }

    /// A backend that gave no usable answer.
    pub const fn of_answer(error: &AnswerError) -> Self {
        match error {
            AnswerError::Closed { .. } => Self::BackendClosed,
            AnswerError::Timeout => Self::ResponseTimeout,
            AnswerError::Head(HeadError::TooLong | HeadError::TooManyFields) => {
                Self::ResponseHeadTooLarge
            }
            AnswerError::Head(_) | AnswerError::Framing(_) | AnswerError::TooManyInterim => {
                Self::BadResponse
            }
            AnswerError::Switched => Self::BadSwitch,
            AnswerError::Drain => Self::Draining,
        }
    }

    /// A request body that did not reach the backend, when no answer has begun.
    pub fn of_upload(error: &RelayError) -> Self {
        match error {
            RelayError::Source(ReadError::Timeout) => Self::BodyTimeout,
            RelayError::Source(ReadError::Drain) | RelayError::Sink(WriteError::Drain) => {
                Self::Draining
            }
            // It ended its direction in the middle of the body, and may still read.
            RelayError::Source(ReadError::Closed) | RelayError::Chunk(_) => Self::BadBody,
            RelayError::TooLong => Self::BodyTooLarge,
            RelayError::Source(_) => Self::ClientGone,
            RelayError::Sink(WriteError::Timeout) => Self::ResponseTimeout,
            RelayError::Sink(WriteError::Closed | WriteError::Io(_)) => Self::BackendClosed,
        }
    }

    /// A response body that did not reach the client whole.
    pub fn of_delivery(error: &RelayError) -> Self {
        match error {
            RelayError::Source(ReadError::Drain) | RelayError::Sink(WriteError::Drain) => {
                Self::Draining
            }
            RelayError::Source(_) | RelayError::Chunk(_) | RelayError::TooLong => {
                Self::BackendBroke
            }
            RelayError::Sink(_) => Self::ClientGone,
        }
    }
}
