//! A backend's listener and a proxy in front of it, in this process and on CPUs of its own.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phantom_frame::config::{Accept, Config, Cores, DriverChoice, Runtime, TunnelEngine};
use phantom_frame::net::clock;
use phantom_frame::server::Server;
use tokio::sync::oneshot;

use super::{cpu, load, tokio_proxy};

/// Bytes that tokio's `copy_bidirectional` takes for a direction unless told otherwise.
const TOKIO_DEFAULT_BYTES: usize = 8 * 1024;

/// Bytes that suit tokio better where messages are large.
const TOKIO_LARGE_BYTES: usize = 64 * 1024;

/// How long a proxy may take to let go of tunnels that the load has already closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A proxy that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours on `io_uring`.
    Uring,
    /// Ours on `io_uring` with the pump, which takes a task and a buffer where the ring takes none.
    Pump,
    /// Ours on epoll, where there is only the pump.
    Epoll,
    /// The tokio baseline as it comes.
    Tokio,
    /// The tokio baseline with large buffers.
    TokioLarge,
}

impl Kind {
    /// Every proxy that runs here: containers often refuse `io_uring`.
    pub fn all() -> impl Iterator<Item = Self> {
        let kinds = [Self::Uring, Self::Pump, Self::Epoll, Self::Tokio, Self::TokioLarge];
        kinds.into_iter().filter(|&kind| !kind.needs_uring() || has_uring())
    }

    const fn needs_uring(self) -> bool {
        matches!(self, Self::Uring | Self::Pump)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "phantom-frame",
            Self::Pump => "phantom-frame pump",
            Self::Epoll => "phantom-frame epoll",
            Self::Tokio => "tokio",
            Self::TokioLarge => "tokio 64 KiB",
        })
    }
}

/// Returns whether the kernel allows a ring.
///
/// Asked on a thread that ends: when a ring is torn down, the kernel interrupts a system call of the
/// thread that made it, and the load would see that as an error of its sockets.
fn has_uring() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let asked = thread::spawn(|| io_uring::IoUring::new(8).is_ok());
        asked.join().expect("it only asks")
    })
}

/// What is measured of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The time that passes. The load takes its share of it.
    Wall,
    /// The CPU time of the proxy's threads, kernel included.
    Cpu,
}

impl Clock {
    /// Both, or the first where the kernel does not count the second.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Wall, Self::Cpu]
            .into_iter()
            .filter(|&clock| clock == Self::Wall || cpu::is_counted())
    }

    /// The word in a bench's name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "cpu",
        }
    }
}

/// A proxy that runs, and where its backend is listened for. Dropping it drains the proxy.
pub struct Rig {
    /// Where the proxy listens.
    pub proxy: SocketAddr,
    /// Where the proxy connects to.
    pub backend: TcpListener,
    meter: cpu::Meter,
    stop: Option<Box<dyn FnOnce()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// Starts a proxy with one worker on one CPU, and moves this thread, the load, to another.
    pub fn apart(kind: Kind) -> Self {
        cpu::keep_on(cpu::of_load());
        let cpus = cpu::of_proxy();
        let runtime = |driver| Runtime { driver, cores: Cores::Count(1), ..default_runtime() };
        match kind {
            Kind::Uring => Self::ours(runtime(DriverChoice::IoUring), cpus),
            Kind::Pump => Self::ours(
                Runtime { tunnel: TunnelEngine::Pump, ..runtime(DriverChoice::IoUring) },
                cpus,
            ),
            Kind::Epoll => Self::ours(runtime(DriverChoice::Epoll), cpus),
            Kind::Tokio => Self::tokio(TOKIO_DEFAULT_BYTES, cpus),
            Kind::TokioLarge => Self::tokio(TOKIO_LARGE_BYTES, cpus),
        }
    }

    /// Starts our own proxy on `cpus`, with workers as `runtime` says.
    pub fn ours(runtime: Runtime, cpus: &'static [usize]) -> Self {
        let (backend, meter) = (load::listen(), cpu::Meter::new());
        let mut config = config(&backend);
        config.runtime = runtime;
        let (told, tells) = channel();
        let thread = thread::spawn(move || {
            cpu::keep_on(cpus);
            let server = Server::bind(config).expect("a free port of loopback");
            let address = *server.addresses().first().expect("it listens");
            told.send((address, server.handle())).expect("the rig waits");
            server.run().expect("it drains");
        });
        let (proxy, handle) = tells.recv().expect("the proxy starts");
        let stop: Box<dyn FnOnce()> = Box::new(move || handle.drain());
        Self { proxy, backend, meter, stop: Some(stop), thread: Some(thread) }
    }

    fn tokio(buffer: usize, cpus: &'static [usize]) -> Self {
        let (backend, meter) = (load::listen(), cpu::Meter::new());
        let (listener, to) = (load::bind(), address(&backend));
        let proxy = address(&listener);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            cpu::keep_on(cpus);
            tokio_proxy::run(listener, to, buffer, stopped).expect("it is stopped");
        });
        let stop: Box<dyn FnOnce()> = Box::new(move || stop.send(()).expect("it still runs"));
        Self { proxy, backend, meter, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns what `work` took.
    pub fn time(&self, clock: Clock, work: impl FnOnce()) -> Duration {
        match clock {
            Clock::Wall => {
                let began = clock::now();
                work();
                clock::now().duration_since(began)
            }
            Clock::Cpu => {
                let before = self.meter.total();
                work();
                self.meter.total().saturating_sub(before)
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            // What panicked says more than a proxy that cannot end because of it.
            return;
        }
        if let Some(stop) = self.stop.take() {
            stop();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the proxy does not panic");
        }
    }
}

/// What a worker is told when the configuration says nothing.
pub fn default_runtime() -> Runtime {
    Config::for_backend("http://127.0.0.1:1").expect("a backend's URL").runtime
}

/// Workers on every CPU, which share connections as `accept` says.
pub fn runtime_on_all(accept: Accept, pin: bool) -> Runtime {
    Runtime { cores: Cores::All, accept, pin, ..default_runtime() }
}

fn config(backend: &TcpListener) -> Config {
    let url = format!("http://{}", address(backend));
    let mut config = Config::for_backend(&url).expect("a backend's URL");
    config.binds = vec![Ipv4Addr::LOCALHOST.into()];
    config.http_port = 0;
    config.drain_timeout = DRAIN_TIMEOUT;
    config
}

fn address(listener: &TcpListener) -> SocketAddr {
    let address: io::Result<_> = listener.local_addr();
    address.expect("it listens")
}
