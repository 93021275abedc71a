//! The client's head as the backend gets it.
//!
//! The difficulty is who may say where a request came from: the fields that tell the backend are
//! ours to write, and what an untrusted client put there must not survive under any spelling.

use std::{io::Write as _, net::IpAddr};

use super::{Named, write_field, write_framing};
use crate::http1::{
    field::{Field, Fields, is, is_hop_by_hop, starts_folded},
    framing::Framing,
    head::{RequestHead, Version},
};

/// Facts of the next hop that the head itself does not know.
#[derive(Clone, Copy, Debug)]
pub struct NextHop<'a> {
    /// The backend's own prefix: empty, or begins with `/` and does not end in it.
    pub base_path: &'a [u8],
    /// The path with the mount prefix already stripped: begins with `/`, or is `*`, which takes no
    /// prefix.
    pub path: &'a [u8],
    /// The query without its `?`.
    pub query: Option<&'a [u8]>,
    /// The value of the Host field to send.
    pub host: &'a [u8],
    /// The address the request came from.
    pub client: IpAddr,
    /// Whether that address is allowed to tell where a request came from before.
    pub client_is_trusted: bool,
    /// What the client speaks to us: `http` or `https`.
    pub proto: &'a str,
    /// What the client called us, for X-Forwarded-Host; empty if it did not.
    pub authority: &'a [u8],
    /// How the body is framed; `UntilClose` does not occur in a request.
    pub framing: Framing,
}

/// Appends the head of a request whose answer a cache wants, to `out`: as [`request`] without what
/// narrows the answer down for this one client (Range and the conditions of RFC 9110 §13.1), and
/// without the line end that ends the head: the cache's own conditions may follow.
pub fn fill_request<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &RequestHead<B>, next: &NextHop<'_>) {
    write_request(out, head, next, Purpose::Fill);
}

/// Appends the head of an ordinary request for the backend to `out`.
///
/// Host comes first, then the client's fields in their order and spelling without those about its
/// connection (RFC 9110 §7.6.1), then the framing and the `X-Forwarded` fields. What `Connection`
/// names is dropped, except what we write ourselves.
pub fn request<B: AsRef<[u8]>>(out: &mut Vec<u8>, head: &RequestHead<B>, next: &NextHop<'_>) {
    write_request(out, head, next, Purpose::Pass);
}

/// Appends the head of an upgrade request for the backend to `out`: as [`request`], and the offer
/// with it.
///
/// Every Upgrade line stays, and HTTP2-Settings if the client's Connection names it (RFC 7540
/// §3.2.1). The caller has seen an [`offer`](crate::http1::upgrade::offer) in the head.
pub fn upgrade_request<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    head: &RequestHead<B>,
    next: &NextHop<'_>,
) {
    let with_settings = head.fields().has_token("connection", "http2-settings")
        && head.fields().has("http2-settings");
    write_request(out, head, next, Purpose::Upgrade(Upgrade { with_settings }));
}

/// What a request is for.
#[derive(Clone, Copy)]
enum Purpose {
    /// An answer for the client.
    Pass,
    /// An answer to store.
    Fill,
    /// A tunnel.
    Upgrade(Upgrade),
}

/// What an upgrade request keeps of its connection fields.
#[derive(Clone, Copy)]
struct Upgrade {
    with_settings: bool,
}

fn write_request<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    head: &RequestHead<B>,
    next: &NextHop<'_>,
    purpose: Purpose,
) {
    let fields = head.fields();
    let upgrade = match purpose {
        Purpose::Upgrade(upgrade) => Some(upgrade),
        Purpose::Pass | Purpose::Fill => None,
    };
    // What is stored is always the answer to a GET.
    let method = if matches!(purpose, Purpose::Fill) { "GET" } else { head.method() };
    write_line(out, method, next);
    write_field(out, b"Host", next.host);
    let rules = Rules {
        named: Named::of(fields),
        version: head.version(),
        client_is_trusted: next.client_is_trusted,
        upgrade,
        is_fill: matches!(purpose, Purpose::Fill),
    };
    for field in fields.iter().filter(|field| rules.pass(field.name)) {
        write_field(out, field.name, field.value);
    }
    if next.framing != Framing::Length(0) || fields.has("content-length") {
        write_framing(out, next.framing);
    }
    write_connection(out, head, upgrade);
    write_forwarded(out, fields, next);
    if !matches!(purpose, Purpose::Fill) {
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the request line (RFC 9112 §3), always in HTTP/1.1: that is our own version.
fn write_line(out: &mut Vec<u8>, method: &str, next: &NextHop<'_>) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    if next.path != b"*" {
        out.extend_from_slice(next.base_path);
    }
    out.extend_from_slice(next.path);
    if let Some(query) = next.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Which of the client's fields go on.
struct Rules<'a> {
    named: Named<'a>,
    version: Version,
    client_is_trusted: bool,
    upgrade: Option<Upgrade>,
    is_fill: bool,
}

impl Rules<'_> {
    fn pass(&self, name: &[u8]) -> bool {
        if ["host", "content-length", "transfer-encoding"].iter().any(|ours| is(name, ours)) {
            return false;
        }
        if is_about_clients(name) {
            return self.client_is_trusted && may_stay(name);
        }
        if self.is_fill && narrows(name) {
            return false;
        }
        if is_hop_by_hop(name) {
            return self.upgrade.is_some_and(|upgrade| upgrade.keeps(name));
        }
        // HTTP/1.0 knows no 100: a server must ignore its Expect (RFC 9110 §10.1.1). And whoever asks
        // for others has no body to hold back.
        let is_void = is(name, "expect") && (self.version == Version::Http10 || self.is_fill);
        !is_void && !is_about_proxies(name) && !self.named.has(name)
    }
}

impl Upgrade {
    fn keeps(self, name: &[u8]) -> bool {
        is(name, "upgrade") || self.with_settings && is(name, "http2-settings")
    }
}

/// Returns what a trusted client's request says about itself and is passed on on its word: a cache must
/// tell such requests apart. The list of addresses is not part of it.
pub fn told(fields: Fields<'_>) -> impl Iterator<Item = Field<'_>> {
    fields.iter().filter(|field| is_about_clients(field.name) && may_stay(field.name))
}

/// Returns whether the request's Connection field names fields that would be passed on otherwise.
///
/// The client has them and the backend does not get them: they must not count as what an answer was
/// chosen by.
pub fn withholds(fields: Fields<'_>) -> bool {
    Named::of(fields).fields.is_some()
}

fn is_about_clients(name: &[u8]) -> bool {
    is(name, "forwarded") || starts_folded(name, "x-forwarded-")
}

/// Returns whether a trusted client's `Forwarded` or `X-Forwarded` field stays as it is.
///
/// The list of addresses is joined into ours. A spelling with underscores is nobody's: to a backend
/// that folds names it would be a second opinion from behind the trusted client.
fn may_stay(name: &[u8]) -> bool {
    !is(name, "x-forwarded-for") && !name.contains(&b'_')
}

/// Returns whether a field asks for less than the whole, current answer.
fn narrows(name: &[u8]) -> bool {
    const NARROWING: [&str; 6] = [
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    ];
    NARROWING.iter().any(|known| is(name, known))
}

/// Returns whether a field is meant for a proxy, whatever comes after `Proxy-`. `Proxy` itself never
/// means anything good: CGI programs read it as the proxy to use for their own requests.
fn is_about_proxies(name: &[u8]) -> bool {
    is(name, "proxy") || starts_folded(name, "proxy-")
}

/// Writes our own Connection field, if there is anything to say, and the TE field it goes with.
///
/// TE is about a connection, but what it announces, whether trailers may be sent, depends on the
/// client (RFC 9110 §10.1.4). gRPC refuses to work without it.
fn write_connection<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    head: &RequestHead<B>,
    upgrade: Option<Upgrade>,
) {
    let fields = head.fields();
    let takes_trailers = head.version() == Version::Http11
        && fields.has_token("te", "trailers")
        && fields.has_token("connection", "te");
    let value: &[u8] = match (upgrade, takes_trailers) {
        (None, false) => return,
        (None, true) => b"TE",
        (Some(Upgrade { with_settings: false }), false) => b"Upgrade",
        (Some(Upgrade { with_settings: false }), true) => b"Upgrade, TE",
        (Some(Upgrade { with_settings: true }), false) => b"Upgrade, HTTP2-Settings",
        (Some(Upgrade { with_settings: true }), true) => b"Upgrade, HTTP2-Settings, TE",
    };
    write_field(out, b"Connection", value);
    if takes_trailers {
        write_field(out, b"TE", b"trailers");
    }
}

/// Writes where the request came from. A trusted client's word is kept and continued.
fn write_forwarded(out: &mut Vec<u8>, fields: Fields<'_>, next: &NextHop<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if next.client_is_trusted {
        let lists = fields.all("x-forwarded-for").filter(|list| !list.is_empty());
        for list in lists {
            out.extend_from_slice(list);
            out.extend_from_slice(b", ");
        }
    }
    // An IPv4 client of an IPv6 listener is an IPv4 client to the backend.
    write!(out, "{}\r\n", next.client.to_canonical()).expect("a vector takes every byte");
    let is_told = |name| next.client_is_trusted && fields.has(name);
    if !is_told("x-forwarded-proto") {
        write_field(out, b"X-Forwarded-Proto", next.proto.as_bytes());
    }
    if !is_told("x-forwarded-host") && !next.authority.is_empty() {
        write_field(out, b"X-Forwarded-Host", next.authority);
    }
}
