//! An answer of the control endpoint, as a value and as bytes.

use crate::http1::reply::reason;
use crate::metrics::text;

/// What is answered. The texts are whole bodies: no line end is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Body,
    /// The value of Allow, for a 405.
    pub allow: Option<&'static str>,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    Empty,
    /// Plain text.
    Text(String),
    /// JSON.
    Json(String),
    /// Prometheus text.
    Metrics(String),
}

impl Body {
    fn media_type(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Text(_) => Some("text/plain; charset=utf-8"),
            Self::Json(_) => Some("application/json"),
            Self::Metrics(_) => Some(text::CONTENT_TYPE),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::Text(text) | Self::Json(text) | Self::Metrics(text) => text,
        }
    }
}

/// How an answer is given.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// Whether the connection goes on afterwards.
    pub keep: bool,
    /// Whether a HEAD request is answered: the same head, no body.
    pub answers_head: bool,
    /// The IMF-fixdate for Date.
    pub date: &'a str,
}

impl Answer {
    /// A 200 with this text.
    pub fn ok(text: impl Into<String>) -> Self {
        Self::text(200, text)
    }

    /// An answer with a text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, body: Body::Text(text.into()), allow: None }
    }

    /// An answer without a body.
    pub const fn empty(status: u16) -> Self {
        Self { status, body: Body::Empty, allow: None }
    }

    /// The whole response.
    pub fn to_bytes(&self, manner: Manner<'_>) -> Vec<u8> {
        let body = self.body.text();
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        if let Some(media_type) = self.body.media_type() {
            out.extend(["Content-Type: ", media_type, "\r\n"]);
        }
        out.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        out.push_str("Cache-Control: no-store\r\n");
        if let Some(allow) = self.allow {
            out.extend(["Allow: ", allow, "\r\n"]);
        }
        if self.status == 401 {
            // RFC 9110 §15.5.2 wants a challenge.
            out.push_str("WWW-Authenticate: Bearer\r\n");
        }
        out.extend(["Date: ", manner.date, "\r\n"]);
        if !manner.keep {
            out.push_str("Connection: close\r\n");
        }
        out.push_str("\r\n");
        if !manner.answers_head {
            out.push_str(body);
        }
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Manner<'_> =
        Manner { keep: true, answers_head: false, date: "Sun, 06 Nov 1994 08:49:37 GMT" };

    #[test]
    fn an_answer_is_a_complete_response() {
        let bytes = Answer::ok("Cache invalidated").to_bytes(KEEP);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Length: 17\r\nCache-Control: no-store\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nCache invalidated";
        assert_eq!(str::from_utf8(&bytes), Ok(expected));
    }

    #[test]
    fn an_empty_one_says_so_and_the_last_one_closes() {
        let bytes = Answer { allow: Some("POST"), ..Answer::empty(405) }
            .to_bytes(Manner { keep: false, ..KEEP });
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n"));
        assert!(text.contains("\r\nAllow: POST\r\n") && !text.contains("Content-Type"), "{text}");
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn an_answer_to_head_keeps_the_length_and_leaves_the_body_out() {
        let bytes = Answer::ok("ok").to_bytes(Manner { answers_head: true, ..KEEP });
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\nContent-Length: 2\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
