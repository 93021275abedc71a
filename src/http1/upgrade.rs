//! Whether a request offers to leave HTTP, and whether a 101 accepts that offer (RFC 9110 §7.8).
//!
//! Both questions have one dangerous wrong answer: a tunnel that one side does not believe in. Bytes
//! that it then takes for HTTP are requests nobody routed.

use super::{
    field::{Fields, is},
    head::Version,
};

/// The protocols that an upgrade request offers: at least one.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a>(Fields<'a>);

/// Returns what a request offers to upgrade to.
///
/// None unless it is HTTP/1.1, `Connection` (all its lines) holds the token `upgrade` and `Upgrade`
/// names a protocol. One without the other is an ordinary request (RFC 9110 §7.8).
pub fn offer(version: Version, fields: Fields<'_>) -> Option<Offer<'_>> {
    let is_offer = version == Version::Http11
        && fields.list("upgrade").next().is_some()
        && fields.has_token("connection", "upgrade");
    is_offer.then_some(Offer(fields))
}

impl<'a> Offer<'a> {
    /// Returns every offered protocol, in the client's order of preference.
    pub fn protocols(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.list("upgrade")
    }

    /// Returns whether every offered protocol is in `allowed`, compared without case.
    ///
    /// A name without version, `websocket`, allows every version of it (`websocket/13`). All of
    /// them must be: the backend is shown the whole offer and picks.
    pub fn is_within(self, allowed: &[String]) -> bool {
        self.protocols().all(|protocol| {
            let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
            allowed.iter().any(|allowed| is(protocol, allowed) || is(name, allowed))
        })
    }

    /// Returns whether a 101 with these fields accepts this offer: it names at least one protocol,
    /// and only offered ones (RFC 9110 §15.2.2). If not, the answer to the client is 502.
    pub fn accepted_by(self, response: Fields<'_>) -> bool {
        let mut accepted = response.list("upgrade").peekable();
        accepted.peek().is_some()
            && accepted.all(|protocol| {
                self.protocols().any(|offered| offered.eq_ignore_ascii_case(protocol))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::RequestHead;

    fn head(fields: &str) -> RequestHead<Vec<u8>> {
        let bytes = format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let len = bytes.len();
        RequestHead::parse(bytes, len, Vec::new(), 100).unwrap()
    }

    #[test]
    fn an_offer_needs_both_fields_and_http_1_1() {
        for (fields, expected) in [
            ("Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
            ("Connection: keep-alive, UPGRADE\r\nUpgrade: x\r\n", true),
            ("Connection: keep-alive\r\nconnection: ,upgrade,\r\nUpgrade: x\r\n", true),
            ("Connection: Upgrade\r\n", false),
            ("Upgrade: websocket\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: ,\r\n", false),
            ("Connection: Upgraded\r\nUpgrade: websocket\r\n", false),
            ("Connection: upgrade;q=1\r\nUpgrade: websocket\r\n", false),
            ("", false),
        ] {
            let head = head(fields);
            assert_eq!(offer(Version::Http11, head.fields()).is_some(), expected, "{fields}");
            assert!(offer(Version::Http10, head.fields()).is_none());
        }
    }

    #[test]
    fn every_offered_protocol_must_be_allowed() {
        let allowed = ["websocket".to_string(), "echo/2".to_string()];
        for (upgrade, expected) in [
            ("websocket", true),
            ("WebSocket", true),
            ("websocket/13", true),
            ("websocket, ECHO/2", true),
            ("echo", false),
            ("echo/3", false),
            ("websocket, h2c", false),
            ("websocket\r\nUpgrade: h2c", false),
        ] {
            let head = head(&format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"));
            let offer = offer(Version::Http11, head.fields()).unwrap();
            assert_eq!(offer.is_within(&allowed), expected, "{upgrade}");
            assert!(!offer.is_within(&[]));
        }
    }

    #[test]
    fn a_101_accepts_only_what_was_offered() {
        let request = head("Connection: Upgrade\r\nUpgrade: websocket, Echo/2\r\n");
        let offer = offer(Version::Http11, request.fields()).unwrap();
        for (fields, expected) in [
            ("Upgrade: websocket\r\n", true),
            ("Upgrade: WEBSOCKET\r\nConnection: Upgrade\r\n", true),
            ("Upgrade: echo/2, websocket\r\n", true),
            ("Upgrade: echo/2\r\nUpgrade: websocket\r\n", true),
            ("", false),
            ("Upgrade: ,\r\n", false),
            ("Upgrade: echo\r\n", false),
            ("Upgrade: h2c\r\n", false),
            ("Upgrade: websocket\r\nUpgrade: h2c\r\n", false),
            ("Connection: Upgrade\r\n", false),
        ] {
            assert_eq!(offer.accepted_by(head(fields).fields()), expected, "{fields}");
        }
    }
}
