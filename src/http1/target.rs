//! What a request asks for: the forms of a target, and the Host rule (RFC 9112 §3.2).
//!
//! The client names us twice, in `Host` and perhaps in the target. Servers that believe different
//! names serve different sites, so both must be well-formed, and the target wins.

use std::net::Ipv6Addr;

use memchr::memchr;

use super::{
    field::is,
    head::{RequestHead, Version},
};

/// The form a target was written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// A target taken apart; every part borrows the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// How it was written.
    pub form: Form,
    /// The path as sent: begins with `/`, or is `*`. Not decoded and not normalised.
    pub path: &'a [u8],
    /// What follows the first `?`, without it. `Some(b"")` for a lone `?`.
    pub query: Option<&'a [u8]>,
    /// What the client calls us: the authority of an absolute target, else the Host field. Empty
    /// only for HTTP/1.0 without Host.
    pub authority: &'a [u8],
}

/// Why a target is refused. Each is a 400, [`TargetError::Connect`] a 405 or 501.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetError {
    /// Not a target of any form, or one that does not go with the method.
    BadTarget,
    /// HTTP/1.1 without Host.
    NoHost,
    /// More than one Host line.
    TwoHosts,
    /// Host is not `uri-host [":" port]`.
    BadHost,
    /// The CONNECT method: this is not a forward proxy.
    Connect,
}

/// Takes the target of a request apart and applies the Host rule (RFC 9112 §3.2, §3.2.2).
///
/// An absolute target with an empty path means `/`. Bytes from 0x80 on are passed on opaquely.
///
/// # Errors
///
/// The caller must answer and close the connection: see [`TargetError`].
pub fn parse<B: AsRef<[u8]>>(head: &RequestHead<B>) -> Result<Target<'_>, TargetError> {
    if head.method() == "CONNECT" {
        return Err(TargetError::Connect);
    }
    let host = parse_host(head)?;
    let target = head.target();
    if memchr(b'#', target).is_some() {
        return Err(TargetError::BadTarget);
    }
    match target {
        [b'/', ..] => {
            let (path, query) = split_query(target);
            Ok(Target { form: Form::Origin, path, query, authority: host })
        }
        b"*" if head.method() == "OPTIONS" => {
            Ok(Target { form: Form::Asterisk, path: target, query: None, authority: host })
        }
        _ => parse_absolute(target),
    }
}

/// Returns whether `value` is `uri-host [":" port]` with a host that is not empty (RFC 3986 §3.2).
///
/// Of what a registered name may hold, the comma is refused: two hosts could hide in it. So are
/// user information, address literals other than IPv6, and ports above 65535.
pub fn is_authority(value: &[u8]) -> bool {
    if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = memchr(b']', literal) else { return false };
        let (address, rest) = literal.split_at(end);
        let address = str::from_utf8(address).unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok()
            && matches!(rest, [b']'] | [b']', b':', ..])
            && rest.strip_prefix(b"]:").is_none_or(is_port);
    }
    let (name, port) = value.split_at(memchr(b':', value).unwrap_or(value.len()));
    is_name(name) && port.strip_prefix(b":").is_none_or(is_port)
}

/// Returns the one valid Host, or nothing for HTTP/1.0 without it.
fn parse_host<B: AsRef<[u8]>>(head: &RequestHead<B>) -> Result<&[u8], TargetError> {
    let mut lines = head.fields().all("host");
    match (lines.next(), lines.next(), head.version()) {
        (Some(_), Some(_), _) => Err(TargetError::TwoHosts),
        (Some(host), None, _) if is_authority(host) => Ok(host),
        (Some(_), None, _) => Err(TargetError::BadHost),
        (None, _, Version::Http11) => Err(TargetError::NoHost),
        (None, _, Version::Http10) => Ok(b""),
    }
}

/// Parses `http://authority/path?query` (RFC 9112 §3.2.2, RFC 9110 §4.2).
fn parse_absolute(target: &[u8]) -> Result<Target<'_>, TargetError> {
    let colon = memchr(b':', target).ok_or(TargetError::BadTarget)?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(TargetError::BadTarget)?;
    if !is(scheme, "http") && !is(scheme, "https") {
        return Err(TargetError::BadTarget);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if !is_authority(authority) {
        return Err(TargetError::BadTarget);
    }
    let (path, query) = split_query(rest);
    let path = if path.is_empty() { b"/" } else { path };
    Ok(Target { form: Form::Absolute, path, query, authority })
}

/// Splits at the first `?`.
fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (path, query) = target.split_at(memchr(b'?', target).unwrap_or(target.len()));
    (path, query.strip_prefix(b"?"))
}

/// Returns whether `port` is a port; the grammar allows it to be empty (RFC 3986 §3.2.3).
fn is_port(port: &[u8]) -> bool {
    // Not `str::parse` alone: it takes "+80".
    port.is_empty()
        || port.iter().all(u8::is_ascii_digit)
            && str::from_utf8(port).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

/// Returns whether `name` is a registered name or an IPv4 address, without a comma.
fn is_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        };
    }
}

/// Returns whether `byte` is unreserved or a sub-delimiter other than the comma (RFC 3986 §2).
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> RequestHead<Vec<u8>> {
        let bytes = format!("{text}\r\n").into_bytes();
        let len = bytes.len();
        RequestHead::parse(bytes, len, Vec::new(), 100).unwrap()
    }

    fn error(text: &str) -> TargetError {
        parse(&head(text)).expect_err(text)
    }

    #[test]
    fn an_origin_target_splits_at_the_first_question_mark() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a/b", "/a/b", None),
            ("/a?", "/a", Some("")),
            ("/a?b?c=d", "/a", Some("b?c=d")),
            ("//x.example/a", "//x.example/a", None),
            ("/a:b@c|\"\\^%zz", "/a:b@c|\"\\^%zz", None),
        ] {
            let head = head(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n"));
            let expected = Target {
                form: Form::Origin,
                path: path.as_bytes(),
                query: query.map(str::as_bytes),
                authority: b"h",
            };
            assert_eq!(parse(&head), Ok(expected), "{target}");
        }
    }

    #[test]
    fn an_absolute_target_replaces_the_host() {
        for (target, path, query, authority) in [
            ("http://a.example/x?y", "/x", Some("y"), "a.example"),
            ("HTTPS://a.example:8443", "/", None, "a.example:8443"),
            ("http://a?q", "/", Some("q"), "a"),
            ("http://[::1]:80/", "/", None, "[::1]:80"),
        ] {
            for fields in ["HTTP/1.1\r\nHost: h\r\n", "HTTP/1.0\r\n"] {
                let head = head(&format!("GET {target} {fields}"));
                let expected = Target {
                    form: Form::Absolute,
                    path: path.as_bytes(),
                    query: query.map(str::as_bytes),
                    authority: authority.as_bytes(),
                };
                assert_eq!(parse(&head), Ok(expected), "{target}");
            }
        }
    }

    #[test]
    fn an_absolute_target_does_not_excuse_the_host() {
        assert_eq!(error("GET http://a/ HTTP/1.1\r\n"), TargetError::NoHost);
        assert_eq!(error("GET http://a/ HTTP/1.1\r\nHost: b@c\r\n"), TargetError::BadHost);
        assert_eq!(error("GET http://a/ HTTP/1.0\r\nHost: b,c\r\n"), TargetError::BadHost);
    }

    #[test]
    fn targets_of_no_form_are_refused() {
        for target in [
            "a",
            "a/b",
            "?x",
            "*x",
            "*?x",
            "*",
            "/a#b",
            "#",
            "http:/a",
            "http:///a",
            "http://",
            "http://?",
            "http://u@h/",
            "http://u:p@h/",
            "http://a,b/",
            "http://a:x/",
            "ftp://a/",
            "http://a\\b/",
            "http:a",
            "://a/",
            "http://a#b",
            "a.example:80",
            "http://[::1/",
            "http://:80/",
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n");
            assert_eq!(error(&text), TargetError::BadTarget, "{target}");
        }
    }

    #[test]
    fn the_asterisk_goes_with_options_only() {
        let head = head("OPTIONS * HTTP/1.1\r\nHost: h\r\n");
        let target = parse(&head).unwrap();
        assert_eq!((target.form, target.path), (Form::Asterisk, &b"*"[..]));
        assert_eq!(error("options * HTTP/1.1\r\nHost: h\r\n"), TargetError::BadTarget);
    }

    #[test]
    fn connect_is_refused_whatever_its_target() {
        assert_eq!(error("CONNECT a:443 HTTP/1.1\r\n"), TargetError::Connect);
        assert_eq!(error("CONNECT / HTTP/1.1\r\nHost: h\r\n"), TargetError::Connect);
        assert_eq!(error("connect a:443 HTTP/1.1\r\nHost: h\r\n"), TargetError::BadTarget);
    }

    #[test]
    fn one_host_is_required_by_http_1_1_and_two_are_never_allowed() {
        assert_eq!(error("GET / HTTP/1.1\r\n"), TargetError::NoHost);
        assert_eq!(error("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n"), TargetError::TwoHosts);
        assert_eq!(error("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n"), TargetError::TwoHosts);
        assert_eq!(error("GET / HTTP/1.1\r\nHost: a\r\nHost:\r\n"), TargetError::TwoHosts);
        let head = head("GET / HTTP/1.0\r\n");
        assert_eq!(parse(&head).unwrap().authority, b"");
    }

    #[test]
    fn hosts_follow_the_grammar() {
        for host in [
            "a",
            "a.example",
            "a.example.",
            "a_b-c~d",
            "127.0.0.1",
            "a:80",
            "a:",
            "a:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "%41b",
            "xn--a",
            "a;b=c!",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:-1",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]80",
            "[::1]:x",
            "[]",
            "[v1.a]",
            "[fe80::1%25e]",
            "a\\b",
            "a?b",
            "a#b",
            "a\"",
            "%4",
            "%zz",
            "a<b",
            "a\tb",
            "\u{e9}",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn opaque_bytes_of_a_path_pass() {
        let bytes = &b"GET /\xff\xe9?\x80 HTTP/1.1\r\nHost: h\r\n\r\n"[..];
        let head = RequestHead::parse(bytes, bytes.len(), Vec::new(), 100).unwrap();
        let target = parse(&head).unwrap();
        assert_eq!((target.path, target.query), (&b"/\xff\xe9"[..], Some(&b"\x80"[..])));
    }
}
