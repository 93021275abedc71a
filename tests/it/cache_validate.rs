//! Stale responses: asked about, updated, replaced, served while that happens, or in need.

use crate::support::pages::{
    CacheStatus, Pages, age, answer, ask, date, get, is_hit, one_each, page, pass_both, send,
    two_workers,
};
use crate::support::setup::front;
use crate::support::{Client, Driver, Gate, Proxy, eventually};

/// Stale as soon as it is stored.
const STALE: &str = "Cache-Control: max-age=60\r\nAge: 70\r\n";
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
    fn a_stale_page_is_asked_about_and_brought_up_to_date(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("{STALE}{TAG}X-Old: 1\r\nX-New: 1\r\nContent-Type: text/plain\r\n"), "the page");
            }
            assert_eq!(request.all("if-none-match"), ["\"a\""]);
            assert_eq!(request.all("if-modified-since"), ["Sat, 01 Jan 2000 00:00:00 GMT"]);
            let fields = format!(
                "Cache-Control: max-age=600\r\nExpires: {}\r\nETag: \"a\"\r\nX-New: 2\r\nX-New: 3\r\nX-Hop: 1\r\n\
                 Connection: X-Hop\r\nContent-Length: 99\r\nContent-Encoding: br\r\nContent-Range: bytes 0-1/2\r\n\
                 Set-Cookie: id=1\r\nAge: 5\r\n", date(600));
            answer("304 Not Modified", &fields, "")
        });
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        get(&mut one, "/", "");
        for (round, client) in [&mut one, &mut other].into_iter().enumerate() {
            for again in 0..2 {
                let answer = get(client, "/", "");
                assert_eq!((answer.status, answer.text()), (200, "the page"));
                if round == 0 && again == 0 {
                    let status = CacheStatus::of(&answer);
                    assert_eq!((&*status.fwd, status.fwd_status), ("stale", Some(304)), "{answer:?}");
                } else {
                    assert!(round == 1 || is_hit(&answer), "{answer:?}");
                }
                assert_eq!(answer.all("cache-control"), ["max-age=600"]);
                assert_eq!(answer.all("x-new"), ["2", "3"]);
                assert_eq!((answer.field("x-old"), answer.field("content-type")), (Some("1"), Some("text/plain")));
                assert_eq!(answer.all("content-length"), ["8"]);
                assert!(answer.field("expires").is_some());
                for name in ["x-hop", "content-encoding", "content-range"] {
                    assert_eq!(answer.field(name), None, "{answer:?}");
                }
                assert!((again == 0 && round == 0) || answer.field("set-cookie").is_none(), "{answer:?}");
                assert!((5..30).contains(&age(&answer)), "{answer:?}");
            }
        }
        assert_eq!(pages.count("/"), 2);
    }

    fn the_clients_own_condition_is_answered_by_us(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("{STALE}{TAG}"), "the page");
            }
            assert_eq!(request.all("if-none-match"), ["\"a\""]);
            answer("304 Not Modified", &format!("{STALE}{TAG}"), "")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        for (fields, status, body) in [
            ("If-None-Match: \"client\"\r\n", 200, "the page"), ("If-None-Match: \"a\"\r\n", 304, ""),
            ("If-Modified-Since: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 200, "the page"),
            ("Range: bytes=4-7\r\n", 206, "page"), ("Range: bytes=4-7\r\nIf-Range: \"b\"\r\n", 200, "the page"),
        ] {
            let answer = get(&mut client, "/", fields);
            assert_eq!((answer.status, answer.text()), (status, body), "{fields:?}: {answer:?}");
        }
        assert_eq!(pages.count("/"), 6);
    }

    fn a_new_page_takes_the_place_of_the_stale_one(driver) {
        let pages = Pages::of(|request, number| match (number, &*request.target) {
            (0, _) => page(&format!("{STALE}{TAG}"), "old"),
            (1, "/gone") => answer("410 Gone", "Cache-Control: max-age=60\r\n", "gone"),
            (1, "/private") => page("Cache-Control: private\r\n", "private"),
            (1, "/failed") => answer("500 Failed", "", "failed"),
            (1, _) => page("Cache-Control: max-age=60\r\nETag: \"b\"\r\n", "new"),
            (_, "/failed") => {
                // What was stored is still there to be asked about.
                assert_eq!(request.field("if-none-match"), Some("\"a\""));
                answer("304 Not Modified", "Cache-Control: max-age=60\r\n", "")
            }
            _ => page("", "third"),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (target, second, third) in [
            ("/", "new", "new"), ("/gone", "gone", "gone"), ("/private", "private", "third"), ("/failed", "failed", "old"),
        ] {
            for expected in ["old", second, third] {
                assert_eq!(get(&mut client, target, "").text(), expected, "{target}");
            }
        }
    }

    fn a_304_about_another_version_is_not_believed(driver) {
        let pages = Pages::of(|request, number| match (number, request.field("if-none-match")) {
            (0, _) => page(&format!("{STALE}ETag: \"a\"\r\n"), "old"),
            (_, Some(_)) => answer("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"b\"\r\n", ""),
            (_, None) => page("Cache-Control: max-age=60\r\nETag: \"b\"\r\n", "new"),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        for _ in 0..2 {
            let answer = get(&mut client, "/", "");
            assert_eq!((answer.status, answer.text()), (200, "new"), "{answer:?}");
        }
    }

    fn a_304_can_end_the_storing(driver) {
        let pages = Pages::of(|request, number| match (number, request.field("if-none-match")) {
            (1, _) => {
                let control = request.target.trim_start_matches('/');
                answer("304 Not Modified", &format!("Cache-Control: {control}\r\nETag: \"a\"\r\n"), "")
            }
            (0, _) => page(&format!("{STALE}{TAG}"), "old"),
            (_, Some(_)) => page("", "asked about"),
            (_, None) => page("", "new"),
        });
        let proxy = two_workers(driver, &pages, "");
        for target in ["/private", "/no-store"] {
            let [mut one, mut other] = one_each(&proxy);
            assert_eq!(get(&mut one, target, "").text(), "old");
            assert_eq!(get(&mut one, target, "").text(), "old");
            assert_eq!(get(&mut one, target, "").text(), "new");
            assert_eq!(get(&mut other, target, "").text(), "new");
        }
    }

    fn what_must_be_asked_about_is_asked_about_every_time(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("Cache-Control: no-cache, max-age=60\r\n{TAG}"), "the page");
            }
            assert_eq!(request.field("if-none-match"), Some("\"a\""));
            answer("304 Not Modified", "", "")
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        for round in 0..2 {
            for (at, client) in clients.iter_mut().enumerate() {
                assert_eq!(get(client, "/", "").text(), "the page");
                assert_eq!(pages.count("/"), round * 2 + at + 1);
            }
        }
    }

    fn those_who_come_meanwhile_wait_for_one_question(driver) {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pages = Pages::of(move |request, number| match (number, &*request.target) {
            (0, _) => page(&format!("{STALE}{TAG}"), "the page"),
            (_, "/") => {
                theirs.pass("the others wait");
                answer("304 Not Modified", "Cache-Control: max-age=60\r\n", "")
            }
            _ => page("", ""),
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(proxy.addr())).collect();
        get(&mut clients[0], "/", "");
        for client in &mut clients {
            send(client, "GET /", "");
        }
        pass_both(&proxy);
        gate.open();
        for client in &mut clients {
            let answer = client.read_response();
            assert_eq!((answer.status, answer.text()), (200, "the page"), "{answer:?}");
        }
        assert_eq!(pages.count("/"), 2);
    }

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
