//! Bodies in files: right in every form, in a private place, and with nothing left of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::cached::{Caching, FILLS, answer, clients, is_hit, request};
use crate::support::control::{Metrics, post};
use crate::support::setup::runtime;
use crate::support::{Backend, Client, Driver, Gate, Proxy, Random};

/// Bytes of a large body.
const LARGE: usize = 3 << 20;

/// Keys of a route that keeps its bodies in this directory.
fn route_in(directory: &Path) -> String {
    format!("cache_storage_mode = \"filesystem\"\ncache_directory = \"{}\"", directory.display())
}

/// Returns a body of so many bytes, the same for the same number.
fn bytes_of(count: usize) -> Vec<u8> {
    Random::new(1 + count as u64).bytes(count)
}

/// Answers `/{count}/...` with so many bytes.
fn measured() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            let count = request.target.trim_start_matches('/').split('/').next().expect("a size");
            let body = bytes_of(count.parse().expect("digits"));
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nETag: \"{count}\"\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            ));
            drop(conn.try_send(&body));
        }
    })
}

fn start(driver: Driver, fill: &str, directory: &Path, url: &str) -> Proxy {
    let route = route_in(directory);
    Caching { fill, route: &route, ..Caching::default() }.start(driver, url)
}

/// Returns what the directory holds.
fn names_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Returns the proxy's open files below a directory: their paths below /proc, and what the kernel
/// calls them.
fn files_below(proxy: &Proxy, directory: &Path) -> Vec<(PathBuf, String)> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("descriptors");
    let paths = descriptors.flatten().map(|entry| entry.path());
    // One that is closed meanwhile has no name any more.
    let named = paths.filter_map(|path| {
        let name = fs::read_link(&path).ok()?.to_string_lossy().into_owned();
        Some((path, name))
    });
    let start = directory.to_str().expect("text").to_owned();
    named.filter(|(_, name)| name.starts_with(&start)).collect()
}

/// Asserts that a client gets a part of a body.
fn expect_part(client: &mut Client, path: &str, body: &[u8], (first, last): (usize, usize)) {
    client.send(request(path, &format!("Range: bytes={first}-{last}\r\n")));
    let part = client.read_response();
    let range = format!("bytes {first}-{last}/{}", body.len());
    assert_eq!((part.status, part.field("content-range")), (206, Some(&*range)));
    assert!(part.body == body[first..=last], "{first}-{last}");
}

on_both_drivers! {
    fn what_a_file_holds_comes_back_in_every_form(driver) {
        for fill in FILLS {
            let directory = tempfile::tempdir().expect("a directory");
            let backend = measured();
            let proxy = start(driver, fill, directory.path(), &backend.url());
            let mut some = clients(&proxy, 4, 2);
            let sizes = [0, 1, 100, 4095, 4096, 4097, 65_536, 65_537, 200_000, LARGE];
            for count in sizes {
                let (path, body) = (format!("/{count}"), bytes_of(count));
                for client in &mut some {
                    assert!(client.get(&path).body == body, "{fill} {count}");
                    let stored = client.get(&path);
                    assert!(is_hit(&stored) && stored.body == body, "{fill}: {stored:?}");
                    client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                    let head = client.read_response_to("HEAD");
                    let length = head.field("content-length").map(str::to_owned);
                    assert_eq!((is_hit(&head), length), (true, Some(count.to_string())));
                    client.send(request(&path, &format!("If-None-Match: \"{count}\"\r\n")));
                    let same = client.read_response();
                    assert!(same.status == 304 && is_hit(&same), "{same:?}");
                    if count > 4096 {
                        for part in [(0, 0), (4095, 4096), (count - 1, count - 1), (1, count - 2)] {
                            expect_part(client, &path, &body, part);
                        }
                    }
                }
                assert_eq!(names_in(directory.path()), Vec::<PathBuf>::new(), "{count}");
            }
            // Pipelined, with the bodies of several files' blocks behind each other.
            let client = &mut some[0];
            for count in &sizes { client.send(request(&format!("/{count}"), "")); }
            for count in sizes {
                assert!(client.read_response().body == bytes_of(count), "{fill} {count}");
            }
            // The bodies are not in memory.
            crate::support::eventually("the gauge is up to date", || {
                (5_000.0..200_000.0).contains(&Metrics::of(&proxy).value("cache_bytes"))
            });
        }
    }

    fn nothing_has_a_name_and_everything_is_private(driver) {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("made/for/us");
        let halfway = Gate::default();
        let is_halfway = halfway.clone();
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 8\r\n\r\nhalf");
            is_halfway.pass("the directory was looked at");
            conn.send("half");
        });
        let proxy = start(driver, "process", &directory, &backend.url());
        let mut client = Client::connect(proxy.addr());
        client.send(request("/", ""));
        client.read_response_head();
        client.expect("half");
        let look = || {
            assert_eq!(names_in(&directory), Vec::<PathBuf>::new());
            for made in ["made", "made/for", "made/for/us"] {
                let mode = fs::metadata(parent.path().join(made)).expect("made").mode();
                assert_eq!(mode & 0o777, 0o700, "{made}");
            }
            let files = files_below(&proxy, &directory);
            assert_eq!(files.len(), 2, "one a worker: {files:?}");
            for (path, name) in files {
                let file = fs::metadata(&path).expect("an open file");
                assert!(name.ends_with(" (deleted)") && file.nlink() == 0, "{name}");
                assert_eq!(file.mode() & 0o7777, 0o600, "{name}");
            }
        };
        look();
        halfway.open();
        client.expect("half");
        assert!(is_hit(&client.get("/")));
        look();
        drop(proxy);
        assert_eq!(names_in(&directory), Vec::<PathBuf>::new());
    }

    fn a_directory_that_others_may_write_is_not_used(driver) {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("it is ours");
        let backend = measured();
        let proxy = start(driver, "core", directory.path(), &backend.url());
        let line = proxy.wait_for_log("others may write to it (mode 777)");
        let path = directory.path().to_str().expect("text");
        for part in ["ERROR", "Stored bodies stay in memory", path, "chmod 700"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(files_below(&proxy, directory.path()).is_empty());
        let mut client = Client::connect(proxy.addr());
        for is_stored in [false, true] {
            let whole = client.get("/100000");
            assert!(whole.body == bytes_of(100_000) && is_hit(&whole) == is_stored, "{whole:?}");
        }
        assert_eq!(names_in(directory.path()), Vec::<PathBuf>::new());
    }

    fn two_proxies_share_a_directory_and_nothing_else(driver) {
        let directory = tempfile::tempdir().expect("a directory");
        let told = |text: &'static str| Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                let body = format!("{text} {} ", request.target).repeat(3_000);
                conn.send(answer("Cache-Control: max-age=60\r\n", &body));
            }
        });
        let backends = [told("the first"), told("the second")];
        let [first, second] =
            backends.each_ref().map(|backend| start(driver, "process", directory.path(), &backend.url()));
        let mut both = [(first, "the first"), (second, "the second")]
            .map(|(proxy, text)| (clients(&proxy, 3, 2), proxy, text));
        for _ in 0..2 {
            for number in 0..20 {
                for (some, _, text) in &mut both {
                    let path = format!("/{number}");
                    for client in some {
                        let expected = format!("{text} {path} ").repeat(3_000);
                        assert!(client.get(&path).body == expected.as_bytes(), "{text} {path}");
                    }
                }
            }
        }
        let [(_, first, _), (mut some, _second, text)] = both;
        drop(first);
        let stored = some[0].get("/7");
        let expected = format!("{text} /7 ").repeat(3_000);
        assert!(is_hit(&stored) && stored.body == expected.as_bytes(), "without the other one");
        assert_eq!(names_in(directory.path()), Vec::<PathBuf>::new());
    }

    fn a_body_that_is_being_sent_outlives_its_purge(driver) {
        let directory = tempfile::tempdir().expect("a directory");
        let backend = measured();
        let route = route_in(directory.path());
        let caching = Caching { workers: 1, route: &route, ..Caching::default() };
        let proxy = caching.start(driver, &backend.url());
        let mut client = Client::connect(proxy.addr());
        let count = 8 << 20;
        assert!(client.get(&format!("/{count}")).body == bytes_of(count));
        let mut slow = Client::connect_with_receive_buffer(proxy.addr(), 4096);
        slow.send(request(&format!("/{count}"), ""));
        assert!(is_hit(&slow.read_response_head()));
        let begun = slow.read_exact(4096);
        let mut control = Client::connect(proxy.control_addr());
        assert_eq!(post(&mut control, "/invalidate_all").status, 200);
        // What would take its blocks if they were free.
        for number in 0..8 {
            client.get(&format!("/{}/{number}", 1 << 20));
        }
        let rest = slow.read_exact(count - begun.len());
        assert!([begun, rest].concat() == bytes_of(count));
    }

    fn what_does_not_fit_into_the_file_is_kept_all_the_same(driver) {
        for fill in FILLS {
            let directory = tempfile::tempdir().expect("a directory");
            let backend = measured();
            let route = route_in(directory.path());
            let rules = "max_file_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"";
            let proxy = Caching { fill, route: &route, rules, ..Caching::default() }
                .start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            for number in 0..400 {
                let path = format!("/{}/{number}", 30_000 + number * 7);
                let client = &mut some[number % 4];
                for _ in 0..2 {
                    let body = client.get(&path).body;
                    assert!(body == bytes_of(30_000 + number * 7), "{fill} {path}");
                }
            }
            for (file, _) in files_below(&proxy, directory.path()) {
                let taken = fs::metadata(&file).expect("an open file").len();
                assert!((1..=512 << 10).contains(&taken), "{taken} bytes");
            }
        }
    }

    fn each_route_keeps_its_bodies_in_its_own_directory(driver) {
        let directories: [TempDir; 2] =
            std::array::from_fn(|_| tempfile::tempdir().expect("a directory"));
        let backend = measured();
        let routes = directories.each_ref().map(|directory| route_in(directory.path()));
        let config = format!(
            "[server.one]\nbind_to = \"/one\"\nproxy_url = \"{url}\"\n{}\n\
             [server.two]\nproxy_url = \"{url}\"\n{}\n{}",
            routes[0],
            routes[1],
            runtime(driver, 1),
            url = backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for path in ["/one/5000", "/5000"] {
            client.get(path);
            assert!(is_hit(&client.get(path)), "{path}");
        }
        for directory in &directories {
            let files = files_below(&proxy, directory.path());
            let sizes: Vec<_> =
                files.iter().map(|(path, _)| fs::metadata(path).expect("a file").len()).collect();
            assert!(sizes.iter().sum::<u64>() >= 5000, "{files:?} {sizes:?}");
        }
    }
}
