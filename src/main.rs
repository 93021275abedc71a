//! The program: arguments, then what they ask for, then an exit code.
//!
//! 0 drained or valid, 1 a fault in the configuration, 2 usage, 70 a defect of ours, 71 the system
//! refuses.

mod cli;
mod demo;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use cli::Command;
use phantom_frame::config::{self, Config, Fault, LogFormat};
use phantom_frame::server::log::{self, Format, LogGuard};
use phantom_frame::server::{Handle, Inherited, RunError, Server, Start, StartError, describe};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

/// A fault in the configuration.
const EXIT_CONFIG: u8 = 1;
/// `EX_SOFTWARE` of sysexits(3).
const EXIT_DEFECT: u8 = 70;
/// `EX_OSERR` of sysexits(3).
const EXIT_SYSTEM: u8 = 71;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Check { config } => check(&config),
        Command::Run { config } => run_file(&config),
        Command::RunBackend { url, port } => run_backend(&url, port),
        Command::Demo { port } => run_demo(port),
    }
}

fn check(path: &Path) -> ExitCode {
    match config::load(path, true) {
        Ok(loaded) => {
            complain_all(path, "warning: ", &loaded.warnings);
            say(io::stdout(), &format!("{}: valid", path.display()));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            complain_all(path, "", &faults.0);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn run_file(path: &Path) -> ExitCode {
    let loaded = match config::load(path, false) {
        Ok(loaded) => loaded,
        Err(faults) => {
            complain_all(path, "", &faults.0);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let log = log::init(format(loaded.config.log_format), loaded.config.log_level);
    tell_loaded(path, &loaded.warnings);
    serve(loaded.config, log, Some(Source(path.to_owned())), |_| ())
}

fn run_backend(url: &str, port: u16) -> ExitCode {
    match Config::for_backend(url) {
        Ok(mut config) => {
            config.http_port = port;
            let log = log::init(format(config.log_format), config.log_level);
            serve(config, log, None, |_| ())
        }
        Err(faults) => {
            for fault in &faults.0 {
                say(io::stderr(), &format!("--backend: {fault}"));
            }
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Proxy and backend in one process; between them real sockets.
fn run_demo(port: u16) -> ExitCode {
    let backend = match demo::start_backend() {
        Ok(backend) => backend,
        Err(error) => {
            say(io::stderr(), &format!("the demo's backend cannot start: {error}"));
            return ExitCode::from(EXIT_SYSTEM);
        }
    };
    let mut config = match Config::for_backend(&format!("http://{backend}")) {
        Ok(config) => config,
        Err(faults) => {
            say(io::stderr(), &faults.to_string());
            return ExitCode::from(EXIT_DEFECT);
        }
    };
    config.http_port = port;
    config.binds = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    // Whoever ends a demo does not want to wait for the page that is still open.
    config.drain_timeout = Duration::from_secs(1);
    let log = log::init(Format::Text, config.log_level);
    serve(config, log, None, |server| {
        for address in server.addresses() {
            say(
                io::stdout(),
                &format!("\n  Open http://{address}/ in a browser. Ctrl-C ends the demo.\n"),
            );
        }
    })
}

/// Runs until drained; `source` is read again at SIGHUP, `ready` is called once the proxy listens.
fn serve(
    config: Config,
    log: LogGuard,
    source: Option<Source>,
    ready: impl FnOnce(&Server),
) -> ExitCode {
    describe(&config);
    let code = match Server::bind_with(config, Inherited::take()) {
        Ok(server) => {
            let server = server.with_levels(log.levels());
            ready(&server);
            match obey_signals(server.handle(), source) {
                Ok(()) => exit_code(server.run()),
                Err(error) => exit_code(Err(StartError::System(error).into())),
            }
        }
        Err(error) => exit_code(Err(error.into())),
    };
    drop(log);
    ExitCode::from(code)
}

fn exit_code(ended: Result<(), RunError>) -> u8 {
    let Err(error) = ended else { return 0 };
    tracing::error!("{error}");
    say(io::stderr(), &format!("phantom-frame: {error}"));
    match error {
        RunError::Start(StartError::Config(_)) => EXIT_CONFIG,
        RunError::Start(_) => EXIT_SYSTEM,
        RunError::WorkerDied => EXIT_DEFECT,
    }
}

/// The file that a configuration comes from.
struct Source(PathBuf);

impl Source {
    /// Reads the file again. One with a fault changes nothing.
    fn reload(&self, handle: &Handle) {
        let Self(path) = self;
        match config::load(path, false) {
            Ok(loaded) => {
                tell_loaded(path, &loaded.warnings);
                handle.reload(loaded.config);
            }
            Err(faults) => {
                let path = path.display();
                for fault in &faults.0 {
                    tracing::error!("{path}: {fault}");
                }
                tracing::error!(
                    "Configuration not reloaded, nothing has changed: {path} has faults"
                );
            }
        }
    }
}

fn tell_loaded(path: &Path, warnings: &[Fault]) {
    let path = path.display();
    tracing::info!("Loaded configuration from: {path}");
    for warning in warnings {
        tracing::warn!("{path}: {warning}");
    }
}

/// The first SIGTERM or SIGINT drains; the second ends the process at once. SIGHUP reads the configuration
/// again where it comes from a file, and ends the process where it does not. SIGUSR2 hands over to the
/// program that is at our path now.
fn obey_signals(handle: Handle, source: Option<Source>) -> io::Result<()> {
    let start = Start::of_this_process()?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR2])?;
    if source.is_some() {
        signals.add_signal(SIGHUP)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut is_leaving = false;
        for signal in signals.forever() {
            if signal == SIGUSR2 {
                handle.upgrade(start.clone());
            } else if let Some(source) = source.as_ref().filter(|_| signal == SIGHUP) {
                source.reload(&handle);
            } else if is_leaving {
                // As a shell reports a process that a signal has ended.
                std::process::exit(128 + signal);
            } else {
                is_leaving = true;
                handle.drain();
            }
        }
    })?;
    Ok(())
}

fn format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

fn complain_all(path: &Path, kind: &str, faults: &[Fault]) {
    for fault in faults {
        say(io::stderr(), &format!("{}: {kind}{fault}", path.display()));
    }
}

/// Writes a line for the person at the terminal; whoever closed the other end does not want it.
fn say(mut to: impl Write, line: &str) {
    writeln!(to, "{line}").ok();
}
