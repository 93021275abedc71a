//! Preconditions and ranges.

use Answer::{NotModified, Partial, Unsatisfiable, Whole};

use super::*;

fn answered(method: &str, request: &str, status: u16, stored: &str, len: u64) -> Answer {
    with_fields(stored, |fields| {
        let stored = Representation { status, fields, len, received: ARRIVAL };
        with_fields(request, |request| answer(method, request, &stored))
    })
}

fn asked(request: &str, stored: &str) -> Answer {
    answered("GET", request, 200, stored, 10)
}

#[test]
fn if_none_match_compares_entity_tags_weakly() {
    for (request, tag, expected) in [
        ("\"a\"", "\"a\"", NotModified),
        ("W/\"a\"", "\"a\"", NotModified),
        ("\"a\"", "W/\"a\"", NotModified),
        ("W/\"a\"", "W/\"a\"", NotModified),
        ("\"a\", \"b\", \"c\"", "\"a\"", NotModified),
        ("\"b\", \"a\", \"c\"", "\"a\"", NotModified),
        ("\"b\",\"c\",W/\"a\"", "\"a\"", NotModified),
        ("\"b\"\nIf-None-Match: \"a\"", "\"a\"", NotModified),
        ("\"a,b\"", "\"a,b\"", NotModified),
        ("\"a\u{fc}\"", "\"a\u{fc}\"", NotModified),
        ("*", "\"a\"", NotModified),
        ("a", "a", NotModified),
        ("a", "\"a\"", Whole),
        ("\"A\"", "\"a\"", Whole),
        ("\"b\"", "\"a\"", Whole),
        ("\"a,b\"", "\"a\"", Whole),
        ("", "\"a\"", Whole),
        (",,", "\"a\"", Whole),
        ("\"a", "\"a\"", Whole),
    ] {
        let found = asked(&format!("If-None-Match: {request}"), &format!("ETag: {tag}"));
        assert_eq!(found, expected, "{request} | {tag}");
    }
    assert_eq!(asked("If-None-Match: \"a\"", "X: y"), Whole);
    assert_eq!(asked("If-None-Match: *", "X: y"), NotModified);
}

#[test]
fn if_none_match_goes_before_if_modified_since() {
    let stored = "ETag: \"a\"\nLast-Modified: @-5000";
    assert_eq!(asked("If-None-Match: \"a\"\nIf-Modified-Since: @-10000", stored), NotModified);
    assert_eq!(asked("If-None-Match: \"b\"\nIf-Modified-Since: @0", stored), Whole);
}

#[test]
fn if_modified_since_compares_dates() {
    let old = "Last-Modified: @-3000\nDate: @0";
    for (request, stored, expected) in [
        ("@-3000", old, NotModified),
        ("@-2000", old, NotModified),
        ("@-3001", old, Whole),
        ("nonsense", old, Whole),
        ("@-3000\nIf-Modified-Since: @-3000", old, Whole),
        // Without Last-Modified the Date counts, and without that the arrival.
        ("@0", "Date: @-10", NotModified),
        ("@-20", "Date: @-10", Whole),
        ("@0", "", NotModified),
        ("@-1", "", Whole),
        ("@0", "Last-Modified: nonsense", NotModified),
    ] {
        let found = asked(&format!("If-Modified-Since: {request}"), stored);
        assert_eq!(found, expected, "{request} | {stored}");
    }
    let odd = "Last-Modified: Friday, 18-Aug-00 02:01:18 GMT";
    assert_eq!(asked("If-Modified-Since: Fri, 18 Aug 2000 02:01:18 GMT", odd), NotModified);
}

#[test]
fn preconditions_are_for_success() {
    let (request, stored) = ("If-None-Match: \"a\"\nRange: bytes=0-1", "ETag: \"a\"");
    for status in [301, 302, 404, 410, 500] {
        assert_eq!(answered("GET", request, status, stored, 10), Whole, "{status}");
    }
    assert_eq!(answered("GET", request, 203, stored, 10), NotModified);
    assert_eq!(answered("HEAD", request, 200, stored, 10), NotModified);
    assert_eq!(answered("GET", "Range: bytes=0-1", 203, stored, 10), Whole);
    assert_eq!(answered("HEAD", "Range: bytes=0-1", 200, stored, 10), Whole);
}

#[test]
fn one_range_of_bytes_is_served() {
    for (range, expected) in [
        ("bytes=0-1", Partial { first: 0, last: 1 }),
        ("BYTES=0-0", Partial { first: 0, last: 0 }),
        ("bytes=1-", Partial { first: 1, last: 9 }),
        ("bytes=9-", Partial { first: 9, last: 9 }),
        ("bytes=5-100", Partial { first: 5, last: 9 }),
        ("bytes=0-99999999999999999999999", Partial { first: 0, last: 9 }),
        ("bytes=-1", Partial { first: 9, last: 9 }),
        ("bytes=-10", Partial { first: 0, last: 9 }),
        ("bytes=-11", Partial { first: 0, last: 9 }),
        ("bytes=-99999999999999999999999", Partial { first: 0, last: 9 }),
        ("bytes=, 2-3 ,", Partial { first: 2, last: 3 }),
        ("bytes=10-", Unsatisfiable),
        ("bytes=10-11", Unsatisfiable),
        ("bytes=99999999999999999999999-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=0-1,3-4", Whole),
        ("bytes=0-1,20-30", Whole),
        ("bytes=3-2", Whole),
        ("bytes=-", Whole),
        ("bytes=", Whole),
        ("bytes", Whole),
        ("bytes=a-b", Whole),
        ("bytes=0-1-2", Whole),
        ("bytes=0-b", Whole),
        ("bytes=+0-1", Whole),
        ("bytes=0 - 1", Whole),
        ("bytes =0-1", Whole),
        ("items=0-1", Whole),
        ("bytes=0-1\nRange: bytes=0-1", Whole),
    ] {
        assert_eq!(asked(&format!("Range: {range}"), ""), expected, "{range}");
    }
    for (range, expected) in
        [("bytes=0-", Unsatisfiable), ("bytes=-5", Whole), ("bytes=-0", Unsatisfiable)]
    {
        let found = answered("GET", &format!("Range: {range}"), 200, "", 0);
        assert_eq!(found, expected, "{range} of nothing");
    }
}

#[test]
fn if_range_wants_the_very_same_response() {
    let part = Partial { first: 0, last: 1 };
    let dated = "Last-Modified: @-3000\nDate: @0";
    for (condition, stored, expected) in [
        ("\"a\"", "ETag: \"a\"", part),
        ("\"b\"", "ETag: \"a\"", Whole),
        ("W/\"a\"", "ETag: W/\"a\"", Whole),
        ("\"a\"", "ETag: W/\"a\"", Whole),
        ("a", "ETag: a", Whole),
        ("\"a\"", "", Whole),
        ("@-3000", dated, part),
        ("@-2000", dated, Whole),
        ("@-3001", dated, Whole),
        ("@0", "Last-Modified: @0\nDate: @0", Whole),
        ("@-3000", "Last-Modified: @-3000", Whole),
        ("@-3000", "ETag: \"a\"", Whole),
        ("nonsense", dated, Whole),
        ("\"a\"\nIf-Range: \"a\"", "ETag: \"a\"", Whole),
    ] {
        let request = format!("Range: bytes=0-1\nIf-Range: {condition}");
        assert_eq!(asked(&request, stored), expected, "{condition} | {stored}");
    }
}

#[test]
fn the_backend_judges_what_is_about_changes() {
    assert!(with_fields("If-Match: \"a\"", must_pass));
    assert!(with_fields("If-Unmodified-Since: @0", must_pass));
    assert!(!with_fields("If-None-Match: \"a\"\nIf-Modified-Since: @0\nIf-Range: x", must_pass));
}

#[test]
fn validators_are_sent_as_they_came() {
    for (stored, expected) in [
        ("ETag: \"a\"", "If-None-Match: \"a\"\r\n"),
        ("ETag: W/\"a\"", "If-None-Match: W/\"a\"\r\n"),
        (
            "Last-Modified: Fri, 18 aug 2000 02:01:18 GMT",
            "If-Modified-Since: Fri, 18 aug 2000 02:01:18 GMT\r\n",
        ),
        (
            "ETag: \"a\"\nLast-Modified: Fri, 18 Aug 2000 02:01:18 GMT",
            "If-None-Match: \"a\"\r\nIf-Modified-Since: Fri, 18 Aug 2000 02:01:18 GMT\r\n",
        ),
        ("Last-Modified: nonsense", ""),
        ("ETag:", ""),
        ("Date: @0", ""),
    ] {
        let mut out = Vec::new();
        let has_any = with_fields(stored, |fields| write_validators(&mut out, fields));
        assert_eq!(str::from_utf8(&out).unwrap(), expected, "{stored}");
        assert_eq!(has_any, !expected.is_empty(), "{stored}");
    }
}

#[test]
fn a_304_speaks_of_the_response_with_its_validators() {
    for (stored, answer, expected) in [
        ("ETag: \"a\"", "ETag: \"a\"", true),
        ("ETag: \"a\"", "ETag: \"b\"", false),
        ("ETag: \"a\"", "ETag: W/\"a\"", true),
        ("ETag: W/\"a\"", "ETag: W/\"a\"", true),
        ("ETag: W/\"a\"", "ETag: W/\"b\"", false),
        ("ETag: W/\"a\"", "ETag: \"a\"", true),
        ("Last-Modified: @-10", "ETag: \"a\"", false),
        ("Last-Modified: @-10", "Last-Modified: @-10", true),
        ("Last-Modified: @-10", "Last-Modified: @-5", false),
        ("ETag: \"a\"\nLast-Modified: @-10", "ETag: \"a\"\nLast-Modified: @-5", true),
        ("ETag: \"a\"", "Last-Modified: @-5", true),
        ("ETag: \"a\"", "Date: @0", true),
    ] {
        let found =
            with_fields(stored, |stored| with_fields(answer, |answer| matches_304(stored, answer)));
        assert_eq!(found, expected, "{stored} | {answer}");
    }
}

#[test]
fn a_head_confirms_what_it_does_not_contradict() {
    let known = "ETag: \"a\"\nContent-Length: 3";
    for (stored, answer, expected) in [
        (known, known, true),
        (known, "Date: @0", true),
        (known, "Content-Length: 4", false),
        (known, "ETag: \"b\"\nContent-Length: 3", false),
        (known, "Last-Modified: @0", false),
        ("Date: @0", "Content-Length: 4", true),
    ] {
        let found = with_fields(stored, |stored| {
            with_fields(answer, |answer| matches_head(stored, answer))
        });
        assert_eq!(found, expected, "{stored} | {answer}");
    }
}

#[test]
fn a_304_replaces_all_but_what_describes_the_body() {
    for name in
        ["Cache-Control", "X-Test", "Expires", "Date", "Age", "Vary", "Content-Type", "ETag"]
    {
        assert!(is_taken_from_304(name.as_bytes()), "{name}");
    }
    for name in [
        "Content-Length",
        "content-encoding",
        "Content-Range",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Set-Cookie",
        "TE",
        "Upgrade",
        "Trailer",
    ] {
        assert!(!is_taken_from_304(name.as_bytes()), "{name}");
    }
    assert!(survives_304(b"X-Test") && survives_304(b"Expires"));
    assert!(!survives_304(b"AGE") && !survives_304(b"date"));
}
