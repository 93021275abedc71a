//! From a checked configuration to workers that run, and from a signal to workers that have ended.

use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sd_notify::NotifyState;

use super::inherit::Inherited;
use super::sockets::Sockets;
use super::successor::Start;
use super::{cores, limits};
use crate::backend::resolve::{Name, Resolver};
use crate::cache::compress::Compressor;
use crate::cache::rules::KeyFn;
use crate::config::{CacheStrategy, CompressStrategy, Config, DriverChoice};
use crate::control::{self, Control, Phase, Status};
use crate::metrics::{Addresses, Counters, Gauge, Loads};
use crate::net::clock;
use crate::worker::{self, Message, Purger, Rung, Setup};

/// How long the start waits for the names of backends to be resolved; later they still may be.
const FIRST_LOOK_UP: Duration = Duration::from_secs(2);

/// The patience with what a successor leaves to us: a century.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

/// Why the proxy could not start. Nothing is left running.
#[derive(Debug)]
pub enum StartError {
    /// The configuration asks for something this host does not have: change it.
    Config(String),
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No driver for the workers: the message holds the remedy.
    Driver(io::Error),
    /// The system has no threads or descriptors left.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(fault) => f.write_str(fault),
            Self::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}{}", remedy(error.kind()))
            }
            Self::Driver(error) => write!(f, "io_uring is refused: {error}; {URING_REMEDY}"),
            Self::System(error) => write!(f, "the system refuses: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What helps when an address cannot be listened on.
fn remedy(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::AddrInUse {
        "; another process listens there: stop it or choose another port"
    } else if kind == io::ErrorKind::PermissionDenied {
        "; ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "; no interface of this host has that address"
    } else {
        ""
    }
}

const URING_REMEDY: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the \
     container's seccomp profile, set the sysctl kernel.io_uring_disabled to 0, or choose \
     runtime.driver = \"epoll\"";

/// Why the proxy ended other than by draining.
#[derive(Debug)]
pub enum RunError {
    /// It could not start.
    Start(StartError),
    /// A worker's thread has died of a defect. What it served is lost; end the process.
    WorkerDied,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::WorkerDied => f.write_str("a worker has died"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// What the control thread waits for.
#[derive(Debug)]
enum Event {
    Drain,
    Upgrade(Start),
    /// The next process serves, or will not.
    Succeeded(io::Result<()>),
    WorkerEnded {
        panicked: bool,
    },
}

/// Asks a running server to drain; can be cloned and sent to any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    events: Sender<Event>,
}

impl Handle {
    /// Starts the next process as `start` says, with this one's sockets, and drains without a deadline
    /// once it serves; if it does not, nothing changes but the log.
    ///
    /// Returns at once. While one upgrade runs, another is ignored.
    pub fn upgrade(&self, start: Start) {
        // A server that has ended has nothing to hand over.
        self.events.send(Event::Upgrade(start)).ok();
    }

    /// Stops accepting, lets what runs finish within `drain_timeout`, then ends the run.
    ///
    /// Returns at once; a second call changes nothing.
    pub fn drain(&self) {
        // A server that has ended has nothing left to drain.
        self.events.send(Event::Drain).ok();
    }
}

/// A server that listens and does not serve yet: clients that connect wait.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    cpus: Vec<usize>,
    sockets: Sockets,
    inherited: Inherited,
    key_fn: Option<KeyFn>,
    mailboxes: Vec<flume::Receiver<Message>>,
    /// The other ends of the mailboxes.
    senders: Vec<flume::Sender<Message>>,
    inbox: Receiver<Event>,
    events: Sender<Event>,
}

impl Server {
    /// Binds every configured address, once a worker.
    ///
    /// # Errors
    ///
    /// An address or a CPU is not to be had; nothing is left bound.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_with(config, Inherited::default())
    }

    /// As [`Server::bind`], and takes over the sockets of `inherited` that listen on a configured
    /// address; once it serves, the predecessor is told.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub fn bind_with(config: Config, mut inherited: Inherited) -> Result<Self, StartError> {
        let cpus = cores::choose(&config.runtime.cores).map_err(StartError::Config)?;
        let sockets = Sockets::bind(&config, cpus.len(), &mut inherited)?;
        let (senders, mailboxes) = cpus.iter().map(|_| flume::unbounded()).unzip();
        let (events, inbox) = channel();
        let (config, key_fn) = (Arc::new(config), None);
        Ok(Self { config, cpus, sockets, inherited, key_fn, mailboxes, senders, inbox, events })
    }

    /// Names stored responses by this function.
    #[must_use]
    pub fn with_key_fn(mut self, key_fn: Option<KeyFn>) -> Self {
        self.key_fn = key_fn;
        self
    }

    /// The addresses listened on, with the ports the kernel chose where 0 was configured.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.sockets.addresses
    }

    /// The addresses of the control endpoint, with the ports the kernel chose where 0 was configured;
    /// empty if there is none.
    pub fn control_addresses(&self) -> &[SocketAddr] {
        &self.sockets.control_addresses
    }

    /// The way to the workers for purges, from any thread. What is sent before they run waits for them.
    pub fn purger(&self) -> Purger {
        Purger::new(self.senders.clone())
    }

    /// A handle that drains this server from another thread.
    pub fn handle(&self) -> Handle {
        Handle { events: self.events.clone() }
    }

    /// Serves until drained.
    ///
    /// # Errors
    ///
    /// The workers could not start, or one died: what it served is lost.
    pub fn run(self) -> Result<(), RunError> {
        let open_files = limits::raise_open_files();
        let connections_max = self
            .config
            .limits
            .connections_max
            .unwrap_or_else(|| limits::connections_max(open_files));
        tracing::info!("Open files limit: {open_files}, connections limit: {connections_max}");
        let tunnels_max = self.config.limits.tunnels_max.unwrap_or(usize::MAX);
        let shared = Shared {
            status: Arc::default(),
            connections: Gauge::new(connections_max),
            loads: Loads::new(self.cpus.len()),
            tunnels: Gauge::new(tunnels_max),
            by_address: Addresses::new(self.config.limits.per_address, clock::now()),
            config: self.config,
            events: self.events,
        };
        let heirlooms = self.sockets.heirlooms().map_err(StartError::System)?;
        let Sockets { by_worker, addresses, control: control_sockets, control_addresses } =
            self.sockets;

        let senders = self.senders;
        let mut fleet = Fleet::new(self.cpus.len(), shared.config.routes.len());
        // Before everything that takes time, so that it can tell of it; it ends after everything else.
        let control = shared.control(control_sockets, &senders, &fleet)?;
        let (_resolver, known) = resolve(&shared.config, &senders).map_err(StartError::System)?;
        let compressor = compressor(&shared.config).map_err(StartError::System)?;
        let setups = by_worker.into_iter().zip(self.cpus).zip(self.mailboxes);
        for (index, ((listeners, cpu), mailbox)) in setups.enumerate() {
            let setup = Setup {
                index,
                cpu: shared.config.runtime.pin.then_some(cpu),
                config: Arc::clone(&shared.config),
                listeners,
                addresses: known.clone(),
                mailbox,
                workers: senders.clone(),
                connections: Arc::clone(&shared.connections),
                loads: shared.loads.clone(),
                tunnels: Arc::clone(&shared.tunnels),
                by_address: shared.by_address.clone(),
                counters: Arc::clone(&fleet.counters[index]),
                compressor: compressor.clone(),
                key_fn: self.key_fn.clone(),
            };
            match fleet.start(setup, shared.events.clone()) {
                Ok(rung) => {
                    shared.status.set_driver(rung.driver());
                    announce(index, cpu, rung, &shared.config);
                }
                Err(error) => {
                    dismiss(&senders);
                    return Err(error.into());
                }
            }
        }
        for address in &addresses {
            tracing::info!("HTTP proxy listening on {address}");
        }
        for address in &control_addresses {
            tracing::info!("Control server listening on {address}");
        }
        shared.status.set_phase(Phase::Ready);
        // A predecessor that has gone already needs not be told.
        self.inherited.tell_ready().ok();
        notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
        let house = House { fleet, control, heirlooms, is_upgrading: false, is_draining: false };
        shared.attend(&self.inbox, &senders, house).inspect_err(|_| dismiss(&senders))
    }
}

/// The thread that compresses stored responses, if a route wants it.
fn compressor(config: &Config) -> io::Result<Option<Compressor>> {
    let is_wanted = config.routes.iter().any(|route| {
        route.cache.strategy != CacheStrategy::None
            && route.cache.compress != CompressStrategy::None
    });
    is_wanted.then(Compressor::spawn).transpose()
}

/// Ends the workers that run, at once.
fn dismiss(senders: &[flume::Sender<Message>]) {
    for sender in senders {
        // One that never started, or has ended, does not mind.
        sender.send(Message::Drain { until: clock::now() }).ok();
    }
}

/// What the workers have in common.
struct Shared {
    status: Arc<Status>,
    config: Arc<Config>,
    connections: Arc<Gauge>,
    loads: Loads,
    tunnels: Arc<Gauge>,
    by_address: Option<Arc<Addresses>>,
    events: Sender<Event>,
}

impl Shared {
    /// Waits for the wish to drain, passes it on, and waits for the workers to end.
    fn attend(
        &self,
        inbox: &Receiver<Event>,
        senders: &[flume::Sender<Message>],
        mut house: House,
    ) -> Result<(), RunError> {
        let mut left = house.fleet.workers.len();
        while left > 0 {
            match inbox.recv() {
                Ok(Event::Drain) => self.drain(senders, &mut house, self.config.drain_timeout),
                Ok(Event::Upgrade(start)) => self.upgrade(&start, &mut house),
                Ok(Event::Succeeded(Ok(()))) => {
                    // From now on the control endpoint is the successor's: a purge must reach it.
                    house.control = None;
                    self.drain(senders, &mut house, FOR_EVER);
                }
                Ok(Event::Succeeded(Err(error))) => {
                    house.is_upgrading = false;
                    tracing::error!(%error, "The next process does not serve; this one goes on");
                }
                Ok(Event::WorkerEnded { panicked: false }) => left -= 1,
                Ok(Event::WorkerEnded { panicked: true }) | Err(_) => {
                    return Err(RunError::WorkerDied);
                }
            }
        }
        house.fleet.join();
        Ok(())
    }

    /// Starts the next process, and waits on a thread of its own until it serves.
    fn upgrade(&self, start: &Start, house: &mut House) {
        if house.is_upgrading || house.is_draining {
            tracing::warn!("Not upgrading: the process is leaving, or an upgrade is on its way");
            return;
        }
        let successor = match start.launch(&house.heirlooms) {
            Ok(successor) => successor,
            Err(error) => {
                tracing::error!(%error, "The next process cannot be started; this one goes on");
                return;
            }
        };
        let pid = successor.pid();
        tracing::info!(pid, "Upgrading: the next process has been started");
        let events = self.events.clone();
        let wait = move || {
            let ready = successor.wait_until_ready();
            if ready.is_ok() {
                tracing::info!(pid, "The next process serves");
                notify(&[NotifyState::MainPid(pid)]);
            }
            events.send(Event::Succeeded(ready)).ok();
        };
        match thread::Builder::new().name("upgrade".to_owned()).spawn(wait) {
            Ok(_) => house.is_upgrading = true,
            Err(error) => tracing::error!(%error, "No thread to wait for the next process on"),
        }
    }
}

/// Tells systemd, if it started us.
fn notify(states: &[NotifyState<'_>]) {
    // Without it there is nobody to tell.
    sd_notify::notify(states).ok();
}

/// What ends with the process.
struct House {
    fleet: Fleet,
    control: Option<Control>,
    /// Second descriptors of all listening sockets, for a successor.
    heirlooms: Vec<(&'static str, net::TcpListener)>,
    is_upgrading: bool,
    is_draining: bool,
}

impl Shared {
    /// Starts the control endpoint, if there is one.
    fn control(
        &self,
        listeners: Vec<net::TcpListener>,
        senders: &[flume::Sender<Message>],
        fleet: &Fleet,
    ) -> Result<Option<Control>, StartError> {
        if listeners.is_empty() {
            return Ok(None);
        }
        let setup = control::Setup {
            config: Arc::clone(&self.config),
            listeners,
            status: Arc::clone(&self.status),
            purger: Purger::new(senders.to_vec()),
            counters: fleet.counters.clone(),
            loads: self.loads.clone(),
            addresses: self.by_address.clone(),
        };
        control::spawn(setup).map(Some).map_err(StartError::System)
    }

    fn drain(&self, senders: &[flume::Sender<Message>], house: &mut House, timeout: Duration) {
        if std::mem::replace(&mut house.is_draining, true) && timeout == FOR_EVER {
            return;
        }
        self.status.set_phase(Phase::Draining);
        // Kept open they would keep clients waiting that nobody will serve.
        house.heirlooms.clear();
        let patience = if timeout == FOR_EVER {
            "when it has ended".to_owned()
        } else {
            format!("in {timeout:?}")
        };
        tracing::info!(
            connections = self.connections.value(),
            tunnels = self.tunnels.value(),
            by_worker = ?self.loads.all(),
            "Draining: not accepting any more, closing what is left {patience}",
        );
        for sender in senders {
            // A worker that has ended has nothing left to drain.
            sender.send(Message::Drain { until: clock::now() + timeout }).ok();
        }
    }
}

/// The workers' threads.
struct Fleet {
    workers: Vec<JoinHandle<()>>,
    /// By worker.
    counters: Vec<Arc<Counters>>,
}

impl Fleet {
    /// No worker yet, and the counters for all of them.
    fn new(workers: usize, routes: usize) -> Self {
        let counters = (0..workers).map(|_| Arc::new(Counters::new(routes))).collect();
        Self { workers: Vec::with_capacity(workers), counters }
    }

    /// Starts one worker and waits until it has a driver.
    fn start(&mut self, setup: Setup, events: Sender<Event>) -> Result<Rung, StartError> {
        let (told, tells) = channel();
        let thread =
            thread::Builder::new().name(format!("worker-{}", setup.index)).spawn(move || {
                let notice = EndNotice(events);
                worker::run(setup, |started| {
                    told.send(started).ok();
                });
                drop(notice);
            });
        self.workers.push(thread.map_err(StartError::System)?);
        match tells.recv() {
            Ok(Ok(rung)) => Ok(rung),
            Ok(Err(error)) => Err(StartError::Driver(error)),
            Err(_) => Err(StartError::Driver(io::Error::other("the worker died while starting"))),
        }
    }

    fn join(self) {
        for worker in self.workers {
            // It has said that it ended without a panic.
            worker.join().ok();
        }
        let total =
            |one: fn(&Counters) -> u64| self.counters.iter().map(|each| one(each)).sum::<u64>();
        tracing::info!(
            connections = total(|c| c.connections.value()),
            requests = total(Counters::requests),
            tunnels = total(Counters::tunnels),
            bytes_client_to_backend = total(|c| c.tunnel_bytes_up.value()),
            bytes_backend_to_client = total(|c| c.tunnel_bytes_down.value()),
            panics = total(|c| c.panics.value()),
            "Drained",
        );
    }
}

/// Tells the control thread that this worker's thread ends, however it does.
struct EndNotice(Sender<Event>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.send(Event::WorkerEnded { panicked: thread::panicking() }).ok();
    }
}

fn announce(worker: usize, cpu: usize, rung: Rung, config: &Config) {
    let driver = rung.label();
    if config.runtime.pin {
        tracing::info!("Worker {worker} on CPU {cpu}, driver {driver}");
    } else {
        tracing::info!("Worker {worker}, not pinned, driver {driver}");
    }
    if rung == Rung::Epoll && config.runtime.driver == DriverChoice::Auto && worker == 0 {
        tracing::warn!(
            "io_uring is refused on this host, so every worker runs on epoll and costs more CPU; {URING_REMEDY}"
        );
    }
}

/// The backends' addresses as far as they are known soon, and the threads that keep them up to date.
fn resolve(
    config: &Config,
    senders: &[flume::Sender<Message>],
) -> io::Result<(Resolver, Vec<Arc<[SocketAddr]>>)> {
    let mut known = Vec::with_capacity(config.routes.len());
    let mut names = Vec::new();
    for (route, each) in config.routes.iter().enumerate() {
        let name = Name { host: each.backend.host.clone(), port: each.backend.port };
        known.push(name.literal().into_iter().collect());
        if name.literal().is_none() {
            names.push((route, name));
        }
    }
    let mut waiting = names.len();
    let (first, firsts) = channel();
    let senders = senders.to_vec();
    let resolver = Resolver::spawn(names, move |route, addresses| {
        // Only the start listens to this.
        first.send((route, Arc::clone(&addresses))).ok();
        for sender in &senders {
            sender.send(Message::Addresses { route, addresses: Arc::clone(&addresses) }).ok();
        }
    })?;
    let give_up = clock::now() + FIRST_LOOK_UP;
    while waiting > 0 {
        match firsts.recv_timeout(give_up.saturating_duration_since(clock::now())) {
            Ok((route, addresses)) => {
                if let Some(slot) = known.get_mut(route) {
                    *slot = addresses;
                }
                waiting -= 1;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok((resolver, known))
}
