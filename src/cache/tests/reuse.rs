//! What a stored response is used for, and how old it is.

use Reuse::{Fresh, Stale, StaleWhileRevalidate, Validate};

use super::*;

/// Returns the lifetime left at the moment a response arrives whose age is then 0.
fn ttl(response: &str) -> i64 {
    stored(&format!("{response}\nETag: \"a\"")).ttl(ARRIVAL)
}

#[test]
fn a_lifetime_is_stated_by_the_most_special_field() {
    for (response, expected) in [
        ("Cache-Control: max-age=60", 60),
        ("Cache-Control: MaX-aGe=60", 60),
        ("Cache-Control: foobar, max-age=60", 60),
        ("Cache-Control: max-age=0060", 60),
        ("Cache-Control: max-age=\"60\"", 60),
        ("Cache-Control: max-age=60, s-maxage=30", 30),
        ("Cache-Control: s-maxage=60, max-age=0\nExpires: @-10", 60),
        ("Cache-Control: max-age=60\nExpires: @10\nDate: @0", 60),
        ("Cache-Control: max-age=60\nExpires: 0", 60),
        ("Cache-Control: max-age=0\nExpires: @60\nDate: @0", 0),
        ("Cache-Control: max-age=60, max-age=60", 60),
        ("Cache-Control: max-age=2147483647", (1 << 31) - 1),
        ("Cache-Control: max-age=2147483648", 1 << 31),
        ("Cache-Control: max-age=99999999999999999999999", 1 << 31),
        ("Expires: @60\nDate: @0", 60),
        ("Expires: @60\nExpires: @60\nDate: @0", 60),
        ("Expires: @60\nDate: nonsense", 60),
        ("Expires: @60", 60),
        ("Last-Modified: @-1000\nDate: @0", 100),
        ("Last-Modified: @-86400\nDate: @0", 8640),
        ("Last-Modified: @-864000000\nDate: @0", 86400),
        ("Last-Modified: @1000\nDate: @0", 0),
        ("Last-Modified: @-1000\nDate: @0\nPragma: x, No-Cache", 0),
    ] {
        assert_eq!(ttl(response), expected, "{response}");
    }
}

#[test]
fn a_lifetime_that_cannot_be_read_is_none() {
    for response in [
        "Cache-Control: max-age",
        "Cache-Control: max-age=",
        "Cache-Control: max-age=-60",
        "Cache-Control: max-age=+60",
        "Cache-Control: max-age='60'",
        "Cache-Control: max-age=60.0",
        "Cache-Control: max-age=60a",
        "Cache-Control: max-age=a60",
        "Cache-Control: max-age =60",
        "Cache-Control: max-age= 60",
        "Cache-Control: max-age=60; x",
        "Cache-Control: max-age=60 x",
        "Cache-Control: max-age=\"60",
        "Cache-Control: max-age=60\"",
        "Cache-Control: max-age=\"6\"0\"",
        "Cache-Control: max-age=60, max-age=61",
        "Cache-Control: max-age=60\nCache-Control: max-age=1",
        "Cache-Control: x=\"max-age=60, max-age=60",
        "Cache-Control: max-age=\u{0661}",
    ] {
        let response = format!("{response}\nExpires: @60\nDate: @0");
        assert_eq!(ttl(&response), 0, "{response}");
    }
}

#[test]
fn what_is_quoted_is_no_directive() {
    for (response, expected) in [
        ("Cache-Control: a=\"max-age=60\", max-age=1", 1),
        ("Cache-Control: max-age=1, a=\"max-age=60\"", 1),
        ("Cache-Control: a=\"no-store, private\", max-age=60", 60),
        ("Cache-Control: a=\"\\\", private\", max-age=60", 60),
        ("Cache-Control: \"private\", max-age=60", 60),
        ("Cache-Control: xprivate, privat, private-x, max-age=60", 60),
    ] {
        assert_eq!(ttl(response), expected, "{response}");
    }
}

#[test]
fn an_age_is_the_greatest_of_what_is_known() {
    for (response, at_arrival, after_a_minute) in [
        ("", 0, 60),
        ("Date: @0", 0, 60),
        ("Date: @-10", 10, 70),
        ("Date: @10", 0, 60),
        ("Age: 30", 30, 90),
        ("Age: 30\nDate: @-10", 30, 90),
        ("Age: 30\nDate: @-100", 100, 160),
        ("Age: 7200, 0", 7200, 7260),
        ("Age: 0, 7200", 0, 60),
        ("Age: 7200\nAge: 0", 7200, 7260),
        ("Age: 0\nAge: 7200", 0, 60),
        ("Age: abc", 0, 60),
        ("Age: -7200", 0, 60),
        ("Age: 7200.0", 0, 60),
        ("Age: 7200;a=b", 0, 60),
        ("Age: 2147483647", 2_147_483_647, 1 << 31),
        ("Age: 2147483649", 1 << 31, 1 << 31),
        ("Age: 99999999999999999999999999", 1 << 31, 1 << 31),
    ] {
        let terms = stored(&format!("{response}\nETag: \"a\""));
        assert_eq!(terms.age(ARRIVAL), at_arrival, "{response}");
        assert_eq!(terms.age(later(60)), after_a_minute, "{response}");
    }
}

#[test]
fn the_time_a_response_took_makes_it_older() {
    let times = Times { sent: Moment(ARRIVAL.0 - 5_000), received: ARRIVAL };
    let arrived = |lines: &str| {
        with_fields(lines, |fields| {
            may_store(&Demand::default(), 200, fields, times, &Rules::default()).unwrap()
        })
    };
    assert_eq!(arrived("Cache-Control: max-age=60").age(ARRIVAL), 5);
    assert_eq!(arrived("Cache-Control: max-age=60\nAge: 7").age(ARRIVAL), 12);
    assert_eq!(arrived("Cache-Control: max-age=60\nDate: @-3").age(ARRIVAL), 5);
    // A clock that went back has measured nothing.
    assert_eq!(arrived("Cache-Control: max-age=60").age(Moment(0)), 5);
}

#[test]
fn a_request_says_what_it_takes() {
    let response = "Cache-Control: max-age=60\nETag: \"a\"";
    for (request, seconds, expected) in [
        ("", 0, Fresh),
        ("", 59, Fresh),
        ("", 60, Validate),
        ("Cache-Control: nothing-to-see-here\nPragma: no-cache", 1, Fresh),
        ("Pragma: foo", 1, Fresh),
        ("Pragma: foo, No-Cache", 1, Validate),
        ("Cache-Control: no-cache", 1, Validate),
        ("Cache-Control: x, No-CaChE", 1, Validate),
        ("Cache-Control: no-store", 1, Validate),
        ("Cache-Control: max-age=0", 1, Validate),
        ("Cache-Control: max-age=10", 10, Fresh),
        ("Cache-Control: max-age=10", 11, Validate),
        ("Cache-Control: max-age=50, max-age=10", 20, Validate),
        ("Cache-Control: max-age=x", 1, Validate),
        ("Cache-Control: min-fresh=30", 30, Fresh),
        ("Cache-Control: min-fresh=30", 31, Validate),
        ("Cache-Control: min-fresh=x", 1, Validate),
        ("Cache-Control: min-fresh", 1, Validate),
        ("Cache-Control: max-stale", 100_000, Stale),
        ("Cache-Control: max-stale=30", 89, Stale),
        ("Cache-Control: max-stale=30", 91, Validate),
        ("Cache-Control: max-stale=x", 61, Validate),
        ("Cache-Control: max-stale=30, min-fresh=0", 70, Validate),
        ("Cache-Control: max-stale=30, max-age=80", 70, Stale),
        ("Cache-Control: max-stale=30, max-age=65", 70, Validate),
        ("Authorization: x", 1, Validate),
        ("Cookie: a=b", 1, Fresh),
        ("Range: bytes=0-1", 1, Fresh),
    ] {
        let found = stored(response).reuse(&demand(request), later(seconds));
        assert_eq!(found, expected, "{request} after {seconds}");
    }
}

#[test]
fn a_response_says_when_it_may_be_used_stale() {
    let lenient = "Cache-Control: max-stale";
    for (response, request, seconds, expected) in [
        ("max-age=60, stale-while-revalidate=30", "", 61, StaleWhileRevalidate),
        ("max-age=60, stale-while-revalidate=30", "", 89, StaleWhileRevalidate),
        ("max-age=60, stale-while-revalidate=30", "", 90, Validate),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: max-age=70", 65, Validate),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: no-cache", 65, Validate),
        ("s-maxage=60, stale-while-revalidate=30", "", 65, StaleWhileRevalidate),
        ("max-age=60, must-revalidate, stale-while-revalidate=30", "", 65, Validate),
        ("max-age=60, proxy-revalidate, stale-while-revalidate=30", "", 65, Validate),
        ("max-age=60, stale-while-revalidate=x", "", 61, Validate),
        ("max-age=60, no-cache, stale-while-revalidate=30", "", 1, Validate),
        ("max-age=60, no-cache", "", 1, Validate),
        ("max-age=60, no-cache=\"a\"", "", 1, Validate),
        ("max-age=60, must-revalidate", "", 59, Fresh),
        ("max-age=60, must-revalidate", lenient, 61, Validate),
        ("max-age=60, proxy-revalidate", lenient, 61, Validate),
        ("s-maxage=60", lenient, 61, Validate),
        ("max-age=60, no-cache", lenient, 61, Validate),
        ("max-age=60", lenient, 61, Stale),
        ("public, max-age=60", "Authorization: x", 1, Fresh),
        ("s-maxage=60", "Authorization: x", 1, Fresh),
        ("max-age=60, must-revalidate", "Authorization: x", 1, Fresh),
    ] {
        let terms = stored(&format!("Cache-Control: {response}\nETag: \"a\""));
        let found = terms.reuse(&demand(request), later(seconds));
        assert_eq!(found, expected, "{response} | {request} after {seconds}");
    }
}

#[test]
fn an_error_is_answered_with_a_stale_response_where_somebody_allows_it() {
    let asking = "Cache-Control: stale-if-error=30";
    for (response, request, seconds, on_error, disconnected) in [
        ("max-age=60", "", 61, false, true),
        ("max-age=60", "", 60 + 86_401, false, false),
        ("max-age=60", asking, 61, true, true),
        ("max-age=60", asking, 91, false, true),
        ("max-age=60, stale-if-error=30", "", 61, true, true),
        ("max-age=60, stale-if-error=30", "", 91, false, true),
        ("max-age=60, stale-if-error=172800", "", 60 + 86_401, true, true),
        ("max-age=60, stale-if-error=30", "Cache-Control: no-cache", 61, false, false),
        ("max-age=60, stale-if-error=30", "Authorization: x", 61, false, false),
        ("max-age=60", "Cache-Control: max-age=0", 61, false, false),
        ("max-age=60", "Cache-Control: min-fresh=1", 61, false, false),
        ("max-age=60, must-revalidate, stale-if-error=30", asking, 61, false, false),
        ("max-age=60, proxy-revalidate, stale-if-error=30", asking, 61, false, false),
        ("s-maxage=60, stale-if-error=30", asking, 61, false, false),
        ("max-age=60, no-cache, stale-if-error=30", asking, 1, false, false),
    ] {
        let terms = stored(&format!("Cache-Control: {response}\nETag: \"a\""));
        let (demand, now) = (demand(request), later(seconds));
        let found =
            (terms.may_serve_on_error(&demand, now), terms.may_serve_disconnected(&demand, now));
        assert_eq!(found, (on_error, disconnected), "{response} | {request} after {seconds}");
    }
}

#[test]
fn an_expired_response_is_validated_whatever_it_says() {
    let mut terms = stored(
        "Cache-Control: max-age=60, stale-while-revalidate=60, stale-if-error=60\nETag: \"a\"",
    );
    terms.expire();
    assert!(terms.ttl(ARRIVAL) <= 0);
    assert_eq!(terms.reuse(&demand("Cache-Control: max-stale"), ARRIVAL), Validate);
    assert!(!terms.may_serve_on_error(&Demand::default(), ARRIVAL));
    assert!(!terms.may_serve_disconnected(&Demand::default(), ARRIVAL));
    assert!(terms.is_worth_keeping(later(60)), "it can be validated");
    let mut terms = stored("Cache-Control: max-age=60");
    terms.expire();
    assert!(!terms.is_worth_keeping(ARRIVAL));
}

#[test]
fn a_response_is_kept_for_as_long_as_it_may_be_of_use() {
    const DAY: u64 = 86_400;
    for (response, kept) in [
        ("max-age=60", 60 + DAY),
        ("max-age=60, must-revalidate", 60),
        ("max-age=60, must-revalidate\nETag: \"a\"", 60 + 7 * DAY),
        ("max-age=60, no-cache\nETag: \"a\"", 60 + 7 * DAY),
        ("s-maxage=60", 60),
        ("s-maxage=60, stale-while-revalidate=30", 90),
        ("max-age=60, stale-if-error=864000", 60 + 10 * DAY),
        ("max-age=60, stale-while-revalidate=864000", 60 + 10 * DAY),
        ("max-age=60, stale-if-error=864000\nETag: \"a\"", 60 + 10 * DAY),
    ] {
        let terms = stored(&format!("Cache-Control: {response}"));
        assert!(terms.is_worth_keeping(later(kept - 1)), "{response}");
        assert!(!terms.is_worth_keeping(later(kept)), "{response}");
    }
}
