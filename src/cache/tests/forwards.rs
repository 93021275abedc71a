//! What is said about requests that went to the backend, and what they make invalid.

use super::*;

#[test]
fn cache_status_says_what_the_cache_did() {
    for (status, expected) in [
        (Status::hit(30), "phantom-frame; hit; ttl=30"),
        (Status::hit(-4).with_detail("stale"), "phantom-frame; hit; ttl=-4; detail=stale"),
        (
            Status::forwarded(Forwarded::UriMiss).with_status(200).with_ttl(60).stored(),
            "phantom-frame; fwd=uri-miss; fwd-status=200; ttl=60; stored",
        ),
        (
            Status::forwarded(Forwarded::Stale).with_status(304).stored().collapsed(),
            "phantom-frame; fwd=stale; fwd-status=304; stored; collapsed",
        ),
        (
            Status::forwarded(Forwarded::Miss).with_detail(Unstorable::SetCookie.detail()),
            "phantom-frame; fwd=miss; detail=set-cookie",
        ),
        (Status::forwarded(Forwarded::Bypass), "phantom-frame; fwd=bypass"),
        (Status::forwarded(Forwarded::Method), "phantom-frame; fwd=method"),
        (Status::forwarded(Forwarded::VaryMiss), "phantom-frame; fwd=vary-miss"),
        (Status::forwarded(Forwarded::Request), "phantom-frame; fwd=request"),
        (Status::forwarded(Forwarded::Partial), "phantom-frame; fwd=partial"),
        (Status::neither("only-if-cached"), "phantom-frame; detail=only-if-cached"),
    ] {
        let mut out = b"x".to_vec();
        status.write(&mut out);
        assert_eq!(str::from_utf8(&out).unwrap(), format!("x{expected}"));
    }
}

#[test]
fn what_changes_something_and_succeeds_invalidates() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get", "LOCK"] {
        for status in [200, 201, 204, 301, 303, 399] {
            assert!(invalidates(method, status), "{method} {status}");
        }
        for status in [100, 400, 404, 500, 599] {
            assert!(!invalidates(method, status), "{method} {status}");
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        assert!(!invalidates(method, 200), "{method}");
    }
}

#[test]
fn locations_of_this_host_are_invalidated_too() {
    let host = b"www.example:80";
    for (location, expected) in [
        ("/b", Some("/b")),
        ("/b?c=d#e", Some("/b?c=d")),
        ("b", Some("/dir/b")),
        ("./b", Some("/dir/b")),
        ("../b", Some("/b")),
        ("../../../b", Some("/b")),
        ("b/../c/", Some("/dir/c/")),
        ("/b/..", Some("/")),
        ("/b/.", Some("/b/")),
        ("/a//b", Some("/a//b")),
        ("?c=d", Some("/dir/page?c=d")),
        ("b?x=/../y", Some("/dir/b?x=/../y")),
        ("http://www.example/b", Some("/b")),
        ("HTTPS://WWW.example:443/b?c", Some("/b?c")),
        ("//www.example/b", Some("/b")),
        ("http://www.example", Some("/")),
        ("http://www.example?c", Some("/?c")),
        // The target itself is no other.
        ("", None),
        ("page?q=1", None),
        ("#x", None),
        ("http://other.example/b", None),
        ("//other.example/b", None),
        ("http://www.example:8080/b", None),
        ("http://user@www.example/b", None),
        ("mailto:a@www.example", None),
        ("ftp://www.example/b", None),
    ] {
        let targets: Vec<_> = with_fields(&format!("Location: {location}"), |fields| {
            invalidated_targets(host, b"/dir/page?q=1", fields).collect()
        });
        let expected: Vec<_> = expected.iter().map(|path| path.as_bytes().to_vec()).collect();
        assert_eq!(targets, expected, "{location}");
    }
    let both = "Content-Location: /c\nLocation: /l";
    let targets: Vec<_> =
        with_fields(both, |fields| invalidated_targets(host, b"/", fields).collect());
    assert_eq!(targets, [b"/l", b"/c"]);
}
