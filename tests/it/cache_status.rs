//! What is stored is replayed as what it is: no part as the whole, no 304 as a page, no error that
//! nobody allowed to keep; and only to requests that a cache may answer.

use crate::support::pages::{
    CacheStatus, Pages, answer, ask, get, is_hit, one_each, page, send, two_workers,
};
use crate::support::setup::front;
use crate::support::{Client, ws};

const BODY: &str = "0123456789";

on_both_drivers! {
    fn a_part_is_never_the_page_of_the_next(driver) {
        let pages = Pages::of(|request, _| {
            let fields = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";
            match request.field("range") {
                Some("bytes=2-3") => {
                    answer("206 Partial Content", &format!("{fields}Content-Range: bytes 2-3/10\r\n"), "23")
                }
                Some("bytes=90-") => {
                    answer("416 Range Not Satisfiable", &format!("{fields}Content-Range: bytes */10\r\n"), "")
                }
                _ => page(fields, BODY),
            }
        });
        let proxy = two_workers(driver, &pages, "");
        for (target, range, status) in [("/a", "bytes=2-3", 206), ("/b", "bytes=90-", 416)] {
            let [mut one, mut other] = one_each(&proxy);
            let range = format!("Range: {range}\r\n");
            assert_eq!(get(&mut one, target, &range).status, status);
            for client in [&mut one, &mut other] {
                let whole = get(client, target, "");
                assert_eq!((whole.status, whole.text()), (200, BODY), "{whole:?}");
                assert_eq!(whole.field("content-range"), None);
            }
            // Now the whole is there, and parts are cut out of it.
            let count = pages.count(target);
            assert_eq!(get(&mut other, target, &range).status, status);
            assert_eq!(pages.count(target), count);
        }
    }

    fn a_part_that_nobody_asked_for_is_not_stored(driver) {
        let pages = Pages::of(|_, number| {
            let fields = "Cache-Control: public, max-age=60\r\nContent-Range: bytes 0-0/10\r\n";
            answer("206 Partial Content", fields, &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for expected in ["0", "1"] {
            assert_eq!(get(&mut client, "/", "").text(), expected);
        }
    }

    fn a_304_is_for_the_client_whose_condition_it_answers(driver) {
        let pages = Pages::of(|request, _| {
            let fields = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";
            match request.field("if-none-match") {
                Some("\"a\"") => answer("304 Not Modified", fields, ""),
                _ => page(fields, BODY),
            }
        });
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        for (target, more) in [("/cold", ""), ("/unstored", "Cache-Control: no-store\r\n")] {
            let condition = format!("If-None-Match: \"a\"\r\n{more}");
            assert_eq!(get(&mut one, target, &condition).status, 304);
            for client in [&mut one, &mut other] {
                let whole = get(client, target, "");
                assert_eq!((whole.status, whole.text()), (200, BODY), "{whole:?}");
            }
        }
        // With others who wait for the same page.
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(proxy.addr())).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            send(client, "GET /crowd", if at % 2 == 0 { "If-None-Match: \"a\"\r\n" } else { "" });
        }
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_response().status, if at % 2 == 0 { 304 } else { 200 });
        }
    }

    fn a_304_to_a_request_without_conditions_is_not_stored(driver) {
        let pages = Pages::of(|_, number| match number {
            0 => answer("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n", ""),
            _ => page("Cache-Control: max-age=60\r\n", BODY),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        assert_eq!(get(&mut client, "/", "").text(), BODY);
    }

    fn an_answer_without_freshness_is_stored_only_if_its_status_allows_it(driver) {
        let pages = Pages::of(|request, number| {
            let status = request.target.trim_start_matches('/');
            let fields = "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\nLocation: /x\r\n";
            let body = if status == "204" { String::new() } else { number.to_string() };
            answer(&format!("{status} Some"), fields, &body)
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (status, is_stored) in [
            (200, true), (203, true), (204, true), (301, true), (308, true), (404, true), (410, true),
            (201, false), (202, false), (302, false), (303, false), (307, false), (400, false),
            (401, false), (403, false), (412, false), (416, false), (429, false), (500, false),
            (502, false), (503, false), (504, false),
        ] {
            let target = format!("/{status}");
            let first = get(&mut client, &target, "");
            let second = get(&mut client, &target, "");
            assert_eq!((first.status, second.status), (status, status));
            assert_eq!(is_hit(&second), is_stored, "{status}: {second:?}");
            assert_eq!(pages.count(&target), if is_stored { 1 } else { 2 }, "{status}");
            assert_eq!(first.reason, second.reason);
        }
    }

    fn an_answer_with_freshness_is_replayed_under_its_own_status(driver) {
        let pages = Pages::of(|request, number| {
            let status = request.target.trim_start_matches('/');
            answer(&format!("{status} My Words"), "Cache-Control: max-age=60\r\nLocation: /x\r\n", &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for status in [200, 201, 301, 302, 303, 307, 308, 400, 403, 404, 410, 500, 503] {
            let target = format!("/{status}");
            get(&mut client, &target, "");
            let second = get(&mut client, &target, "");
            assert_eq!((second.status, &*second.reason, second.text()), (status, "My Words", "0"));
            assert_eq!(second.field("location"), Some("/x"));
            // A condition or a range is for what would be sent with success (RFC 9110 §13.2.1).
            if status >= 300 {
                let fields = "If-Modified-Since: Thu, 31 Dec 2099 23:59:59 GMT\r\nRange: bytes=0-0\r\n";
                assert_eq!(get(&mut client, &target, fields).status, status);
            }
            assert_eq!(pages.count(&target), 1, "{status}");
        }
    }

    fn where_everything_is_stored_failures_and_parts_are_not(driver) {
        let pages = Pages::of(|request, number| {
            let status = request.target.trim_start_matches('/');
            answer(&format!("{status} Some"), "Cache-Control: no-cache, max-age=0\r\n", &number.to_string())
        });
        let proxy = front(driver, &pages.url(), "respect = \"always\"");
        let mut client = Client::connect(proxy.addr());
        for (status, expected) in [
            (200, "0"), (301, "0"), (404, "0"), (410, "0"), (206, "1"), (302, "1"), (307, "1"), (401, "1"),
            (403, "1"), (416, "1"), (500, "1"), (502, "1"), (503, "1"), (504, "1"),
        ] {
            let target = format!("/{status}");
            get(&mut client, &target, "");
            assert_eq!(get(&mut client, &target, "").text(), expected, "{status}");
        }
    }

    fn no_other_method_is_answered_from_the_cache_or_stored(driver) {
        let pages = Pages::of(|request, number| {
            page("Cache-Control: public, max-age=60\r\n", &format!("{} {number}", request.method))
        });
        for more in ["", "respect = \"always\""] {
            let proxy = two_workers(driver, &pages, more);
            let [mut one, mut other] = one_each(&proxy);
            for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get"] {
                let target = format!("/{method}/{}", more.len());
                assert_eq!(get(&mut one, &target, "").text(), "GET 0");
                for (client, number) in [(&mut one, 1), (&mut other, 2)] {
                    let line = format!("{method} {target}");
                    let answer = ask(client, &line, "Content-Length: 0\r\n");
                    assert_eq!(answer.text(), format!("{method} {number}"), "{answer:?}");
                }
                // What they answered is no answer to a GET either.
                assert!(get(&mut one, &target, "").text().starts_with("GET "), "{method}");
            }
        }
    }

    fn a_get_with_a_body_is_neither_answered_from_the_cache_nor_stored(driver) {
        let pages = Pages::of(|request, _| {
            page("Cache-Control: max-age=60\r\n", &String::from_utf8_lossy(&request.body))
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for target in ["/cold", "/warm"] {
            if target == "/warm" {
                assert_eq!(get(&mut client, target, "").text(), "");
            }
            for (framing, body) in [
                ("Content-Length: 1\r\n", "a"),
                ("Transfer-Encoding: chunked\r\n", "1\r\nb\r\n0\r\n\r\n"),
            ] {
                client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{body}"));
                let expected = body.trim_start_matches("1\r\n").get(..1).unwrap();
                assert_eq!(client.read_response().text(), expected);
            }
            assert_eq!(get(&mut client, target, "").text(), "");
        }
        assert_eq!((pages.count("/cold"), pages.count("/warm")), (3, 3));
    }

    fn an_upgrade_is_not_answered_from_the_cache(driver) {
        let pages = Pages::of(|request, _| match request.field("upgrade") {
            Some(_) => ws::switching_protocols(ws::KEY, &[]),
            None => page("Cache-Control: max-age=60\r\n", "a page"),
        });
        let proxy = two_workers(driver, &pages, "");
        for mut client in one_each(&proxy) {
            assert_eq!(get(&mut client, "/", "").text(), "a page");
            assert!(is_hit(&get(&mut client, "/", "")));
            client.send(ws::ws_request("/", &[]));
            assert_eq!(client.read_response_head().status, 101);
        }
        let mut client = Client::connect(proxy.addr());
        assert_eq!(get(&mut client, "/", "").text(), "a page");
    }

    fn a_request_that_forbids_to_store_goes_through(driver) {
        let pages = Pages::numbered("Cache-Control: public, max-age=60\r\n");
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        let no_store = "Cache-Control: no-store\r\n";
        let answer = get(&mut client, "/", no_store);
        let status = CacheStatus::of(&answer);
        assert_eq!((&*status.fwd, status.stored, answer.text()), ("bypass", false, "0"));
        assert_eq!(get(&mut client, "/", "").text(), "1");
        assert_eq!(get(&mut client, "/", no_store).text(), "2");
        let kept = get(&mut client, "/", "");
        assert_eq!((kept.text(), is_hit(&kept)), ("1", true));
    }
}
