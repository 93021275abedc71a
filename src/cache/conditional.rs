//! Preconditions: the client's against a stored response, and ours toward the backend (RFC 9110 §13,
//! RFC 9111 §4.3).
//!
//! Entity tags are opaque bytes; one without its quotes is compared as it came.

use crate::http1::field::{Fields, is, is_hop_by_hop, trim};

use super::date::{self, Moment};
use super::range;

/// A stored response as a precondition sees it.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// The status it was stored with.
    pub status: u16,
    /// Its fields.
    pub fields: Fields<'a>,
    /// The bytes of its body.
    pub len: u64,
    /// When it arrived.
    pub received: Moment,
}

/// What of a stored response a client gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// All of it, under its own status.
    Whole,
    /// 304 with its fields but those of the body.
    NotModified,
    /// 206 with these bytes, both counted from 0 and both included.
    Partial {
        /// The first byte.
        first: u64,
        /// The last byte; `first <= last < len`.
        last: u64,
    },
    /// 416 with `Content-Range: bytes */LEN`.
    Unsatisfiable,
}

/// Returns whether only the backend can judge the request's preconditions: they are about changing
/// something (RFC 9111 §4.3.2).
pub fn must_pass(request: Fields<'_>) -> bool {
    request.has("if-match") || request.has("if-unmodified-since")
}

/// Returns what a GET or HEAD gets of a stored response, in the order of RFC 9110 §13.2.2.
///
/// Preconditions and ranges are for responses that would be sent with success.
pub fn answer(method: &str, request: Fields<'_>, stored: &Representation<'_>) -> Answer {
    if !matches!(stored.status, 200..=299) {
        return Answer::Whole;
    }
    if is_not_modified(request, stored) {
        return Answer::NotModified;
    }
    let mut ranges = request.all("range");
    match (ranges.next(), ranges.next()) {
        (Some(value), None)
            if method == "GET" && stored.status == 200 && if_range(request, stored.fields) =>
        {
            range::single(value, stored.len)
        }
        _ => Answer::Whole,
    }
}

fn is_not_modified(request: Fields<'_>, stored: &Representation<'_>) -> bool {
    if request.has("if-none-match") {
        let tag = stored.fields.first("etag").map(opaque);
        let mut asked = request.all("if-none-match").flat_map(Tags::of);
        return asked.any(|asked| asked == b"*" || Some(opaque(asked)) == tag);
    }
    let mut lines = request.all("if-modified-since");
    match (lines.next().and_then(date::parse), lines.next()) {
        (Some(since), None) => changed(stored) <= since,
        // No date at all, or two: no precondition (RFC 9110 §13.1.3).
        _ => false,
    }
}

/// Returns when the stored response last changed, in seconds: `Last-Modified`, else its `Date`, else
/// when it arrived (RFC 9111 §4.3.2).
fn changed(stored: &Representation<'_>) -> u64 {
    let seconds = |name| stored.fields.first(name).and_then(date::parse);
    seconds("last-modified")
        .or_else(|| seconds("date"))
        .unwrap_or_else(|| stored.received.seconds())
}

/// Returns whether `If-Range`, if there is one, lets the range count (RFC 9110 §13.1.5).
fn if_range(request: Fields<'_>, stored: Fields<'_>) -> bool {
    let mut lines = request.all("if-range");
    let (Some(asked), None) = (lines.next(), lines.next()) else {
        return !request.has("if-range");
    };
    if let Some(asked) = date::parse(asked) {
        let (modified, sent) = (stored.first("last-modified"), stored.first("date"));
        let (modified, sent) = (modified.and_then(date::parse), sent.and_then(date::parse));
        // Only a date a second in the past cannot change any more (RFC 9110 §8.8.2.2).
        return modified == Some(asked) && sent.is_some_and(|sent| asked < sent);
    }
    is_strong(asked) && stored.first("etag") == Some(asked)
}

/// Returns whether an entity tag is well-formed and not weak.
fn is_strong(tag: &[u8]) -> bool {
    matches!(tag, [b'"', .., b'"'])
}

/// Returns an entity tag without the mark that it is weak.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags in one value. A comma may stand inside of one, and nothing is escaped there.
struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    fn of(value: &'a [u8]) -> Self {
        Self(value)
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b',' | b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let mut is_quoted = false;
        let is_end = |byte: &u8| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        };
        let end = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (tag, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (!tag.is_empty()).then(|| trim(tag))
    }
}

/// Appends the lines that ask the backend whether a stored response is still good:
/// `If-None-Match` and `If-Modified-Since`, as far as it has validators (RFC 9111 §4.3.1).
///
/// The client's own lines of these names must not be sent beside them. Returns false if there is
/// nothing to ask by.
pub fn write_validators(out: &mut Vec<u8>, stored: Fields<'_>) -> bool {
    let tag = stored.first("etag").filter(|tag| !tag.is_empty());
    let modified = stored.first("last-modified").filter(|value| date::parse(value).is_some());
    for (name, value) in [("If-None-Match: ", tag), ("If-Modified-Since: ", modified)] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    tag.is_some() || modified.is_some()
}

/// Returns whether a 304 speaks of this stored response (RFC 9111 §4.3.4).
///
/// If not, the stored response must not be updated by it, nor served for it: ask again without
/// validators. A 304 without any validator speaks of the response whose validators we sent.
pub fn matches_304(stored: Fields<'_>, answer: Fields<'_>) -> bool {
    if let Some(tag) = answer.first("etag") {
        let known = stored.first("etag");
        return if is_strong(tag) && known.is_some_and(is_strong) {
            known == Some(tag)
        } else {
            known.map(opaque) == Some(opaque(tag))
        };
    }
    match (answer.first("last-modified"), stored.first("last-modified")) {
        (Some(modified), Some(known)) => modified == known,
        (None, _) | (_, None) => true,
    }
}

/// Returns whether the 200 to a HEAD speaks of this stored response to a GET (RFC 9111 §4.3.5).
///
/// If so, its fields may update the stored ones as those of a 304 do; if not, the stored response is
/// [expired](super::Terms::expire).
pub fn matches_head(stored: Fields<'_>, answer: Fields<'_>) -> bool {
    let is_same = |name| match (answer.first(name), stored.first(name)) {
        (Some(new), Some(known)) => new == known,
        // A stored body in chunks has no length to compare.
        (Some(_), None) => name == "content-length",
        (None, _) => true,
    };
    ["etag", "last-modified", "content-length"].into_iter().all(is_same)
}

/// Returns whether this field of a 304 takes the place of the stored lines of its name (RFC 9111
/// §3.2).
///
/// Not what describes the body, which is the stored one, and not what is stored of no response. A
/// field that the 304's `Connection` names must be left out by the caller, and its `Set-Cookie` is
/// for the client that asked.
pub fn is_taken_from_304(name: &[u8]) -> bool {
    let stays = ["content-length", "content-encoding", "content-range", "set-cookie", "trailer"];
    !is_hop_by_hop(name) && !stays.iter().any(|known| is(name, known))
}

/// Returns whether a stored field stays after a 304 that does not have it.
///
/// `Age` and `Date` told the age of the old response.
pub fn survives_304(name: &[u8]) -> bool {
    !is(name, "age") && !is(name, "date")
}
