//! From a checked configuration to workers that run, and from a signal to workers that have ended.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use super::error::{RunError, StartError, URING_REMEDY};
use super::fleet::Fleet;
use super::inherit::Inherited;
use super::log::Levels;
use super::names::Names;
use super::sockets::Sockets;
use super::successor::Start;
use super::{cores, limits};
use crate::cache::compress::Compressor;
use crate::cache::rules::KeyFn;
use crate::config::{CacheStrategy, CompressStrategy, Config, DriverChoice};
use crate::control::{self, Control, Phase, Status};
use crate::metrics::{AddressLimits, Addresses, Gauge, Loads};
use crate::net::clock;
use crate::tunnel::frames::{GOING_AWAY, SERVICE_RESTART};
use crate::worker::{Leave, Message, Purger, Rung, Setup, Terms};

/// The patience with what a successor leaves to us: a century.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

/// What the control thread waits for.
#[derive(Debug)]
pub(super) enum Event {
    Drain,
    Reload(Box<Config>),
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

    /// Serves under `config` what begins from now on; what runs keeps what it began with.
    ///
    /// Returns at once; the log says what has changed. Keys that need a restart stay as they are and are
    /// named in the log. A configuration that cannot be used changes nothing.
    pub fn reload(&self, config: Config) {
        // A server that has ended has nothing to serve.
        self.events.send(Event::Reload(Box::new(config))).ok();
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
    levels: Option<Levels>,
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
        Ok(Self {
            config: Arc::new(config),
            cpus,
            sockets,
            inherited,
            key_fn: None,
            levels: None,
            mailboxes,
            senders,
            inbox,
            events,
        })
    }

    /// Names stored responses by this function.
    #[must_use]
    pub fn with_key_fn(mut self, key_fn: Option<KeyFn>) -> Self {
        self.key_fn = key_fn;
        self
    }

    /// Has a reload change what is logged through `levels`; without them `log_level` is the program's to
    /// heed.
    #[must_use]
    pub fn with_levels(mut self, levels: Levels) -> Self {
        self.levels = Some(levels);
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
        let mut shared = Shared::new(self.config, self.cpus.len(), self.events, self.levels)
            .map_err(StartError::System)?;
        let heirlooms = self.sockets.heirlooms().map_err(StartError::System)?;
        let Sockets { by_worker, addresses, control: control_sockets, control_addresses } =
            self.sockets;

        let senders = self.senders;
        let routes = &shared.terms.config.routes;
        let mut fleet = Fleet::new(self.cpus.len(), routes.len());
        // Before everything that takes time, so that it can tell of it; it ends after everything else.
        let control = shared.control(control_sockets, &senders, &fleet)?;
        let mut names = Names::new(senders.clone());
        names.follow(routes).map_err(StartError::System)?;
        // Where there is no worker yet its mailbox waits for it.
        shared.terms.addresses = names.publish(|addresses| addresses);
        let setups = by_worker.into_iter().zip(self.cpus).zip(self.mailboxes);
        for (index, ((listeners, cpu), mailbox)) in setups.enumerate() {
            let setup = Setup {
                index,
                cpu: shared.terms.config.runtime.pin.then_some(cpu),
                terms: shared.terms.clone(),
                listeners,
                mailbox,
                workers: senders.clone(),
                connections: Arc::clone(&shared.connections),
                loads: shared.loads.clone(),
                tunnels: Arc::clone(&shared.tunnels),
                counters: Arc::clone(&fleet.counters[index]),
                key_fn: self.key_fn.clone(),
            };
            match fleet.start(setup, shared.events.clone()) {
                Ok(rung) => {
                    shared.status.set_driver(rung.driver());
                    announce(index, cpu, rung, &shared.terms.config);
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
        let house = House {
            fleet,
            senders: senders.clone(),
            names,
            control,
            heirlooms,
            is_upgrading: false,
            has_successor: false,
            is_draining: false,
        };
        shared.attend(&self.inbox, house).inspect_err(|_| dismiss(&senders))
    }
}

/// The thread that compresses stored responses, if a route wants it.
pub(super) fn compressor(config: &Config) -> io::Result<Option<Compressor>> {
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
        sender.send(Message::Drain(Leave::now())).ok();
    }
}

/// What the workers have in common.
pub(super) struct Shared {
    status: Arc<Status>,
    /// Under which the workers serve.
    pub(super) terms: Terms,
    pub(super) connections: Arc<Gauge>,
    /// Connections of the process where no key says how many.
    pub(super) connections_default: usize,
    pub(super) levels: Option<Levels>,
    loads: Loads,
    pub(super) tunnels: Arc<Gauge>,
    events: Sender<Event>,
}

impl Shared {
    fn new(
        config: Arc<Config>,
        workers: usize,
        events: Sender<Event>,
        levels: Option<Levels>,
    ) -> io::Result<Self> {
        let open_files = limits::raise_open_files();
        let connections_default = limits::connections_max(open_files, workers);
        let connections_max = config.limits.connections_max.unwrap_or(connections_default);
        tracing::info!("Open files limit: {open_files}, connections limit: {connections_max}");
        let tunnels_max = config.limits.tunnels_max.unwrap_or(usize::MAX);
        Ok(Self {
            status: Arc::default(),
            connections: Gauge::new(connections_max),
            loads: Loads::new(workers),
            tunnels: Gauge::new(tunnels_max),
            connections_default,
            levels,
            terms: Terms {
                by_address: Addresses::new(config.limits.per_address, clock::now()),
                compressor: compressor(&config)?,
                addresses: Vec::new(),
                config,
            },
            events,
        })
    }

    /// Waits for the wish to drain, passes it on, and waits for the workers to end.
    fn attend(&mut self, inbox: &Receiver<Event>, mut house: House) -> Result<(), RunError> {
        let mut left = house.fleet.workers.len();
        while left > 0 {
            match inbox.recv() {
                Ok(Event::Drain) => self.drain(&mut house, self.terms.config.drain_timeout),
                Ok(Event::Reload(config)) => self.reload(*config, &mut house),
                Ok(Event::Upgrade(start)) => self.upgrade(&start, &mut house),
                Ok(Event::Succeeded(Ok(()))) => {
                    // From now on the control endpoint is the successor's: a purge must reach it.
                    house.control = None;
                    house.has_successor = true;
                    self.drain(&mut house, FOR_EVER);
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
pub(super) fn notify(states: &[NotifyState<'_>]) {
    // Without it there is nobody to tell.
    sd_notify::notify(states).ok();
}

/// What ends with the process.
pub(super) struct House {
    pub(super) fleet: Fleet,
    /// The workers' mailboxes.
    pub(super) senders: Vec<flume::Sender<Message>>,
    pub(super) names: Names,
    pub(super) control: Option<Control>,
    /// Second descriptors of all listening sockets, for a successor.
    pub(super) heirlooms: Vec<(&'static str, net::TcpListener)>,
    is_upgrading: bool,
    /// Whether another process serves in our place.
    has_successor: bool,
    pub(super) is_draining: bool,
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
            config: Arc::clone(&self.terms.config),
            listeners,
            status: Arc::clone(&self.status),
            purger: Purger::new(senders.to_vec()),
            counters: fleet.counters.clone(),
            loads: self.loads.clone(),
            addresses: self.terms.by_address.clone(),
        };
        control::spawn(setup).map(Some).map_err(StartError::System)
    }

    /// The table of addresses under these limits: the one that is there, if there is one.
    pub(super) fn by_address(&self, limits: AddressLimits) -> Option<Arc<Addresses>> {
        match &self.terms.by_address {
            Some(addresses) => addresses.under(limits),
            None => Addresses::new(limits, clock::now()),
        }
    }

    fn drain(&self, house: &mut House, timeout: Duration) {
        if std::mem::replace(&mut house.is_draining, true) && timeout == FOR_EVER {
            return;
        }
        self.status.set_phase(Phase::Draining);
        // Kept open they would keep clients waiting that nobody will serve.
        house.heirlooms.clear();
        let spread = self.terms.config.drain_spread.unwrap_or(timeout / 3).min(timeout);
        let patience = if timeout == FOR_EVER {
            "when it has ended".to_owned()
        } else {
            format!("in {timeout:?}, tunnels in the last {spread:?} of that")
        };
        // Whoever is told so may come back at once.
        let close_code = if house.has_successor { SERVICE_RESTART } else { GOING_AWAY };
        let leave = Leave { until: clock::now() + timeout, spread, close_code };
        tracing::info!(
            connections = self.connections.value(),
            tunnels = self.tunnels.value(),
            by_worker = ?self.loads.all(),
            "Draining: not accepting any more, closing what is left {patience}",
        );
        for sender in &house.senders {
            // A worker that has ended has nothing left to drain.
            sender.send(Message::Drain(leave)).ok();
        }
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
