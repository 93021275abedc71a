//! One request to the backend for many clients at once, and nobody waits for an answer that is not his.
//!
//! Clients are known to wait together when all of them have got the same interim response, or a first
//! part of a body whose rest the backend still holds back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::heavy::{alone, raise_open_files};
use crate::support::cached::{
    Caching, Count, FILLS, answer, clients, is_collapsed, is_hit, page, request,
};
use crate::support::control::Metrics;
use crate::support::{Backend, Client, Gate, Proxy, Random, eventually};

/// Clients that want the same page at once.
const CROWD: usize = 1_000;

/// Half of its body, in bytes.
const HALF: usize = 8 * 1024;

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

/// Counts each request, and answers it with one half of `body` at once, with the other when `rest`
/// opens.
fn in_halves(body: Vec<u8>, requests: Count, rest: Gate) -> Backend {
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            requests.add();
            let (first, second) = body.split_at(body.len() / 2);
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            conn.send(first);
            rest.pass("every client has the first half");
            conn.send(second);
        }
    })
}

/// Sends a request on each connection, and only then lets anybody be answered.
fn ask_all(clients: &mut [Client], request: &str) {
    for client in clients {
        client.send(request);
    }
}

/// Numbers its answers. Once `expected` is not 0 it gives none before so many requests have come: nobody
/// may be waiting for somebody else's then.
fn numbering(fields: &'static str, expected: Arc<AtomicUsize>) -> Backend {
    let (all, held) = (Count::default(), Count::default());
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            let number = all.add();
            let expected = expected.load(Ordering::SeqCst);
            if expected > 0 {
                held.add();
                held.wait_for(expected, "requests at the same time");
            }
            conn.send(answer(fields, &format!("answer {number}")));
        }
    })
}

/// Reads an answer of each, and asserts that nobody got another's.
fn assert_different(clients: &mut [Client]) {
    let mut texts: Vec<_> =
        clients.iter_mut().map(|client| client.read_response().text().to_owned()).collect();
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count, "{texts:?}");
}

/// Waits until the proxy has noticed that so many clients have gone.
fn wait_for_leavers(proxy: &Proxy, count: f64) {
    eventually("the proxy knows who has left", || {
        Metrics::of(proxy).sum("request_outcomes_total{outcome=\"client_gone\"") >= count
    });
}

on_both_drivers! {
    fn a_crowd_before_a_cold_page_makes_one_request(driver) {
        let _alone = alone();
        raise_open_files();
        for fill in FILLS {
            let body = Random::new(3).bytes(2 * HALF);
            let (requests, rest) = (Count::default(), Gate::default());
            let backend = in_halves(body.clone(), requests.clone(), rest.clone());
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, CROWD, 2);
            ask_all(&mut crowd, &request("/page", ""));
            let mut leaders = 0;
            for client in &mut crowd {
                let head = client.read_response_head();
                assert_eq!((head.status, head.field("content-length")), (200, Some("16384")));
                leaders += usize::from(!is_collapsed(&head));
                client.expect(&body[..HALF]);
            }
            // All of them are in it now, since the rest has not even been made.
            let most = if fill == "process" { 1 } else { 2 };
            assert!((1..=most).contains(&requests.value()), "{fill}: {requests:?}");
            assert!((1..=2).contains(&leaders), "{fill}: {leaders} have not been collapsed");
            rest.open();
            for client in &mut crowd { client.expect(&body[HALF..]); }
            for client in &mut crowd[..8] {
                let stored = client.get("/page");
                assert!(is_hit(&stored) && stored.body == body, "{fill}: {stored:?}");
            }
            assert!((1..=most).contains(&requests.value()), "{fill}: {requests:?}");
        }
    }

    fn nobody_waits_for_a_page_whose_last_answer_could_not_be_stored(driver) {
        for fill in FILLS {
            for fields in ["Cache-Control: no-store\r\n", "Set-Cookie: a=b\r\n", "Vary: *\r\n"] {
                let expected = Arc::new(AtomicUsize::new(0));
                let backend = numbering(fields, Arc::clone(&expected));
                let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
                let mut some = clients(&proxy, 12, 2);
                for client in &mut some {
                    // So each worker has had such an answer.
                    assert_eq!(client.get("/").status, 200);
                }
                expected.store(some.len(), Ordering::SeqCst);
                ask_all(&mut some, &request("/", ""));
                assert_different(&mut some);
            }
        }
    }

    fn those_who_waited_for_what_is_not_theirs_ask_all_at_once(driver) {
        for fill in FILLS {
            let (arrived, joined) = (Count::default(), Gate::default());
            let (counted, all_joined) = (arrived.clone(), joined.clone());
            let backend = Backend::scripted(move |conn, _| {
                while conn.next_request().is_some() {
                    let number = counted.add();
                    if number == 1 {
                        conn.send(HINT);
                        all_joined.pass("all wait for the first answer");
                    } else {
                        counted.wait_for(10, "requests at the same time");
                    }
                    conn.send(answer("Cache-Control: private\r\n", &format!("answer {number}")));
                }
            });
            let caching = Caching { fill, workers: 1, ..Caching::default() };
            let proxy = caching.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 10, 1);
            ask_all(&mut crowd, &request("/mine", ""));
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 103);
            }
            joined.open();
            assert_different(&mut crowd);
            assert_eq!(arrived.value(), 10);
        }
    }

    fn clients_of_different_languages_each_get_their_own_at_once(driver) {
        for fill in FILLS {
            let requests = Count::default();
            let counted = requests.clone();
            let backend = Backend::scripted(move |conn, _| {
                while let Some(request) = conn.next_request() {
                    counted.add();
                    let language = request.field("accept-language").expect("a language");
                    let fields = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
                    conn.send(answer(fields, &format!("in {language}")));
                }
            });
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 20, 2);
            let count = crowd.len();
            for round in 0..3 {
                for (number, client) in crowd.iter_mut().enumerate() {
                    client.send(request("/", &format!("Accept-Language: l{number}\r\n")));
                }
                for (number, client) in crowd.iter_mut().enumerate() {
                    let own = client.read_response();
                    assert_eq!(own.text(), format!("in l{number}"), "{fill}, round {round}");
                }
                if round == 0 {
                    assert!(requests.value() <= count, "{fill}: {requests:?} for {count}");
                }
            }
        }
    }

    fn hints_reach_everybody_who_waits(driver) {
        for fill in FILLS {
            let (requests, joined) = (Count::default(), Gate::default());
            let (counted, all_joined) = (requests.clone(), joined.clone());
            let backend = Backend::scripted(move |conn, _| {
                while conn.next_request().is_some() {
                    counted.add();
                    conn.send(HINT);
                    all_joined.pass("everybody has the hint");
                    conn.send(HINT.replace("103 Early Hints", "102 Processing") + &page("whole"));
                }
            });
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 10, 2);
            let mut old = Client::connect(proxy.addr());
            ask_all(&mut crowd, &request("/", ""));
            for client in &mut crowd {
                let hint = client.read_response();
                assert_eq!((hint.status, hint.field("link")), (103, Some("</a.css>; rel=preload")));
            }
            old.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
            joined.open();
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 102, "{fill}");
                assert_eq!(client.read_response().text(), "whole");
                let stored = client.get("/");
                assert!(is_hit(&stored) && stored.text() == "whole", "no hint is stored");
            }
            let for_old = old.read_response();
            assert_eq!((for_old.status, for_old.text()), (200, "whole"), "{fill}");
            assert!(requests.value() <= if fill == "process" { 1 } else { 2 }, "{requests:?}");
        }
    }

    fn a_request_that_nobody_waits_for_ends(driver) {
        for fill in FILLS {
            let (requests, ended) = (Count::default(), Count::default());
            let (counted, has_ended) = (requests.clone(), ended.clone());
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                counted.add();
                conn.expect_closed();
                has_ended.add();
            });
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            // On both workers, and of both owners.
            let some = clients(&proxy, 8, 2);
            let count = some.len();
            for (number, mut client) in some.into_iter().enumerate() {
                client.send(request(&format!("/page/{number}"), ""));
                requests.wait_for(number + 1, "requests");
                client.reset();
            }
            ended.wait_for(count, "requests that were given up");
        }
    }

    fn a_request_that_somebody_else_waits_for_goes_on(driver) {
        for fill in FILLS {
            let (requests, left) = (Count::default(), Gate::default());
            let (counted, has_left) = (requests.clone(), left.clone());
            let backend = Backend::scripted(move |conn, _| {
                while conn.next_request().is_some() {
                    counted.add();
                    conn.send(HINT);
                    has_left.pass("the first client has left");
                    conn.send(page("for the others"));
                }
            });
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 8, 2);
            let mut first = crowd.remove(0);
            first.send(request("/", ""));
            assert_eq!(first.read_response().status, 103);
            ask_all(&mut crowd, &request("/", ""));
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 103);
            }
            first.reset();
            wait_for_leavers(&proxy, 1.0);
            left.open();
            for client in &mut crowd {
                assert_eq!(client.read_response().text(), "for the others", "{fill}");
                assert!(is_hit(&client.get("/")), "{fill}: what the others got was stored");
            }
            assert!(requests.value() <= if fill == "process" { 1 } else { 2 }, "{requests:?}");
        }
    }
}
