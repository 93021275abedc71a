//! What ends the life of a stored response before its time: a request that changes something, and a
//! purge. Both have reached every worker when their answer arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::control::{post, post_json};
use crate::support::pages::{Pages, answer, ask, get, is_hit, one_each, page, send, two_workers};
use crate::support::setup::runtime;
use crate::support::{Client, Driver, Gate, Proxy};

const MAX_AGE: &str = "Cache-Control: max-age=600\r\n";

/// Pages that tell how often they were fetched; what changes something answers with the status that
/// its `X-Status` names and the field line that its `X-Answer` is.
fn changing() -> Pages {
    Pages::of(|request, number| {
        if matches!(&*request.method, "GET" | "HEAD") {
            return page(MAX_AGE, &number.to_string());
        }
        let status = request.field("x-status").unwrap_or("200");
        let line = request.field("x-answer").map(|line| format!("{line}\r\n")).unwrap_or_default();
        answer(&format!("{status} Some"), &line, "")
    })
}

/// Both of these clients find the page in the cache afterwards.
fn warm(clients: &mut [Client], target: &str, fields: &str) {
    for client in &mut *clients {
        get(client, target, fields);
    }
    for client in clients {
        assert!(is_hit(&get(client, target, fields)), "{target}");
    }
}

/// Whether each of these clients finds the page in the cache.
fn hits(clients: &mut [Client], target: &str, fields: &str) -> Vec<bool> {
    clients.iter_mut().map(|client| is_hit(&get(client, target, fields))).collect()
}

/// Whether none of these clients is given what was stored.
fn is_gone(pages: &Pages, clients: &mut [Client], target: &str, fields: &str) -> bool {
    let before = pages.count(target);
    let answers: Vec<_> = clients.iter_mut().map(|client| get(client, target, fields)).collect();
    answers.iter().all(|answer| answer.text().parse::<usize>().unwrap() >= before)
}

on_both_drivers! {
    fn a_change_ends_the_stored_page_on_every_worker_before_it_is_confirmed(driver) {
        let pages = changing();
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        for method in ["PUT", "POST", "DELETE", "PATCH", "FROB"] {
            for status in [200, 201, 204, 302] {
                for changer in [0, 1] {
                    let target = format!("/{method}/{status}/{changer}?a=b");
                    warm(&mut clients, &target, "");
                    let fields = format!("X-Status: {status}\r\n");
                    let changed = ask(&mut clients[changer], &format!("{method} {target}"), &fields);
                    assert_eq!(changed.status, status);
                    assert!(is_gone(&pages, &mut clients, &target, ""), "{target}");
                }
            }
        }
    }

    fn a_change_with_a_body_ends_every_variant(driver) {
        let pages = Pages::of(|request, number| match &*request.method {
            "PUT" => page("", ""),
            _ => page(&format!("{MAX_AGE}Vary: Accept-Language\r\n"), &number.to_string()),
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        let languages = ["Accept-Language: de\r\n", "Accept-Language: en\r\n"];
        for fields in languages {
            warm(&mut clients, "/", fields);
        }
        clients[0].send("PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
        assert_eq!(clients[0].read_response().status, 200);
        for fields in languages {
            assert!(is_gone(&pages, &mut clients, "/", fields), "{fields:?}");
        }
    }

    fn what_fails_or_changes_nothing_leaves_the_page(driver) {
        let pages = changing();
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        for (line, fields) in [
            ("PUT", "X-Status: 400\r\n"), ("DELETE", "X-Status: 404\r\n"), ("POST", "X-Status: 500\r\n"),
            ("POST", "X-Status: 412\r\n"), ("OPTIONS", "X-Status: 200\r\n"), ("PROPFIND", "X-Status: 207\r\n"),
            ("HEAD", "Cache-Control: no-store\r\n"), ("PUT", "X-Status: 403\r\nX-Answer: Location: /left\r\n"),
        ] {
            warm(&mut clients, "/left", "");
            ask(&mut clients[0], &format!("{line} /left"), fields);
            assert_eq!(hits(&mut clients, "/left", ""), [true, true], "{line} {fields:?}");
            // Other pages are none of its business.
            ask(&mut clients[1], &format!("{line} /left?x"), fields);
            ask(&mut clients[1], &format!("{line} /left"), &format!("{fields}Host: other\r\n"));
            assert_eq!(hits(&mut clients, "/left", ""), [true, true], "{line} {fields:?}");
        }
    }

    fn a_change_ends_what_its_answer_names_on_the_same_host(driver) {
        let pages = changing();
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        for (line, is_named) in [
            ("Location: /dir/page?q", true), ("Content-Location: /dir/page?q", true),
            ("location: http://localhost/dir/page?q", true), ("Location: https://LOCALHOST/dir/page?q#part", true),
            ("Location: //localhost:80/dir/page?q", true), ("Location: page?q", true), ("Location: ./page?q", true),
            ("Location: ../dir/page?q", true), ("Content-Location: /dir/../dir/page?q", true),
            ("Location: http://other/dir/page?q", false), ("Location: http://localhost:81/dir/page?q", false),
            ("Location: //other/dir/page?q", false), ("Location: /dir/page", false), ("Location: /dir/page?Q", false),
            ("Location: mailto:/dir/page?q", false), ("X-Location: /dir/page?q", false),
            ("Location: http://localhost.other/dir/page?q", false), ("Location: http://localhost@other/dir/page?q", false),
        ] {
            warm(&mut clients, "/dir/page?q", "");
            ask(&mut clients[0], "POST /dir/form", &format!("X-Status: 201\r\nX-Answer: {line}\r\n"));
            if is_named {
                assert!(is_gone(&pages, &mut clients, "/dir/page?q", ""), "{line}");
            } else {
                assert_eq!(hits(&mut clients, "/dir/page?q", ""), [true, true], "{line}");
            }
        }
        warm(&mut clients, "/dir/page?q", "");
        let both = "X-Status: 201\r\nX-Answer: Location: /x\r\n";
        ask(&mut clients[0], "POST /dir/page?q", both);
        assert!(is_gone(&pages, &mut clients, "/dir/page?q", ""));
    }

    fn nobody_sees_the_old_page_once_the_change_is_confirmed(driver) {
        let version = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&version);
        let pages = Pages::of(move |request, _| match &*request.method {
            "PUT" => {
                theirs.fetch_add(1, Ordering::SeqCst);
                page("", "")
            }
            _ => page(MAX_AGE, &theirs.load(Ordering::SeqCst).to_string()),
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients: Vec<_> = (0..16).map(|_| Client::connect(proxy.addr())).collect();
        for round in 0..40 {
            let changer = round % clients.len();
            // Some of them are asking just now.
            let busy = [(changer + 1) % 16, (changer + 6) % 16];
            for at in busy {
                send(&mut clients[at], "GET /", "");
            }
            assert_eq!(ask(&mut clients[changer], "PUT /", "").status, 200);
            for at in busy {
                assert_eq!(clients[at].read_response().status, 200);
            }
            let now = version.load(Ordering::SeqCst);
            for client in &mut clients {
                send(client, "GET /", "");
            }
            for client in &mut clients {
                assert_eq!(client.read_response().text(), now.to_string(), "round {round}");
            }
        }
    }

    fn what_was_asked_for_before_the_change_is_not_stored_after_it(driver) {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pages = Pages::of(move |request, number| {
            if request.method == "GET" && request.target == "/" && number == 0 {
                theirs.pass("the change is confirmed");
            }
            page(MAX_AGE, &number.to_string())
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        send(&mut clients[0], "GET /", "");
        pages.wait_for("/", 1);
        assert_eq!(ask(&mut clients[1], "PUT /", "").status, 200);
        gate.open();
        assert_eq!(clients[0].read_response().text(), "0");
        assert!(is_gone(&pages, &mut clients, "/", ""));
    }

    fn a_purge_ends_what_its_pattern_describes_on_every_worker(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        let mut control = Client::connect(proxy.control_addr());
        let all = ["/", "/a", "/a?x=1", "/ab", "/api/v1/a.css", "/api/v2/b.js", "/%2A"];
        for (pattern, gone) in [
            ("GET:/a", &["/a"][..]), ("/a", &["/a"]), ("GET:/a*", &["/a", "/a?x=1", "/ab", "/api/v1/a.css", "/api/v2/b.js"]),
            ("/a?*", &["/a?x=1"]), ("GET:/api/*", &["/api/v1/a.css", "/api/v2/b.js"]), ("/api/*/a*", &["/api/v1/a.css"]),
            ("*.css", &["/api/v1/a.css"]), ("*", &all), ("/*", &all), ("GET:*", &all), ("POST:/a", &[]), ("HEAD:/*", &[]),
            ("get:/a", &[]), ("a", &[]), ("", &[]), ("/A", &[]), ("GET:/", &["/"]), ("http://localhost/a", &[]),
        ] {
            for target in all {
                warm(&mut clients, target, "");
            }
            let before: Vec<_> = all.iter().map(|target| pages.count(target)).collect();
            let body = format!("{{\"pattern\":\"{pattern}\"}}");
            assert_eq!(post_json(&mut control, "/invalidate", &body).status, 200);
            for (target, before) in all.iter().zip(before) {
                for client in &mut clients {
                    let number: usize = get(client, target, "").text().parse().unwrap();
                    assert_eq!(number >= before, gone.contains(target), "{pattern}: {target} {number} {before}");
                }
            }
        }
    }

    fn a_purge_of_many_patterns_or_of_everything_is_carried_out(driver) {
        let pages = Pages::of(|_, number| {
            // Neither what is stale and may be served nor a variant is left.
            let fields = "Cache-Control: max-age=60, stale-while-revalidate=600\r\nVary: Accept-Language\r\n";
            page(fields, &number.to_string())
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        let mut control = Client::connect(proxy.control_addr());
        let fields = ["", "Accept-Language: de\r\n", "Host: other\r\n"];
        for (path, body, left) in [
            ("/bulk_invalidate", "{\"patterns\":[\"GET:/a\",\"/nothing\",\"*b\"]}", &["/c"][..]),
            ("/invalidate_all", "", &[]),
            ("/refresh-cache", "", &[]),
        ] {
            for target in ["/a", "/b", "/c"] {
                for fields in fields {
 warm(&mut clients, target, fields);
}
            }
            let answer = if body.is_empty() { post(&mut control, path) } else { post_json(&mut control, path, body) };
            assert_eq!(answer.status, 200);
            for target in ["/a", "/b", "/c"] {
                for fields in fields {
                    let is_left = left.contains(&target);
                    if is_left {
                        assert_eq!(hits(&mut clients, target, fields), [true, true], "{path} {target}");
                    } else {
                        assert!(is_gone(&pages, &mut clients, target, fields), "{path} {target} {fields:?}");
                    }
                }
            }
        }
    }

    fn a_purge_of_one_server_leaves_the_others(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let proxy = two_routes(driver, &pages);
        let mut clients = [Client::connect(proxy.addr()), Client::connect(proxy.addr())];
        let mut control = Client::connect(proxy.control_addr());
        for (path, body, gone) in [
            ("/invalidate", "{\"pattern\":\"GET:/a\",\"server\":\"one\"}", ["/one/a"].as_slice()),
            ("/invalidate", "{\"pattern\":\"*\",\"server\":\"two\"}", &["/two/a"]),
            ("/bulk_invalidate", "{\"patterns\":[\"/x\",\"/a\"],\"server\":\"two\"}", &["/two/a"]),
            ("/invalidate", "{\"pattern\":\"/a\"}", &["/one/a", "/two/a"]),
            // Names of entries have no mount prefix.
            ("/invalidate", "{\"pattern\":\"/one/a\"}", &[]),
        ] {
            for target in ["/one/a", "/two/a"] {
                warm(&mut clients, target, "");
            }
            assert_eq!(post_json(&mut control, path, body).status, 200);
            for target in ["/one/a", "/two/a"] {
                let hit = is_hit(&get(&mut clients[0], target, ""));
                assert_eq!(!hit, gone.contains(&target), "{body}: {target}");
            }
        }
    }
}

/// Two routes to the same pages.
fn two_routes(driver: Driver, pages: &Pages) -> Proxy {
    let url = pages.url();
    let config = format!(
        "[server.one]\nbind_to = \"/one\"\nproxy_url = \"{url}\"\n[server.two]\nbind_to = \"/two\"\n\
         proxy_url = \"{url}\"\n{}",
        runtime(driver, 1)
    );
    Proxy::start(driver, &config)
}
