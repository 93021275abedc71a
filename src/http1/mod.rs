//! HTTP/1.1 on the wire: bytes in, values out (RFC 9112).
//!
//! Nothing here knows a socket, a clock, the configuration or a log, and nothing here is from the
//! rest of the crate. The one rule: what two parsers could read differently is refused, never
//! repaired, in requests and in responses alike. A proxy that guesses is the first half of a
//! request-smuggling attack.
//!
//! The way of a request: [`head::HeadScanner`] finds the end of its head, [`head::RequestHead`]
//! parses it, [`framing::request_framing`] says where its body ends, [`target::parse`] what it
//! asks for, [`upgrade::offer`] whether it wants to leave HTTP, and [`forward::request`] writes it
//! for the backend. The answer comes back through [`head::ResponseHead`],
//! [`framing::response_framing`] and [`forward::response`]; [`reply::write`] writes the answers
//! that are ours.

pub mod chunked;
pub mod field;
pub mod forward;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod reply;
pub mod target;
pub mod upgrade;

#[cfg(test)]
mod tests;
