//! The cache of a program that names its entries itself, and purges them by these names.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use phantom_frame::{
    CacheHandle, Cores, CreateProxyConfig, DriverChoice, Handle, ProxyError, RequestInfo,
    create_proxy,
};

use crate::support::pages::{Pages, ask, get, is_hit, page};
use crate::support::{Client, Driver};

const MAX_AGE: &str = "Cache-Control: max-age=60\r\n";

/// A proxy that runs on a thread of this process.
struct Running {
    addr: SocketAddr,
    handle: Handle,
    cache: CacheHandle,
    thread: Option<JoinHandle<Result<(), ProxyError>>>,
}

impl Running {
    fn start(
        driver: Driver,
        pages: &Pages,
        name: impl Fn(&RequestInfo<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        let driver = match driver {
            Driver::IoUring => DriverChoice::IoUring,
            Driver::Epoll => DriverChoice::Epoll,
        };
        let config = CreateProxyConfig::new(pages.url())
            .with_bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .with_cores(Cores::Count(2))
            .with_driver(driver)
            .with_cache_key_fn(name);
        let (mut proxy, cache) = create_proxy(config);
        let addr = proxy.bind().expect("a free port")[0];
        let handle = proxy.handle().expect("it is bound");
        Self { addr, handle, cache, thread: Some(std::thread::spawn(move || proxy.run())) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.drain();
        let ended = self.thread.take().expect("dropped once").join();
        assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
    }
}

/// Pages that say what was asked for, and how often.
fn telling() -> Pages {
    Pages::of(|request, number| page(MAX_AGE, &format!("{} {number}", request.target)))
}

on_both_drivers! {
    fn requests_of_one_name_and_host_share_a_page(driver) {
        let pages = telling();
        let proxy = Running::start(driver, &pages, |info| info.path.to_owned());
        let mut client = Client::connect(proxy.addr);
        assert_eq!(get(&mut client, "/a?x=1", "").text(), "/a?x=1 0");
        for target in ["/a?x=2", "/a"] {
            let shared = get(&mut client, target, "");
            assert_eq!((shared.text(), is_hit(&shared)), ("/a?x=1 0", true));
        }
        assert!(is_hit(&ask(&mut client, "HEAD /a", "")));
        assert_eq!(get(&mut client, "/b", "").text(), "/b 0");
        assert_eq!(get(&mut client, "/a", "Host: other\r\n").text(), "/a 0");
    }

    fn a_name_may_come_from_every_part_of_a_request(driver) {
        let pages = Pages::of(|request, _| page(MAX_AGE, request.field("x-device").unwrap_or("none")));
        let proxy = Running::start(driver, &pages, |info| {
            let device = info.headers.first("x-device").unwrap_or_default();
            format!("{}?{}#{}", info.path, info.query, String::from_utf8_lossy(device))
        });
        let mut client = Client::connect(proxy.addr);
        for _ in 0..2 {
            for device in ["phone", "desk"] {
                assert_eq!(get(&mut client, "/", &format!("X-Device: {device}\r\n")).text(), device);
            }
            assert_eq!(get(&mut client, "/", "").text(), "none");
        }
        assert_eq!(pages.count("/"), 3);
    }

    fn a_name_is_no_way_around_what_is_private(driver) {
        let pages = Pages::of(|request, _| {
            let fields = match &*request.target {
                "/private" => "Cache-Control: private, max-age=60\r\n",
                "/cookie" => "Set-Cookie: a=b\r\nCache-Control: max-age=60\r\n",
                _ => "Vary: X-User\r\nCache-Control: max-age=60\r\n",
            };
            page(fields, request.field("x-user").unwrap_or_default())
        });
        let proxy = Running::start(driver, &pages, |_| "one".to_owned());
        let mut client = Client::connect(proxy.addr);
        for target in ["/private", "/cookie", "/vary", "/vary"] {
            for user in ["alice", "bob"] {
                let answer = get(&mut client, target, &format!("X-User: {user}\r\n"));
                assert_eq!(answer.text(), user, "{target}");
            }
        }
    }

    fn purges_see_the_names(driver) {
        let pages = telling();
        let proxy = Running::start(driver, &pages, |info| format!("page {}", info.path));
        let mut client = Client::connect(proxy.addr);
        for (pattern, is_gone) in [
            ("page /a", true), ("page *", true), ("*", true), ("GET:/a", false), ("/a", false), ("page /", false),
        ] {
            get(&mut client, "/a", "");
            assert!(is_hit(&get(&mut client, "/a", "")));
            proxy.cache.invalidate(pattern);
            assert_eq!(!is_hit(&get(&mut client, "/a", "")), is_gone, "{pattern}");
        }
        proxy.cache.invalidate_all();
        assert!(!is_hit(&get(&mut client, "/a", "")));
    }

    fn a_change_ends_the_page_of_its_name(driver) {
        let pages = telling();
        let proxy = Running::start(driver, &pages, |info| info.path.to_owned());
        let mut client = Client::connect(proxy.addr);
        get(&mut client, "/a?x", "");
        ask(&mut client, "PUT /a?y", "Content-Length: 0\r\n");
        assert!(!is_hit(&get(&mut client, "/a?x", "")));
    }

    fn a_change_ends_the_page_although_its_name_has_the_method(driver) {
        let pages = telling();
        let proxy = Running::start(driver, &pages, |info| format!("{}:{}", info.method, info.path));
        let mut client = Client::connect(proxy.addr);
        get(&mut client, "/a", "");
        assert_eq!(ask(&mut client, "PUT /a", "Content-Length: 0\r\n").status, 200);
        assert!(!is_hit(&get(&mut client, "/a", "")));
    }

    fn what_an_answer_names_ends_by_its_name(driver) {
        let pages = Pages::of(|request, number| match &*request.method {
            "POST" => page("Location: /a\r\n", ""),
            _ => page(MAX_AGE, &number.to_string()),
        });
        let proxy = Running::start(driver, &pages, |info| format!("page {}", info.path));
        let mut client = Client::connect(proxy.addr);
        get(&mut client, "/a", "");
        ask(&mut client, "POST /form", "Content-Length: 0\r\n");
        assert!(!is_hit(&get(&mut client, "/a", "")));
    }

    fn paths_that_are_no_text_have_pages_of_their_own(driver) {
        let pages = telling();
        let proxy = Running::start(driver, &pages, |info| info.path.to_owned());
        let mut client = Client::connect(proxy.addr);
        for byte in [0xfe, 0xff] {
            let request = [b"GET /", &[byte][..], b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
            client.send(request);
            let answer = client.read_response();
            if answer.status == 400 {
                // Not a target at all, says the proxy, and closes.
                return;
            }
            let expected = ["/", &char::from(byte).to_string(), " 0"].concat();
            assert_eq!(answer.text(), expected);
        }
    }
}
