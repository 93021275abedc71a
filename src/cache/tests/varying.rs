//! Which requests a stored response matches.

use super::*;

fn vary(response: &str) -> VaryKind {
    with_fields(response, Vary::of)
}

/// Returns whether two requests have the same secondary key.
fn same(response: &str, one: &[u8], other: &[u8]) -> bool {
    let VaryKind::Names(vary) = vary(response) else { panic!("{response}") };
    let (one, other) = (head(one), head(other));
    let key = vary.secondary(one.fields()).unwrap();
    assert!(vary.matches(&key, one.fields()));
    let is_same = Some(&key) == vary.secondary(other.fields()).as_ref();
    assert_eq!(vary.matches(&key, other.fields()), is_same, "{response}");
    is_same
}

#[test]
fn a_star_anywhere_matches_nothing() {
    for response in [
        "Vary: *",
        "Vary: *, *",
        "Vary: *\nVary: *",
        "Vary: , *",
        "Vary:\nVary: *",
        "Vary: *, Foo",
        "Vary: Foo, *",
        "Vary: Foo\nVary: Bar, *",
        "Vary: Foo Bar",
        "Vary: \"Foo\"",
        "Vary: Foo; Bar",
        "Vary: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
    ] {
        assert_eq!(vary(response), VaryKind::Star, "{response}");
        let response = format!("Cache-Control: max-age=60\n{response}");
        let found = store("", 200, &response, &Rules::default());
        assert_eq!(found, Err(Unstorable::VaryStar), "{response}");
    }
}

#[test]
fn names_are_read_in_any_case_and_order() {
    for response in ["", "Vary:", "Vary: ,"] {
        assert_eq!(vary(response), VaryKind::None, "{response}");
    }
    let VaryKind::Names(names) = vary("Vary: foo, BAR\nVary: Foo,,baz") else { panic!() };
    assert_eq!(names.names().collect::<Vec<_>>(), ["bar", "baz", "foo"]);
    assert_eq!(vary("Vary: foo,bar"), vary("vary: Bar\nVary: Foo"));
    let most = "Vary: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p";
    assert!(matches!(vary(most), VaryKind::Names(_)));
}

#[test]
fn a_request_matches_whose_named_fields_say_the_same() {
    for (response, one, other, expected) in [
        ("Vary: Foo", "Foo: 1", "foo: 1", true),
        ("Vary: Foo", "Foo: 1", "Foo: 1\nBar: 2", true),
        ("Vary: Foo", "Foo: 1", "Foo: 2", false),
        ("Vary: Foo", "Foo: 1", "", false),
        ("Vary: Foo", "", "Foo: 1", false),
        ("Vary: Foo", "Foo:", "", false),
        ("Vary: Foo", "", "", true),
        ("Vary: Foo", "Foo: a", "Foo: A", false),
        ("Vary: Foo, Bar", "Foo: 1\nBar: 2", "Bar: 2\nFoo: 1", true),
        ("Vary: Foo, Bar", "Foo: 1\nBar: 2", "Foo: 2\nBar: 1", false),
        ("Vary: Foo, Bar", "Foo: 1", "Bar: 1", false),
        ("Vary: Foo, Bar", "Foo: 12", "Foo: 1\nBar: 2", false),
        ("Vary: Foo, Bar, Baz", "Foo: 1\nBaz: 2", "Baz: 2\nFoo: 1", true),
        ("Vary: Foo", "Foo: 1, 2", "Foo: 1\nFoo: 2", true),
        ("Vary: Foo", "Foo: 1,2", "Foo:  1 ,\t2 ", true),
        ("Vary: Foo", "Foo: 1,2", "Foo: 2,1", false),
        ("Vary: Foo", "Foo: 1 2", "Foo: 12", false),
        ("Vary: Foo", "Foo: \"1,2\"", "Foo: \"1, 2\"", false),
        ("Vary: Foo", "Foo: \"1,2", "Foo: \"1, 2", false),
        ("Vary: Cookie", "Cookie: a=1, 2", "Cookie: a=1,2", false),
        ("Vary: Cookie", "Cookie: a=1; b=2", "Cookie: a=1; b=2", true),
        ("Vary: Cookie", "Cookie: a=1\nCookie: b=2", "Cookie: a=1, b=2", false),
        ("Vary: Authorization", "Authorization: a, b", "Authorization: a,b", false),
    ] {
        assert_eq!(same(response, one.as_bytes(), other.as_bytes()), expected, "{one} | {other}");
    }
}

#[test]
fn choices_match_that_mean_the_same() {
    for (one, other, expected) in [
        ("gzip, br", "br,gzip", true),
        ("gzip, br", "GZIP, Br;q=1", true),
        ("gzip;q=1.000, br", "gzip ; q=1., br;Q=1.0", true),
        ("gzip;q=0.5, br", "br, gzip;q=0.500", true),
        ("x-gzip", "gzip", true),
        ("gzip\nAccept-Encoding: br", "gzip, br", true),
        ("gzip, br", "gzip", false),
        ("gzip;q=0.5, br", "gzip, br;q=0.5", false),
        ("gzip;q=0", "gzip", false),
        ("gzip;q=0.001", "gzip;q=0.002", false),
        ("gzip;q=1.001", "gzip", false),
        ("gzip;a=b", "gzip", false),
        ("", "identity", false),
        ("gzip, br;q=2", "br;q=2, gzip", false),
    ] {
        let lines = |value: &str| format!("Accept-Encoding: {value}").into_bytes();
        let found = same("Vary: Accept-Encoding", &lines(one), &lines(other));
        assert_eq!(found, expected, "{one} | {other}");
    }
    let languages = |one: &str, other: &str| {
        let lines = |value: &str| format!("Accept-Language: {value}").into_bytes();
        same("Vary: Accept-Language", &lines(one), &lines(other))
    };
    assert!(languages("en, de", "de, en"));
    assert!(languages("en, de", " eN ,   De"));
    assert!(!languages("en, de;q=0.5", "de, en;q=0.5"));
    assert!(!languages("en-US", "en"));
}

#[test]
fn no_spelling_imitates_the_key_of_another() {
    // What is put in order ends in bytes that a client may send as well.
    let plain = b"Accept-Encoding: gzip";
    for forged in [&b"gzip\x87\xe8"[..], b"\x83gzip\x87\xe8", b"gzip\x83\xe8", b"gzip;q=\x87\xe8"] {
        let forged = [b"Accept-Encoding: ", forged].concat();
        assert!(!same("Vary: Accept-Encoding", plain, &forged), "{forged:?}");
    }
}

#[test]
fn a_secondary_key_has_a_longest_length() {
    let VaryKind::Names(vary) = vary("Vary: Foo") else { panic!() };
    let key = |len: usize| {
        let head = head(format!("Foo: {}", "x".repeat(len)).as_bytes());
        let key = vary.secondary(head.fields());
        assert!(key.as_ref().is_none_or(|key| vary.matches(key, head.fields())));
        key.map(|key| key.len())
    };
    assert_eq!(key(1021), Some(1023));
    assert_eq!(key(1022), Some(1024));
    assert_eq!(key(1023), None);
    let many = "a, ".repeat(17);
    assert!(same(
        "Vary: Accept-Language",
        format!("Accept-Language: {many}").as_bytes(),
        format!("Accept-Language: {many}").as_bytes()
    ));
}
