//! Answers out of the cache: written to the outbox, without a wait.

use std::io::Write as _;
use std::rc::Rc;

use super::flight::Answer as Arriving;
use super::serve::{Next, Request};
use super::shard::{Client, Shard};
use crate::cache::coding::{self, Preference};
use crate::cache::conditional::{self, Answer, Representation};
use crate::cache::entry::{Entry, Packed};
use crate::cache::{Demand, Moment, Status};
use crate::http1::forward;
use crate::http1::head::Version;

/// Says that others may get the same response in a content coding.
const VARIES: &[u8] = b"Vary: Accept-Encoding\r\n";

/// A response out of the cache.
pub(super) struct Hit<'a> {
    /// The response.
    pub entry: &'a Rc<Entry>,
    /// What the request said to caches.
    pub demand: &'a Demand,
    /// What Cache-Status says.
    pub status: Status,
    /// When it is used.
    pub now: Moment,
}

/// Writes the answer; the caller's loop sends it. Returns its status and what follows.
pub(super) fn answer(
    shard: &Shard,
    client: &mut Client,
    request: &Request<'_>,
    hit: &Hit<'_>,
) -> (u16, Next) {
    let Hit { entry, demand, now, .. } = hit;
    let keep = request.asked.persists && !shard.draining.get();
    let is_head = request.head.method() == "HEAD";
    let verdict = if demand.is_conditional() || demand.has_range() {
        let stored = Representation {
            status: entry.head().status(),
            fields: entry.head().fields(),
            len: entry.len(),
            received: *now,
        };
        conditional::answer(request.head.method(), request.head.fields(), &stored)
    } else {
        Answer::Whole
    };
    let packed = packed_for(request, entry, verdict);

    let outbox = &mut client.outbox;
    let text = outbox.text();
    let (status, body) = match (verdict, &packed) {
        (Answer::Whole, Some(packed)) => {
            text.extend_from_slice(&packed.front);
            (entry.head().status(), 0..packed.body.len() as u64)
        }
        (Answer::Whole, None) => {
            text.extend_from_slice(entry.front());
            (entry.head().status(), 0..entry.len())
        }
        (Answer::NotModified, Some(_)) => {
            forward::not_modified_packed(text, entry.head().fields());
            text.extend_from_slice(VARIES);
            (304, 0..0)
        }
        (Answer::NotModified, None) => {
            forward::not_modified(text, entry.head().fields());
            (304, 0..0)
        }
        (Answer::Partial { first, last }, _) => {
            forward::partial(text, b"HTTP/1.1 206 Partial Content\r\n", entry.head().fields());
            put(text, format_args!("Content-Range: bytes {first}-{last}/{}\r\n", entry.len()));
            (206, first..last + 1)
        }
        (Answer::Unsatisfiable, _) => {
            forward::partial(
                text,
                b"HTTP/1.1 416 Range Not Satisfiable\r\n",
                entry.head().fields(),
            );
            put(text, format_args!("Content-Range: bytes */{}\r\n", entry.len()));
            (416, 0..0)
        }
    };
    if !matches!(status, 204 | 304) {
        text.extend_from_slice(b"Content-Length: ");
        forward::write_number(text, body.end - body.start);
        text.extend_from_slice(b"\r\n");
    }
    if packed.is_none() && entry.varies_by_coding() {
        text.extend_from_slice(VARIES);
    }
    write_lines(text, entry.terms().age(*now), &hit.status);
    write_connection(text, keep, request.head.version());
    text.extend_from_slice(b"\r\n");
    match packed {
        _ if is_head => {}
        _ if status == 304 => {}
        Some(packed) => outbox.packed(packed),
        None => outbox.body(entry, body),
    }
    (status, if keep { Next::Continue } else { Next::Linger })
}

/// The form in a content coding, if there is one and the client would rather have it.
fn packed_for(request: &Request<'_>, entry: &Entry, verdict: Answer) -> Option<Rc<Packed>> {
    // Ranges count the bytes of the plain form.
    let is_whole = matches!(verdict, Answer::Whole | Answer::NotModified);
    let is_wanted = |packed: &Rc<Packed>| {
        coding::accepts(request.head.fields(), packed.coding) == Preference::Coded
    };
    entry.packed().filter(|packed| is_whole && is_wanted(packed))
}

/// Writes the head of an answer that is being stored while it is sent; `length` is that of its body.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    answer: &Arriving,
    request: &Request<'_>,
    how: &HeadOf<'_>,
) {
    out.extend_from_slice(answer.front());
    if let Some(length) = answer.length {
        if answer.head.status() != 204 {
            put(out, format_args!("Content-Length: {length}\r\n"));
        }
    } else if request.head.version() == Version::Http11 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if answer.varies_by_coding {
        out.extend_from_slice(VARIES);
    }
    write_lines(out, how.age, how.status);
    write_connection(out, how.keep, request.head.version());
    out.extend_from_slice(b"\r\n");
}

/// Writes a 304 in the place of an answer that is being stored.
pub(super) fn write_not_modified(
    out: &mut Vec<u8>,
    answer: &Arriving,
    request: &Request<'_>,
    how: &HeadOf<'_>,
) {
    forward::not_modified(out, answer.head.fields());
    if answer.varies_by_coding {
        out.extend_from_slice(VARIES);
    }
    write_lines(out, how.age, how.status);
    write_connection(out, how.keep, request.head.version());
    out.extend_from_slice(b"\r\n");
}

/// What the head of an arriving answer says besides what is stored.
pub(super) struct HeadOf<'a> {
    /// Its age in seconds.
    pub age: u64,
    /// What Cache-Status says.
    pub status: &'a Status,
    /// Whether the client's connection goes on.
    pub keep: bool,
}

fn write_lines(out: &mut Vec<u8>, age: u64, status: &Status) {
    out.extend_from_slice(b"Age: ");
    forward::write_number(out, age);
    out.extend_from_slice(b"\r\nCache-Status: ");
    status.write(out);
    out.extend_from_slice(b"\r\n");
}

fn write_connection(out: &mut Vec<u8>, keep: bool, version: Version) {
    match (keep, version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
}

fn put(out: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    // A vector takes every byte.
    out.write_fmt(line).unwrap_or_default();
}
