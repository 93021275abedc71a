//! What holds for every input: one function for each thing that reads bytes of a peer or text of a
//! person. A fuzzer runs them on what it makes up, a test on the corpora and what it makes of them.
//!
//! An input is what a peer could send, or lines that a person could write, so that corpora can be read
//! and written by hand. To see a panic is the least: each function asserts what others rely on.

mod bodies;
mod cache;
mod connection;
mod control;
mod forwards;
mod heads;
mod settings;

use phantom_frame::http1::field::Fields;
use phantom_frame::http1::head::{RequestHead, ResponseHead};

pub use bodies::{chunked, framing};
pub use cache::{cache_control, range, vary};
pub use connection::{End, Message, Reader, Seen, connection};
pub use control::control;
pub use heads::{request_head, response_head};
pub use settings::config;

/// A target and the name of its corpus.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The folder in `corpus`, and the binary.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
}

/// Every target.
pub const ALL: [Target; 10] = [
    Target { name: "request_head", run: request_head },
    Target { name: "response_head", run: response_head },
    Target { name: "chunked", run: chunked },
    Target { name: "framing", run: framing },
    Target { name: "range", run: range },
    Target { name: "cache_control", run: cache_control },
    Target { name: "vary", run: vary },
    Target { name: "config", run: config },
    Target { name: "control", run: control },
    Target { name: "connection", run: connection },
];

/// Fields of a head, the default limit.
const FIELDS_MAX: usize = 100;

/// Cuts an input at `separator`; without one the second part is empty.
fn split<'a>(data: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = data.windows(separator.len()).position(|window| window == separator);
    at.map_or((data, &[]), |at| (&data[..at], &data[at + separator.len()..]))
}

/// Returns the lines of an input as the fields of a request, if they can be that.
fn request_with(lines: &[u8]) -> Option<RequestHead<Vec<u8>>> {
    let bytes = head_of(b"GET / HTTP/1.1\r\n", lines);
    let len = bytes.len();
    RequestHead::parse(bytes, len, Vec::new(), FIELDS_MAX).ok()
}

/// Returns the lines of an input as the fields of a response, if they can be that.
fn response_with(lines: &[u8]) -> Option<ResponseHead<Vec<u8>>> {
    let bytes = head_of(b"HTTP/1.1 200 OK\r\n", lines);
    let len = bytes.len();
    ResponseHead::parse(bytes, len, Vec::new(), FIELDS_MAX).ok()
}

/// Writes lines that end in LF as those of a head, which end in CRLF.
fn head_of(start: &[u8], lines: &[u8]) -> Vec<u8> {
    let mut bytes = start.to_vec();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        bytes.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The name and the value of a field line.
type Line = (Vec<u8>, Vec<u8>);

/// Copies field lines.
fn owned(fields: Fields<'_>) -> Vec<Line> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// Returns bytes as a failure shows them.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
