//! The heads of stored responses: as a cache keeps them, and as a client gets them.
//!
//! A kept head is a whole head, so that it can be parsed like any other, and what is in front of its
//! last line end is ready to send: framing, Age and what is about a connection are not part of it.

use super::{Named, write_field, write_line};
use crate::http1::{
    field::{Field, Fields, is, is_hop_by_hop},
    head::ResponseHead,
};

/// Appends `head` to `out` as a cache may keep it (RFC 9111 §3.1): without what is about a
/// connection, about framing, and without its Age. `date` is added if it has no Date.
pub fn stored<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &ResponseHead<B>, date: &[u8]) {
    write_line(out, head);
    let fields = head.fields();
    write_kept(out, fields, |_| true);
    if !fields.has("date") {
        write_field(out, b"Date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends to `out` the stored head `old` with the fields that `answer`, a 304, brings up to date:
/// those whose names `replaces` accepts (RFC 9111 §3.2); stored ones that `survives` refuses are left
/// out in any case.
pub fn updated<A: AsRef<[u8]>, B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    old: &ResponseHead<A>,
    answer: &ResponseHead<B>,
    (replaces, survives): (impl Fn(&[u8]) -> bool, impl Fn(&[u8]) -> bool),
    date: &[u8],
) {
    let news = answer.fields();
    let named = Named::of(news);
    let is_news = |name: &[u8]| is_kept(name) && !named.has(name) && replaces(name);
    write_line(out, old);
    write_kept(out, old.fields(), |name| {
        survives(name)
            && !(is_news(name) && news.iter().any(|field| field.name.eq_ignore_ascii_case(name)))
    });
    for field in news.iter().filter(|field| is_news(field.name)) {
        write_field(out, field.name, field.value);
    }
    if !news.has("date") {
        write_field(out, b"Date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the start of a 304 made from a stored head: the status line and what RFC 9110 §15.4.5
/// wants, without the last line end.
pub fn not_modified(out: &mut Vec<u8>, stored: Fields<'_>) {
    out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    for field in stored.iter().filter(|field| !describes_content(field.name)) {
        write_field(out, field.name, field.value);
    }
}

/// As [`not_modified`], for a client that has, or would get, the response in a content coding.
pub fn not_modified_packed(out: &mut Vec<u8>, stored: Fields<'_>) {
    out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    for field in stored.iter().filter(|field| !describes_content(field.name)) {
        write_weakened(out, &field);
    }
}

/// Writes a field of a response whose bytes were changed: its entity tag is a weak one.
fn write_weakened(out: &mut Vec<u8>, field: &Field<'_>) {
    if is(field.name, "etag") && !field.value.starts_with(b"W/") {
        write_field(out, field.name, &[b"W/", field.value].concat());
    } else {
        write_field(out, field.name, field.value);
    }
}

/// Appends the start of a 206 or 416 made from a stored head: `line` is its status line, and its
/// Content-Range and Content-Length are the caller's to add.
pub fn partial(out: &mut Vec<u8>, line: &[u8], stored: Fields<'_>) {
    out.extend_from_slice(line);
    for field in stored.iter().filter(|field| !is(field.name, "content-range")) {
        write_field(out, field.name, field.value);
    }
}

/// Appends the start of a stored response in the content coding `coding`: its status line and fields
/// without the last line end, the entity tag made weak, since the bytes are others (RFC 9110 §8.8.1).
pub fn packed<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &ResponseHead<B>, coding: &[u8]) {
    write_line(out, head);
    for field in head.fields().iter() {
        if !is_about_bytes(field.name) {
            write_weakened(out, &field);
        }
    }
    write_field(out, b"Content-Encoding", coding);
    write_field(out, b"Vary", b"Accept-Encoding");
}

/// Returns whether a field is about the bytes that a content coding changes: ranges and digests of them
/// (RFC 9530).
fn is_about_bytes(name: &[u8]) -> bool {
    let about = ["accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"];
    about.iter().any(|known| is(name, known))
}

fn write_kept(out: &mut Vec<u8>, fields: Fields<'_>, keeps: impl Fn(&[u8]) -> bool) {
    let named = Named::of(fields);
    for field in fields.iter() {
        let name = field.name;
        if is_kept(name) && (is(name, "date") || !named.has(name)) && keeps(name) {
            write_field(out, name, field.value);
        }
    }
}

/// Returns whether a field of this name may be kept. Trailers are not, so nothing announces them.
fn is_kept(name: &[u8]) -> bool {
    !is_hop_by_hop(name) && !["content-length", "age", "trailer"].iter().any(|not| is(name, not))
}

/// Returns whether a field describes the content that a 304 does not have.
fn describes_content(name: &[u8]) -> bool {
    let content = ["content-type", "content-encoding", "content-language", "content-range"];
    content.iter().any(|known| is(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ResponseHead<Vec<u8>> {
        ResponseHead::parse(text.as_bytes().to_vec(), text.len(), Vec::new(), 100).unwrap()
    }

    #[test]
    fn what_is_about_a_connection_or_a_body_is_not_kept() {
        let head = parsed(
            "HTTP/1.1 200 Fine\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nAge: 5\r\n\
             Content-Length: 3\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\nA: 1\r\nA: 2\r\n\r\n",
        );
        let mut out = Vec::new();
        stored(&mut out, &head, b"now");
        assert_eq!(out, b"HTTP/1.1 200 Fine\r\nA: 1\r\nA: 2\r\nDate: now\r\n\r\n");
    }

    #[test]
    fn a_304_replaces_every_line_of_a_name_and_adds_new_ones() {
        let old = parsed("HTTP/1.1 200 OK\r\nA: 1\r\nA: 2\r\nB: 3\r\nC: 4\r\nE: 5\r\n\r\n");
        let answer = parsed("HTTP/1.1 304 Same\r\na: 9\r\nD: 5\r\nC: no\r\nAge: 7\r\n\r\n");
        let mut out = Vec::new();
        updated(
            &mut out,
            &old,
            &answer,
            (|name: &[u8]| name != b"C", |name: &[u8]| name != b"E"),
            b"now",
        );
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nB: 3\r\nC: 4\r\na: 9\r\nD: 5\r\nDate: now\r\n\r\n");
    }

    #[test]
    fn what_is_said_about_other_bytes_does_not_go_with_a_content_coding() {
        let head = parsed(
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Digest: a\r\nrepr-digest: b\r\nDigest: c\r\n\
             Content-MD5: d\r\nAccept-Ranges: bytes\r\nA: 1\r\n\r\n",
        );
        let mut out = Vec::new();
        packed(&mut out, &head, b"br");
        let expected = b"HTTP/1.1 200 OK\r\nETag: W/\"1\"\r\nA: 1\r\n\
            Content-Encoding: br\r\nVary: Accept-Encoding\r\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_304_made_from_a_stored_head_does_not_describe_content() {
        let head = parsed("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nETag: \"1\"\r\n\r\n");
        let mut out = Vec::new();
        not_modified(&mut out, head.fields());
        assert_eq!(out, b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n");
    }
}
