//! What a stored response is reused for: hits and their age, variants, HEAD, ranges, conditions,
//! what requests say to caches; and what `Cache-Status` says of it.

use crate::support::pages::{
    CacheStatus, Pages, age, ask, date, get, is_hit, one_each, page, send, two_workers,
};
use crate::support::setup::front;
use crate::support::{Client, Gate, eventually};

const MAX_AGE: &str = "Cache-Control: max-age=60\r\n";
const BODY: &str = "0123456789";

/// A page with validators, about which a backend that is asked again says something else.
fn validated() -> Pages {
    Pages::of(|_, number| {
        let fields = format!(
            "{MAX_AGE}ETag: \"a\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
             Content-Type: text/plain\r\nX-Number: {number}\r\n"
        );
        page(&fields, BODY)
    })
}

on_both_drivers! {
    fn a_page_is_fetched_once_for_all_workers_and_says_where_it_came_from(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        let first = get(&mut one, "/", "");
        let status = CacheStatus::of(&first);
        let expected = CacheStatus { fwd: "uri-miss".into(), fwd_status: Some(200), stored: true, ..CacheStatus::default() };
        assert_eq!(CacheStatus { ttl: None, ..status }, expected, "{first:?}");
        let second = get(&mut one, "/", "");
        let status = CacheStatus::of(&second);
        assert!(status.hit && status.ttl.is_some_and(|ttl| (50..=60).contains(&ttl)), "{second:?}");
        assert_eq!(get(&mut other, "/", "").text(), "0");
        assert!(is_hit(&get(&mut other, "/", "")));
        assert_eq!(pages.count("/"), 1);
    }

    fn each_core_fetches_for_itself_if_it_is_told_to(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let proxy = two_workers(driver, &pages, "[cache]\ncache_fill = \"core\"");
        let [mut one, mut other] = one_each(&proxy);
        for _ in 0..2 {
            assert_eq!(get(&mut one, "/", "").text(), "0");
            assert_eq!(get(&mut other, "/", "").text(), "1");
        }
    }

    fn age_is_the_backends_and_ours_and_is_sent_once(driver) {
        let pages = Pages::of(|request, _| match &*request.target {
            "/age" => page("Cache-Control: max-age=60\r\nAge: 40\r\n", BODY),
            "/date" => page(&format!("{MAX_AGE}Date: {}\r\n", date(-30)), BODY),
            "/both" => page(&format!("{MAX_AGE}Age: 10\r\nDate: {}\r\n", date(-30)), BODY),
            "/many" => page("Cache-Control: max-age=60\r\nAge: 7\r\nAge: 50\r\n", BODY),
            "/odd" => page("Cache-Control: max-age=60\r\nAge: -7\r\n", BODY),
            _ => page(MAX_AGE, BODY),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (target, least) in [("/", 0), ("/age", 40), ("/date", 30), ("/both", 30), ("/many", 7), ("/odd", 0)] {
            for _ in 0..2 {
                let answer = get(&mut client, target, "");
                let age = age(&answer);
                assert!((least..least + 10).contains(&age), "{target}: {answer:?}");
                for name in ["date", "content-length"] {
                    assert_eq!(answer.all(name).len(), 1, "{target}: {answer:?}");
                }
            }
            let status = CacheStatus::of(&get(&mut client, target, ""));
            let left = 60 - i64::try_from(least).unwrap();
            assert!(status.ttl.is_some_and(|ttl| (left - 10..=left).contains(&ttl)), "{target}: {status:?}");
        }
        // Time passes for what is stored.
        eventually("the age has grown", || age(&get(&mut client, "/", "")) >= 1);
        assert_eq!(pages.count("/"), 1);
    }

    fn what_has_reached_its_age_is_fetched_again(driver) {
        let pages = Pages::of(|request, number| {
            let fields = match &*request.target {
                "/age" => "Cache-Control: max-age=60\r\nAge: 60\r\n".into(),
                "/date" => format!("{MAX_AGE}Date: {}\r\n", date(-60)),
                "/expires" => format!("Date: {}\r\nExpires: {}\r\n", date(-9), date(-8)),
                "/zero" => "Expires: 0\r\n".into(),
                "/shared" => "Cache-Control: max-age=60, s-maxage=0\r\n".into(),
                "/expires-loses" => format!("Cache-Control: max-age=0\r\nExpires: {}\r\n", date(60)),
                "/cdn" => format!("{MAX_AGE}CDN-Cache-Control: max-age=0\r\n"),
                _ => String::new(),
            };
            page(&fields, &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for target in ["/age", "/date", "/expires", "/zero", "/shared", "/expires-loses", "/cdn", "/nothing"] {
            for expected in ["0", "1"] {
                assert_eq!(get(&mut client, target, "").text(), expected, "{target}");
            }
        }
    }

    fn every_form_of_a_lifetime_counts(driver) {
        let pages = Pages::of(|request, number| {
            let fields = match &*request.target {
                "/s-maxage" => "Cache-Control: max-age=0, s-maxage=60\r\n".into(),
                "/expires" => format!("Expires: {}\r\n", date(60)),
                "/quoted" => "Cache-Control: max-age=\"60\"\r\n".into(),
                "/case" => "CACHE-control: MAX-AGE=60\r\n".into(),
                "/cdn" => "Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n".into(),
                "/guessed" => format!("Last-Modified: {}\r\n", date(-6000)),
                _ => "Cache-Control: max-age=99999999999999999999\r\n".into(),
            };
            page(&fields, &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for target in ["/s-maxage", "/expires", "/quoted", "/case", "/cdn", "/guessed", "/huge"] {
            get(&mut client, target, "");
            let again = get(&mut client, target, "");
            assert_eq!((again.text(), is_hit(&again)), ("0", true), "{target}: {again:?}");
        }
    }

    fn a_variant_is_for_requests_that_say_the_same(driver) {
        let pages = Pages::of(|request, _| {
            let all = request.all("accept-language").join(",");
            page(&format!("{MAX_AGE}Vary: Accept-Language\r\n"), &all)
        });
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        for (fields, body, is_known) in [
            ("Accept-Language: de\r\n", "de", false),
            ("Accept-Language: en\r\n", "en", false),
            ("", "", false),
            ("Accept-Language: de\r\n", "de", true),
            ("accept-language:   de  \r\n", "de", true),
            ("Accept-Language: DE\r\n", "de", true),
            ("Accept-Language: \r\n", "", false),
            ("Accept-Language: de;q=0.5, en\r\n", "de;q=0.5, en", false),
            ("Accept-Language: en , de; q=0.5\r\n", "de;q=0.5, en", true),
            ("Accept-Language: de;q=0.5\r\nAccept-Language: en\r\n", "de;q=0.5, en", true),
            ("Accept-Language: en;q=0.5, de\r\n", "en;q=0.5, de", false),
        ] {
            for (client, is_known) in [(&mut one, is_known), (&mut other, true)] {
                let before = pages.count("/");
                let answer = get(client, "/", fields);
                assert_eq!(answer.text(), body, "{fields:?}: {answer:?}");
                assert_eq!(pages.count("/") == before, is_known, "{fields:?}: {answer:?}");
            }
        }
        let unknown = get(&mut one, "/", "Accept-Language: fr\r\n");
        assert_eq!(CacheStatus::of(&unknown).fwd, "vary-miss");
    }

    fn a_variant_by_coding_is_found_by_what_the_field_means(driver) {
        let pages = Pages::of(|request, _| {
            page(&format!("{MAX_AGE}Vary: Accept-Encoding, X-A\r\n"), request.field("accept-encoding").unwrap_or("none"))
        });
        let proxy = front(driver, &pages.url(), "compress_strategy = \"none\"");
        let mut client = Client::connect(proxy.addr());
        for (value, body) in [
            ("gzip, br", "gzip, br"), ("br,gzip", "gzip, br"), ("BR , x-gzip", "gzip, br"),
            ("gzip;q=1.0, br;q=1", "gzip, br"), ("gzip, br;q=0", "gzip, br;q=0"), ("gzip", "gzip"),
            ("identity", "identity"),
        ] {
            let answer = get(&mut client, "/", &format!("Accept-Encoding: {value}\r\n"));
            assert_eq!(answer.text(), body, "{value}");
        }
        assert_eq!(get(&mut client, "/", "").text(), "none");
        assert_eq!(get(&mut client, "/", "X-A: gzip, br\r\n").text(), "none");
        assert_eq!(pages.count("/"), 6);
    }

    fn a_head_is_answered_from_a_stored_page(driver) {
        let pages = validated();
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        let cold = ask(&mut one, "HEAD /cold", "");
        assert_eq!((cold.status, cold.field("content-length")), (200, Some("10")));
        assert_eq!(pages.last("/cold").method, "HEAD");
        // No page came with it.
        assert_eq!(get(&mut one, "/cold", "").text(), BODY);
        for client in [&mut one, &mut other] {
            let head = ask(client, "HEAD /cold", "");
            assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "{head:?}");
            assert!(is_hit(&head) && head.field("etag") == Some("\"a\""), "{head:?}");
            let unchanged = ask(client, "HEAD /cold", "If-None-Match: \"a\"\r\n");
            assert_eq!(unchanged.status, 304);
            // A range is for GET only (RFC 9110 §14.2).
            let range = ask(client, "HEAD /cold", "Range: bytes=0-1\r\n");
            assert_eq!((range.status, range.field("content-length")), (200, Some("10")));
            assert_eq!(get(client, "/cold", "").text(), BODY);
        }
        assert_eq!(pages.count("/cold"), 2);
    }

    fn a_part_is_cut_out_of_a_stored_page(driver) {
        let pages = validated();
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        assert_eq!(get(&mut clients[0], "/", "").text(), BODY);
        for client in &mut clients {
            for (range, status, content_range, body) in [
                ("bytes=2-4", 206, "bytes 2-4/10", "234"), ("bytes=7-", 206, "bytes 7-9/10", "789"),
                ("bytes=-3", 206, "bytes 7-9/10", "789"), ("bytes=-99", 206, "bytes 0-9/10", BODY),
                ("bytes=9-99", 206, "bytes 9-9/10", "9"), ("BYTES=0-0", 206, "bytes 0-0/10", "0"),
                ("bytes=10-", 416, "bytes */10", ""), ("bytes=-0", 416, "bytes */10", ""),
                ("bytes=0-1,3-4", 200, "", BODY), ("bytes=4-2", 200, "", BODY), ("lines=0-1", 200, "", BODY),
                ("bytes=a-b", 200, "", BODY), ("bytes=18446744073709551616-", 416, "bytes */10", ""),
            ] {
                let answer = get(client, "/", &format!("Range: {range}\r\n"));
                let found = (answer.status, answer.field("content-range").unwrap_or_default(), answer.text());
                assert_eq!(found, (status, content_range, body), "{range}: {answer:?}");
                assert!(is_hit(&answer), "{range}: {answer:?}");
                assert_eq!(answer.all("content-length"), [body.len().to_string()], "{range}");
                assert_eq!(answer.field("etag"), Some("\"a\""), "{range}");
            }
        }
        assert_eq!(pages.count("/"), 1);
    }

    fn a_part_of_another_version_is_not_given(driver) {
        let pages = validated();
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        for (validator, status) in [
            ("\"a\"", 206), ("\"b\"", 200), ("W/\"a\"", 200), ("a", 200),
            ("Sat, 01 Jan 2000 00:00:00 GMT", 206), ("Sat, 01 Jan 2000 00:00:01 GMT", 200),
        ] {
            let fields = format!("Range: bytes=2-3\r\nIf-Range: {validator}\r\n");
            let answer = get(&mut client, "/", &fields);
            let body = if status == 206 { "23" } else { BODY };
            assert_eq!((answer.status, answer.text()), (status, body), "{validator}");
        }
        assert_eq!(pages.count("/"), 1);
    }

    fn a_condition_is_judged_by_what_is_stored(driver) {
        let pages = validated();
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        get(&mut clients[0], "/", "");
        for client in &mut clients {
            for (fields, status) in [
                ("If-None-Match: \"a\"\r\n", 304), ("If-None-Match: W/\"a\"\r\n", 304),
                ("If-None-Match: \"b\", \"a\"\r\n", 304), ("If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", 304),
                ("If-None-Match: *\r\n", 304), ("If-None-Match: \"b\"\r\n", 200), ("If-None-Match: \"b,a\"\r\n", 200),
                ("If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n", 304),
                ("If-Modified-Since: Sun, 02 Jan 2000 00:00:00 GMT\r\n", 304),
                ("If-Modified-Since: Saturday, 01-Jan-00 00:00:00 GMT\r\n", 304),
                ("If-Modified-Since: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 200),
                ("If-Modified-Since: yesterday\r\n", 200),
                // The tag decides alone.
                ("If-None-Match: \"b\"\r\nIf-Modified-Since: Sun, 02 Jan 2000 00:00:00 GMT\r\n", 200),
                // Unchanged comes before a part.
                ("If-None-Match: \"a\"\r\nRange: bytes=0-1\r\n", 304), ("If-None-Match: \"b\"\r\nRange: bytes=0-1\r\n", 206),
            ] {
                let answer = get(client, "/", fields);
                assert_eq!(answer.status, status, "{fields:?}");
                assert!(is_hit(&answer), "{fields:?}: {answer:?}");
                if status == 304 {
                    assert_eq!(answer.field("etag"), Some("\"a\""));
                    assert_eq!(answer.field("cache-control"), Some("max-age=60"));
                    assert!(answer.field("date").is_some() && answer.field("content-type").is_none());
                }
            }
        }
        assert_eq!(pages.count("/"), 1);
        // What is about changing something is the backend's to judge.
        for fields in ["If-Match: \"a\"\r\n", "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n"] {
            let answer = get(&mut clients[0], "/", fields);
            assert_eq!((&*CacheStatus::of(&answer).fwd, answer.status), ("bypass", 200));
        }
        assert_eq!(pages.count("/"), 3);
    }

    fn a_condition_on_a_page_that_is_not_stored_brings_it_into_the_cache(driver) {
        let pages = validated();
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(get(&mut client, "/", "If-None-Match: \"a\"\r\n").status, 304);
        assert_eq!(pages.last("/").field("if-none-match"), None);
        let whole = get(&mut client, "/", "If-None-Match: \"b\"\r\n");
        assert_eq!((whole.status, whole.text(), is_hit(&whole)), (200, BODY, true));
    }

    fn a_request_says_what_it_takes(driver) {
        let pages = Pages::of(|request, number| {
            let fields = match &*request.target {
                "/fresh" => "Cache-Control: max-age=60\r\nAge: 30\r\nETag: \"a\"\r\n",
                "/stale" => "Cache-Control: max-age=60\r\nAge: 70\r\nETag: \"a\"\r\n",
                "/strict" => "Cache-Control: max-age=60, must-revalidate\r\nAge: 70\r\nETag: \"a\"\r\n",
                _ => "Cache-Control: no-store\r\n",
            };
            page(fields, &number.to_string())
        });
        for (target, fields, is_served) in [
            ("/fresh", "", true), ("/fresh", "Cache-Control: no-cache\r\n", false),
            ("/fresh", "Pragma: no-cache\r\n", false), ("/fresh", "Pragma: no-cache\r\nCache-Control: x\r\n", true),
            ("/fresh", "Cache-Control: no-store\r\n", false), ("/fresh", "Cache-Control: max-age=0\r\n", false),
            ("/fresh", "Cache-Control: max-age=20\r\n", false), ("/fresh", "Cache-Control: max-age=50\r\n", true),
            ("/fresh", "Cache-Control: min-fresh=50\r\n", false), ("/fresh", "Cache-Control: min-fresh=5\r\n", true),
            ("/fresh", "Cache-Control: only-if-cached\r\n", true),
            ("/stale", "", false), ("/stale", "Cache-Control: max-stale\r\n", true),
            ("/stale", "Cache-Control: max-stale=5\r\n", false), ("/stale", "Cache-Control: max-stale=50\r\n", true),
            ("/strict", "Cache-Control: max-stale=50\r\n", false),
        ] {
            // A proxy each: an answer that is fetched renews what is stored.
            let proxy = front(driver, &pages.url(), "");
            let mut client = Client::connect(proxy.addr());
            get(&mut client, target, "");
            let count = pages.count(target);
            let answer = get(&mut client, target, fields);
            assert_eq!(pages.count(target) == count, is_served, "{target} {fields:?}: {answer:?}");
            assert_eq!(is_hit(&answer), is_served, "{target} {fields:?}: {answer:?}");
        }
    }

    fn only_if_cached_is_never_a_reason_to_ask(driver) {
        let pages = Pages::numbered("Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"a\"\r\n");
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        let only = "Cache-Control: only-if-cached\r\n";
        assert_eq!(get(&mut client, "/", only).status, 504);
        assert_eq!(ask(&mut client, "HEAD /", only).status, 504);
        assert_eq!(pages.count("/"), 0);
        get(&mut client, "/", "");
        assert_eq!(get(&mut client, "/", only).status, 504);
        assert_eq!(get(&mut client, "/", "Cache-Control: only-if-cached, max-stale\r\n").text(), "0");
        assert_eq!(pages.count("/"), 1);
    }

    fn whoever_waits_for_another_ones_answer_is_told(driver) {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pages = Pages::of(move |request, number| {
            if request.target == "/" {
                theirs.pass("the others wait");
            }
            page(MAX_AGE, &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut clients: Vec<_> = (0..5).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut clients {
            send(client, "GET /", "");
        }
        get(&mut Client::connect(proxy.addr()), "/last", "");
        gate.open();
        let answers: Vec<_> = clients.iter_mut().map(|client| client.read_response()).collect();
        let collapsed = answers.iter().filter(|answer| CacheStatus::of(answer).collapsed).count();
        assert_eq!((pages.count("/"), collapsed), (1, 4), "{answers:?}");
        assert!(answers.iter().all(|answer| answer.text() == "0"));
    }
}
