//! Purges while pages are asked for: once one is answered, nobody sees what was there before.
//!
//! The backend answers with the version that a page has at that moment. Whoever purges raises the
//! version first, and then what must be seen; whoever asks remembers what must be seen, and only
//! then asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::cached::{Caching, Count, FILLS, answer, clients, is_hit, page, request};
use crate::support::control::{Metrics, get, post, post_json};
use crate::support::{Backend, Client, Driver, Gate, Proxy, Random, Request, Response};

/// Pages that are asked for while they change.
const PAGES: usize = 40;

/// Purges of each test.
const PURGES: usize = 400;

/// Connections that ask all the time.
const ASKERS: usize = 6;

/// Connections that purge.
const PURGERS: usize = 20;

/// What a purge is sent as.
type Purge = fn(&mut Client, &str) -> Response;

const PURGES_OF_ONE: [Purge; 3] = [
    |control, _| post(control, "/invalidate_all"),
    |control, path| post_json(control, "/invalidate", &format!("{{\"pattern\":\"GET:{path}\"}}")),
    |control, path| {
        let body = format!("{{\"patterns\":[\"/nothing\",\"{path}*\"],\"server\":\"app\"}}");
        post_json(control, "/bulk_invalidate", &body)
    },
];

/// How a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    Part,
    Head,
}

/// Pages with versions.
#[derive(Debug)]
struct Site {
    /// `cache_fill` of the proxy before it.
    fill: &'static str,
    ways: &'static [Way],
    versions: Vec<AtomicUsize>,
    /// The version of each that must be seen since its last purge.
    due: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

impl Site {
    fn new(fill: &'static str, ways: &'static [Way]) -> Arc<Self> {
        let zeroes = || (0..PAGES).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self {
            fill,
            ways,
            versions: zeroes(),
            due: zeroes(),
            is_over: AtomicBool::new(false),
        })
    }

    /// A backend that answers for it; a page's path is its number.
    fn serve(self: &Arc<Self>) -> Backend {
        let site = Arc::clone(self);
        Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                conn.send(site.answer(&request));
            }
        })
    }

    fn answer(&self, request: &Request) -> String {
        let path = request.target.trim_start_matches('/');
        let number: usize = path.parse().expect("a number");
        let version = self.versions[number].load(Ordering::SeqCst);
        let fields = format!("Cache-Control: max-age=3600\r\nX-Version: {version}\r\n");
        let body = format!("page {number} version {version}");
        let mut whole = answer(&fields, &body);
        if request.method == "HEAD" {
            whole.truncate(whole.len() - body.len());
        }
        whole
    }

    /// Asks for a page in one of several ways, and asserts that it is no older than it may be.
    fn ask(&self, client: &mut Client, number: usize, way: Way) {
        let due = self.due[number].load(Ordering::SeqCst);
        let (method, fields) = match way {
            Way::Whole => ("GET", ""),
            Way::Part => ("GET", "Range: bytes=0-\r\n"),
            Way::Head => ("HEAD", ""),
        };
        client.send(format!("{method} /{number} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        let seen = client.read_response_to(method);
        let version: usize = seen.field("x-version").expect("a version").parse().expect("digits");
        let Self { fill, .. } = self;
        assert!(version >= due, "{fill}: page {number} after the purge of {due}: {seen:?}");
        if method == "GET" {
            assert_eq!(seen.text(), format!("page {number} version {version}"));
        }
    }

    /// Asks until it is over.
    fn hammer(&self, client: &mut Client, seed: u64) {
        let mut random = Random::new(seed);
        while !self.is_over.load(Ordering::SeqCst) {
            let way = self.ways[random.below(self.ways.len())];
            self.ask(client, random.below(PAGES), way);
        }
    }

    /// Changes some pages, purges them, and says then that the change must be seen.
    fn change(
        &self,
        numbers: impl Iterator<Item = usize> + Clone,
        purge: impl FnOnce() -> Response,
    ) {
        let raise = |number: usize| self.versions[number].fetch_add(1, Ordering::SeqCst) + 1;
        let raised: Vec<_> = numbers.map(|number| (number, raise(number))).collect();
        let answer = purge();
        assert_eq!(answer.status, 200, "{answer:?}");
        for (number, version) in raised {
            self.due[number].fetch_max(version, Ordering::SeqCst);
        }
    }
}

/// Asks on both workers all the time while `purge` goes on, and once more for everything at the end.
fn purge_under_load(
    (driver, workers): (Driver, usize),
    site: &Arc<Site>,
    purge: impl FnOnce(&Proxy, &Site),
) {
    let fill = site.fill;
    let backend = site.serve();
    let caching = Caching { fill, workers, ..Caching::default() };
    let proxy = caching.start(driver, &backend.url());
    let mut askers = clients(&proxy, ASKERS.max(2 * workers), workers);
    std::thread::scope(|scope| {
        let hammering: Vec<_> = askers
            .iter_mut()
            .enumerate()
            .map(|(number, client)| scope.spawn(move || site.hammer(client, 1 + number as u64)))
            .collect();
        // So that nobody asks for ever when a purge fails.
        let over = Over(site);
        purge(&proxy, site);
        drop(over);
        for asker in hammering {
            asker.join().expect("every answer is new enough");
        }
    });
    for client in &mut askers {
        for number in 0..PAGES {
            site.ask(client, number, Way::Whole);
        }
    }
    let found = Metrics::of(&proxy).value("cache_requests_total{status=\"hit\"}");
    assert!(found > 100.0, "{fill}: only {found} hits: nothing was shown");
}

/// Says that it is over, also when a test fails.
struct Over<'a>(&'a Site);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// One of several who purge two pages of their own, again and again.
fn purge_two(proxy: &Proxy, site: &Site, purger: usize) {
    let mut control = Client::connect(proxy.control_addr());
    for round in 0..PURGES / PURGERS {
        let number = purger * 2 + round % 2;
        let pattern = ["GET:/", "/", "*/"][round % 3];
        let body = format!("{{\"pattern\":\"{pattern}{number}\"}}");
        site.change([number].into_iter(), || post_json(&mut control, "/invalidate", &body));
    }
}

/// [`PURGES`] purges over [`PURGERS`] connections at once.
fn purge_all_at_once(proxy: &Proxy, site: &Site) {
    std::thread::scope(|scope| {
        for purger in 0..PURGERS {
            scope.spawn(move || purge_two(proxy, site, purger));
        }
    });
}

on_both_drivers! {
    fn nothing_stale_is_seen_after_any_of_400_purges_at_once(driver) {
        for fill in FILLS {
            purge_under_load((driver, 2), &Site::new(fill, &[Way::Whole]), purge_all_at_once);
        }
    }

    fn nothing_stale_is_seen_on_any_of_many_workers(driver) {
        for fill in FILLS {
            // Each purge has more to go round. Several times, as below.
            for _ in 0..4 {
                let site = Site::new(fill, &[Way::Whole]);
                purge_under_load((driver, 8), &site, purge_all_at_once);
            }
        }
    }

    fn no_stale_head_or_part_is_seen_after_any_of_400_purges_at_once(driver) {
        for fill in FILLS {
            // Several times, since what is asked for has to meet a purge within a moment.
            for _ in 0..6 {
                let site = Site::new(fill, &[Way::Whole, Way::Part, Way::Head, Way::Head]);
                purge_under_load((driver, 2), &site, purge_all_at_once);
            }
        }
    }

    fn nothing_stale_is_seen_after_400_patterns_in_one_purge(driver) {
        for fill in FILLS {
            purge_under_load((driver, 2), &Site::new(fill, &[Way::Whole]), |proxy, site| {
                let mut control = Client::connect(proxy.control_addr());
                for _ in 0..8 {
                    let patterns = (0..PURGES).map(|number| match number % PAGES {
                        page if number < PAGES => format!("\"GET:/{page}\""),
                        _ => format!("\"/no/*/page/{number}\""),
                    });
                    let patterns: Vec<_> = patterns.collect();
                    let body = format!("{{\"patterns\":[{}]}}", patterns.join(","));
                    site.change(0..PAGES, || {
                        let answer = post_json(&mut control, "/bulk_invalidate", &body);
                        assert!(answer.text().contains("\"succeeded\":400"), "{answer:?}");
                        answer
                    });
                }
            });
        }
    }

    fn nothing_stale_is_seen_after_everything_was_purged(driver) {
        for fill in FILLS {
            purge_under_load((driver, 2), &Site::new(fill, &[Way::Whole]), |proxy, site| {
                let mut control = Client::connect(proxy.control_addr());
                for round in 0..100 {
                    let path = ["/invalidate_all", "/refresh-cache"][round % 2];
                    site.change(0..PAGES, || post(&mut control, path));
                }
            });
        }
    }

    fn what_is_purged_while_it_arrives_is_not_found_afterwards(driver) {
        for fill in FILLS {
            for (purge, before_head) in PURGES_OF_ONE.into_iter().zip([true, false, false]) {
                let (asked, purged) = (Count::default(), Gate::default());
                let (counted, is_purged) = (asked.clone(), purged.clone());
                let old = if fill == "process" { 1 } else { 2 };
                let backend = Backend::scripted(move |conn, _| {
                    while conn.next_request().is_some() {
                        let (head, body) = ("Cache-Control: max-age=60\r\n", "new, after the purge");
                        if counted.add() > old {
                            conn.send(answer(head, body));
                            continue;
                        }
                        let whole = answer(head, "old, and then purged").into_bytes();
                        let at = if before_head { 0 } else { whole.len() - 10 };
                        conn.send(&whole[..at]);
                        is_purged.pass("the purge is answered");
                        conn.send(&whole[at..]);
                    }
                });
                let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
                let mut early = clients(&proxy, 6, 2);
                for client in &mut early { client.send(request("/page", "")); }
                asked.wait_for(old, "requests");
                if !before_head {
                    for client in &mut early {
                        client.read_response_head();
                        client.expect("old, and t");
                    }
                }
                let mut control = Client::connect(proxy.control_addr());
                assert_eq!(purge(&mut control, "/page").status, 200);
                // The old answer is still on its way: nobody who asks now may wait for it.
                let mut late = clients(&proxy, 6, 2);
                for client in &mut late {
                    assert_eq!(client.get("/page").text(), "new, after the purge", "{fill}");
                }
                purged.open();
                for client in &mut early {
                    if before_head {
                        let text = client.read_response().text().to_owned();
                        assert!(text.starts_with("old") || text.starts_with("new"), "{text}");
                    } else {
                        client.expect("hen purged");
                    }
                }
                for client in early.iter_mut().chain(&mut late) {
                    let now = client.get("/page");
                    assert_eq!((now.text(), is_hit(&now)), ("new, after the purge", true), "{fill}");
                }
            }
        }
    }

    fn a_pattern_takes_what_it_describes_and_nothing_else(driver) {
        let paths = ["/a", "/a/b", "/a/b?q=1", "/ab", "/c"];
        for (pattern, purged) in [
            ("GET:/a", &[true, false, false, false, false][..]),
            ("/a", &[true, false, false, false, false]),
            ("GET:/a*", &[true, true, true, true, false]),
            ("/a/*", &[false, true, true, false, false]),
            ("GET:*?q=*", &[false, false, true, false, false]),
            ("*b", &[false, true, false, true, false]),
            ("HEAD:/a*", &[false; 5]),
            ("POST:*", &[false; 5]),
            ("a", &[false; 5]),
            ("*", &[true; 5]),
        ] {
            let backend = Backend::scripted(|conn, _| {
                while conn.next_request().is_some() {
                    conn.send(page("page"));
                }
            });
            let proxy = Caching::default().start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            for client in &mut some {
                for path in &paths { drop(client.get(path)); }
            }
            let mut control = Client::connect(proxy.control_addr());
            let body = format!("{{\"pattern\":\"{pattern}\"}}");
            assert_eq!(post_json(&mut control, "/invalidate", &body).status, 200);
            for (path, was_purged) in paths.into_iter().zip(purged) {
                let first = some[0].get(path);
                assert_eq!(is_hit(&first), !was_purged, "{pattern} {path}: {first:?}");
                for client in &mut some {
                    assert_eq!(client.get(path).text(), "page");
                }
            }
            assert!(get(&mut control, "/metrics").text().contains("purges_total 1\n"));
        }
    }
}
