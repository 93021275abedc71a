//! WebSocket handshakes as text, for scripts that upgrade in bytes (RFC 6455 §4).

use std::fmt::Write;

use tungstenite::handshake::derive_accept_key;

/// The key of the example in RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Returns a handshake request with [`KEY`]; `fields` follow the handshake's own.
pub fn ws_request(path: &str, fields: &[(&str, &str)]) -> String {
    ws_request_with_key(path, KEY, fields)
}

/// Returns a handshake request with a key of the test's choice.
pub fn ws_request_with_key(path: &str, key: &str, fields: &[(&str, &str)]) -> String {
    let start = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    with_fields(start, fields)
}

/// Returns the 101 that answers a request with this key; `fields` follow the handshake's own.
pub fn switching_protocols(key: &str, fields: &[(&str, &str)]) -> String {
    let start = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    with_fields(start, fields)
}

/// Returns the value of `Sec-WebSocket-Accept` for a key.
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

fn with_fields(mut head: String, fields: &[(&str, &str)]) -> String {
    for (name, value) in fields {
        write!(head, "{name}: {value}\r\n").expect("a string takes all text");
    }
    head + "\r\n"
}
