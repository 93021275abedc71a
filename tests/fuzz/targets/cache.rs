//! What a client asks of the cache, and what a backend allows it.

use phantom_frame::cache::control::{Directives, SECONDS_MAX};
use phantom_frame::cache::range::single;
use phantom_frame::cache::vary::{NAMES_MAX, SECONDARY_BYTES_MAX};
use phantom_frame::cache::{
    Answer, Demand, Moment, Representation, Respect, Reuse, Rules, Terms, Times, Unstorable, Vary,
    VaryKind, answer, date, may_store, targeted,
};
use phantom_frame::http1::field::{Fields, is, members};

use super::{Line, owned, request_with, response_with, shown, split};

/// When everything happens, in seconds: a day in 2025.
const NOW: Moment = Moment::from_seconds(1_750_000_000);

/// The length of a stored body, a request's fields, an empty line, and the stored response's fields.
pub fn range(data: &[u8]) {
    let (len, rest) = split(data, b"\n");
    let len = str::from_utf8(len).ok().and_then(|len| len.trim().parse().ok()).unwrap_or(1000);
    let (request, stored) = split(rest, b"\n\n");
    let (Some(request), Some(stored)) = (request_with(request), response_with(stored)) else {
        return;
    };
    let (request, fields) = (request.fields(), stored.fields());
    for value in request.all("range") {
        let found = single(value, len);
        assert_eq!(found, reference(value, len), "{} of {len}", shown(value));
        check_within(found, len);
    }
    for status in [200, 203, 206, 404] {
        for method in ["GET", "HEAD"] {
            let stored = Representation { status, fields, len, received: NOW };
            let found = answer(method, request, &stored);
            check_within(found, len);
            let is_range = matches!(found, Answer::Partial { .. } | Answer::Unsatisfiable);
            let may_be_range =
                method == "GET" && status == 200 && request.all("range").count() == 1;
            assert!(may_be_range || !is_range, "{found:?}");
            let has_condition = request.has("if-none-match") || request.has("if-modified-since");
            assert!(found != Answer::NotModified || has_condition && status < 300);
        }
    }
}

fn check_within(answer: Answer, len: u64) {
    if let Answer::Partial { first, last } = answer {
        assert!(first <= last && last < len, "{first}-{last} of {len}");
    }
}

/// Reads a `Range` in the plainest way (RFC 9110 §14.1.2).
fn reference(value: &[u8], len: u64) -> Answer {
    let asked = || {
        let (unit, set) = str::from_utf8(value).ok()?.split_once('=')?;
        let trimmed = set.split(',').map(|part| part.trim_matches([' ', '\t']));
        let mut parts = trimmed.filter(|part| !part.is_empty());
        let (part, more) = (parts.next()?, parts.next());
        let (first, last) = part.split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
        let number = |digits: &str| -> Option<u128> {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().unwrap_or(u128::MAX))
        };
        let numbers = match (first, last) {
            ("", last) => (None, Some(number(last)?)),
            (first, "") => (Some(number(first)?), None),
            (first, last) => (Some(number(first)?), Some(number(last)?)),
        };
        more.is_none().then_some(numbers)
    };
    let size = u128::from(len);
    // What is beyond 64 bits is behind every body.
    let cap = |number: u128| number.min(u128::from(u64::MAX));
    let (first, last) = match asked().map(|(first, last)| (first.map(cap), last.map(cap))) {
        None | Some((None, None)) => return Answer::Whole,
        Some((None, Some(0))) => return Answer::Unsatisfiable,
        Some((None, Some(_))) if len == 0 => return Answer::Whole,
        Some((None, Some(suffix))) => (size.saturating_sub(suffix), size - 1),
        Some((Some(first), Some(last))) if first > last => return Answer::Whole,
        Some((Some(first), _)) if first >= size => return Answer::Unsatisfiable,
        Some((Some(first), last)) => (first, last.unwrap_or(size).min(size - 1)),
    };
    let narrow = |number: u128| u64::try_from(number).expect("less than a length");
    Answer::Partial { first: narrow(first), last: narrow(last) }
}

/// A response's fields, an empty line, and the fields of the request that it answers.
pub fn cache_control(data: &[u8]) {
    let (response, request) = split(data, b"\n\n");
    let (Some(response), Some(request)) = (response_with(response), request_with(request)) else {
        return;
    };
    let (response, request) = (response.fields(), request.fields());
    let directives = Directives::of(response);
    check_seconds(&directives);
    check_restrictions(response, directives);
    if let Some(targeted) = targeted::directives(response) {
        check_seconds(&targeted);
    }
    let changed = |change: fn(&mut Vec<Line>)| {
        let mut lines = owned(response);
        change(&mut lines);
        let bytes: Vec<u8> = lines
            .iter()
            .flat_map(|(name, value)| [name, &b":"[..], value, b"\n"].concat())
            .collect();
        Directives::of(response_with(&bytes).expect("the same lines").fields())
    };
    assert_eq!(changed(|lines| lines.reverse()), directives, "the order of lines");
    let louder = |lines: &mut Vec<Line>| {
        for (_, value) in lines {
            value.make_ascii_uppercase();
        }
    };
    assert_eq!(changed(louder), directives, "the case of letters");

    for field in response.iter() {
        let louder = date::parse(&field.value.to_ascii_uppercase());
        assert_eq!(louder, date::parse(field.value), "{}", shown(field.value));
    }
    let demand = Demand::of(request);
    for respect in [Respect::Rfc, Respect::Always] {
        check_stored(&demand, response, respect);
    }
}

fn check_seconds(directives: &Directives) {
    let Directives { max_age, s_maxage, stale_while_revalidate, stale_if_error, .. } = *directives;
    for seconds in [max_age, s_maxage, stale_while_revalidate, stale_if_error].into_iter().flatten()
    {
        assert!(seconds <= SECONDS_MAX);
    }
}

/// Checks that a restriction is believed wherever the simplest reading of a line finds it.
fn check_restrictions(response: Fields<'_>, found: Directives) {
    for line in response.all("cache-control").filter(|line| !line.contains(&b'"')) {
        for text in line.split(|byte| b",;".contains(byte)) {
            let name = text.split(|&byte| byte == b'=').next().unwrap_or_default();
            let name = name.trim_ascii();
            assert!(!is(name, "no-store") || found.has(Directives::NO_STORE), "{}", shown(line));
            assert!(!is(name, "private") || found.has(Directives::PRIVATE), "{}", shown(line));
            assert!(!is(name, "no-cache") || found.has(Directives::NO_CACHE), "{}", shown(line));
        }
    }
}

fn check_stored(demand: &Demand, response: Fields<'_>, respect: Respect) {
    let rules = Rules { respect, default_ttl: Some(60) };
    let times = Times { sent: NOW, received: NOW };
    for status in [100, 200, 204, 206, 301, 304, 404, 416, 500, 600] {
        let stored = may_store(demand, status, response, times, &rules);
        let Ok(terms) = stored else { continue };
        assert!(!demand.no_store() && !matches!(status, 0..=199 | 206 | 304 | 416 | 600..));
        assert!(!response.has("set-cookie"), "somebody's");
        assert!(!response.list("vary").any(|name| name == b"*"));
        if targeted::directives(response).is_none() && respect == Respect::Rfc {
            let directives = Directives::of(response);
            assert!(!directives.has(Directives::PRIVATE));
            // Who understands the status may ignore the second (RFC 9111 §5.2.2.3).
            let is_forbidden = directives.has(Directives::NO_STORE);
            assert!(!is_forbidden || directives.has(Directives::MUST_UNDERSTAND));
            let shared = Directives::PUBLIC | Directives::MUST_REVALIDATE;
            let is_shared = directives.has(shared) || directives.s_maxage.is_some();
            assert!(!demand.is_authorized() || is_shared);
        }
        let not_asked = Demand::of(
            request_with(b"Cache-Control: no-store").expect("a field of a request").fields(),
        );
        let refused = may_store(&not_asked, status, response, times, &rules);
        assert_eq!(refused, Err(Unstorable::RequestNoStore));
        check_terms(terms);
    }
}

/// Checks that what is stored only gets older, and that nothing stale is taken for fresh.
fn check_terms(mut terms: Terms) {
    let anyone = Demand::default();
    let (mut age, mut ttl, mut was_stale) = (0, i64::MAX, false);
    for seconds in [0, 1, 59, 60, 61, 3_600, 86_400, SECONDS_MAX, u64::MAX / 2_000] {
        let now = NOW.plus_millis(seconds.saturating_mul(1000));
        assert!(terms.age(now) >= age && terms.ttl(now) <= ttl);
        (age, ttl) = (terms.age(now), terms.ttl(now));
        let is_fresh = terms.reuse(&anyone, now) == Reuse::Fresh;
        assert!(!is_fresh || ttl >= 0 && !was_stale);
        was_stale |= !is_fresh;
        assert!(!is_fresh || terms.is_worth_keeping(now));
    }
    terms.expire();
    assert_eq!(terms.reuse(&anyone, NOW), Reuse::Validate);
}

/// A `Vary`, a request's fields, an empty line, and another request's fields.
pub fn vary(data: &[u8]) {
    let (names, rest) = split(data, b"\n");
    let (one, other) = split(rest, b"\n\n");
    let response = response_with(&[b"Vary: ", names].concat());
    let (Some(response), Some(one), Some(other)) =
        (response, request_with(one), request_with(other))
    else {
        return;
    };
    let listed: Vec<_> = response.fields().all("vary").flat_map(members).collect();
    let vary = match Vary::of(response.fields()) {
        VaryKind::None => return assert!(listed.iter().all(|name| name.is_empty())),
        VaryKind::Star => return,
        VaryKind::Names(vary) => vary,
    };
    assert!(!listed.contains(&&b"*"[..]));
    let names: Vec<_> = vary.names().collect();
    assert!(names.len() <= NAMES_MAX && names.is_sorted());
    assert!(names.iter().all(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase())));
    let (one, other) = (one.fields(), other.fields());
    let Some(key) = vary.secondary(one) else {
        return;
    };
    assert!(key.len() <= SECONDARY_BYTES_MAX);
    assert!(vary.matches(&key, one), "a request matches itself");
    let other_key = vary.secondary(other);
    assert_eq!(vary.matches(&key, other), other_key.as_deref() == Some(&*key));
    let values = |fields: Fields<'_>| -> Vec<Vec<Vec<u8>>> {
        let of = |name: &&str| fields.all(name).map(<[u8]>::to_vec).collect();
        names.iter().map(of).collect()
    };
    assert!(values(one) != values(other) || other_key.as_deref() == Some(&*key), "the same values");
    for name in &names {
        let differ = one.has(name) != other.has(name);
        assert!(!differ || other_key.as_deref() != Some(&*key), "{name} is absent from one");
    }
}
