//! One user's page is never another's: every way in which a page can be private, asked for in turn
//! on one connection, on two workers, and at the same time.

use crate::support::pages::{
    Pages, connect_from, get, is_hit, one_each, page, pass_both, send, two_workers,
};
use crate::support::setup::runtime;
use crate::support::{Client, Driver, Gate, Proxy, Request};

/// Responses that are for the one who asked, whatever tells the users apart.
const PRIVATE: [&str; 34] = [
    "Cache-Control: private\r\n",
    "Cache-Control: private, max-age=60\r\n",
    "Cache-Control: max-age=60, private\r\n",
    "Cache-Control: PRIVATE, Max-Age=60\r\n",
    "CACHE-CONTROL: s-maxage=60, pRiVaTe\r\n",
    "Cache-Control: private=\"x\", max-age=60\r\n",
    "Cache-Control: private=x, max-age=60\r\n",
    "Cache-Control: private=\"x, y\" , max-age=60\r\n",
    "Cache-Control: max-age=\"60\", private\r\n",
    "Cache-Control: a=\"b, c\", private, max-age=60\r\n",
    "Cache-Control: a=\"b, private, max-age=60\r\n",
    "Cache-Control: max-age=60; private\r\n",
    "Cache-Control: ,, max-age=60 ,\t,private,\r\n",
    "Cache-Control: public, private, max-age=60\r\n",
    "Cache-Control: max-age=60\r\nCache-Control: private\r\n",
    "Cache-Control: private\r\nCache-Control: max-age=60\r\n",
    "Cache-Control: private\r\nX: y\r\ncache-control: private, public, max-age=60\r\n",
    "Cache-Control: private\r\nExpires: Thu, 31 Dec 2099 23:59:59 GMT\r\n",
    "Cache-Control: private, max-age=60\r\nETag: \"same\"\r\n",
    "Cache-Control: no-store\r\n",
    "Cache-Control: no-store, max-age=60\r\n",
    "Cache-Control: No-Store, s-maxage=60\r\nETag: \"same\"\r\n",
    "Cache-Control: max-age=60\r\nCache-Control: no-store\r\n",
    "Cache-Control: no-cache\r\n",
    "Cache-Control: no-cache, max-age=60\r\n",
    "Cache-Control: no-cache=\"set-cookie\", max-age=60\r\n",
    "Set-Cookie: id=1\r\nCache-Control: max-age=60\r\n",
    "Cache-Control: public, s-maxage=60\r\nset-cookie: id=1; HttpOnly\r\n",
    "Vary: *\r\nCache-Control: max-age=60\r\n",
    "Vary: Accept\r\nVary: X-Unseen, *\r\nCache-Control: public, max-age=60\r\n",
    "CDN-Cache-Control: private\r\nCache-Control: public, max-age=60\r\n",
    "CDN-Cache-Control: no-store\r\nCache-Control: max-age=60\r\n",
    "CDN-Cache-Control: max-age=60, private\r\nCache-Control: max-age=60\r\n",
    "Pragma: no-cache\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n",
];

/// Responses that would be for everybody if the request had no `Authorization`.
const FOR_THE_AUTHORIZED: [&str; 6] = [
    "Cache-Control: max-age=60\r\n",
    "Expires: Thu, 31 Dec 2099 23:59:59 GMT\r\n",
    "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n",
    "Cache-Control: proxy-revalidate, max-age=60\r\n",
    "Cache-Control: max-age=60, a=\"public\"\r\n",
    "Cache-Control: public, max-age=60\r\nVary: Authorization\r\n",
];

/// Responses that choose by `Cookie`, or say nothing to somebody who has one.
const FOR_THE_COOKIE: [&str; 5] = [
    "",
    "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n",
    "Vary: Cookie\r\nCache-Control: public, max-age=60\r\n",
    "Vary: Accept, COOKIE\r\nCache-Control: max-age=60\r\n",
    "Vary: Accept\r\nVary: cookie\r\nCache-Control: s-maxage=60\r\n",
];

/// Who asks: every field by which a test tells users apart.
fn user(request: &Request) -> String {
    let names = ["x-user", "authorization", "cookie", "host"];
    names.iter().find_map(|name| request.field(name)).unwrap_or_default().to_owned()
}

/// A proxy with two workers before pages with such fields, and a crowd of clients of both.
struct Site {
    clients: Vec<Client>,
    proxy: Proxy,
    gates: Vec<Gate>,
    pages: Pages,
}

impl Site {
    /// The targets `/N/...` have the fields of row N; the first request for `/N/together` waits.
    fn start(driver: Driver, rows: &'static [&'static str], more: &str) -> Self {
        let gates: Vec<_> = rows.iter().map(|_| Gate::default()).collect();
        let theirs = gates.clone();
        let pages = Pages::of(move |request, number| {
            let mut parts = request.target.split('/').skip(1);
            let row = parts.next().and_then(|row| row.parse::<usize>().ok());
            let row = row.expect("a target begins with a row");
            if number == 0 && parts.next() == Some("together") {
                theirs[row].pass("all clients have asked");
            }
            page(rows[row], &user(request))
        });
        let proxy = two_workers(driver, &pages, more);
        let mut clients = Vec::from(one_each(&proxy));
        clients.extend((0..6).map(|_| Client::connect(proxy.addr())));
        Self { clients, proxy, gates, pages }
    }

    /// Asserts that two users whose field is `name` get their own page of row `row`.
    fn keeps_apart(&mut self, row: usize, name: &str) {
        let fields = ["alice", "bob"].map(|user| (user, format!("{name}: {user}\r\n")));

        let in_turn = format!("/{row}/in-turn");
        let mut client = Client::connect(self.proxy.addr());
        for (user, field) in fields.iter().chain(&fields) {
            let answer = get(&mut client, &in_turn, field);
            assert_eq!(answer.text(), *user, "row {row}, one connection: {answer:?}");
        }
        for (at, (user, field)) in
            [(0, &fields[1]), (1, &fields[0]), (0, &fields[0]), (1, &fields[1])]
        {
            let answer = get(&mut self.clients[at], &in_turn, field);
            assert_eq!(answer.text(), *user, "row {row}, worker {at}: {answer:?}");
        }
        let together = format!("GET /{row}/together");
        for (at, client) in self.clients.iter_mut().enumerate() {
            send(client, &together, &fields[at / 2 % 2].1);
        }
        // Both workers have read what came before.
        pass_both(&self.proxy);
        self.gates[row].open();
        for (at, client) in self.clients.iter_mut().enumerate() {
            let answer = client.read_response();
            let user = fields[at / 2 % 2].0;
            assert_eq!(answer.text(), user, "row {row}, together, client {at}: {answer:?}");
        }
    }

    /// As [`Site::keeps_apart`], and nobody gets what the backend was not asked for, for him.
    fn stores_nothing(&mut self, row: usize, name: &str) {
        self.keeps_apart(row, name);
        assert_eq!(self.pages.count(&format!("/{row}/in-turn")), 8, "row {row} was stored");
        assert_eq!(self.pages.count(&format!("/{row}/together")), 8, "row {row} was shared");
    }
}

on_both_drivers! {
    fn a_private_page_is_for_the_one_who_asked(driver) {
        let mut site = Site::start(driver, &PRIVATE, "");
        for row in 0..PRIVATE.len() {
            site.stores_nothing(row, "X-User");
        }
    }

    fn a_page_for_an_authorized_user_is_his(driver) {
        let mut site = Site::start(driver, &FOR_THE_AUTHORIZED, "");
        for row in 0..FOR_THE_AUTHORIZED.len() - 1 {
            site.stores_nothing(row, "Authorization");
        }
        site.keeps_apart(FOR_THE_AUTHORIZED.len() - 1, "Authorization");
    }

    fn a_page_by_cookie_is_for_that_cookie(driver) {
        let mut site = Site::start(driver, &FOR_THE_COOKIE, "");
        for row in 0..2 {
            site.stores_nothing(row, "Cookie");
        }
        for row in 2..FOR_THE_COOKIE.len() {
            site.keeps_apart(row, "Cookie");
        }
    }

    fn a_lifetime_of_the_route_is_not_for_the_pages_of_users(driver) {
        let mut site = Site::start(driver, &FOR_THE_COOKIE, "[cache]\ndefault_ttl = \"1m\"");
        site.stores_nothing(0, "Cookie");
        site.stores_nothing(1, "Cookie");
    }

    fn where_everything_is_stored_what_is_plainly_somebodys_is_not(driver) {
        let rows: &[&str] = &[
            "Cache-Control: private, max-age=60\r\n",
            "Cache-Control: no-store\r\n",
            "Cache-Control: a=\"b, private\r\n",
            "Set-Cookie: a=b\r\n",
            "CDN-Cache-Control: private\r\n",
            "Vary: *\r\n",
            "Vary: Cookie\r\n",
            "Vary: Accept, authorization\r\n",
        ];
        let mut site = Site::start(driver, rows, "respect = \"always\"");
        for row in 0..rows.len() {
            site.stores_nothing(row, "X-User");
        }
        let rows: &[&str] = &["", "Cache-Control: public, max-age=60\r\n", "Cache-Control: s-maxage=60\r\n"];
        let mut site = Site::start(driver, rows, "respect = \"always\"");
        for row in 0..rows.len() {
            site.stores_nothing(row, "Authorization");
        }
    }

    fn another_host_has_another_page(driver) {
        let rows = &["Cache-Control: public, max-age=60\r\n"];
        let mut site = Site::start(driver, rows, "");
        site.keeps_apart(0, "Host");
        let mut client = Client::connect(site.proxy.addr());
        for (host, expected) in [
            ("ALICE", "alice"), ("alice:80", "alice:80"), ("alice:81", "alice:81"), ("alice.", "alice."),
        ] {
            let answer = get(&mut client, "/0/in-turn", &format!("Host: {host}\r\n"));
            assert_eq!(answer.text(), expected, "{host}");
        }
        // The target wins over the field (RFC 9112 §3.2.2).
        client.send("GET http://bob/0/in-turn HTTP/1.1\r\nHost: alice\r\n\r\n");
        assert_eq!(client.read_response().text(), "bob");
    }

    fn another_target_has_another_page(driver) {
        let pages = Pages::of(|request, _| page("Cache-Control: max-age=60\r\n", &request.target));
        let proxy = two_workers(driver, &pages, "");
        for mut client in one_each(&proxy) {
            for target in [
                "/a", "/a?", "/a?u=alice", "/a?u=bob", "/a?U=bob", "/a?u=bob&v", "/a/", "/A", "/%61", "//a",
                "/a;b", "/",
            ] {
                assert_eq!(get(&mut client, target, "").text(), target);
                let again = get(&mut client, target, "");
                assert_eq!((again.text(), is_hit(&again)), (target, true));
            }
        }
    }

    fn another_route_has_another_page_under_the_same_path(driver) {
        let backends = ["one", "two"].map(|name| {
            Pages::of(move |request, _| page("Cache-Control: max-age=60\r\n", &format!("{name} {}", request.target)))
        });
        let [one, two] = &backends;
        let config = format!(
            "[server.one]\nbind_to = \"/one\"\nproxy_url = \"{}\"\n[server.two]\nbind_to = \"/two\"\n\
             proxy_url = \"{}\"\n{}", one.url(), two.url(), runtime(driver, 2));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            assert_eq!(get(&mut client, "/one/p", "").text(), "one /p");
            assert_eq!(get(&mut client, "/two/p", "").text(), "two /p");
        }
        assert_eq!((one.count("/p"), two.count("/p")), (1, 1));
    }

    fn an_authorized_user_gets_his_own_page_although_an_anonymous_one_is_stored(driver) {
        let rows = &["Cache-Control: max-age=60\r\n"];
        let site = Site::start(driver, rows, "");
        let [mut one, mut other] = one_each(&site.proxy);
        let bob = "Authorization: bob\r\n";
        assert_eq!(get(&mut one, "/0/a", "X-User: nobody\r\n").text(), "nobody");
        for client in [&mut one, &mut other] {
            assert_eq!(get(client, "/0/a", bob).text(), "bob");
            assert_ne!(get(client, "/0/a", "X-User: somebody\r\n").text(), "bob");
        }
    }

    fn an_authorized_user_who_waits_beside_an_anonymous_one_gets_his_own_page(driver) {
        let rows = &["Cache-Control: max-age=60\r\n"];
        let site = Site::start(driver, rows, "");
        let [mut one, mut other] = one_each(&site.proxy);
        let mut anonymous = Client::connect(site.proxy.addr());
        send(&mut anonymous, "GET /0/together", "X-User: nobody\r\n");
        site.pages.wait_for("/0/together", 1);
        for client in [&mut one, &mut other] {
            send(client, "GET /0/together", "Authorization: bob\r\n");
        }
        pass_both(&site.proxy);
        site.gates[0].open();
        assert_eq!(anonymous.read_response().text(), "nobody");
        for client in [&mut one, &mut other] {
            assert_eq!(client.read_response().text(), "bob");
        }
    }

    fn what_the_backend_marks_as_shareable_is_shared_among_authorized_users(driver) {
        let rows: &[&str] = &[
            "Cache-Control: public, max-age=60\r\n",
            "Cache-Control: s-maxage=60\r\n",
            "Cache-Control: max-age=60, must-revalidate\r\n",
        ];
        let site = Site::start(driver, rows, "");
        let [mut one, mut other] = one_each(&site.proxy);
        for row in 0..rows.len() {
            let target = format!("/{row}/shared");
            assert_eq!(get(&mut one, &target, "Authorization: alice\r\n").text(), "alice");
            for client in [&mut one, &mut other] {
                let answer = get(client, &target, "Authorization: bob\r\n");
                assert_eq!(answer.text(), "alice", "row {row}: {answer:?}");
            }
            assert_eq!(site.pages.count(&target), 1);
        }
    }

    fn a_page_by_a_field_that_the_proxy_writes_is_for_that_value(driver) {
        let pages = Pages::of(|request, _| {
            let fields = "Vary: X-Forwarded-For\r\nCache-Control: max-age=60\r\n";
            page(fields, request.field("x-forwarded-for").unwrap_or_default())
        });
        let proxy = two_workers(driver, &pages, "");
        for from in ["127.0.0.2", "127.0.0.3", "127.0.0.2"] {
            let mut client = connect_from(from, proxy.addr());
            assert_eq!(get(&mut client, "/where", "").text(), from);
        }
    }

    fn a_page_of_another_scheme_behind_a_trusted_proxy_is_another(driver) {
        tells_apart(driver, "X-Forwarded-Proto", ["http", "https"]);
    }

    fn a_page_of_another_host_behind_a_trusted_proxy_is_another(driver) {
        tells_apart(driver, "X-Forwarded-Host", ["a.example", "b.example"]);
    }
}

/// Asserts that two requests of a trusted proxy have a page each if this field says different things.
fn tells_apart(driver: Driver, name: &'static str, values: [&str; 2]) {
    let pages = Pages::of(move |request, _| {
        page("Cache-Control: max-age=60\r\n", request.field(name).unwrap_or_default())
    });
    let config = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[server.app]\nproxy_url = \"{}\"\n{}",
        pages.url(),
        runtime(driver, 1)
    );
    let proxy = Proxy::start(driver, &config);
    let mut client = Client::connect(proxy.addr());
    for value in values {
        assert_eq!(get(&mut client, "/", &format!("{name}: {value}\r\n")).text(), value);
    }
}
