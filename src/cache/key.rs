//! What a stored response is found by: the route, the host it was asked of, and its name.
//!
//! The name is `GET:/path?query` with the mount prefix stripped, or what a key function of the
//! library's user made of it; purge patterns see the name alone. The host is part of the key although
//! no pattern sees it: two sites behind one route must never answer for each other. So is what a trusted
//! proxy in front of us says that the backend will hear, such as the scheme: a redirect to `https` must
//! not be the answer to those who are there.

use std::borrow::Cow;

use crate::http1::field::{Fields, is};
use crate::http1::forward;

/// Bytes in front of the host.
const ROUTE_BYTES: usize = 2;

/// Begins a field that a trusted client sent. Neither hosts nor values have control bytes.
const TOLD: u8 = 1;

/// Where a resource is, by the word of who asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// What the client called us; case does not matter there (RFC 9110 §4.2.3). A port does, even the
    /// usual one: backends that write it into links would send those who come by TLS to it.
    pub authority: &'a [u8],
    /// The request's fields, if the client is trusted to say where a request comes from.
    pub trusted: Option<Fields<'a>>,
}

/// Appends the key of a resource to `out`.
pub fn write(out: &mut Vec<u8>, route: usize, site: Site<'_>, name: Name<'_>) {
    out.extend_from_slice(&u16::try_from(route).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(site.authority.iter().map(u8::to_ascii_lowercase));
    if let Some(fields) = site.trusted {
        write_told(out, fields);
    }
    out.push(0);
    match name {
        Name::Made(name) => out.extend_from_slice(name),
        Name::Usual { path, query } => {
            out.extend_from_slice(b"GET:");
            out.extend_from_slice(path);
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
    }
}

/// The spelling of an authority for all that share its pages: what is asked for once must not depend on
/// how the first of them wrote it.
pub fn canonical(authority: &[u8]) -> Cow<'_, [u8]> {
    if authority.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(authority.to_ascii_lowercase())
    } else {
        Cow::Borrowed(authority)
    }
}

/// Appends what a trusted client says, except whom the request comes from and through whom.
fn write_told(out: &mut Vec<u8>, fields: Fields<'_>) {
    for field in forward::told(fields) {
        out.push(TOLD);
        out.extend(field.name.iter().map(u8::to_ascii_lowercase));
        out.push(b':');
        if is(field.name, "forwarded") {
            write_forwarded(out, field.value);
        } else {
            out.extend_from_slice(field.value);
        }
    }
}

/// Appends a value of `Forwarded` (RFC 7239) without the addresses in it.
fn write_forwarded(out: &mut Vec<u8>, value: &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = |byte: &u8| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' | b',' => return !is_quoted,
            _ => {}
        }
        false
    };
    for pair in value.split_inclusive(is_end) {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if !is(name, "for") && !is(name, "by") {
            out.extend_from_slice(pair);
        } else if pair.ends_with(b",") {
            out.push(b',');
        }
    }
}

/// What a resource is called within its route and host.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// By its path and query, as they came.
    Usual {
        /// Begins with `/`, or is `*`.
        path: &'a [u8],
        /// Without its `?`.
        query: Option<&'a [u8]>,
    },
    /// By whatever a key function said.
    Made(&'a [u8]),
}

/// The route and the name in a key.
pub fn parts(key: &[u8]) -> (usize, &[u8]) {
    let (route, rest) = key.split_first_chunk::<ROUTE_BYTES>().unwrap_or((&[0; 2], &[]));
    let name = memchr::memchr(0, rest).and_then(|at| rest.get(at + 1..)).unwrap_or_default();
    (usize::from(u16::from_le_bytes(*route)), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: usize, authority: &str, path: &str, query: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        let name = Name::Usual { path: path.as_bytes(), query: query.map(str::as_bytes) };
        let site = Site { authority: authority.as_bytes(), trusted: None };
        write(&mut out, route, site, name);
        out
    }

    fn told(lines: &str) -> Vec<u8> {
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
        let len = text.len();
        let head = crate::http1::head::RequestHead::parse(text, len, Vec::new(), 100).unwrap();
        let site = Site { authority: b"a", trusted: Some(head.fields()) };
        let mut out = Vec::new();
        write(&mut out, 0, site, Name::Usual { path: b"/", query: None });
        out
    }

    #[test]
    fn what_a_trusted_client_says_is_part_of_the_key_and_its_address_is_not() {
        let plain = told("");
        assert_eq!(plain, key(0, "a", "/", None));
        assert_eq!(told("X-Forwarded-For: 1.2.3.4\r\nX-A: b\r\nX_Forwarded_Host: c\r\n"), plain);
        for lines in [
            "X-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: b\r\n",
            "X-Forwarded-Host: b\r\nX-Forwarded-Host: c\r\n",
            "X-Forwarded-Port: 8443\r\n",
            "Forwarded: for=1.2.3.4;proto=https\r\n",
            "Forwarded: for=\"a;b\";host=b\r\n",
        ] {
            assert_ne!(told(lines), plain, "{lines}");
            assert_eq!(parts(&told(lines)), (0, &b"GET:/"[..]), "{lines}");
        }
        let from = |address: &str| told(&format!("Forwarded: For={address};proto=https\r\n"));
        assert_eq!(from("1.2.3.4"), from("\"[::1]:1,x;y\""));
    }

    #[test]
    fn an_authority_is_asked_for_as_it_is_kept() {
        assert_eq!(canonical(b"A.Example:80"), &b"a.example:80"[..]);
        assert_eq!(canonical(b"a.example"), &b"a.example"[..]);
    }

    #[test]
    fn a_key_gives_back_its_route_and_name() {
        let key = key(258, "A.Example:80", "/x", Some("y=1"));
        assert_eq!(parts(&key), (258, &b"GET:/x?y=1"[..]));
        assert_eq!(parts(b""), (0, &b""[..]));
    }

    #[test]
    fn hosts_and_queries_are_told_apart_and_case_of_the_host_is_not() {
        assert_ne!(key(0, "a", "/", None), key(0, "b", "/", None));
        assert_ne!(key(0, "a", "/", None), key(1, "a", "/", None));
        assert_ne!(key(0, "a", "/", None), key(0, "a", "/", Some("")));
        assert_ne!(key(0, "a:8080", "/", None), key(0, "a", "/", None));
        assert_ne!(key(0, "a:80", "/", None), key(0, "a", "/", None));
        assert_eq!(key(0, "EXAMPLE", "/", None), key(0, "example", "/", None));
    }
}
