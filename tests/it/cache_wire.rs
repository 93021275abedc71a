//! Stored responses on the wire: pipelines, old clients, the end of a connection, fields of one hop,
//! interim answers, and bodies in every framing.

use crate::support::pages::{CacheStatus, Pages, answer, ask, get, is_hit, page};
use crate::support::setup::{front, runtime};
use crate::support::{Client, Proxy};

const MAX_AGE: &str = "Cache-Control: max-age=60\r\n";

/// A body by the number in a target, `/p0`, `/p1`...: some are empty, some larger than any buffer.
fn body_of(target: &str) -> String {
    let number: usize = target.trim_start_matches("/p").parse().unwrap_or(1);
    format!("{target} ").repeat(number % 5 * number % 7 * 1500)
}

fn lines_of_a_get(targets: impl IntoIterator<Item = String>) -> String {
    let lines =
        targets.into_iter().map(|it| format!("GET {it} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    lines.collect()
}

on_both_drivers! {
    fn sixteen_requests_in_one_write_get_their_answers_in_order(driver) {
        let pages = Pages::of(|request, _| page(MAX_AGE, &body_of(&request.target)));
        let proxy = front(driver, &pages.url(), "compress_strategy = \"none\"");
        let mut client = Client::connect(proxy.addr());
        let targets: Vec<_> = (0..16).map(|number| format!("/p{number}")).collect();
        // Cold, then from the cache.
        for round in 0..3 {
            client.send(lines_of_a_get(targets.clone()));
            for target in &targets {
                let answer = client.read_response();
                assert_eq!((answer.status, is_hit(&answer)), (200, round > 0), "{target}");
                assert!(answer.text() == body_of(target), "{target}: {answer:?}");
            }
        }
        assert!(targets.iter().all(|target| pages.count(target) == 1));
    }

    fn hits_and_other_requests_in_one_write_are_answered_in_order(driver) {
        let pages = Pages::of(|request, _| match &*request.method {
            "POST" => page("", &format!("posted {}", String::from_utf8_lossy(&request.body))),
            _ => page(MAX_AGE, &body_of(&request.target)),
        });
        let config = format!(
            "[server.app]\nbind_to = \"/app\"\nproxy_url = \"{}\"\ncompress_strategy = \"none\"\n{}",
            pages.url(), runtime(driver, 1));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for number in 0..8 {
            get(&mut client, &format!("/app/p{number}"), "");
        }
        let head = "HTTP/1.1\r\nHost: localhost\r\n";
        let write = [
            lines_of_a_get(["/app/p1".into(), "/app/p2".into()]),
            format!("HEAD /app/p3 {head}\r\n"),
            lines_of_a_get(["/app/p11".into(), "/app/p4".into(), "/nowhere".into(), "/app/p3".into()]),
            format!("POST /app/other {head}Content-Length: 3\r\n\r\nabc"),
            format!("GET /app/p6 {head}Range: bytes=0-2\r\n\r\n"),
            format!("GET /app/cold {head}Cache-Control: only-if-cached\r\n\r\n"),
            lines_of_a_get(["/app/p7".into()]),
            "GET /app/p1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(),
            lines_of_a_get(["/app/p2".into()]),
        ];
        client.send(write.concat());
        for (method, status, body) in [
            ("GET", 200, body_of("/p1")), ("GET", 200, body_of("/p2")), ("HEAD", 200, String::new()),
            ("GET", 200, body_of("/p11")), ("GET", 200, body_of("/p4")), ("GET", 404, String::new()),
            ("GET", 200, body_of("/p3")), ("POST", 200, "posted abc".into()), ("GET", 206, "/p6".into()),
            ("GET", 504, String::new()), ("GET", 200, body_of("/p7")), ("GET", 400, String::new()),
        ] {
            let answer = client.read_response_to(method);
            assert_eq!(answer.status, status, "{answer:?}");
            // The texts of refusals are tested elsewhere.
            assert!(status >= 300 || answer.text() == body, "{body:.30}: {answer:?}");
        }
        client.expect_eof();
    }

    fn a_client_of_http_1_0_gets_a_body_it_can_delimit(driver) {
        let pages = Pages::of(|request, _| match &*request.target {
            "/chunked" => format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            _ => page(MAX_AGE, "abc"),
        });
        let proxy = front(driver, &pages.url(), "");
        for target in ["/chunked", "/length"] {
            for is_stored in [false, true] {
                let mut client = Client::connect(proxy.addr());
                client.send(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
                let answer = client.read_response_head();
                assert_eq!((answer.field("transfer-encoding"), is_hit(&answer)), (None, is_stored), "{answer:?}");
                assert_eq!(answer.field("connection"), Some("close"));
                assert_eq!(client.read_to_eof(), b"abc");
            }
            let mut client = Client::connect(proxy.addr());
            for _ in 0..3 {
                client.send(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"));
                let answer = client.read_response();
                assert_eq!((answer.field("connection"), answer.text()), (Some("keep-alive"), "abc"));
                assert_eq!(answer.field("content-length"), Some("3"));
            }
        }
    }

    fn a_hit_may_be_the_last_of_its_connection(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let proxy = front(driver, &pages.url(), "");
        get(&mut Client::connect(proxy.addr()), "/", "");
        let mut client = Client::connect(proxy.addr());
        let close = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.send(lines_of_a_get(["/".into(), "/".into()]) + close + &lines_of_a_get(["/never".into()]));
        for connection in [None, None, Some("close")] {
            let answer = client.read_response();
            assert_eq!((answer.text(), answer.field("connection"), is_hit(&answer)), ("0", connection, true));
        }
        client.expect_eof();
        assert_eq!(pages.count("/never"), 0);
    }

    fn fields_of_one_hop_are_not_stored(driver) {
        let fields = "Connection: X-Hop, keep-alive, X-Other\r\nX-Hop: 1\r\nx-other: 2\r\nKeep-Alive: timeout=5\r\n\
            Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: a=b\r\n\
            TE: trailers\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\nX-End: 3\r\nX-End: 4\r\n";
        let pages = Pages::of(move |_, _| {
            format!("HTTP/1.1 200 OK\r\n{MAX_AGE}{fields}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 9\r\n\r\n")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for is_stored in [false, true] {
            let answer = get(&mut client, "/", "");
            assert_eq!((answer.text(), is_hit(&answer)), ("a", is_stored));
            for name in [
                "x-hop", "x-other", "keep-alive", "proxy-connection", "te", "upgrade", "connection",
            ] {
                assert_eq!(answer.field(name), None, "{name}: {answer:?}");
            }
            assert_eq!(answer.all("x-end"), ["3", "4"]);
            if is_stored {
                for name in ["proxy-authenticate", "proxy-authentication-info", "transfer-encoding"] {
                    assert_eq!(answer.field(name), None, "{name}: {answer:?}");
                }
                assert_eq!(answer.field("content-length"), Some("1"));
                assert!(answer.trailers.is_empty());
            }
        }
    }

    fn an_interim_answer_reaches_whoever_waits_and_is_not_stored(driver) {
        let pages = Pages::of(|_, _| {
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
            let processing = "HTTP/1.1 102 Processing\r\n\r\n";
            [processing, hints, &page(MAX_AGE, "a page")].concat()
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        let first = get(&mut client, "/", "");
        let hints = client.read_response();
        assert_eq!((first.status, hints.status), (102, 103));
        assert_eq!(hints.field("link"), Some("</style.css>; rel=preload"));
        assert_eq!(client.read_response().text(), "a page");
        let again = get(&mut client, "/", "");
        assert_eq!((again.status, again.text(), again.field("link"), is_hit(&again)), (200, "a page", None, true));
        // One that would not understand it.
        let mut old = Client::connect(proxy.addr());
        old.send("GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n");
        assert_eq!(old.read_response().status, 200);
    }

    fn bodies_are_replayed_as_they_came_in_every_framing(driver) {
        let long = "x".repeat(1 << 20);
        let theirs = long.clone();
        let pages = Pages::of(move |request, _| match &*request.target {
            "/empty" => page(MAX_AGE, ""),
            "/no-content" => answer("204 No Content", MAX_AGE, ""),
            "/moved" => answer("301 Moved Permanently", &format!("{MAX_AGE}Location: /x\r\n"), ""),
            "/until-close" => format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Connection: close\r\n\r\nto the end"),
            "/old" => format!("HTTP/1.0 200 OK\r\n{MAX_AGE}Connection: close\r\n\r\nto the end"),
            "/no-chunks" => format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "/bytes" => {
                let chunks = "1\r\nx\r\n".repeat(theirs.len());
                format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            }
            _ => page(MAX_AGE, &theirs),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (target, status, body) in [
            ("/empty", 200, ""), ("/no-content", 204, ""), ("/moved", 301, ""), ("/until-close", 200, "to the end"),
            ("/old", 200, "to the end"), ("/no-chunks", 200, ""), ("/bytes", 200, &long), ("/long", 200, &long),
        ] {
            for round in 0..3 {
                let answer = get(&mut client, target, "");
                assert_eq!((answer.status, is_hit(&answer)), (status, round > 0), "{target}: {answer:?}");
                assert!(answer.text() == body, "{target}: {answer:?}");
                if round > 0 {
                    let length = (status != 204).then(|| body.len().to_string());
                    assert_eq!(answer.field("content-length"), length.as_deref(), "{target}");
                }
            }
            let head = ask(&mut client, &format!("HEAD {target}"), "");
            assert_eq!((head.status, is_hit(&head)), (status, true));
            assert_eq!(pages.count(target), 1, "{target}");
        }
    }

    fn the_cache_status_of_a_cache_behind_us_stays_in_front_of_ours(driver) {
        let pages = Pages::of(|_, _| page(&format!("{MAX_AGE}Cache-Status: origin; hit; ttl=9\r\n"), "a"));
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..3 {
            let answer = get(&mut client, "/", "");
            let all = answer.all("cache-status").join(", ");
            assert!(all.starts_with("origin; hit; ttl=9, phantom-frame;"), "{answer:?}");
            assert_eq!(all.matches("phantom-frame").count(), 1, "{answer:?}");
            CacheStatus::of(&answer);
        }
    }
}
