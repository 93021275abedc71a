//! `Cache-Status` (RFC 9211): what the cache did with a request, for those who look for the reason.
//!
//! Written on every response, so nothing is allocated.

use std::io::Write as _;

/// Why a request went to the backend (RFC 9211 §2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarded {
    /// The route or the request has no use for the cache.
    Bypass,
    /// The method is never answered from the cache.
    Method,
    /// Nothing is stored under the key.
    UriMiss,
    /// Something is stored under the key, but not for these fields of the request.
    VaryMiss,
    /// One of the two, where it is not known which.
    Miss,
    /// The client does not take what is stored and fresh.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is only a part of what is asked for.
    Partial,
}

impl Forwarded {
    const fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What the cache did.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::{Forwarded, Status};
///
/// let mut out = Vec::new();
/// Status::hit(30).write(&mut out);
/// assert_eq!(out, b"phantom-frame; hit; ttl=30");
///
/// out.clear();
/// Status::forwarded(Forwarded::UriMiss).with_status(200).stored().write(&mut out);
/// assert_eq!(out, b"phantom-frame; fwd=uri-miss; fwd-status=200; stored");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    kind: Kind,
    ttl: Option<i64>,
    answered: Option<u16>,
    is_stored: bool,
    is_collapsed: bool,
    detail: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Hit,
    Forwarded(Forwarded),
    Neither,
}

impl Status {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            ttl: None,
            answered: None,
            is_stored: false,
            is_collapsed: false,
            detail: None,
        }
    }

    /// The response came from the cache; `ttl` as [`Terms::ttl`](super::Terms::ttl) says.
    pub const fn hit(ttl: i64) -> Self {
        Self { ttl: Some(ttl), ..Self::new(Kind::Hit) }
    }

    /// The request went to the backend.
    pub const fn forwarded(why: Forwarded) -> Self {
        Self::new(Kind::Forwarded(why))
    }

    /// Neither: the cache answered out of itself, for example an `only-if-cached` with 504.
    pub const fn neither(detail: &'static str) -> Self {
        Self::new(Kind::Neither).with_detail(detail)
    }

    /// Adds for how many seconds the response stays fresh.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: i64) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds the status of the backend's answer.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.answered = Some(status);
        self
    }

    /// Adds that the backend's answer was stored.
    #[must_use]
    pub const fn stored(mut self) -> Self {
        self.is_stored = true;
        self
    }

    /// Adds that the request waited for another one's answer.
    #[must_use]
    pub const fn collapsed(mut self) -> Self {
        self.is_collapsed = true;
        self
    }

    /// Adds more about the reason; a token (RFC 9110 §5.6.2) that begins with a letter.
    #[must_use]
    pub const fn with_detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Appends the field's value.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"phantom-frame");
        match self.kind {
            Kind::Hit => out.extend_from_slice(b"; hit"),
            Kind::Forwarded(why) => append(out, "; fwd=", why.word()),
            Kind::Neither => {}
        }
        if let Some(status) = self.answered {
            append(out, "; fwd-status=", status);
        }
        if let Some(ttl) = self.ttl {
            append(out, "; ttl=", ttl);
        }
        if self.is_stored {
            out.extend_from_slice(b"; stored");
        }
        if self.is_collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            append(out, "; detail=", detail);
        }
    }
}

fn append(out: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    // A vector takes everything.
    write!(out, "{key}{value}").unwrap_or_default();
}
