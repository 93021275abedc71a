//! Where the crate `http-cache-semantics` decides otherwise: why these rules are our own.
//!
//! A row that no longer differs fails the test, so that the list stays true. What the crate does not
//! do at all, such as secondary keys, ranges, invalidation and `Cache-Status`, has no rows.

use std::time::{Duration, UNIX_EPOCH};

use http_cache_semantics::{CacheOptions, CachePolicy};

use super::*;

/// Returns whether the crate would answer an equal request from its store `seconds` later.
fn theirs(request: &str, status: u16, response: &str, seconds: u64) -> bool {
    let at = |moment: Moment| UNIX_EPOCH + Duration::from_millis(moment.0);
    let lines = |text: &str| -> http::HeaderMap {
        with_fields(text, |fields| {
            let pair = |field: crate::http1::field::Field<'_>| {
                let name = http::HeaderName::from_bytes(field.name).unwrap();
                (name, http::HeaderValue::from_bytes(field.value).unwrap())
            };
            let mut map = http::HeaderMap::new();
            for (name, value) in fields.iter().map(pair) {
                map.append(name, value);
            }
            map
        })
    };
    let mut ask = http::Request::get("http://a.example/").body(()).unwrap();
    *ask.headers_mut() = lines(request);
    let mut reply = http::Response::builder().status(status).body(()).unwrap();
    *reply.headers_mut() = lines(response);
    let policy = CachePolicy::new_options(&ask, &reply, at(ARRIVAL), CacheOptions::default());
    policy.is_storable()
        && policy.before_request(&ask, at(later(seconds))).satisfies_without_revalidation()
}

fn ours(request: &str, status: u16, response: &str, seconds: u64) -> bool {
    let terms = store(request, status, response, &Rules::default());
    let asked = demand(request);
    terms.is_ok_and(|terms| terms.reuse(&asked, later(seconds)) != Reuse::Validate)
}

#[test]
fn the_usual_cases_are_decided_alike() {
    for (request, status, response, seconds) in [
        ("", 200, "Cache-Control: max-age=60", 1),
        ("", 200, "Cache-Control: max-age=60", 61),
        ("", 200, "Cache-Control: private, max-age=60", 1),
        ("", 200, "Cache-Control: no-store, max-age=60", 1),
        ("", 200, "Cache-Control: s-maxage=60, max-age=1", 30),
        ("", 200, "Expires: @60\nDate: @0", 30),
        ("", 404, "Cache-Control: max-age=60", 1),
        ("Authorization: x", 200, "Cache-Control: max-age=60", 1),
        ("Cache-Control: no-cache", 200, "Cache-Control: max-age=60", 1),
    ] {
        let found =
            (ours(request, status, response, seconds), theirs(request, status, response, seconds));
        assert_eq!(found.0, found.1, "{request} {status} | {response} after {seconds}");
    }
}

/// The last column is what the standard asks for, and what we do.
#[test]
fn these_cases_are_decided_otherwise() {
    for (request, status, response, seconds, is_reused) in [
        // Private pages that it would serve to others.
        ("", 200, "Cache-Control: No-Store, max-age=60", 1, false),
        ("", 200, "Cache-Control: private; max-age=60\nLast-Modified: @-86400", 1, false),
        ("", 200, "Cache-Control: public, max-age=60\nSet-Cookie: a=b", 1, false),
        ("", 200, "CDN-Cache-Control: no-store\nCache-Control: max-age=60", 1, false),
        // Stale ones that it would call fresh.
        ("", 200, "Cache-Control: x=\"a, max-age=60\", max-age=1", 30, false),
        ("", 200, "Cache-Control: max-age=60, max-age=1", 30, false),
        ("", 200, "Cache-Control: max-age=60\nAge: 7200, 0", 1, false),
        ("", 200, "Cache-Control: max-age=60\nAge: 99999999999999999999999", 1, false),
        ("", 200, "Cache-Control: max-age=60\nDate: @-100", 1, false),
        ("", 200, "Expires: @60\nExpires: @70\nDate: @0", 1, false),
        ("Cache-Control: max-stale", 200, "Cache-Control: max-age=60, proxy-revalidate", 65, false),
        ("Cache-Control: max-stale", 200, "Cache-Control: s-maxage=60", 65, false),
        ("Cache-Control: max-stale=x", 200, "Cache-Control: max-age=60", 65, false),
        // Fresh ones that it would fetch anew.
        ("", 200, "CDN-Cache-Control: max-age=60", 1, true),
        ("", 200, "CDN-Cache-Control: max-age=60\nCache-Control: no-store", 1, true),
        ("", 200, "Cache-Control: max-age=60, no-store, must-understand", 1, true),
        ("", 299, "Cache-Control: max-age=60", 1, true),
        ("", 503, "Cache-Control: max-age=60", 1, true),
        ("", 599, "Cache-Control: max-age=60", 1, true),
        ("", 599, "Cache-Control: public\nLast-Modified: @-86400\nDate: @0", 1, true),
        ("", 200, "Cache-Control: max-age=99999999999999999999999", 1, true),
        ("", 200, "Expires: Thursday, 18-Aug-50 02:01:18 GMT\nDate: @0", 1, true),
        ("", 200, "Expires: Mon Aug  8 02:01:18 2050\nDate: @0", 1, true),
        ("", 200, "Cache-Control: max-age=60, stale-while-revalidate=60", 65, true),
        ("Cache-Control: x\nPragma: no-cache", 200, "Cache-Control: max-age=60", 5, true),
    ] {
        let found =
            (ours(request, status, response, seconds), theirs(request, status, response, seconds));
        let expected = (is_reused, !is_reused);
        assert_eq!(found, expected, "{request} {status} | {response} after {seconds}");
    }
}
