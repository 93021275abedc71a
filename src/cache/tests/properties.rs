//! What holds for any bytes and any times.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::date;
use super::*;

/// Names of fields that the cache reads.
const NAMES: [&str; 22] = [
    "Cache-Control",
    "CDN-Cache-Control",
    "Pragma",
    "Expires",
    "Date",
    "Age",
    "Last-Modified",
    "ETag",
    "Vary",
    "Set-Cookie",
    "Authorization",
    "Range",
    "If-None-Match",
    "If-Modified-Since",
    "If-Range",
    "If-Match",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "Location",
    "Content-Location",
    "Foo",
];

/// Pieces that decide something in the grammar of a value.
const PIECES: [&str; 44] = [
    "",
    " ",
    "\t",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    "*",
    "-",
    "/",
    "?",
    ":",
    "(",
    ")",
    "@",
    "W/",
    "q=0.5",
    "no-store",
    "private",
    "no-cache",
    "public",
    "max-age",
    "s-maxage",
    "must-understand",
    "must-revalidate",
    "stale-while-revalidate",
    "stale-if-error",
    "max-stale",
    "min-fresh",
    "bytes",
    "0",
    "60",
    "18446744073709551616",
    "-1",
    "Thu, 18 Aug 2050 02:01:18 GMT",
    "Thu, 18 Aug 1950 02:01:18 GMT",
    "gzip",
    "identity",
    "http://",
    "..",
    "\"a\"",
    "\u{fc}",
    "x",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8].prop_map(|byte| vec![byte]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = (select(&NAMES[..]), value())
        .prop_map(|(name, value)| [name.as_bytes(), b": ", &value, b"\n"].concat());
    vec(line, 0..6).prop_map(|lines| lines.concat())
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![Just(0), Just(u64::MAX), Just(ARRIVAL.0), any::<u64>()].prop_map(Moment)
}

/// Directives that permit, however they are written: nothing that would make a quote uneven.
fn permission() -> impl Strategy<Value = String> {
    let quoted = "[a-z=, ;-]{0,12}".prop_map(|inside| format!("x=\"{inside}\""));
    let known = select(vec![
        "public",
        "max-age=60",
        "s-maxage=60",
        "must-revalidate",
        "stale-if-error=60",
        "immutable",
        "max-age=\"60\"",
        "no-cache",
        "no-transform",
        "x=\"private\\\"\"",
        "",
        "max-age",
        "=",
        "'",
    ]);
    prop_oneof![2 => known.prop_map(str::to_owned), 1 => quoted]
}

/// A restriction in one of its spellings.
fn restriction() -> impl Strategy<Value = String> {
    let name = select(vec!["private", "no-store", "Private", "NO-STORE"]);
    let rest = select(vec!["", "", "=\"a\"", "=a", " ", " = x", "=", "=\"a, b\""]);
    (name, rest).prop_map(|(name, rest)| format!("{name}{rest}"))
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_sum_overflows(
        request in lines(),
        response in lines(),
        status in any::<u16>(),
        (sent, received, now) in (moment(), moment(), moment()),
        always in any::<bool>(),
        default_ttl in prop::option::of(any::<u64>()),
        len in any::<u64>(),
    ) {
        let (request, response) = (head(&request), head(&response));
        let (request, response) = (request.fields(), response.fields());
        let demand = Demand::of(request);
        let respect = if always { Respect::Always } else { Respect::Rfc };
        let (times, rules) = (Times { sent, received }, Rules { respect, default_ttl });
        if let Ok(mut terms) = may_store(&demand, status, response, times, &rules) {
            let is_fresh = terms.reuse(&Demand::default(), now) == Reuse::Fresh;
            prop_assert!(!is_fresh || terms.ttl(now) >= 0);
            prop_assert!(terms.age(now) <= 1 << 31);
            prop_assert!(terms.is_worth_keeping(received) || received.0 == u64::MAX);
            prop_assert!(!terms.may_serve_on_error(&demand, now)
                || terms.may_serve_disconnected(&demand, now));
            terms.expire();
            prop_assert_eq!(terms.reuse(&demand, now), Reuse::Validate);
        }
        for method in ["GET", "HEAD"] {
            let stored = Representation { status, fields: response, len, received };
            if let Answer::Partial { first, last } = answer(method, request, &stored) {
                prop_assert!(first <= last && last < len);
            }
        }
        let mut out = Vec::new();
        prop_assert_eq!(write_validators(&mut out, response), !out.is_empty());
        matches_304(response, request);
        matches_head(response, request);
        for target in invalidated_targets(b"a", b"/x", response) {
            prop_assert!(target.starts_with(b"/"));
        }
        if let VaryKind::Names(vary) = Vary::of(response)
            && let Some(key) = vary.secondary(request)
        {
            prop_assert!(vary.matches(&key, request));
        }
    }

    #[test]
    fn any_bytes_are_a_date_or_none(bytes in vec(any::<u8>(), 0..40)) {
        date::parse(&bytes);
    }

    #[test]
    fn a_restriction_holds_whatever_stands_around_it(
        before in vec(permission(), 0..4),
        restriction in restriction(),
        after in vec(permission(), 0..4),
        separator in select(vec![",", ", ", " ,", ";", "; ", "\nCache-Control: "]),
        is_authorized in any::<bool>(),
        default_ttl in prop::option::of(any::<u64>()),
    ) {
        let all: Vec<_> = before.into_iter().chain([restriction]).chain(after).collect();
        let response = format!("ETag: \"a\"\nCache-Control: {}", all.join(separator));
        let request = if is_authorized { "Authorization: x" } else { "" };
        for respect in [Respect::Rfc, Respect::Always] {
            let found = store(request, 200, &response, &Rules { respect, default_ttl });
            let is_refused = matches!(found, Err(Unstorable::NoStore | Unstorable::Private));
            prop_assert!(is_refused, "{} {:?}", response, found);
        }
    }

    #[test]
    fn a_lifetime_is_over_when_it_is_over(lifetime in 0_u64..1 << 31, age in 0_u64..1 << 31) {
        let terms = stored(&format!("Cache-Control: max-age={lifetime}\nETag: \"a\""));
        let is_fresh = terms.reuse(&Demand::default(), later(age)) == Reuse::Fresh;
        prop_assert_eq!(is_fresh, age < lifetime);
        prop_assert_eq!(i128::from(terms.ttl(later(age))), i128::from(lifetime) - i128::from(age));
        prop_assert_eq!(terms.age(later(age)), age);
    }

    #[test]
    fn a_key_is_the_same_exactly_for_the_same_values(
        one in value(), other in value(), name in select(vec!["Foo", "Cookie", "Accept-Encoding"]),
    ) {
        let VaryKind::Names(vary) = with_fields(&format!("Vary: {name}"), Vary::of) else {
            unreachable!("a name")
        };
        let line = |value: &[u8]| head(&[name.as_bytes(), b": ", value].concat());
        let (one, other) = (line(&one), line(&other));
        let keys = (vary.secondary(one.fields()), vary.secondary(other.fields()));
        let (Some(one_key), Some(other_key)) = keys else { return Ok(()) };
        prop_assert_eq!(vary.matches(&one_key, other.fields()), one_key == other_key);
        if one.fields().first(name) == other.fields().first(name) {
            prop_assert_eq!(one_key, other_key);
        } else if name == "Cookie" {
            prop_assert_ne!(one_key, other_key);
        }
    }
}
