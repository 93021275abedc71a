//! Stale responses that are served all the same: while they are renewed, or because the backend fails.

use std::time::{Duration, Instant};

use crate::support::pages::{
    CacheStatus, Pages, age, answer, ask, get, is_hit, one_each, page, send, two_workers,
};
use crate::support::setup::front;
use crate::support::{Client, Driver, Gate, Proxy, eventually};

const TAG: &str = "ETag: \"a\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n";

/// How a backend fails the second time it is asked, and what clients see if nobody stands in.
const FAILURES: [(&str, u16); 6] = [
    ("/500", 500),
    ("/502", 502),
    ("/503", 503),
    ("/504", 504),
    ("/closes", 502),
    ("/garbage", 502),
];

/// A proxy before pages that are stale at once and fail from the second time on.
fn failing(driver: Driver, fields: &'static str) -> (Pages, Proxy, Client) {
    let pages = Pages::of(move |request, number| match (number, &*request.target) {
        (0, _) => page(fields, "the page"),
        (_, "/closes") => String::new(),
        (_, "/garbage") => "garbage\r\n\r\nConnection: close\r\n".into(),
        (_, target) => answer(&format!("{} Failed", target.trim_start_matches('/')), "", "failed"),
    });
    let proxy = front(driver, &pages.url(), "");
    let client = Client::connect(proxy.addr());
    (pages, proxy, client)
}

on_both_drivers! {
    fn a_stale_page_is_served_while_one_request_renews_it(driver) {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pages = Pages::of(move |_, number| {
            if number == 0 {
                return page("Cache-Control: max-age=60, stale-while-revalidate=600\r\nAge: 70\r\n", "0");
            }
            theirs.pass("the stale page was served");
            page("Cache-Control: max-age=60\r\n", &number.to_string())
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        get(&mut clients[0], "/", "");
        for _ in 0..5 {
            for client in &mut clients {
                let answer = get(client, "/", "");
                assert_eq!((answer.text(), answer.status), ("0", 200));
                assert!(age(&answer) >= 70, "{answer:?}");
            }
        }
        let status = CacheStatus::of(&get(&mut clients[0], "/", ""));
        assert!(status.hit && status.ttl.is_some_and(|ttl| ttl < 0), "{status:?}");
        pages.wait_for("/", 2);
        // Responses are told apart by the millisecond in which they came.
        let now = Instant::now();
        eventually("the clock has gone on", || now.elapsed() > Duration::from_millis(2));
        gate.open();
        for client in &mut clients {
            let mut answer = get(client, "/", "");
            eventually("the page is new", || {
                answer = get(client, "/", "");
                answer.text() != "0"
            });
            assert_eq!((answer.text(), pages.count("/")), ("1", 2), "{answer:?}");
        }
    }

    fn a_stale_page_is_renewed_by_a_304_behind_the_client(driver) {
        let swr = "Cache-Control: max-age=60, stale-while-revalidate=600\r\n";
        let pages = Pages::of(move |request, number| match number {
            0 => page(&format!("{swr}Age: 70\r\n{TAG}"), "the page"),
            // Served on although this failed.
            1 => answer("500 Failed", "", "failed"),
            _ => {
                assert_eq!(request.field("if-none-match"), Some("\"a\""));
                answer("304 Not Modified", swr, "")
            }
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        eventually("the page is fresh again", || {
            let answer = get(&mut client, "/", "");
            assert_eq!(answer.text(), "the page");
            CacheStatus::of(&answer).hit && age(&answer) < 60
        });
        assert_eq!(pages.count("/"), 3);
    }

    fn a_head_or_a_part_of_a_stale_page_renews_all_of_it(driver) {
        let pages = Pages::of(|request, number| {
            let fields = match number {
                0 => "Cache-Control: max-age=60, stale-while-revalidate=600\r\nAge: 70\r\n",
                _ => "Cache-Control: max-age=60\r\n",
            };
            let body = if request.method == "HEAD" { "" } else { "page" };
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\n{body}")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (line, fields, status) in [("HEAD", "", 200), ("GET", "Range: bytes=2-\r\n", 206)] {
            let target = format!("/{line}");
            get(&mut client, &target, "");
            let answer = ask(&mut client, &format!("{line} {target}"), fields);
            assert_eq!((answer.status, is_hit(&answer)), (status, true), "{answer:?}");
            pages.wait_for(&target, 2);
            let asked = pages.last(&target);
            assert_eq!((&*asked.method, asked.field("range")), ("GET", None));
            eventually("the page is fresh", || {
                let answer = get(&mut client, &target, "");
                assert_eq!(answer.text(), "page");
                age(&answer) < 60
            });
        }
    }

    fn a_page_that_is_stale_for_longer_or_must_be_asked_about_is_not_served_meanwhile(driver) {
        let pages = Pages::of(|request, number| {
            let fields = match &*request.target {
                "/longer" => "Cache-Control: max-age=60, stale-while-revalidate=5\r\nAge: 70\r\n",
                "/must" => "Cache-Control: max-age=60, stale-while-revalidate=600, must-revalidate\r\nAge: 70\r\n",
                "/proxy" => "Cache-Control: max-age=60, stale-while-revalidate=600, proxy-revalidate\r\nAge: 70\r\n",
                _ => "Cache-Control: no-cache, max-age=60, stale-while-revalidate=600\r\nAge: 70\r\n",
            };
            page(&format!("{fields}{TAG}"), &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for target in ["/longer", "/must", "/proxy", "/no-cache"] {
            for expected in ["0", "1", "2"] {
                assert_eq!(get(&mut client, target, "").text(), expected, "{target}");
            }
        }
    }

    fn a_stale_page_stands_in_for_a_failure(driver) {
        let (pages, _proxy, mut client) =
            failing(driver, "Cache-Control: max-age=60, stale-if-error=600\r\nAge: 70\r\n");
        for (target, _) in FAILURES {
            get(&mut client, target, "");
            for round in 2..4 {
                let answer = get(&mut client, target, "");
                assert_eq!((answer.status, answer.text()), (200, "the page"), "{target}: {answer:?}");
                assert!(age(&answer) >= 70 && CacheStatus::of(&answer).fwd == "stale", "{answer:?}");
                // Where a connection closed that had waited, it was asked once more on another.
                assert!(pages.count(target) >= round, "{target}");
            }
        }
    }

    fn what_the_backend_answered_is_told_where_a_stale_page_stood_in(driver) {
        let (_pages, _proxy, mut client) =
            failing(driver, "Cache-Control: max-age=60, stale-if-error=600\r\nAge: 70\r\n");
        for (target, told) in [("/500", Some(500)), ("/503", Some(503)), ("/closes", None)] {
            get(&mut client, target, "");
            let answer = get(&mut client, target, "");
            let status = CacheStatus::of(&answer);
            assert_eq!((status.fwd_status, status.stored), (told, false), "{target}: {answer:?}");
        }
    }

    fn who_takes_nothing_stale_gets_nothing_stale_although_he_waited_beside_others(driver) {
        let gates = [Gate::default(), Gate::default()];
        let theirs = gates.clone();
        let pages = Pages::of(move |request, number| {
            let row = usize::from(request.target == "/1");
            if number == 0 {
                let fields = "Cache-Control: max-age=60, stale-if-error=600\r\nAge: 70\r\n";
                return page(fields, "the page");
            }
            theirs[row].pass("both wait");
            answer("500 Failed", "", "failed")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut one = Client::connect(proxy.addr());
        let mut other = Client::connect(proxy.addr());
        for (row, fields) in ["Cache-Control: no-cache\r\n", "Authorization: bob\r\n"].iter().enumerate() {
            let target = format!("/{row}");
            get(&mut one, &target, "");
            send(&mut one, &format!("GET {target}"), "");
            pages.wait_for(&target, 2);
            send(&mut other, &format!("GET {target}"), fields);
            get(&mut Client::connect(proxy.addr()), "/-/passed", "");
            gates[row].open();
            assert_eq!(one.read_response().text(), "the page");
            let answer = other.read_response();
            assert_eq!((answer.status, answer.text()), (500, "failed"), "{fields:?}: {answer:?}");
        }
    }

    fn a_client_may_ask_for_a_stale_page_in_need(driver) {
        let (_pages, _proxy, mut client) = failing(driver, "Cache-Control: max-age=60\r\nAge: 70\r\nETag: \"a\"\r\n");
        for (target, status) in [("/500", 500), ("/503", 503)] {
            get(&mut client, target, "");
            assert_eq!(get(&mut client, target, "").status, status);
            let answer = get(&mut client, target, "Cache-Control: stale-if-error=600\r\n");
            assert_eq!((answer.status, answer.text()), (200, "the page"), "{target}");
            assert_eq!(get(&mut client, target, "Cache-Control: stale-if-error=5\r\n").status, status);
        }
    }

    fn other_answers_are_no_failure(driver) {
        let (_pages, _proxy, mut client) =
            failing(driver, "Cache-Control: max-age=60, stale-if-error=600\r\nAge: 70\r\n");
        for (target, status) in [("/404", 404), ("/403", 403), ("/501", 501), ("/302", 302)] {
            get(&mut client, target, "");
            assert_eq!(get(&mut client, target, "").status, status);
        }
    }

    fn what_must_not_be_served_stale_is_not_served_in_need(driver) {
        for fields in [
            "Cache-Control: max-age=60, stale-if-error=600, must-revalidate\r\nAge: 70\r\nETag: \"a\"\r\n",
            "Cache-Control: max-age=60, stale-if-error=600, proxy-revalidate\r\nAge: 70\r\nETag: \"a\"\r\n",
            "Cache-Control: s-maxage=60, stale-if-error=600\r\nAge: 70\r\nETag: \"a\"\r\n",
            "Cache-Control: no-cache, max-age=60, stale-if-error=600\r\nAge: 70\r\nETag: \"a\"\r\n",
        ] {
            let (_pages, _proxy, mut client) = failing(driver, fields);
            for (target, status) in FAILURES {
                get(&mut client, target, "");
                let answer = get(&mut client, target, "");
                // RFC 9111 §5.2.2.2 wants an error, preferably 504.
                let is_error = answer.status == status || answer.status == 504;
                assert!(is_error && answer.text() != "the page", "{fields:?} {target}: {answer:?}");
            }
        }
    }

    fn a_stale_page_stands_in_for_a_backend_that_is_gone_unless_it_forbids_that(driver) {
        let pages = Pages::of(|request, _| {
            let fields = match &*request.target {
                "/must" => "Cache-Control: max-age=60, must-revalidate\r\n",
                "/proxy" => "Cache-Control: max-age=60, proxy-revalidate\r\n",
                "/shared" => "Cache-Control: s-maxage=60\r\n",
                "/no-cache" => "Cache-Control: no-cache\r\n",
                _ => "Cache-Control: max-age=60\r\n",
            };
            page(&format!("{fields}Age: 70\r\nETag: \"a\"\r\nConnection: close\r\n"), "the page")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        let targets = ["/may", "/must", "/proxy", "/shared", "/no-cache"];
        for target in targets {
            get(&mut client, target, "");
        }
        drop(pages);
        for target in targets {
            let answer = get(&mut client, target, "");
            if target == "/may" {
                assert_eq!((answer.status, answer.text()), (200, "the page"), "{answer:?}");
                let strict = get(&mut client, target, "Cache-Control: max-age=10\r\n");
                assert!(matches!(strict.status, 502 | 504), "{strict:?}");
                let strict = get(&mut client, target, "Cache-Control: no-cache\r\n");
                assert!(matches!(strict.status, 502 | 504), "{strict:?}");
            } else {
                assert!(matches!(answer.status, 502 | 504), "{target}: {answer:?}");
            }
        }
    }
}
