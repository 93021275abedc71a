//! The responses that we invent, as ready bytes.
//!
//! Each is short, plain and says what happened to the person who reads it, never a detail of what is
//! behind us. None may be stored: what went wrong now may go right the next time.

use super::forward::{write_field, write_number};

/// A response of our own.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The status code, 100 to 999; 1xx, 204 and 304 go without a body.
    pub status: u16,
    /// The body: one short sentence, without its line end.
    pub text: &'a str,
    /// Whether the connection closes after it.
    pub close: bool,
    /// The IMF-fixdate for Date (RFC 9110 §6.6.1); empty leaves the field out.
    pub date: &'a [u8],
    /// Whether the request was HEAD: the same head, no body.
    pub answers_head: bool,
    /// The value of Allow, which a 405 must have (RFC 9110 §15.5.6).
    pub allow: Option<&'a str>,
    /// Seconds after which the client may try again, for Retry-After (RFC 9110 §10.2.3).
    pub retry_after: Option<u32>,
}

/// Appends the whole response to `out`.
pub fn write(out: &mut Vec<u8>, reply: &Reply<'_>) {
    let is_bodiless = matches!(reply.status, 100..=199 | 204 | 304);
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(reply.status));
    out.push(b' ');
    out.extend_from_slice(reason(reply.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if !is_bodiless {
        write_field(out, b"Content-Type", b"text/plain; charset=utf-8");
        out.extend_from_slice(b"Content-Length: ");
        write_number(out, reply.text.len() as u64 + 1);
        out.extend_from_slice(b"\r\n");
    }
    write_field(out, b"Cache-Control", b"no-store");
    if let Some(allow) = reply.allow {
        write_field(out, b"Allow", allow.as_bytes());
    }
    if let Some(seconds) = reply.retry_after {
        out.extend_from_slice(b"Retry-After: ");
        write_number(out, u64::from(seconds));
        out.extend_from_slice(b"\r\n");
    }
    if !reply.date.is_empty() {
        write_field(out, b"Date", reply.date);
    }
    if reply.close {
        write_field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !is_bodiless && !reply.answers_head {
        out.extend_from_slice(reply.text.as_bytes());
        out.push(b'\n');
    }
}

/// Returns the usual reason phrase of a status code (RFC 9110 §15), `Unknown` if it has none.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Reply<'_> = Reply {
        status: 502,
        text: "The backend refused the connection.",
        close: false,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        answers_head: false,
        allow: None,
        retry_after: None,
    };

    fn written(reply: &Reply<'_>) -> String {
        let mut out = b"before ".to_vec();
        write(&mut out, reply);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_a_complete_response_behind_what_was_there() {
        let expected = "before HTTP/1.1 502 Bad Gateway\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Length: 36\r\n\
            Cache-Control: no-store\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            \r\n\
            The backend refused the connection.\n";
        assert_eq!(written(&PLAIN), expected);
    }

    #[test]
    fn an_answer_to_head_has_the_same_head_and_no_body() {
        let whole = written(&PLAIN);
        let head = written(&Reply { answers_head: true, ..PLAIN });
        assert_eq!(head, whole.strip_suffix("The backend refused the connection.\n").unwrap());
    }

    #[test]
    fn close_and_allow_are_said_when_asked_for() {
        let reply =
            Reply { status: 405, close: true, allow: Some("GET, HEAD"), date: b"", ..PLAIN };
        let text = written(&reply);
        assert!(text.contains("\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"), "{text}");
        assert!(!text.contains("Date"), "{text}");
        let text = written(&Reply { status: 429, retry_after: Some(15), ..reply });
        assert!(text.contains("\r\nRetry-After: 15\r\nConnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn statuses_without_content_get_none() {
        for status in [100, 204, 304] {
            let text = written(&Reply { status, ..PLAIN });
            assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-"), "{text}");
        }
    }

    #[test]
    fn unknown_statuses_have_a_reason_all_the_same() {
        assert_eq!(reason(404), "Not Found");
        assert_eq!(reason(599), "Unknown");
    }
}
