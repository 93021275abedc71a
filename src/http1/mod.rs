//! HTTP/1.1 on the wire: bytes in, values out (RFC 9112).
//!
//! Nothing here knows a socket, a clock, the configuration or a log, and nothing here is from the
//! rest of the crate. The one rule: what two parsers could read differently is refused, never
//! repaired, in requests and in responses alike. A proxy that guesses is the first half of a
//! request-smuggling attack.

pub mod chunked;
pub mod field;
pub mod framing;
pub mod head;
pub mod target;

#[cfg(test)]
mod tests;
