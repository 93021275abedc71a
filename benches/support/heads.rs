//! Heads as clients and backends send them.

/// What a browser sends for a page: 12 fields.
pub const BROWSER: &[u8] = b"GET /assets/app.js?v=20240131 HTTP/1.1\r\n\
Host: www.shop.example\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://www.shop.example/catalogue/chairs\r\n\
Connection: keep-alive\r\n\
Cookie: session=4a7d1ed414474e4033ac29ccb8653d9b; theme=dark; consent=1\r\n\
Sec-Fetch-Dest: script\r\n\
Sec-Fetch-Mode: no-cors\r\n\
Sec-Fetch-Site: same-origin\r\n\
If-None-Match: \"5f3a-61b2c9d0e7a40\"\r\n\r\n";

/// Fields of [`BROWSER`].
pub const BROWSER_FIELDS: usize = 12;

/// A request that opens a WebSocket (RFC 6455 1.3): 8 fields.
pub const HANDSHAKE: &[u8] = b"GET /chat/room/7 HTTP/1.1\r\n\
Host: www.shop.example\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Origin: https://www.shop.example\r\n\
Connection: keep-alive, Upgrade\r\n\
Upgrade: websocket\r\n\
Sec-WebSocket-Version: 13\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// Fields of [`HANDSHAKE`].
pub const HANDSHAKE_FIELDS: usize = 8;

/// The answer that opens it.
pub const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
Upgrade: websocket\r\n\
Connection: Upgrade\r\n\
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A request with a body of known length.
pub const WITH_LENGTH: &[u8] = b"POST /orders HTTP/1.1\r\n\
Host: www.shop.example\r\n\
Content-Type: application/json\r\n\
Content-Length: 27\r\n\r\n";

/// A request with a body in chunks.
pub const CHUNKED: &[u8] = b"POST /orders HTTP/1.1\r\n\
Host: www.shop.example\r\n\
Content-Type: application/json\r\n\
Transfer-Encoding: chunked\r\n\r\n";
