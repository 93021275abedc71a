//! The cache stays within its bounds, whatever is asked for, and what is left in it is still right.

use std::collections::VecDeque;

use crate::heavy::alone;
use crate::support::cached::{Caching, FILLS, answer, clients, is_hit, page, request};
use crate::support::control::Metrics;
use crate::support::{Backend, Client, Proxy, Random, eventually};

/// `max_bytes` of the tests that measure memory.
const CACHE_BYTES: usize = 8 << 20;
const CACHE: &str = "max_bytes = \"8MiB\"";

/// What the process may take beyond that and what it took before it had stored anything: buffers of
/// the connections, what the allocator keeps of bodies of all sizes that came and went, and tables
/// that are replaced by larger ones.
const MARGIN_KIB: u64 = 6 * 1024;

/// Requests on their way on each connection.
const PIPELINED: usize = 16;

/// What a path is answered with: a text of a length that only the path decides, up to 64 KiB.
fn text_of(path: &str) -> String {
    let number: u64 = path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(1);
    let mut random = Random::new(number * 7_919 + 1);
    let most = 1 << (6 + random.below(11));
    format!("{path} ").repeat(1 + random.below(most) / path.len())
}

/// Answers each path with its text, which may be stored.
fn telling() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            // Written for whoever is gone by now, too.
            drop(conn.try_send(page(&text_of(&request.target)).as_bytes()));
        }
    })
}

/// Asks for paths, some at once, and compares each answer.
fn ask_for(client: &mut Client, paths: impl Iterator<Item = String>) {
    let mut asked = VecDeque::new();
    let expect = |client: &mut Client, path: String| {
        let got = client.read_response();
        assert!(got.text() == text_of(&path), "{path}: {got:?}");
    };
    for path in paths {
        client.send(request(&path, ""));
        asked.push_back(path);
        if asked.len() >= PIPELINED {
            let path = asked.pop_front().expect("some are asked for");
            expect(client, path);
        }
    }
    for path in asked {
        expect(client, path);
    }
}

/// Asks for so many pages on all connections at once, and returns the peak of the proxy's memory.
fn scan(proxy: &Proxy, some: &mut [Client], pages: std::ops::Range<usize>) -> u64 {
    let step = some.len();
    let mut peak = 0;
    std::thread::scope(|scope| {
        let scanning: Vec<_> = some
            .iter_mut()
            .zip(pages.start..)
            .map(|(client, first)| {
                let paths =
                    (first..pages.end).step_by(step).map(|number| format!("/scan/{number}"));
                scope.spawn(move || ask_for(client, paths))
            })
            .collect();
        while !scanning.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            peak = peak.max(proxy.rss_kib());
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    });
    peak.max(proxy.rss_kib())
}

/// The bytes of so many pages of [`scan`].
fn bytes_of(pages: std::ops::Range<usize>) -> usize {
    pages.map(|number| text_of(&format!("/scan/{number}")).len()).sum()
}

fn kib(bytes: usize) -> u64 {
    u64::try_from(bytes / 1024).expect("a size")
}

/// Waits until the gauges, which the sweep brings up to date, hold.
fn expect_gauges(proxy: &Proxy, holds: impl Fn(&Metrics) -> bool) {
    let mut last = Metrics::default();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the gauges of the cache hold", || {
            last = Metrics::of(proxy);
            holds(&last)
        });
    }));
    let shown = |name: &str| format!("{name} {}", last.value(name));
    let shown = ["cache_bytes", "cache_entries", "cache_evictions_total"].map(shown);
    assert!(found.is_ok(), "they do not hold: {shown:?}");
}

on_both_drivers! {
    fn a_scan_of_ten_times_its_size_keeps_the_cache_within_its_bound(driver) {
        let _alone = alone();
        for fill in FILLS {
            let backend = telling();
            let proxy = Caching { fill, rules: CACHE, ..Caching::default() }
                .start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            // Code and buffers, with next to nothing stored.
            let base = scan(&proxy, &mut some, 0..40);
            let mut pages = 40..2_000;
            while bytes_of(pages.clone()) < 10 * CACHE_BYTES {
                pages.end += 1_000;
            }
            let peak = scan(&proxy, &mut some, pages.clone());
            let growth = peak.saturating_sub(base);
            let most = kib(CACHE_BYTES) + MARGIN_KIB;
            assert!(growth < most, "{fill}: grew by {growth} KiB from {base}, at most {most}");
            let bound = f64::from(u32::try_from(CACHE_BYTES).expect("a size"));
            let scanned = f64::from(u32::try_from(pages.end).expect("a count"));
            expect_gauges(&proxy, |metrics| {
                let entries = metrics.value("cache_entries");
                let evicted = metrics.value("cache_evictions_total");
                // With "process" a page may be on both workers.
                (bound * 0.7..=bound).contains(&metrics.value("cache_bytes"))
                    && (10.0..scanned / 5.0).contains(&entries)
                    && (scanned - entries..2.0 * scanned).contains(&evicted)
            });
            // Whether what is asked for now was evicted or not: it is right.
            let again = scan(&proxy, &mut some, pages.end - 400..pages.end);
            assert!(again.saturating_sub(base) < most, "{fill}");
            scan(&proxy, &mut some, 0..200);
        }
    }

    fn what_is_asked_for_again_and_again_outlives_a_scan(driver) {
        let backend = telling();
        let caching = Caching { workers: 1, rules: "max_bytes = \"4MiB\"", ..Caching::default() };
        let proxy = caching.start(driver, &backend.url());
        let mut some = clients(&proxy, 2, 1);
        let hot = || (0..20).map(|number| format!("/hot/{number}"));
        for _ in 0..4 {
            ask_for(&mut some[0], hot());
        }
        scan(&proxy, &mut some, 0..3_000);
        let kept = hot().filter(|path| is_hit(&some[0].get(path))).count();
        assert!(kept >= 15, "{kept} of 20 are left");
    }

    fn the_variants_of_one_page_cannot_fill_the_cache(driver) {
        let _alone = alone();
        for fill in FILLS {
            let backend = Backend::scripted(|conn, _| {
                while let Some(request) = conn.next_request() {
                    let variant = request.field("x-variant").expect("a variant").to_owned();
                    let fields = "Cache-Control: max-age=3600\r\nVary: X-Variant\r\n";
                    conn.send(answer(fields, &format!("{variant} {}", "v".repeat(16 << 10))));
                }
            });
            let rules = "max_bytes = \"8MiB\"";
            let proxy = Caching { fill, rules, ..Caching::default() }.start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            let base = proxy.rss_kib();
            for number in 0..1_500 {
                let client = &mut some[number % 4];
                client.send(request("/", &format!("X-Variant: {number}\r\n")));
                let own = client.read_response();
                assert!(own.text().starts_with(&format!("{number} ")), "{fill}: {own:?}");
            }
            let growth = proxy.rss_kib().saturating_sub(base);
            assert!(growth < 8 * 1024 + MARGIN_KIB, "{fill}: grew by {growth} KiB from {base}");
            expect_gauges(&proxy, |metrics| {
                (100_000.0..=f64::from(8 << 20)).contains(&metrics.value("cache_bytes"))
            });
            // The newest ones are still told apart.
            for number in 1_496..1_500 {
                let client = &mut some[number % 4];
                client.send(request("/", &format!("X-Variant: {number}\r\n")));
                let own = client.read_response();
                assert!(own.text().starts_with(&format!("{number} ")), "{fill}: {own:?}");
            }
        }
    }

    fn the_bound_is_the_process_s_and_is_divided_over_its_workers(driver) {
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                conn.send(page(&"p".repeat(700 << 10)));
            }
        });
        for (workers, is_stored) in [(1, true), (2, false)] {
            let rules = "max_bytes = \"1MiB\"";
            let caching = Caching { workers, rules, ..Caching::default() };
            let proxy = caching.start(driver, &backend.url());
            for client in &mut clients(&proxy, 4, workers) {
                assert_eq!(client.get("/").body.len(), 700 << 10);
                let again = client.get("/");
                assert_eq!((again.body.len(), is_hit(&again)), (700 << 10, is_stored), "{workers}");
            }
        }
    }

    fn fills_that_do_not_fit_together_are_all_answered(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let body = request.target.repeat((900 << 10) / request.target.len());
                let (first, second) = body.split_at(body.len() / 2);
                conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n");
                conn.send(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n", first.len()));
                drop(conn.try_send(format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()).as_bytes()));
            }
        });
        for fill in FILLS {
            let rules = "max_bytes = \"2MiB\"";
            let proxy = Caching { fill, rules, ..Caching::default() }.start(driver, &backend.url());
            let some = clients(&proxy, 12, 2);
            std::thread::scope(|scope| {
                for (number, mut client) in some.into_iter().enumerate() {
                    scope.spawn(move || for round in 0..6 {
                        let path = format!("/{number}/{round}/");
                        let whole = client.get(&path);
                        let expected = path.repeat((900 << 10) / path.len());
                        assert!(whole.body == expected.as_bytes(), "{fill} {path}: {whole:?}");
                    });
                }
            });
            expect_gauges(&proxy, |metrics| {
                (100_000.0..=f64::from(2 << 20)).contains(&metrics.value("cache_bytes"))
            });
        }
    }

    fn a_flood_of_pages_that_are_not_there_leaves_the_others(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let page = page(&request.target);
                let is_missing = request.target.starts_with("/missing");
                conn.send(if is_missing { page.replace("200 OK", "404 Not Found") } else { page });
            }
        });
        for fill in FILLS {
            let route = "cache_404_capacity = 10";
            let caching = Caching { fill, route, rules: "max_bytes = \"1MiB\"", ..Caching::default() };
            let proxy = caching.start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            for client in &mut some {
                for number in 0..20 { drop(client.get(&format!("/there/{number}"))); }
            }
            for number in 0..2_000 {
                let path = format!("/missing/{number}");
                let missing = some[number % 4].get(&path);
                assert_eq!((missing.status, missing.text()), (404, &*path));
            }
            for client in &mut some {
                for number in 0..20 {
                    let there = client.get(&format!("/there/{number}"));
                    assert!(is_hit(&there) && there.status == 200, "{fill}: {there:?}");
                }
            }
            // The 20 may be on both workers.
            expect_gauges(&proxy, |metrics| {
                (20.0 + 10.0..=2.0 * 20.0 + 10.0).contains(&metrics.value("cache_entries"))
            });
            let newest = some[3].get("/missing/1999");
            assert!(newest.status == 404 && is_hit(&newest), "{fill}: {newest:?}");
        }
    }

    fn long_names_of_pages_that_are_not_there_count_against_the_bound(driver) {
        let _alone = alone();
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                conn.send(page("").replace("200 OK", "404 Not Found"));
            }
        });
        let route = "cache_404_capacity = 100000";
        let caching = Caching { route, rules: "max_bytes = \"4MiB\"", ..Caching::default() };
        let proxy = caching.start(driver, &backend.url());
        let mut some = clients(&proxy, 4, 2);
        let long = "q".repeat(20_000);
        let mut flood = |numbers: std::ops::Range<usize>| {
            for number in numbers {
                assert_eq!(some[number % 4].get(&format!("/{number}?{long}")).status, 404);
            }
            proxy.rss_kib()
        };
        let base = flood(0..20);
        let growth = flood(20..2_000).saturating_sub(base);
        assert!(growth < 4 * 1024 + MARGIN_KIB, "grew by {growth} KiB from {base}");
    }

    fn what_cannot_be_stored_takes_no_room_from_what_can(driver) {
        let _alone = alone();
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let is_own = request.target.starts_with("/own");
                let own = || answer("Cache-Control: private\r\n", "own");
                conn.send(if is_own { own() } else { page(&request.target) });
            }
        });
        let caching = Caching { rules: "max_bytes = \"1MiB\"", ..Caching::default() };
        let proxy = caching.start(driver, &backend.url());
        let mut some = clients(&proxy, 4, 2);
        for client in &mut some {
            for _ in 0..3 {
                for number in 0..20 { drop(client.get(&format!("/there/{number}"))); }
            }
        }
        let base = proxy.rss_kib();
        for number in 0..4_000 {
            assert_eq!(some[number % 4].get(&format!("/own/{number}")).text(), "own");
        }
        let growth = proxy.rss_kib().saturating_sub(base);
        assert!(growth < 1024 + MARGIN_KIB, "grew by {growth} KiB from {base}");
        expect_gauges(&proxy, |metrics| {
            (20_000.0..=f64::from(1 << 20)).contains(&metrics.value("cache_bytes"))
        });
        for client in &mut some {
            let kept = (0..20).filter(|number| is_hit(&client.get(&format!("/there/{number}"))));
            assert!(kept.count() >= 15);
        }
    }
}
