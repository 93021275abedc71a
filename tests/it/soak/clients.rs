//! The clients of the soak: each repeats its kind of request with plans of its own until time is up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread;

use super::ledger::Ledger;
use super::plan::{End, Exchange, Tunnel, content, verify};
use super::stream;
use super::trouble::Far;
use crate::support::{Client, Proxy, Random, eventually};

/// What all clients share.
pub(super) struct Stage {
    pub(super) addr: SocketAddr,
    pub(super) ledger: Arc<Ledger>,
    pub(super) ids: AtomicU64,
    /// Whether a connection has one request: a proxy that leaves closes idle ones, and who asks at that
    /// moment must ask again, as clients of HTTP/1.1 do.
    pub(super) asks_once: bool,
    /// Held to write while nobody may ask anything; tunnels that are open go on.
    pub(super) calm: RwLock<()>,
    /// The far end of a cable, where there may be one.
    pub(super) far: Option<Far>,
}

impl Stage {
    /// A stage in front of this proxy.
    pub(super) fn new(proxy: &Proxy, ledger: &Arc<Ledger>, asks_once: bool) -> Self {
        // Two at a time: a body's seed, and that of its answer.
        let ids = AtomicU64::new(2);
        let (ledger, calm) = (Arc::clone(ledger), RwLock::default());
        let addr = SocketAddr::from(([127, 0, 0, 1], proxy.addr().port()));
        Self { addr, ledger, ids, asks_once, calm, far: None }
    }

    /// Waits until asking is allowed; it is for as long as the result lives.
    pub(super) fn ask(&self) -> RwLockReadGuard<'_, ()> {
        self.calm.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests a connection has that may have up to `most`.
    fn requests(&self, most: usize, random: &mut Random) -> usize {
        if self.asks_once { 1 } else { 1 + random.below(most) }
    }
}

/// One tunnel, from its request to its end.
pub(super) fn tunnel(stage: &Stage, random: &mut Random) {
    let plan = Tunnel::random(random);
    let asking = stage.ask();
    let mut client = Client::connect(stage.addr);
    let mut request = plan.request().into_bytes();
    request.extend(content(plan.seed, 0, plan.early));
    client.send(request);
    assert_eq!(client.read_response_head().status, 101, "{plan}");
    drop(asking);
    stage.ledger.count("tunnels");
    let up = if plan.end == End::ClientResets { plan.up.midpoint(plan.early) } else { plan.up };
    let mut writer = client.second_handle();
    let writing = thread::spawn(move || stream::write(&mut writer, plan.seed, plan.early, up));
    if plan.end == End::ClientResets {
        writing.join().expect("no panic").ok();
        client.reset();
        stage.ledger.count("reset");
        stage.ledger.add("up at most", up.max(plan.early));
        stage.ledger.add("down at most", plan.down);
        return;
    }
    let got = stream::read(&mut client, plan.seed + 1, plan.down, plan.slow.0);
    let written = writing.join().expect("no panic");
    if plan.end.is_orderly() {
        assert_eq!(got, plan.down, "{plan}");
        written.expect("the backend reads everything");
        stage.ledger.add("up", plan.up);
        stage.ledger.add("down", plan.down);
        if plan.end == End::ClientCloses {
            client.shutdown_write();
        }
    } else {
        stage.ledger.add("up at most", plan.up);
        stage.ledger.add("down at most", plan.down);
    }
    let (rest, _) = client.read_until_closed();
    assert!(rest.is_empty() || !plan.end.is_orderly(), "{plan}: more than was sent");
    stage.ledger.count(if plan.end.is_orderly() { plan.end.word() } else { "reset" });
}

/// An upgrade that the backend refuses, and what follows on the connection.
pub(super) fn refused(stage: &Stage, random: &mut Random) {
    let _asking = stage.ask();
    let code = ["200", "403", "404", "503"][random.below(4)];
    let mut client = Client::connect(stage.addr);
    client.send(format!(
        "GET /r/{code} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: my-proto\r\n\r\n"
    ));
    assert_eq!(client.read_response().status.to_string(), code);
    stage.ledger.count("refused");
}

/// Some requests on one connection, each with a body of its own, sometimes in one piece.
pub(super) fn exchanges(stage: &Stage, random: &mut Random) {
    let _asking = stage.ask();
    let mut client = Client::connect(stage.addr);
    for _ in 0..stage.requests(12, random) {
        let count = if !stage.asks_once && random.below(4) == 0 { 3 } else { 1 };
        let plans: Vec<_> = (0..count)
            .map(|_| Exchange::random(stage.ids.fetch_add(2, Ordering::Relaxed), random))
            .collect();
        for plan in &plans {
            let len = plan.asked;
            client
                .send(format!("POST {plan} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n"));
            client.send(content(plan.id, 0, len));
        }
        for plan in &plans {
            let response = client.read_response_to("POST");
            assert_eq!(response.status, 200, "{plan}");
            assert_eq!(response.body.len(), plan.answered, "{plan}");
            verify(plan.id + 1, 0, &response.body);
            stage.ledger.count("exchanges");
        }
    }
}

/// Pages out of the cache or into it, whole, in part, and confirmed.
pub(super) fn pages(stage: &Stage, random: &mut Random) {
    let _asking = stage.ask();
    let mut client = Client::connect(stage.addr);
    for _ in 0..stage.requests(20, random) {
        let number = u64::try_from(random.below(40)).expect("small");
        let len = 500 + usize::try_from(number).expect("small") * 100;
        let (method, fields) = match random.below(5) {
            0 => ("HEAD", String::new()),
            1 => ("GET", format!("If-None-Match: \"{number}\"\r\n")),
            2 => ("GET", "Range: bytes=10-19\r\n".to_owned()),
            _ => ("GET", String::new()),
        };
        client.send(format!("{method} /c/{number} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let response = client.read_response_to(method);
        match response.status {
            200 if method == "HEAD" => {}
            200 => {
                assert_eq!(response.body.len(), len);
                verify(number, 0, &response.body);
            }
            206 => assert_eq!(response.body, content(number, 10, 20)),
            304 => assert!(fields.starts_with("If-None-Match")),
            other => panic!("{other} for page {number}"),
        }
        stage.ledger.count("pages");
    }
}

/// A backend that misbehaves: an error, or an answer that cannot be taken for a whole one.
pub(super) fn broken(stage: &Stage, random: &mut Random) {
    let asking = stage.ask();
    let how = ["head", "length", "chunked", "garbage", "reset", "silent"][random.below(6)];
    let mut client = Client::connect(stage.addr);
    let asked = || stage.ledger.value("asked for silent");
    let before = asked();
    client.send(format!("GET /b/{how} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    if how == "silent" {
        // From then on nothing but patience is needed.
        eventually("the backend is asked", || asked() > before);
        drop(asking);
    }
    let (bytes, _) = client.read_until_closed();
    let text = String::from_utf8_lossy(&bytes);
    let is_cut = match how {
        "length" => text.starts_with("HTTP/1.1 200") && text.matches('x').count() < 1000,
        "chunked" => text.starts_with("HTTP/1.1 200") && !text.ends_with("0\r\n\r\n"),
        "silent" => text.starts_with("HTTP/1.1 504"),
        _ => text.starts_with("HTTP/1.1 502"),
    };
    assert!(is_cut, "{how}: {text}");
    stage.ledger.count("broken");
}

/// What nobody should send. Nothing of it may reach the backend.
pub(super) fn hostile(stage: &Stage, random: &mut Random) {
    let long = "x".repeat(40_000);
    let shapes = [
        "GET /evil HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "GET /evil HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, x\r\n\r\n".to_owned(),
        "POST /evil HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\nab".to_owned(),
        "GET /evil HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n".to_owned(),
        "GET /evil HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(),
        "GET /evil HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n".to_owned(),
        "GET /evil HTTP/1.1\nHost: h\n\rx\n\n".to_owned(),
        format!("GET /evil{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
        "GET /evil HTTP/3.0\r\nHost: h\r\n\r\n".to_owned(),
        "CONNECT evil:80 HTTP/1.1\r\nHost: evil:80\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}hello\r\n\r\n".to_owned(),
        // Never ends: the head's timeout does.
        "GET /evil HTTP/1.1\r\nHos".to_owned(),
    ];
    let shape = &shapes[random.below(shapes.len())];
    let _asking = stage.ask();
    let mut client = Client::connect(stage.addr);
    client.try_send(shape.as_bytes()).ok();
    let (bytes, _) = client.read_until_closed();
    let text = String::from_utf8_lossy(&bytes);
    let status = text.get(9..12).unwrap_or("none").to_owned();
    let is_refused =
        matches!(&*status, "400" | "405" | "408" | "414" | "431" | "501" | "505" | "none");
    assert!(is_refused, "{shape:?}: {text}");
    stage.ledger.count("hostile");
}
