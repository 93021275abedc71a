//! The URL of a backend, taken apart once.
//!
//! Everything in it ends up in heads we write, so the characters are checked here and nowhere else.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::Complaint;

/// The port of a URL that names none (RFC 9110 §4.2.1).
const HTTP_PORT: u16 = 80;

/// Bytes a name may have (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Where a backend is: `http://host[:port][/base]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendUrl {
    /// A name in lower case, or an address without brackets.
    pub host: String,
    /// 80 unless the URL says otherwise; never 0.
    pub port: u16,
    /// What is put in front of every request path: empty, or begins with `/` and does not end in
    /// one.
    pub base_path: String,
    /// The value of a `Host` field that names this backend (RFC 9110 §7.2): an IPv6 address in
    /// brackets, the port left out when it is 80.
    pub authority: String,
}

impl BackendUrl {
    /// Reads an absolute `http` URL (RFC 9110 §4.2.1) without user information, query or fragment.
    pub(super) fn parse(text: &str) -> Result<Self, Complaint> {
        let rest = after_scheme(text)?;
        // Before anything is quoted: the text may hold a password.
        if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(Complaint::new("a user name or password in the URL is not supported")
                .with_remedy("remove what stands before the `@`"));
        }
        if rest.contains(['?', '#']) {
            return Err(Complaint::new("a backend URL has no query and no fragment")
                .with_remedy("remove everything from the `?` or `#` on"));
        }
        let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
            Some(parts) => parts,
            None => (rest, ""),
        };
        let (host, port) = parse_authority(authority)?;
        let base_path = path.trim_end_matches('/');
        if !base_path.bytes().all(is_path_byte) {
            return Err(Complaint::new("the path holds a character that a URL cannot hold")
                .with_remedy("percent-encode it, such as `%20` for a space"));
        }
        let port = port.unwrap_or(HTTP_PORT);
        let authority = write_authority(&host, port);
        Ok(Self { host, port, base_path: base_path.to_owned(), authority })
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base_path)
    }
}

/// Checks `host[:port]` as the value of a `Host` field; returns it in lower case.
pub(super) fn parse_host_field(text: &str) -> Result<String, Complaint> {
    let (host, port) = parse_authority(text)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

fn after_scheme(text: &str) -> Result<&str, Complaint> {
    let try_this = "try `\"http://localhost:8080\"`";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Complaint::new("not a URL: `http://` is missing").with_remedy(try_this));
    };
    if scheme.eq_ignore_ascii_case("http") {
        Ok(rest)
    } else if scheme.eq_ignore_ascii_case("https") {
        Err(Complaint::new("TLS to backends is not available in this version")
            .with_remedy("use an `http://` URL of the backend"))
    } else {
        let message = "the scheme of a backend URL is `http` (WebSocket included)";
        Err(Complaint::new(message).with_remedy(try_this))
    }
}

/// Takes `host[:port]` apart; the host comes back without brackets, in lower case.
fn parse_authority(text: &str) -> Result<(String, Option<u16>), Complaint> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let address = bracketed.split_once(']').and_then(|(address, tail)| {
            let port = if tail.is_empty() { "" } else { tail.strip_prefix(':')? };
            Some((address.parse::<Ipv6Addr>().ok()?, (!tail.is_empty()).then_some(port)))
        });
        let (address, port) =
            address.ok_or_else(|| Complaint::new("not an IPv6 address between `[` and `]`"))?;
        return Ok((address.to_string(), port.map(parse_port).transpose()?));
    }
    let (host, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            return Err(Complaint::new("more than one `:` after the host")
                .with_remedy("put an IPv6 address between brackets: `[::1]:8080`"));
        }
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    check_name(host)?;
    Ok((host.to_ascii_lowercase(), port))
}

fn check_name(host: &str) -> Result<(), Complaint> {
    if host.is_empty() {
        return Err(Complaint::new("the host is missing"));
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(Complaint::new(format!("a host has at most {HOST_BYTES_MAX} characters")));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(allowed) || host.starts_with('.') || host.contains("..") {
        return Err(Complaint::new("the host is neither a name nor an address"));
    }
    // A last label of digits makes it an IPv4 address or a mistake, never a name (RFC 3696 §2).
    let label = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if label.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err(Complaint::new("the host is not a valid IPv4 address"));
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, Complaint> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(Complaint::new("the port is not a number from 1 to 65535")),
    }
}

fn write_authority(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == HTTP_PORT { host } else { format!("{host}:{port}") }
}

/// `pchar` and `/` of RFC 3986 §3.3; that two hexadecimal digits follow a `%` is the backend's to
/// see.
pub(super) fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, host, port, base_path, authority) in [
            ("http://localhost:8080", "localhost", 8080, "", "localhost:8080"),
            ("http://localhost", "localhost", 80, "", "localhost"),
            ("HTTP://LocalHost:80/", "localhost", 80, "", "localhost"),
            ("http://10.0.0.1:81/base", "10.0.0.1", 81, "/base", "10.0.0.1:81"),
            ("http://a_b.c/base/v1/", "a_b.c", 80, "/base/v1", "a_b.c"),
            ("http://[::1]:9000/x", "::1", 9000, "/x", "[::1]:9000"),
            ("http://[0:0::1]", "::1", 80, "", "[::1]"),
            ("http://h/%20a@b", "h", 80, "/%20a@b", "h"),
            ("http://example.com.:8080", "example.com.", 8080, "", "example.com.:8080"),
        ] {
            let url = BackendUrl::parse(text).expect(text);
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!((url.base_path.as_str(), url.authority.as_str()), (base_path, authority));
            assert_eq!(BackendUrl::parse(&url.to_string()), Ok(url), "{text}: display reads back");
        }
    }

    #[test]
    fn what_is_not_a_backend_url_is_refused() {
        for (text, part) in [
            ("", "`http://` is missing"),
            ("localhost:8080", "`http://` is missing"),
            ("/base", "`http://` is missing"),
            ("https://h", "TLS to backends is not available in this version"),
            ("HTTPS://h", "TLS to backends"),
            ("ws://h", "the scheme"),
            ("http://", "the host is missing"),
            ("http:///x", "the host is missing"),
            ("http://:80", "the host is missing"),
            ("http://h:", "the port"),
            ("http://h:0", "the port"),
            ("http://h:65536", "the port"),
            ("http://h:+80", "the port"),
            ("http://h:x", "the port"),
            ("http://::1:80", "more than one `:`"),
            ("http://[::1", "IPv6"),
            ("http://[::1]80", "IPv6"),
            ("http://[fe80::1%25eth0]", "IPv6"),
            ("http://[127.0.0.1]", "IPv6"),
            ("http://300.1.1.1", "IPv4"),
            ("http://127.1", "IPv4"),
            ("http://a b", "neither a name"),
            ("http://a..b", "neither a name"),
            ("http://hé", "neither a name"),
            ("http://a\r\nX", "neither a name"),
            ("http://a\r\nX: y", "the port"),
            ("http://u:secret@h", "a user name or password"),
            ("http://h?x", "no query"),
            ("http://h/x?y", "no query"),
            ("http://h/#f", "no query"),
            ("http://h/a b", "the path"),
            ("http://h/\u{e9}", "the path"),
        ] {
            let complaint = BackendUrl::parse(text).expect_err(text);
            assert!(complaint.message.contains(part), "{text}: {complaint:?}");
            assert!(!complaint.message.contains("secret"), "{complaint:?}");
        }
    }

    #[test]
    fn a_host_field_is_a_host_and_perhaps_a_port() {
        assert_eq!(parse_host_field("Example.com"), Ok("example.com".to_owned()));
        assert_eq!(parse_host_field("example.com:80"), Ok("example.com:80".to_owned()));
        assert_eq!(parse_host_field("[::1]:8080"), Ok("[::1]:8080".to_owned()));
        for text in ["", "a b", "http://h", "h/x", "u@h", "h:x", "::1"] {
            assert!(parse_host_field(text).is_err(), "{text}");
        }
    }
}
