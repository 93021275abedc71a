//! What goes wrong on purpose: a crowd from one address, no descriptor left, no port left, a cable that is cut.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use super::clients::Stage;
use super::plan::{End, Tunnel, content, verify};
use crate::exhaustion::{PORTS, few_ports, freeze_descriptors, limit_descriptors, set_ports};
use crate::support::netns::Network;
use crate::support::tunnel::{ACCEPTED, REQUEST};
use crate::support::{Backend, BackendConn, Client, Proxy, Random, eventually};

/// What the configuration allows one address: more than all the others together have.
pub(super) const CONNECTIONS: usize = 96;
pub(super) const TUNNELS: usize = 60;

/// As many come as may, and these.
const TOO_MANY: usize = 16;

/// A crowd from an address of its own, each of which asks for a tunnel.
pub(super) fn crowd(stage: &Stage, random: &mut Random) {
    let source = address(random);
    let mut clients: Vec<_> =
        (0..CONNECTIONS + TOO_MANY).map(|_| Client::connect_from(&source, stage.addr)).collect();
    let plan = Tunnel::short(End::ClientCloses, (0, 0), random);
    let mut refused = 0;
    clients.retain_mut(|client| {
        // Turned away, it may be too late to ask.
        client.try_send(plan.request().as_bytes()).ok();
        let head = client.read_response_head();
        assert!([101, 429].contains(&head.status), "{head:?}");
        refused += usize::from(head.status == 429);
        head.status == 101
    });
    assert_eq!((clients.len(), refused), (TUNNELS, CONNECTIONS + TOO_MANY - TUNNELS));
    for client in &mut clients {
        client.shutdown_write();
        client.expect_eof();
    }
    let ledger = &stage.ledger;
    ledger.add("tunnels", TUNNELS);
    ledger.add(plan.end.word(), TUNNELS);
    ledger.add("connections too many", TOO_MANY);
    ledger.add("tunnels too many", CONNECTIONS - TUNNELS);
}

/// Takes the descriptors away: no more than are open, and clients from other addresses come until one is told
/// so. Tunnels go on, and then everybody is served.
pub(super) fn no_descriptors(proxy: &Proxy, stage: &Stage, random: &mut Random) {
    let _calm = stage.calm.write().unwrap_or_else(PoisonError::into_inner);
    let before = freeze_descriptors(proxy);
    let mut held = Vec::new();
    let ask = |source: &str| {
        let mut client = Client::connect_from(source, stage.addr);
        client.try_send(b"GET /r/200 HTTP/1.1\r\nHost: h\r\n\r\n").ok();
        let answer = client.read_response();
        assert!(answer.status == 200 || answer.field("retry-after").is_some(), "{answer:?}");
        let name = if answer.status == 503 { "no descriptor" } else { "refused" };
        stage.ledger.count(name);
        (client, answer.status)
    };
    loop {
        let source = address(random);
        let clients: Vec<_> = (0..CONNECTIONS / 2).map(|_| ask(&source)).collect();
        let is_told = clients.iter().any(|(_, status)| *status == 503);
        held.extend(clients);
        if is_told {
            break;
        }
        assert!(held.len() < 1000, "more connections than descriptors");
    }
    held.clear();
    limit_descriptors(proxy, before);
    for _ in 0..2 {
        // Either worker has had time to look again.
        thread::sleep(Duration::from_millis(100));
        eventually("a client is served again", || ask("127.0.0.1").1 == 200);
    }
}

/// An address that nobody else has.
fn address(random: &mut Random) -> String {
    let mut part = || 1 + random.below(254);
    format!("127.{}.{}.{}", part(), part(), part())
}

/// Takes the ports away until an upgrade is refused for want of one. What is open goes on.
pub(super) fn no_ports(stage: &Stage, random: &mut Random) {
    let _calm = stage.calm.write().unwrap_or_else(PoisonError::into_inner);
    let clients: Vec<_> = (0..PORTS + 4).map(|_| Client::connect(stage.addr)).collect();
    let before = few_ports();
    let plan = Tunnel::short(End::BackendCloses, (0, 100), random);
    let mut tunnels = Vec::new();
    let mut refused = 0;
    for mut client in clients {
        client.send(plan.request());
        let head = client.read_response_head();
        if head.status == 101 {
            tunnels.push(client);
        } else {
            assert_eq!((head.status, head.field("retry-after")), (503, Some("5")));
            refused += 1;
        }
    }
    set_ports(before.trim());
    // For this long the proxy does not look again.
    thread::sleep(Duration::from_millis(100));
    assert!(refused >= 4, "{refused}");
    stage.ledger.add("no port", refused);
    for mut client in tunnels {
        verify(plan.seed + 1, 0, &client.read_exact(plan.down));
        client.expect_eof();
        stage.ledger.count("tunnels");
        stage.ledger.count(plan.end.word());
        stage.ledger.add("down", plan.down);
    }
}

/// Another host at the end of a cable, with clients and a backend.
pub(super) struct Far {
    network: Network,
    /// Our end of the cable.
    near: IpAddr,
    backend: Backend,
}

impl Far {
    /// Sets it up behind the network of this thread; `None` where that is not allowed.
    pub(super) fn new() -> Option<Self> {
        let network = Network::new()?;
        let [near, far] = network.wire();
        let far = format!("{far}:0");
        let backend = network.run(|| Backend::scripted_on(&far, |conn, _| tick(conn)));
        Some(Self { network, near: near.parse().expect("an address"), backend })
    }

    /// The route to its backend.
    pub(super) fn route(&self) -> String {
        format!("[server.far]\nbind_to = \"/far\"\nproxy_url = \"{}\"\n", self.backend.url())
    }
}

/// Accepts an upgrade and talks: who does so learns that the other end has gone.
fn tick(conn: &mut BackendConn) {
    conn.read_request_head();
    conn.send(ACCEPTED);
    while conn.try_send(b"tick").is_ok() {
        thread::sleep(Duration::from_millis(100));
    }
}

/// A tunnel from afar and one to there; the cable is cut, and each of our ends is told.
pub(super) fn cable(stage: &Stage, random: &mut Random) {
    let Some(far) = &stage.far else { return thread::sleep(Duration::from_millis(100)) };
    let ledger = &stage.ledger;
    let plan = Tunnel::short(End::ClientLost, (100, 100), random);
    let asking = stage.ask();
    let client = far.network.run(|| {
        let mut client = Client::connect((far.near, stage.addr.port()).into());
        client.send(plan.request());
        assert_eq!(client.read_response_head().status, 101);
        client.send(content(plan.seed, 0, plan.up));
        verify(plan.seed + 1, 0, &client.read_exact(plan.down));
        client
    });
    let mut other = Client::connect(stage.addr);
    other.send(REQUEST.replace("GET / ", "GET /far "));
    assert_eq!(other.read_response_head().status, 101);
    drop(asking);
    assert_eq!(other.read_exact(4), b"tick");

    let lost = ledger.value(plan.end.word());
    far.network.cut();
    let (ticks, _) = other.read_until_closed();
    eventually("the client from afar is given up", || ledger.value(plan.end.word()) > lost);
    far.network.mend();
    drop(client);
    ledger.add("tunnels", 2);
    ledger.count("backend_lost");
    ledger.add("up", plan.up);
    ledger.add("down", plan.down);
    // What was on its way to us may be gone with a reset: some ticks more.
    ledger.add("down", 4 + ticks.len());
    ledger.add("down at most", 64);
}
