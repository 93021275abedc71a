//! Writing a head for the next hop (RFC 9110 §7.6, RFC 9112 §3.2).
//!
//! What goes on is decided name by name: fields about the connection stay behind, fields about the
//! framing are written anew from what we understood, everything else passes unchanged, repeated
//! lines and their order included. No `Via` is added, a choice against RFC 9110 §7.6.3: common
//! backends switch compression off when they see one.

mod request;
mod response;
mod stored;
mod trailers;

use std::io::Write as _;

pub use request::{NextHop, fill_request, request, told, upgrade_request, withholds};
pub use response::{Connection, ReplyFraming, ResponseForward, informational, response, switching};
pub use stored::{not_modified, not_modified_packed, packed, partial, stored, updated};
pub use trailers::trailers;

use response::write_line;

use super::{
    field::{Fields, is},
    framing::Framing,
};

/// Names in a Connection field that are looked at. A longer list is nobody's protocol, and reading
/// it again for every field would be a lever to waste our time.
const NAMES_MAX: usize = 64;

/// The fields that a message's Connection field declares to be about the connection, beside those
/// that always are (RFC 9110 §7.6.1).
#[derive(Clone, Copy)]
struct Named<'a> {
    /// None if nothing unusual is named, so that the usual message is not searched per field.
    fields: Option<Fields<'a>>,
}

impl<'a> Named<'a> {
    fn of(fields: Fields<'a>) -> Self {
        let is_usual =
            |name| ["keep-alive", "close", "upgrade", "te"].iter().any(|usual| is(name, usual));
        let has_unusual = fields.list("connection").take(NAMES_MAX).any(|name| !is_usual(name));
        Self { fields: has_unusual.then_some(fields) }
    }

    fn has(self, name: &[u8]) -> bool {
        self.fields.is_some_and(|fields| {
            fields.list("connection").take(NAMES_MAX).any(|named| named.eq_ignore_ascii_case(name))
        })
    }
}

/// Writes one field line.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes the field line that declares `framing`; none for a body that lasts until close.
fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => write_field(out, b"Transfer-Encoding", b"chunked"),
        Framing::UntilClose => {}
    }
}

/// Writes a number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("a vector takes every byte");
}
