//! The keys of a route and of `[cache]` that say what is stored, and for how long.

use crate::support::pages::{CacheStatus, Pages, answer, ask, get, is_hit, page};
use crate::support::setup::front;
use crate::support::{Client, eventually};

const MAX_AGE: &str = "Cache-Control: max-age=60\r\n";

/// What a page must have in it to count as not found.
const NOT_FOUND: &str = "<meta name=\"phantom-404\" content=\"true\">";

on_both_drivers! {
    fn a_strategy_stores_its_types_of_content(driver) {
        let pages = Pages::of(|request, number| {
            let kind = request.target.trim_start_matches('/');
            let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            page(&format!("{MAX_AGE}{kind}"), &number.to_string())
        });
        let types = ["text/html", "image/png", "font/woff2", "text/css", "application/json", "text/plain", ""];
        for (strategy, stored) in [
            ("all", &types[..]),
            ("none", &[]),
            ("only_html", &["text/html"]),
            ("no_images", &["text/html", "font/woff2", "text/css", "application/json", "text/plain", ""]),
            ("only_images", &["image/png"]),
            ("only_assets", &["image/png", "font/woff2", "text/css", "application/json"]),
        ] {
            let proxy = front(driver, &pages.url(), &format!("cache_strategy = \"{strategy}\""));
            let mut client = Client::connect(proxy.addr());
            for kind in types {
                let target = format!("/{kind}");
                let first = get(&mut client, &target, "");
                let second = get(&mut client, &target, "");
                let is_stored = stored.contains(&kind);
                assert_eq!(first.text() == second.text(), is_stored, "{strategy} {kind}: {second:?}");
            }
        }
    }

    fn paths_are_included_and_excluded_by_method_and_pattern(driver) {
        let pages = Pages::numbered(MAX_AGE);
        let rules = "include_paths = [\"/all/*\", \"GET /get/*\", \"HEAD /head/*\", \"/exact\"]\n\
            exclude_paths = [\"*/private/*\", \"HEAD /all/a\", \"POST /all/*\"]";
        let proxy = front(driver, &pages.url(), rules);
        let mut client = Client::connect(proxy.addr());
        for (target, get_is_stored, head_is_hit) in [
            ("/all/b", true, true), ("/all/b?q=/private/", true, true), ("/all/a", true, false),
            ("/all/private/b", false, false), ("/get/a", true, false), ("/head/a", false, false),
            ("/exact", true, true), ("/exact/more", false, false), ("/other", false, false), ("/all", false, false),
        ] {
            let first = get(&mut client, target, "");
            assert_eq!(get(&mut client, target, "").text() == first.text(), get_is_stored, "{target}");
            let before = pages.count(target);
            ask(&mut client, &format!("HEAD {target}"), "");
            assert_eq!(pages.count(target) == before, head_is_hit, "{target}");
        }
    }

    fn a_lifetime_of_the_route_is_for_pages_that_say_nothing(driver) {
        let pages = Pages::of(|request, number| {
            let number = number.to_string();
            let fields = match &*request.target {
                "/no-cache" => "Cache-Control: no-cache\r\n",
                "/zero" => "Cache-Control: max-age=0\r\n",
                "/expired" => "Expires: 0\r\n",
                "/longer" => "Cache-Control: max-age=600\r\n",
                "/modified" => "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n",
                "/found" => return answer("302 Found", "Location: /\r\n", &number),
                "/failed" => return answer("500 Failed", "", &number),
                "/lost" => return answer("404 Not Found", "", &number),
                _ => "",
            };
            page(fields, &number)
        });
        let proxy = front(driver, &pages.url(), "[cache]\ndefault_ttl = \"1m\"");
        let mut client = Client::connect(proxy.addr());
        for (target, lifetime) in [
            ("/", Some(60)), ("/lost", Some(60)), ("/longer", Some(600)), ("/modified", Some(60)), ("/no-cache", None),
            ("/zero", None), ("/expired", None), ("/found", None), ("/failed", None),
        ] {
            get(&mut client, target, "");
            let again = get(&mut client, target, "");
            let status = CacheStatus::of(&again);
            assert_eq!(status.hit, lifetime.is_some(), "{target}: {again:?}");
            if let Some(lifetime) = lifetime {
                assert!(status.ttl.is_some_and(|ttl| (lifetime - 10..=lifetime).contains(&ttl)), "{target}: {again:?}");
            }
        }
    }

    fn where_everything_is_stored_a_lifetime_of_the_route_ends_it(driver) {
        let pages = Pages::numbered("Cache-Control: no-cache, max-age=0\r\nAge: 1000\r\n");
        let more = "respect = \"always\"\n[cache]\ndefault_ttl = \"1s\"";
        let proxy = front(driver, &pages.url(), more);
        let mut client = Client::connect(proxy.addr());
        assert_eq!(get(&mut client, "/", "").text(), "0");
        assert!(is_hit(&get(&mut client, "/", "")));
        eventually("the page is fetched again", || get(&mut client, "/", "").text() == "1");
    }

    fn the_oldest_page_that_is_not_found_leaves_first(driver) {
        let pages = Pages::of(|_, number| answer("404 Not Found", MAX_AGE, &number.to_string()));
        let proxy = front(driver, &pages.url(), "cache_404_capacity = 2");
        let mut client = Client::connect(proxy.addr());
        for target in ["/a", "/b", "/a", "/b"] {
            assert_eq!(get(&mut client, target, "").text(), "0", "{target}");
        }
        // The use of /a does not save it.
        get(&mut client, "/c", "");
        for (target, expected) in [("/b", "0"), ("/c", "0"), ("/a", "1")] {
            assert_eq!(get(&mut client, target, "").text(), expected, "{target}");
        }
    }

    fn pages_that_are_not_found_are_not_kept_if_none_may_be(driver) {
        let pages = Pages::of(|request, number| match &*request.target {
            "/there" => page(MAX_AGE, &number.to_string()),
            _ => answer("404 Not Found", MAX_AGE, &number.to_string()),
        });
        let proxy = front(driver, &pages.url(), "cache_404_capacity = 0");
        let mut client = Client::connect(proxy.addr());
        for (target, expected) in [("/lost", "1"), ("/there", "0")] {
            get(&mut client, target, "");
            let again = get(&mut client, target, "");
            assert_eq!(again.text(), expected, "{target}");
        }
    }

    fn a_page_that_was_once_not_found_does_not_leave_for_others_that_are_not(driver) {
        let pages = Pages::of(|request, number| match (&*request.target, number) {
            ("/new", 1..) => page(MAX_AGE, &number.to_string()),
            _ => answer("404 Not Found", MAX_AGE, &number.to_string()),
        });
        let proxy = front(driver, &pages.url(), "cache_404_capacity = 1");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(get(&mut client, "/new", "").status, 404);
        assert_eq!(get(&mut client, "/new", "Cache-Control: no-cache\r\n").text(), "1");
        assert!(is_hit(&get(&mut client, "/new", "")));
        assert_eq!(get(&mut client, "/lost", "").status, 404);
        assert_eq!(get(&mut client, "/new", "").text(), "1");
    }

    fn a_page_can_say_of_itself_that_it_is_not_found(driver) {
        let pages = Pages::of(|request, number| {
            let padding = "<style>a</style>".repeat(15_000);
            let start = format!("{number}<html>");
            let body = match &*request.target {
                "/plain" => start,
                "/false" => start + &NOT_FOUND.replace("true", "false"),
                "/single" => start + &NOT_FOUND.replace('"', "'"),
                "/late" | "/late-chunked" => start + &padding + NOT_FOUND,
                _ => start + NOT_FOUND,
            };
            if request.target.ends_with("chunked") {
                let chunk = |piece: &[u8]| format!("{:x}\r\n{}\r\n", piece.len(), str::from_utf8(piece).unwrap());
                let chunks: String = body.as_bytes().chunks(1000).map(chunk).collect();
                return format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
            }
            page(MAX_AGE, &body)
        });
        for (more, are_lost) in [("use_404_meta = true\ncache_404_capacity = 0", true), ("cache_404_capacity = 0", false)] {
            let proxy = front(driver, &pages.url(), more);
            let mut client = Client::connect(proxy.addr());
            for (target, is_marked) in [
                ("/plain", false), ("/false", false), ("/double", true), ("/single", true), ("/chunked", true),
                ("/late", true), ("/late-chunked", true),
            ] {
                let first = get(&mut client, target, "");
                let second = get(&mut client, target, "");
                assert_eq!(first.status, 200);
                let is_lost = is_marked && are_lost;
                assert_eq!(first.body == second.body, !is_lost, "{target} {more:?}");
            }
        }
    }

    fn a_body_that_is_too_large_passes_and_is_not_stored(driver) {
        let pages = Pages::of(|request, number| {
            let body = number.to_string().repeat(if request.target.starts_with("/fits") { 2048 } else { 2049 });
            if request.target.ends_with("length") {
                return page(MAX_AGE, &body);
            }
            let (first, second) = body.split_at(2000);
            let rest = second.len();
            format!("HTTP/1.1 200 OK\r\n{MAX_AGE}Transfer-Encoding: chunked\r\n\r\n7d0\r\n{first}\r\n{rest:x}\r\n{second}\r\n0\r\n\r\n")
        });
        let proxy = front(driver, &pages.url(), "[cache]\nmax_entry_bytes = 2048");
        let mut client = Client::connect(proxy.addr());
        for (target, len, second) in [
            ("/fits/length", 2048, "0"), ("/fits/chunked", 2048, "0"), ("/more/length", 2049, "1"), ("/more/chunked", 2049, "1"),
        ] {
            assert!(get(&mut client, target, "").text() == "0".repeat(len), "{target}");
            let again = get(&mut client, target, "");
            assert!(again.text() == second.repeat(len), "{target}: {again:?}");
            assert_eq!(is_hit(&again), second == "0", "{target}: {again:?}");
        }
    }
}
