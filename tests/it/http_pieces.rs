//! Requests in any pieces: pipelined, cut at every position, byte by byte.

use crate::support::setup::{front, ok, telling};
use crate::support::{Backend, Client, Random};

const THREE: &str = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
    POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
    3;x=\"y\"\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";

const TOLD: [&str; 3] = ["GET /1 ", "POST /2 hello", "POST /3 abcde"];

on_both_drivers! {
    fn ten_requests_in_one_write_are_answered_in_order(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let requests = (0..10).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.send(requests.collect::<String>());
        for number in 0..10 {
            assert_eq!(client.read_response().text(), format!("GET /{number} "));
        }
        assert_eq!(client.get("/after").text(), "GET /after ");
    }

    fn three_requests_with_bodies_may_be_cut_anywhere(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        for cut in 0..THREE.len() {
            let mut client = Client::connect(proxy.addr());
            client.send_in_pieces(THREE, &[cut]);
            for told in TOLD {
                assert_eq!(client.read_response().text(), told, "cut at {cut}");
            }
        }
    }

    fn requests_with_bodies_may_come_in_random_pieces(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        let mut random = Random::new(5);
        let all = THREE.repeat(20);
        for _ in 0..10 {
            let mut cuts: Vec<_> = (0..60).map(|_| random.below(all.len())).collect();
            cuts.sort_unstable();
            let mut client = Client::connect(proxy.addr());
            client.send_in_pieces(&all, &cuts);
            for told in TOLD.iter().cycle().take(60) {
                assert_eq!(client.read_response().text(), *told, "cuts {cuts:?}");
            }
        }
    }

    fn a_request_in_single_bytes_is_whole(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let cuts: Vec<_> = (1..THREE.len()).collect();
        client.send_in_pieces(THREE, &cuts);
        for told in TOLD {
            assert_eq!(client.read_response().text(), told);
        }
    }

    fn a_response_may_be_cut_anywhere(driver) {
        const ANSWER: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\n\
            Transfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
        let backend = Backend::scripted(|conn, _| {
            for cut in 0..ANSWER.len() {
                let Some(_) = conn.next_request() else { return };
                conn.send_in_pieces(ANSWER, &[cut]);
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for cut in 0..ANSWER.len() {
            let early = client.get("/");
            assert_eq!((early.status, early.field("link")), (103, Some("</a>")), "cut at {cut}");
            let response = client.read_response();
            assert_eq!((response.status, &*response.reason), (200, "Fine"), "cut at {cut}");
            assert_eq!((response.text(), response.trailers.len()), ("abcde", 1), "cut at {cut}");
        }
        assert_eq!(backend.accepted(), 1);
    }

    fn one_empty_line_before_a_request_is_skipped(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "GET /1 ");
        client.send("POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx\r\n");
        client.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "POST /2 x");
        assert_eq!(client.read_response().text(), "GET /3 ");
    }

    fn what_follows_a_request_waits_for_its_answer(driver) {
        let backend = Backend::scripted(|conn, _| {
            assert_eq!(conn.read_request().target, "/1");
            assert_eq!(conn.early(), b"", "the second request is not sent ahead");
            conn.send(ok("1"));
            assert_eq!(conn.read_request().target, "/2");
            conn.send(ok("2"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "1");
        assert_eq!(client.read_response().text(), "2");
        backend.wait_for_scripts(1);
    }
}
