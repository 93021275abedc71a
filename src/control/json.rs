//! The shapes of JSON bodies, in and out, and what is said about one that has another.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Body};

/// Asks for one pattern to be purged.
#[derive(Debug, Deserialize)]
pub struct ByPattern {
    /// In which `*` stands for any characters.
    pub pattern: String,
    /// The route's name; every route without it.
    pub server: Option<String>,
}

/// Asks for many patterns to be purged.
#[derive(Debug, Deserialize)]
pub struct ByPatterns {
    /// At least one.
    pub patterns: Vec<String>,
    /// The route's name; every route without it.
    pub server: Option<String>,
}

/// Asks something of the snapshot of one path.
#[derive(Debug, Deserialize)]
pub struct ByPath {
    /// The path; asked for so that a body without one is refused as it always was.
    #[serde(rename = "path")]
    _path: String,
    /// The route's name.
    pub server: Option<String>,
}

/// Asks something of the snapshots of many paths.
#[derive(Debug, Deserialize)]
pub struct ByPaths {
    /// At least one.
    pub paths: Vec<String>,
    /// The route's name.
    pub server: Option<String>,
}

/// Asks something of a route.
#[derive(Debug, Default, Deserialize)]
pub struct ByServer {
    /// The route's name.
    pub server: Option<String>,
}

/// How each of many items went.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    operation: &'static str,
    server: Option<&'a str>,
    requested: usize,
    succeeded: usize,
    failed: usize,
    results: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    item: &'a str,
    success: bool,
    error: Option<&'static str>,
}

impl<'a> Summary<'a> {
    /// All items went the same way: well, or wrong with this `error`.
    pub fn new(
        operation: &'static str,
        server: Option<&'a str>,
        items: &'a [String],
        error: Option<&'static str>,
    ) -> Self {
        let requested = items.len();
        let succeeded = if error.is_none() { requested } else { 0 };
        let success = error.is_none();
        let results = items.iter().map(|item| Line { item, success, error }).collect();
        Self { operation, server, requested, succeeded, failed: requested - succeeded, results }
    }

    /// The 200 that tells it.
    pub fn answer(&self) -> Answer {
        match serde_json::to_string(self) {
            Ok(text) => Answer { status: 200, body: Body::Json(text), allow: None },
            // Strings and numbers always can be written.
            Err(error) => Answer::text(500, error.to_string()),
        }
    }
}

/// Reads a body of this shape.
///
/// # Errors
///
/// Answer so: the body is declared as something else (415), is no JSON (400) or has another shape
/// (422).
pub fn read<T: DeserializeOwned>(content_type: Option<&[u8]>, body: &[u8]) -> Result<T, Answer> {
    if !content_type.is_some_and(is_json) {
        return Err(Answer::text(415, "Expected request with `Content-Type: application/json`"));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let text = format!("Failed to deserialize the JSON body into the target type: {error}");
            Answer::text(422, text)
        }
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => {
            Answer::text(400, format!("Failed to parse the request body as JSON: {error}"))
        }
    })
}

/// Whether a media type is `application/json` or `application/...+json`, whatever its parameters.
fn is_json(content_type: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(content_type) else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> Answer {
        read::<T>(Some(b"application/json"), body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_body_has_to_say_that_it_is_json() {
        let read = |content_type: Option<&[u8]>| read::<ByServer>(content_type, b"{}");
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;a=b",
            "application/problem+json",
        ] {
            assert!(read(Some(good.as_bytes())).is_ok(), "{good}");
        }
        for bad in
            ["text/plain", "", "json", "application/jsonx", "text/json", "a, application/json"]
        {
            assert_eq!(read(Some(bad.as_bytes())).unwrap_err().status, 415, "{bad}");
        }
        let expected = Answer::text(415, "Expected request with `Content-Type: application/json`");
        assert_eq!(read(None).unwrap_err(), expected);
        assert_eq!(read(Some(b"application/json\xff")).unwrap_err().status, 415);
    }

    #[test]
    fn bad_syntax_and_a_bad_shape_are_told_apart() {
        for body in ["", "{", "{\"pattern\":\"a\"} x", "nonsense", "{\"pattern\":\"\u{1}\"}"] {
            assert_eq!(refused::<ByPattern>(body).status, 400, "{body}");
        }
        for body in ["{}", "[]", "{\"pattern\":1}", "{\"pattern\":null}", "\"a\""] {
            assert_eq!(refused::<ByPattern>(body).status, 422, "{body}");
        }
        assert_eq!(refused::<ByPatterns>("{\"patterns\":\"a\"}").status, 422);
        assert_eq!(refused::<ByPatterns>("{\"patterns\":[\"a\",1]}").status, 422);
        assert_eq!(refused::<ByPatterns>("{\"patterns\":[],\"server\":5}").status, 422);
    }

    #[test]
    fn a_server_may_be_absent_or_null_and_more_may_be_said() {
        for body in ["{\"pattern\":\"a\"}", "{\"pattern\":\"a\",\"server\":null,\"b\":[{}]}"] {
            let read: ByPattern = read(Some(b"application/json"), body.as_bytes()).unwrap();
            assert_eq!((&*read.pattern, read.server), ("a", None));
        }
    }

    #[test]
    fn a_summary_reads_as_the_originals() {
        let items = ["GET:/q/*".to_owned()];
        let text = |summary: Summary<'_>| match summary.answer().body {
            Body::Json(text) => text,
            body @ (Body::Empty | Body::Text(_) | Body::Metrics(_)) => panic!("{body:?}"),
        };
        assert_eq!(
            text(Summary::new("bulk_invalidate", Some("default"), &items, None)),
            r#"{"operation":"bulk_invalidate","server":"default","requested":1,"succeeded":1,"failed":0,"results":[{"item":"GET:/q/*","success":true,"error":null}]}"#
        );
        assert_eq!(
            text(Summary::new("bulk_add_snapshot", None, &items, Some("no"))),
            r#"{"operation":"bulk_add_snapshot","server":null,"requested":1,"succeeded":0,"failed":1,"results":[{"item":"GET:/q/*","success":false,"error":"no"}]}"#
        );
    }
}
