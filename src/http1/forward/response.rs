//! The backend's head as the client gets it.
//!
//! The difficulty is that the framing toward the client depends on what the client understands and
//! on what we do with the body, so the caller names it; the rest is the same for every response.

use super::{Named, write_field, write_framing, write_number};
use crate::http1::{
    field::{Field, Fields, is, is_hop_by_hop},
    framing::Framing,
    head::ResponseHead,
};

/// How the body is framed toward the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyFraming {
    /// Content-Length as the backend sent it, or none: also for bodiless responses.
    AsReceived,
    /// In chunks, without a length.
    Chunked,
    /// Until we close, without a length: for HTTP/1.0 clients.
    UntilClose,
}

/// What the response says about the client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// No field: the version says it.
    Implied,
    /// It closes after this response.
    Close,
    /// It stays open although the client speaks HTTP/1.0.
    KeepAlive,
}

/// What the backend's head does not know about the response to the client.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForward<'a> {
    /// How the body goes on.
    pub framing: ReplyFraming,
    /// What becomes of the client's connection.
    pub connection: Connection,
    /// The IMF-fixdate to add if the backend sent no Date (RFC 9110 §6.6.1); empty adds none.
    pub date: &'a [u8],
    /// Complete field lines of our own to add.
    pub lines: &'a [u8],
}

/// Appends the head of a final response to `out`.
///
/// The status line says HTTP/1.1, our own version, and keeps the reason. Fields keep their order,
/// number and spelling, without those about the backend's connection (RFC 9110 §7.6.1), except that a
/// 426 keeps its Upgrade. A 204 carries no length, whatever the backend sent (RFC 9110 §8.6).
pub fn response<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    head: &ResponseHead<B>,
    how: &ResponseForward<'_>,
) {
    let fields = head.fields();
    let keeps_length =
        how.framing == ReplyFraming::AsReceived && !matches!(head.status(), 100..=199 | 204);
    write_line(out, head);
    write_fields(out, fields, keeps_length);
    if how.framing == ReplyFraming::Chunked {
        write_framing(out, Framing::Chunked);
    }
    // A 426 must name the protocols it wants (RFC 9110 §15.5.22): here the field is the message.
    let names_protocols = head.status() == 426 && fields.has("upgrade");
    if names_protocols {
        for value in fields.all("upgrade") {
            write_field(out, b"Upgrade", value);
        }
    }
    match (how.connection, names_protocols) {
        (Connection::Implied, false) => {}
        (Connection::Implied | Connection::KeepAlive, true) => {
            write_field(out, b"Connection", b"Upgrade");
        }
        (Connection::Close, true) => write_field(out, b"Connection", b"Upgrade, close"),
        (Connection::Close, false) => write_field(out, b"Connection", b"close"),
        (Connection::KeepAlive, false) => write_field(out, b"Connection", b"keep-alive"),
    }
    if !how.date.is_empty() && !fields.has("date") {
        write_field(out, b"Date", how.date);
    }
    out.extend_from_slice(how.lines);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an informational response other than 101 to `out` (RFC 9110 §15.2).
pub fn informational<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &ResponseHead<B>) {
    write_line(out, head);
    write_fields(out, head.fields(), false);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a 101 to `out`, whole: both parties speak through it about the connection
/// that the two connections now become.
///
/// Only framing, which a 101 must not carry (RFC 9110 §8.6, RFC 9112 §6.1), and fields between us
/// and the backend stay behind. `Connection: Upgrade` is added if the backend forgot it.
pub fn switching<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &ResponseHead<B>) {
    let fields = head.fields();
    let passes = |field: &Field<'_>| {
        let belongs = is(field.name, "connection") || is(field.name, "upgrade");
        belongs || !is_hop_by_hop(field.name) && !is(field.name, "content-length")
    };
    write_line(out, head);
    for field in fields.iter().filter(passes) {
        write_field(out, field.name, field.value);
    }
    if !fields.has_token("connection", "upgrade") {
        write_field(out, b"Connection", b"Upgrade");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the status line (RFC 9112 §4); the space before the reason stays even without one.
pub(super) fn write_line<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &ResponseHead<B>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(head.status()));
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields that are not about the backend's connection.
fn write_fields(out: &mut Vec<u8>, fields: Fields<'_>, keeps_length: bool) {
    let named = Named::of(fields);
    for field in fields.iter() {
        if is(field.name, "content-length") {
            if keeps_length {
                write_field(out, field.name, without_zeros(field.value));
            }
        } else if is(field.name, "date") || !is_hop_by_hop(field.name) && !named.has(field.name) {
            write_field(out, field.name, field.value);
        }
    }
}

/// Returns the digits of a length without leading zeros: some clients would read them as octal.
fn without_zeros(mut digits: &[u8]) -> &[u8] {
    while let [b'0', _, ..] = digits {
        digits = digits.strip_prefix(b"0").unwrap_or_default();
    }
    digits
}
