//! What is stored.

use Unstorable::{
    Authorized, NoFreshness, NoStore, Partial, Private, RequestNoStore, SetCookie,
    Status as ByStatus, VaryPersonal, VaryStar,
};

use super::*;

fn why(request: &str, status: u16, response: &str, rules: &Rules) -> Option<Unstorable> {
    store(request, status, response, rules).err()
}

fn by_rfc(request: &str, response: &str) -> Option<Unstorable> {
    why(request, 200, response, &Rules::default())
}

const ALWAYS: Rules = Rules { respect: Respect::Always, default_ttl: None };

#[test]
fn a_private_page_is_never_stored() {
    for (request, response, expected) in [
        ("", "Cache-Control: private, max-age=60", Private),
        ("", "Cache-Control: PRIVATE\nETag: \"a\"", Private),
        ("", "Cache-Control: max-age=60\nCache-Control: private", Private),
        ("", "Cache-Control: public, private, max-age=60", Private),
        ("", "Cache-Control: private=\"Set-Cookie\", max-age=60", Private),
        ("", "Cache-Control: private = x, s-maxage=60", Private),
        ("", "Cache-Control: private; max-age=60\nETag: \"a\"", Private),
        ("", "Cache-Control: max-age=60; private\nETag: \"a\"", Private),
        ("", "Cache-Control: ext=\"a, max-age=60, private\nETag: \"a\"", Private),
        ("", "Cache-Control: a=\"b\\\"\", private, max-age=60", Private),
        ("", "Cache-Control: must-understand, private, max-age=60", Private),
        ("", "Cache-Control: ,, private ,", Private),
        ("", "Cache-Control: no-store", NoStore),
        ("", "Cache-Control: No-StOrE, max-age=60", NoStore),
        ("", "Cache-Control: no-store=1, public, max-age=60", NoStore),
        ("", "Cache-Control: max-age=60\nExpires: @60\nCache-Control: no-store", NoStore),
        ("", "CDN-Cache-Control: private\nCache-Control: max-age=60", Private),
        ("", "CDN-Cache-Control: no-store\nCache-Control: public, max-age=60", NoStore),
        ("", "CDN-Cache-Control: private=(\"a\" \"b\")\nCache-Control: max-age=60", Private),
        ("", "Cache-Control: public, max-age=60\nSet-Cookie: a=b", SetCookie),
        ("", "CDN-Cache-Control: max-age=60\nSet-Cookie: a=b", SetCookie),
        ("", "Cache-Control: max-age=60\nVary: *", VaryStar),
        ("Authorization: Basic x", "Cache-Control: max-age=60", Authorized),
        ("Authorization: Basic x", "Cache-Control: max-age=60, proxy-revalidate", Authorized),
        ("Authorization: Basic x", "Cache-Control: max-age=60, public=1", Authorized),
        ("authorization:", "Expires: @60", Authorized),
        ("Cache-Control: no-store", "Cache-Control: public, max-age=60", RequestNoStore),
        ("Cache-Control: a, No-Store=x", "Cache-Control: public, max-age=60", RequestNoStore),
    ] {
        assert_eq!(by_rfc(request, response), Some(expected), "{request} | {response}");
    }
}

#[test]
fn what_the_backend_shares_is_stored_of_an_authorized_request_too() {
    for response in [
        "Cache-Control: max-age=60, public",
        "Cache-Control: max-age=60, must-revalidate",
        "Cache-Control: s-maxage=60",
        "CDN-Cache-Control: max-age=60, public",
    ] {
        assert_eq!(by_rfc("Authorization: Basic x", response), None, "{response}");
    }
}

#[test]
fn a_response_without_freshness_and_validator_is_not_stored() {
    for response in [
        "",
        "Content-Type: text/html",
        "Date: @0",
        "Cache-Control: max-age=0",
        "Cache-Control: max-age=3600, no-cache",
        "Cache-Control: no-cache=\"a\", max-age=3600",
        "Cache-Control: s-maxage=0, max-age=60",
        "Cache-Control: max-age=60\nAge: 60\nDate: @0",
        "Cache-Control: max-age=60\nDate: @-61",
        "Expires: 0\nDate: @0",
        "Expires: @0\nDate: @0",
        "Expires: @300\nDate: @400",
        "Expires: @60\nExpires: @61",
        "CDN-Cache-Control: foo\nCache-Control: max-age=60",
        "CDN-Cache-Control: max-age=0\nExpires: @60",
    ] {
        assert_eq!(by_rfc("", response), Some(NoFreshness), "{response}");
        let validated = format!("{response}\nETag: \"a\"");
        assert_eq!(by_rfc("", &validated), None, "{validated}");
        assert!(stored(&validated).has_validator());
    }
}

#[test]
fn a_stale_response_that_may_be_used_stale_is_stored() {
    assert_eq!(by_rfc("", "Cache-Control: max-age=0, stale-while-revalidate=60"), None);
    assert_eq!(by_rfc("", "Cache-Control: max-age=0, stale-if-error=60"), None);
    for forbidding in ["must-revalidate", "proxy-revalidate", "no-cache"] {
        let response = format!("Cache-Control: max-age=0, stale-if-error=60, {forbidding}");
        assert_eq!(by_rfc("", &response), Some(NoFreshness), "{response}");
    }
}

#[test]
fn some_statuses_need_a_lifetime_and_some_are_never_stored() {
    let (explicit, guessed) = ("Cache-Control: max-age=60", "Last-Modified: @-86400\nDate: @0");
    let public = "Cache-Control: public\nLast-Modified: @-86400\nDate: @0";
    let rules = Rules::default();
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(why("", status, explicit, &rules), None, "{status}");
        assert_eq!(why("", status, guessed, &rules), None, "{status}");
    }
    for status in [201, 202, 299, 302, 303, 307, 400, 403, 499, 500, 502, 503, 504, 599] {
        assert_eq!(why("", status, explicit, &rules), None, "{status}");
        assert_eq!(why("", status, "Expires: @60", &rules), None, "{status}");
        assert_eq!(why("", status, guessed, &rules), Some(ByStatus), "{status}");
        assert_eq!(why("", status, "ETag: \"a\"", &rules), Some(ByStatus), "{status}");
        assert_eq!(why("", status, public, &rules), None, "{status}");
    }
    for status in [100, 101, 103, 199, 304, 412, 416, 600, 999] {
        assert_eq!(why("", status, explicit, &rules), Some(ByStatus), "{status}");
        assert_eq!(why("", status, explicit, &ALWAYS), Some(ByStatus), "{status}");
    }
    for rules in [rules, ALWAYS] {
        assert_eq!(why("Range: bytes=0-1", 206, explicit, &rules), Some(Partial));
    }
}

#[test]
fn who_understands_the_status_ignores_a_no_store_beside_must_understand() {
    let response = "Cache-Control: max-age=60, no-store, must-understand";
    let rules = Rules::default();
    assert_eq!(why("", 200, response, &rules), None);
    assert_eq!(why("", 404, response, &rules), None);
    assert_eq!(why("", 599, response, &rules), Some(ByStatus));
    assert_eq!(why("", 599, "Cache-Control: max-age=60, must-understand", &rules), Some(ByStatus));
    let argued = "Cache-Control: max-age=60, no-store, must-understand=1";
    assert_eq!(why("", 200, argued, &rules), Some(NoStore));
    assert_eq!(why("", 200, response, &ALWAYS), Some(NoStore));
}

#[test]
fn a_targeted_field_stands_in_the_place_of_the_others_if_it_is_valid() {
    for (response, ttl) in [
        ("CDN-Cache-Control: max-age=60", Some(60)),
        ("CDN-Cache-Control: max-age=60\nCache-Control: no-store", Some(60)),
        ("CDN-Cache-Control: max-age=60\nCache-Control: private", Some(60)),
        ("CDN-Cache-Control: max-age=60\nCache-Control: max-age=1", Some(60)),
        ("CDN-Cache-Control: max-age=1\nCache-Control: max-age=60", Some(1)),
        ("CDN-Cache-Control: max-age=60\nExpires: 0", Some(60)),
        ("CDN-Cache-Control: foobar, max-age=60", Some(60)),
        ("CDN-Cache-Control: max-age=60;x=1, a=(1 2);b", Some(60)),
        ("CDN-Cache-Control: foobar\nCDN-Cache-Control: max-age=60", Some(60)),
        ("CDN-Cache-Control: max-age=1, max-age=60", Some(60)),
        ("CDN-Cache-Control: s-maxage=60, max-age=1", Some(60)),
        ("CDN-Cache-Control: max-age=99999999999", Some(1 << 31)),
        ("CDN-Cache-Control: max-age=1000000000000000\nCache-Control: max-age=7", Some(7)),
        // No dictionary, or no lifetime: as if it were not there.
        ("CDN-Cache-Control: max-age=60, &&&&\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=\"60\"\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=60.0\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=(60)\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: MaX-aGe=60\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age =60\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age= 60\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=60,\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=60, no-store=?0\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=60, public=1\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control:\nCache-Control: max-age=7", Some(7)),
        ("CDN-Cache-Control: max-age=60, &&&&\nCache-Control: no-store", None),
        ("CDN-Cache-Control: max-age=\"60\"\nCache-Control: no-store", None),
        ("CDN-Cache-Control: max-age=-60\nCache-Control: max-age=7", None),
    ] {
        let terms = store("", 200, response, &Rules::default()).ok();
        assert_eq!(terms.map(|terms| terms.ttl(ARRIVAL)), ttl, "{response}");
    }
}

#[test]
fn a_default_lifetime_is_for_lasting_responses_that_state_none() {
    let rules = Rules { respect: Respect::Rfc, default_ttl: Some(30) };
    let ttl = |status, response| {
        let terms = store("", status, response, &rules).ok()?;
        Some(terms.ttl(ARRIVAL))
    };
    for status in [200, 203, 301, 308, 404, 410] {
        assert_eq!(ttl(status, ""), Some(30), "{status}");
        assert_eq!(ttl(status, "Last-Modified: @-1000000"), Some(30), "{status}");
    }
    assert_eq!(ttl(200, "Cache-Control: max-age=5"), Some(5));
    assert_eq!(ttl(200, "Cache-Control: max-age=0"), None);
    assert_eq!(ttl(200, "Pragma: no-cache"), None);
    assert_eq!(ttl(204, ""), None);
    assert_eq!(ttl(500, ""), None);
    assert_eq!(ttl(302, ""), None);
}

#[test]
fn always_stores_what_says_nothing_and_still_nothing_personal() {
    for response in [
        "",
        "Cache-Control: no-cache, max-age=0, must-revalidate",
        "Cache-Control: max-age=0\nExpires: 0\nPragma: no-cache",
        "Vary: Accept-Encoding",
        "Date: @-100000\nAge: 5000",
    ] {
        for status in [200, 201, 204, 301, 308, 404, 410] {
            let terms = store("", status, response, &ALWAYS).expect(response);
            assert_eq!(terms.reuse(&Demand::default(), later(1_000_000)), Reuse::Fresh);
        }
        let rules = Rules { respect: Respect::Always, default_ttl: Some(60) };
        let terms = store("", 200, response, &rules).expect(response);
        assert_eq!(terms.reuse(&Demand::default(), later(59)), Reuse::Fresh);
        assert_ne!(terms.reuse(&Demand::default(), later(62)), Reuse::Fresh);
    }
    for (request, status, response, expected) in [
        ("Authorization: x", 200, "Cache-Control: public, max-age=60", Authorized),
        ("Cache-Control: no-store", 200, "", RequestNoStore),
        ("", 200, "Cache-Control: private", Private),
        ("", 200, "Cache-Control: no-store", NoStore),
        ("", 200, "Set-Cookie: a=b", SetCookie),
        ("", 200, "Vary: Accept, COOKIE", VaryPersonal),
        ("", 200, "Vary: Authorization", VaryPersonal),
        ("", 200, "Vary: *", VaryStar),
        ("", 302, "", ByStatus),
        ("", 403, "", ByStatus),
        ("", 500, "Cache-Control: max-age=60", ByStatus),
        ("", 503, "", ByStatus),
    ] {
        let found = why(request, status, response, &ALWAYS);
        assert_eq!(found, Some(expected), "{status} {request} | {response}");
    }
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let all = [
        NoStore,
        Private,
        Authorized,
        SetCookie,
        ByStatus,
        VaryStar,
        VaryPersonal,
        NoFreshness,
        Partial,
        RequestNoStore,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(|reason| reason.detail()).collect();
    assert_eq!(words.len(), all.len());
}
