//! Trailers for the next hop.
//!
//! Some recipients merge trailers into the head they have already acted on, so a field that would
//! have changed what was done must not arrive this late (RFC 9110 §6.5.1).

use crate::http1::field::{folds_to, is_hop_by_hop, starts_folded};

/// Appends the trailer lines of `section` that may go on to `out`; not the empty line behind them.
///
/// `section` is what [`Decoder::trailers`](crate::http1::chunked::Decoder::trailers) returned:
/// complete lines, already checked.
pub fn trailers(out: &mut Vec<u8>, section: &[u8]) {
    for line in section.split_inclusive(|&byte| byte == b'\n') {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if !is_forbidden(name) {
            out.extend_from_slice(line);
        }
    }
}

fn is_forbidden(name: &[u8]) -> bool {
    is_hop_by_hop(name)
        || FORBIDDEN_PREFIXES.iter().any(|prefix| starts_folded(name, prefix))
        || FORBIDDEN.iter().any(|forbidden| folds_to(name, forbidden))
}

const FORBIDDEN_PREFIXES: [&str; 4] = ["x-forwarded-", "proxy-", "if-", "sec-websocket-"];

/// Names that a trailer must not have, by the groups of RFC 9110 §6.5.1; hop-by-hop names again,
/// for backends that fold `_` into `-`.
const FORBIDDEN: [&str; 38] = [
    // Framing.
    "content-length",
    "transfer-encoding",
    "trailer",
    // Routing and the connection.
    "host",
    "forwarded",
    "connection",
    "keep-alive",
    "upgrade",
    "http2-settings",
    "te",
    // Modifiers of the request.
    "cache-control",
    "expect",
    "max-forwards",
    "pragma",
    "range",
    // Authentication and state.
    "authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "proxy",
    // Control of the response.
    "age",
    "expires",
    "date",
    "location",
    "retry-after",
    "vary",
    "warning",
    "allow",
    "alt-svc",
    "strict-transport-security",
    // How to read the content.
    "content-encoding",
    "content-type",
    "content-range",
    "content-language",
    "content-location",
    "content-disposition",
    "content-security-policy",
    "x-real-ip",
];
