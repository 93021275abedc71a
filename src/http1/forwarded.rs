//! Whose request it is, behind proxies that say so.
//!
//! X-Forwarded-For is a list to which every hop appends whom it was called by: only its end can be
//! trusted, as far as those who wrote it are.

use std::net::{IpAddr, SocketAddr};

use super::field::{Fields, members};

/// Returns the address that asked: the last one on the way here that is no trusted proxy.
///
/// `peer` is who connected. `None` if everybody who is known is trusted: nobody else is named, or what
/// the last trusted proxy says is no address.
///
/// # Examples
///
/// ```
/// use phantom_frame::http1::forwarded::client;
/// use phantom_frame::http1::head::RequestHead;
///
/// let head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.0.0.2\r\n\r\n";
/// let head = RequestHead::parse(&head[..], head.len(), Vec::new(), 100).unwrap();
/// let is_trusted = |address: std::net::IpAddr| address.to_string().starts_with("10.");
/// let found = client(head.fields(), "10.0.0.1".parse().unwrap(), is_trusted);
/// // The first entry is what 192.0.2.7 has said about itself.
/// assert_eq!(found, Some("192.0.2.7".parse().unwrap()));
/// ```
pub fn client(
    fields: Fields<'_>,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    if !is_trusted(peer) {
        return Some(peer);
    }
    // From the end, over all lines together; a head has few of them.
    let lines: Vec<_> = fields.all("x-forwarded-for").collect();
    for line in lines.into_iter().rev() {
        let hops: Vec<_> = members(line).filter(|hop| !hop.is_empty()).collect();
        for hop in hops.into_iter().rev() {
            let address = parse(hop)?;
            if !is_trusted(address) {
                return Some(address);
            }
        }
    }
    None
}

/// Reads an address with or without a port, which some proxies add.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::RequestHead;

    /// Whom a request comes from whose peer is 10.0.0.1; everything in 10.0.0.0/8 is trusted.
    fn found(lines: &[&str]) -> Option<String> {
        let lines = [&["GET / HTTP/1.1"], lines, &["", ""]].concat();
        let bytes = lines.join("\r\n").into_bytes();
        let len = bytes.len();
        let head = RequestHead::parse(bytes, len, Vec::new(), 100).unwrap();
        let is_trusted = |address| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
        let client = client(head.fields(), "10.0.0.1".parse().unwrap(), is_trusted);
        client.map(|address| address.to_string())
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        for (lines, expected) in [
            (&["X-Forwarded-For: 192.0.2.1"][..], Some("192.0.2.1")),
            (&["X-Forwarded-For: 1.1.1.1, 192.0.2.1,10.1.1.1 , 10.2.2.2"], Some("192.0.2.1")),
            (
                &["x-forwarded-for: 192.0.2.1", "A: b", "X-Forwarded-For: 10.1.1.1"],
                Some("192.0.2.1"),
            ),
            (&["X-Forwarded-For: 2001:db8::1"], Some("2001:db8::1")),
            (&["X-Forwarded-For: [2001:db8::1]:443, , "], Some("2001:db8::1")),
            (&["X-Forwarded-For: [2001:db8::1]"], Some("2001:db8::1")),
            (&["X-Forwarded-For: 192.0.2.1:5000"], Some("192.0.2.1")),
            (&["X-Forwarded-For: ::ffff:192.0.2.1"], Some("192.0.2.1")),
            // Nobody is named.
            (&[], None),
            (&["X-Forwarded-For: "], None),
            (&["X-Forwarded-For: 10.1.1.1, 10.2.2.2"], None),
            (&["X-Real-IP: 192.0.2.1", "X_Forwarded_For: 192.0.2.2"], None),
            // Nothing in front of what cannot be read is anybody's word that counts.
            (&["X-Forwarded-For: 192.0.2.1, unknown"], None),
            (&["X-Forwarded-For: 192.0.2.1, \u{e9}"], None),
        ] {
            assert_eq!(found(lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn whoever_is_not_trusted_is_not_listened_to() {
        let bytes = b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        let head = RequestHead::parse(&bytes[..], bytes.len(), Vec::new(), 100).unwrap();
        let peer: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(client(head.fields(), peer, |_| false), Some(peer));
    }
}
