//! The control endpoint: purges, health and metrics over HTTP, on a thread and a port of its own.
//!
//! | route | needs | answers |
//! |---|---|---|
//! | `POST /invalidate_all`, `/refresh-cache` | token | 200 when no core has a cached answer left |
//! | `POST /invalidate` | token, `{"pattern", "server"?}` | 200 when no core has one that matches left |
//! | `POST /bulk_invalidate` | token, `{"patterns", "server"?}` | 200 and a summary |
//! | `POST /add_snapshot` and the other seven | token | 400: there are no snapshots in this version |
//! | `GET /metrics` | token | Prometheus text |
//! | `GET /healthz` | | 200 while the process lives |
//! | `GET /readyz` | | 200 while it serves, 503 before and while it drains |
//!
//! The answers are the original's, word for word: scripts compare them. Two things are not: the token
//! is asked for before anything of a body is read, and a 200 means that every worker has purged.
//!
//! HTTP is spoken with the data plane's own parts. A server library would bring a second reading of
//! HTTP/1.1, more lenient than ours, and none is at home on monoio without an adapter.

pub mod answer;
mod body;
mod desk;
pub mod endpoint;
pub mod json;
mod serve;

use std::io;
use std::net;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flume::RecvTimeoutError;
use monoio::{LegacyDriver, RuntimeBuilder};

use crate::config::Config;
use crate::metrics::{Addresses, Counters, Loads};
use crate::net::clock;
use crate::worker::Purger;

use desk::Desk;

/// The target of its log lines.
const TARGET: &str = "phantom_frame::control";

/// Events that one look at the kernel may bring: more than there are connections.
const EVENTS: u32 = 256;

/// How long the end of the process waits for answers that are on their way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Between two looks whether somebody waited for is gone.
const LOOK: Duration = Duration::from_millis(5);

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every worker serves.
    Starting,
    /// Every worker serves.
    Ready,
    /// No new connections are accepted.
    Draining,
}

/// What the process tells about itself while it goes on.
#[derive(Debug, Default)]
pub struct Status {
    phase: AtomicU8,
    driver: OnceLock<&'static str>,
}

impl Status {
    /// Says how far the process is.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// How far the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Says on which driver the workers run: `io_uring` or `epoll`. The first word counts.
    pub fn set_driver(&self, driver: &'static str) {
        self.driver.get_or_init(|| driver);
    }

    /// On which driver the workers run, once one does.
    pub fn driver(&self) -> Option<&'static str> {
        self.driver.get().copied()
    }
}

/// What the control endpoint starts with.
#[derive(Debug)]
pub struct Setup {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Its sockets, listening.
    pub listeners: Vec<net::TcpListener>,
    /// How far the process is.
    pub status: Arc<Status>,
    /// The way to every worker.
    pub purger: Purger,
    /// What each worker does.
    pub counters: Vec<Arc<Counters>>,
    /// Connections by worker.
    pub loads: Loads,
    /// Connections and tunnels by client address, where those are limited.
    pub addresses: Option<Arc<Addresses>>,
}

/// A control endpoint that answers until this is dropped.
#[derive(Debug)]
pub struct Control {
    words: flume::Sender<Word>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A thread that has ended has stopped.
        self.words.send(Word::Stop).ok();
        if let Some(thread) = self.thread.take() {
            // It has told its panic itself.
            thread.join().ok();
        }
    }
}

/// What a control endpoint is told.
#[derive(Debug)]
enum Word {
    /// Another configuration is in effect; say when it is.
    Renew(Arc<Config>, Option<Arc<Addresses>>, flume::Sender<()>),
    Stop,
}

impl Control {
    /// Answers under this configuration from now on; `addresses` is as in [`Setup`]. Blocks until a token
    /// that is not in it any more opens nothing.
    pub fn renew(&self, config: Arc<Config>, addresses: Option<Arc<Addresses>>) {
        let (done, is_done) = flume::bounded(1);
        // A thread that has ended answers nobody.
        self.words.send(Word::Renew(config, addresses, done)).ok();
        while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout)
            && !self.words.is_disconnected()
        {}
    }
}

/// Starts to answer, on a thread of its own.
///
/// # Errors
///
/// The system has no thread or descriptor left.
pub fn spawn(setup: Setup) -> io::Result<Control> {
    let (words, told_words) = flume::unbounded();
    let (told, tells) = flume::bounded(1);
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime =
            RuntimeBuilder::<LegacyDriver>::new().with_entries(EVENTS).enable_timer().build();
        match runtime {
            Ok(mut runtime) => {
                told.send(Ok(())).ok();
                runtime.block_on(live(setup, told_words));
            }
            Err(error) => {
                told.send(Err(error)).ok();
            }
        }
    })?;
    let started = tells.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has died")));
    started.map(|()| Control { words, thread: Some(thread) })
}

async fn live(setup: Setup, words: flume::Receiver<Word>) {
    let Setup { config, listeners, status, purger, counters, loads, addresses } = setup;
    let workers = desk::Workers { purger, counters, loads };
    let desk = Desk::new((config, addresses), status, workers, clock::now());
    let hall = Rc::new(serve::Hall::new(desk));
    monoio::spawn(serve::sweep(Rc::clone(&hall)));
    for listener in listeners {
        match crate::net::listener::Listener::new(listener) {
            Ok(listener) => {
                monoio::spawn(serve::accept(Rc::clone(&hall), listener));
            }
            Err(error) => tracing::error!(target: TARGET, %error, "Control server cannot listen"),
        }
    }
    // A sender that is gone wants us to stop too.
    while let Ok(Word::Renew(config, addresses, done)) = words.recv_async().await {
        hall.desk.renew(&config, addresses);
        // Whoever has asked may have given up.
        done.send(()).ok();
    }
    let give_up = clock::now() + LAST_WORDS;
    hall.close();
    while !hall.is_empty() && clock::now() < give_up {
        monoio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_status_tells_what_it_was_told() {
        let status = Status::default();
        assert_eq!(status.phase(), Phase::Starting);
        for phase in [Phase::Ready, Phase::Draining, Phase::Starting] {
            status.set_phase(phase);
            assert_eq!(status.phase(), phase);
        }
        assert_eq!(status.driver(), None);
        status.set_driver("epoll");
        status.set_driver("io_uring");
        assert_eq!(status.driver(), Some("epoll"));
    }

    fn guarded_by(token: &str) -> Arc<Config> {
        let text = format!(
            "control_auth = \"{token}\"\n[server.app]\nproxy_url = \"http://127.0.0.1:1\"\n"
        );
        Arc::new(crate::config::parse(&text, true, &|_| None).unwrap().config)
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "a client on a thread of its own")]
    fn another_configuration_is_in_effect_when_renewing_returns() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let control = spawn(Setup {
            config: guarded_by("first"),
            listeners: vec![listener],
            status: Arc::default(),
            purger: Purger::new(Vec::new()),
            counters: vec![Arc::new(Counters::new(1))],
            loads: Loads::new(1),
            addresses: None,
        })
        .unwrap();
        for round in 0..300 {
            let token = format!("token{round}");
            control.renew(guarded_by(&token), None);
            let request = format!(
                "POST /invalidate_all HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\
                 Authorization: Bearer {token}\r\n\r\n"
            );
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 4096];
            let count = client.read(&mut answer).unwrap();
            let status = answer[..count].get(9..12);
            assert_eq!(status, Some(b"200".as_slice()), "round {round}");
        }
    }
}
