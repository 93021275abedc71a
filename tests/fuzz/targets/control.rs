//! Requests to the control endpoint: who may pass, what is asked for, and the answers to what is not.

use phantom_frame::control::answer::{Answer, Manner};
use phantom_frame::control::endpoint::{Endpoint, Guard};
use phantom_frame::control::json::{
    ByPath, ByPaths, ByPattern, ByPatterns, ByServer, Summary, read,
};
use phantom_frame::http1::chunked::Decoder;
use phantom_frame::http1::framing::{Framing, response_framing};
use phantom_frame::http1::head::{HeadScanner, RequestHead, ResponseHead};
use phantom_frame::proxy::decide::ask;

use super::{FIELDS_MAX, shown};

/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A request with its body, as it is sent to the control endpoint. The token is `t`.
pub fn control(data: &[u8]) {
    let Ok(Some(len)) = HeadScanner::new().scan(data, HEAD_BYTES_MAX) else { return };
    let Ok(head) = RequestHead::parse(data, len, Vec::new(), FIELDS_MAX) else { return };
    let Ok(asked) = ask(&head) else { return };
    let endpoint = match Endpoint::find(head.method(), asked.target.path) {
        Ok(endpoint) => endpoint,
        Err(answer) => {
            assert!(matches!(answer.status, 404 | 405));
            return check_answer(&answer);
        }
    };
    let fields = head.fields();
    let tokens: Vec<_> = fields.all("authorization").collect();
    let guard = Guard::new(Some("t"));
    assert_eq!(guard.admits(fields), tokens == [b"Bearer t"]);
    assert!(Guard::new(None).admits(fields));
    if endpoint.needs_token() && !guard.admits(fields) {
        return;
    }
    if let Some(body) = body_of(asked.framing, &data[len..]) {
        check_body(endpoint, fields.first("content-type"), &body);
    }
}

/// Reads the body, if it is whole.
fn body_of(framing: Framing, bytes: &[u8]) -> Option<Vec<u8>> {
    match framing {
        Framing::Length(length) => bytes.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec),
        Framing::Chunked => {
            let mut bytes = bytes.to_vec();
            let decoded = Decoder::new(4096).decode(&mut bytes).ok().filter(|body| body.done)?;
            bytes.truncate(decoded.payload);
            Some(bytes)
        }
        Framing::UntilClose => panic!("a request ends before its connection"),
    }
}

fn check_body(endpoint: Endpoint, content_type: Option<&[u8]>, body: &[u8]) {
    let refused = match endpoint {
        Endpoint::Health
        | Endpoint::Readiness
        | Endpoint::Metrics
        | Endpoint::InvalidateAll { .. } => return,
        Endpoint::Invalidate => read::<ByPattern>(content_type, body).err(),
        Endpoint::BulkInvalidate => {
            let wish = read::<ByPatterns>(content_type, body);
            wish.map(|wish| check_summary(wish.server.as_deref(), &wish.patterns)).err()
        }
        Endpoint::Snapshot => read::<ByPath>(content_type, body).err(),
        Endpoint::BulkSnapshot { .. } => {
            let wish = read::<ByPaths>(content_type, body);
            wish.map(|wish| check_summary(wish.server.as_deref(), &wish.paths)).err()
        }
        Endpoint::RefreshAllSnapshots => read::<ByServer>(content_type, body).err(),
    };
    if let Some(answer) = refused {
        assert!(matches!(answer.status, 400 | 415 | 422));
        assert_eq!(answer.status == 415, read::<ByServer>(content_type, b"{}").is_err());
        check_answer(&answer);
    }
}

/// Checks that a summary of anything is JSON that says which server was meant.
fn check_summary(server: Option<&str>, items: &[String]) {
    let answer = Summary::new("bulk", server, items, Some("no")).answer();
    check_answer(&answer);
    let bytes = answer.to_bytes(Manner { keep: true, answers_head: false, date: "now" });
    let text = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let again = read::<ByServer>(Some(b"application/json"), &bytes[text + 4..]);
    let again = again.unwrap_or_else(|_| panic!("no JSON: {}", shown(&bytes)));
    assert_eq!(again.server.as_deref(), server);
}

/// Checks that an answer is one response, whatever text is in it.
fn check_answer(answer: &Answer) {
    for (keep, answers_head) in [(true, false), (false, false), (true, true)] {
        let bytes = answer.to_bytes(Manner { keep, answers_head, date: "now" });
        let len = HeadScanner::new().scan(&bytes, HEAD_BYTES_MAX);
        let len = len.expect("a sound head").expect("a whole head");
        let head = ResponseHead::parse(&bytes[..], len, Vec::new(), FIELDS_MAX).expect("a head");
        let framing = response_framing(answers_head, head.status(), head.version(), head.fields());
        assert_eq!(framing, Ok(Framing::Length((bytes.len() - len) as u64)), "{}", shown(&bytes));
        assert_eq!(head.status(), answer.status);
        assert_eq!(head.fields().has_token("connection", "close"), !keep);
    }
}
