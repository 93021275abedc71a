//! The proxy as users run it: the built binary, a configuration file, its log and its signals.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::setup::runtime;
use super::{Carrier, GUARD, Watched, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_phantom-frame");

/// What the proxy prints once its listener takes connections; the address follows.
const LISTENING: &str = "HTTP proxy listening on ";

/// What it prints about its control endpoint; the address follows.
const CONTROL_LISTENING: &str = "Control server listening on ";

/// A running proxy. It is killed when it is dropped; a test that panics gets its log.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Signals go here: unlike the number, it never names another process.
    pidfd: OwnedFd,
    addr: SocketAddr,
    log: Arc<Watched<Log>>,
    readers: Vec<JoinHandle<()>>,
    config: TempDir,
}

#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// Streams that are still open: stdout and stderr.
    open: usize,
}

impl Proxy {
    /// Starts the proxy with this configuration and waits until it listens.
    ///
    /// Unless the text says otherwise, it binds free ports of 127.0.0.1 and runs two unpinned
    /// workers on its driver. The log level is `info`.
    pub fn start(carrier: impl Into<Carrier>, toml: &str) -> Self {
        Self::start_with(carrier, toml, &[])
    }

    /// Starts the proxy with further environment variables. A `RUST_LOG` must let through
    /// the line that says where it listens.
    pub fn start_with(carrier: impl Into<Carrier>, toml: &str, variables: &[(&str, &str)]) -> Self {
        let carrier = carrier.into();
        let config = tempfile::tempdir().expect("a private directory");
        let path = config.path().join("config.toml");
        fs::write(&path, completed(carrier, toml)).expect("writing the configuration");
        let mut command = command();
        command.arg(&path).current_dir(config.path());
        command.envs(carrier.failpoint().map(|name| ("PHANTOM_FRAME_FAIL", name)));
        command.envs(variables.iter().copied());
        Self::spawn(command, config)
    }

    /// Starts the proxy with these arguments instead of a file, and waits until it listens.
    pub fn start_with_arguments(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a private directory");
        let mut command = command();
        command.args(arguments).current_dir(directory.path());
        Self::spawn(command, directory)
    }

    /// Runs the binary with these arguments until it exits, for tests of the command line.
    ///
    /// Standard input is empty. It is killed after [`GUARD`], and the test fails.
    pub fn command(arguments: &[&str]) -> Output {
        let mut command = command();
        command.args(arguments);
        Self::output(command)
    }

    /// Runs a prepared command until it exits; see [`Proxy::command`].
    pub(super) fn output(mut command: Command) -> Output {
        let mut child = command.spawn().expect("starting the binary");
        let pidfd = pidfd_of(&child);
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let stderr = std::thread::spawn(move || read_all(&mut stderr));
        let stdout = std::thread::spawn(move || read_all(&mut stdout));
        let exited = wait_readable(&pidfd);
        if !exited {
            child.kill().expect("killing a child");
        }
        let status = child.wait().expect("waiting for a child");
        let stdout = stdout.join().expect("reading stdout");
        let stderr = stderr.join().expect("reading stderr");
        let output = Output { status, stdout, stderr };
        assert!(exited, "guard: {command:?} ran for {GUARD:?}: {output:?}");
        output
    }

    /// Returns the first address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address of its control endpoint.
    pub fn control_addr(&self) -> SocketAddr {
        let line = self.wait_for_log(CONTROL_LISTENING);
        addr_behind(CONTROL_LISTENING, &line).unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// Returns every address it listens on, in the order announced so far.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.logs().iter().filter_map(|line| listening_addr(line)).collect()
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed so far; a line of stderr begins with `stderr: `.
    pub fn logs(&self) -> Vec<String> {
        self.log.with(|log| log.lines.clone())
    }

    /// Waits until a line that contains `pattern` was printed and returns the first such line.
    pub fn wait_for_log(&self, pattern: &str) -> String {
        self.wait_for_logs(pattern, 1).remove(0)
    }

    /// Waits until `count` lines that contain `pattern` were printed and returns them.
    pub fn wait_for_logs(&self, pattern: &str, count: usize) -> Vec<String> {
        let found = self.log.wait(GUARD, |log| {
            let found = log.lines.iter().filter(|line| line.contains(pattern)).cloned();
            let found: Vec<_> = found.collect();
            (found.len() >= count || log.open == 0).then_some(found)
        });
        match found {
            Some(lines) if lines.len() >= count => lines,
            Some(_) => panic!("the proxy ended without printing {pattern:?} {count} times"),
            None => panic!("guard: waited {GUARD:?} for {count} log lines with {pattern:?}"),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("signalling a child");
    }

    /// Waits until it exits and has printed its last line; returns the exit code, or 128 and the
    /// signal's number.
    pub fn wait_exit(&mut self) -> i32 {
        assert!(wait_readable(&self.pidfd), "guard: the proxy did not exit in {GUARD:?}");
        let status = self.child.wait().expect("waiting for a child");
        for reader in self.readers.drain(..) {
            reader.join().expect("reading the log");
        }
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Returns the number of its open descriptors.
    pub fn fd_count(&self) -> usize {
        self.proc_entries("fd").len()
    }

    /// Returns its open descriptors.
    pub fn descriptors(&self) -> Vec<u64> {
        self.proc_entries("fd").iter().map(|name| name.parse().expect("a number")).collect()
    }

    /// Returns the number of its open descriptors once none of its threads is at work.
    ///
    /// Right after the start the workers are still opening theirs.
    pub fn fd_count_at_rest(&self) -> usize {
        let asleep = |id: &String| {
            let path = format!("/proc/{}/task/{id}/stat", self.pid());
            // One that has ended is looked for again.
            let stat = fs::read_to_string(path).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S'))
        };
        let mut count = 0;
        eventually("every thread of the proxy is at rest", || {
            count = self.fd_count();
            self.proc_entries("task").iter().all(asleep) && self.fd_count() == count
        });
        count
    }

    /// Waits until it has at most `count` descriptors open; closing is not announced.
    pub fn wait_for_fd_count(&self, count: usize) {
        let what = format!("the proxy has at most {count} descriptors open");
        eventually(&what, || self.fd_count() <= count);
    }

    /// Returns the memory that is resident, in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.proc_kib("status", "VmRSS:")
    }

    /// Returns the proportional share of the memory that is resident, in KiB.
    pub fn pss_kib(&self) -> u64 {
        self.proc_kib("smaps_rollup", "Pss:")
    }

    /// Returns the names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let names = self.proc_entries("task").into_iter().map(|id| format!("task/{id}/comm"));
        names.map(|file| self.proc_text(&file).trim_end().to_owned()).collect()
    }

    /// Writes another configuration over its file, completed as [`Proxy::start`] does, and asks it to read
    /// that.
    pub fn reload(&self, carrier: impl Into<Carrier>, toml: &str) {
        let path = self.config.path().join("config.toml");
        fs::write(path, completed(carrier.into(), toml)).expect("writing the configuration");
        self.signal(Signal::HUP);
    }

    /// Starts a prepared command and waits until it listens.
    pub(super) fn spawn(mut command: Command, config: TempDir) -> Self {
        let mut child = command.spawn().expect("starting the binary");
        let pidfd = pidfd_of(&child);
        let log = Arc::new(Watched::default());
        log.with(|log: &mut Log| log.open = 2);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![collect(stdout, "", &log), collect(stderr, "stderr: ", &log)];
        let addr = SocketAddr::from(([0, 0, 0, 0], 0));
        // Made before it listens, so that a proxy which never does is killed and its log shown.
        let mut proxy = Self { child, pidfd, addr, log, readers, config };
        let line = proxy.wait_for_log(LISTENING);
        proxy.addr = listening_addr(&line).unwrap_or_else(|| panic!("no address in {line:?}"));
        proxy
    }

    fn proc_text(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {path}: {error}"))
    }

    fn proc_entries(&self, directory: &str) -> Vec<String> {
        let path = format!("/proc/{}/{directory}", self.pid());
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // An entry that is gone by now was a descriptor or thread that ended meanwhile.
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn proc_kib(&self, file: &str, key: &str) -> u64 {
        let text = self.proc_text(file);
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {key} in /proc/{}/{file}", self.pid()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails when it has already exited, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if std::thread::panicking() {
            println!("--- the proxy's log ---\n{}\n---", self.logs().join("\n"));
        }
    }
}

/// Returns a start of the binary without arguments: plain text at INFO, everything through pipes.
pub(super) fn command() -> Command {
    let binary = std::env::var_os("PHANTOM_FRAME_BINARY").unwrap_or_else(|| BINARY.into());
    // It is started elsewhere.
    let binary = std::path::absolute(binary).expect("a name");
    let mut command = Command::new(binary);
    command.env("RUST_LOG", "info").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Completes a test's configuration with what the test does not care about.
pub(super) fn completed(carrier: Carrier, toml: &str) -> String {
    let sets = |key: &str| {
        let mut keys = toml.lines().filter_map(|line| line.split_once('='));
        keys.any(|(name, _)| name.trim() == key)
    };
    let mut text = String::new();
    if !sets("bind") {
        text.push_str("bind = \"127.0.0.1\"\n");
    }
    if !sets("http_port") && !sets("proxy_port") {
        text.push_str("http_port = 0\n");
    }
    if !sets("control_port") {
        text.push_str("control_port = 0\n");
    }
    text.push_str(toml);
    if !toml.lines().any(|line| line.trim() == "[runtime]") {
        text.push('\n');
        text.push_str(&runtime(carrier, 2));
    }
    text
}

/// Finds the address in the line that says where the proxy listens.
fn listening_addr(line: &str) -> Option<SocketAddr> {
    addr_behind(LISTENING, line)
}

fn addr_behind(words: &str, line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    let of_addr = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
    rest.split(|c| !of_addr(c)).next()?.parse().ok()
}

fn collect(
    stream: impl Read + Send + 'static,
    prefix: &'static str,
    log: &Arc<Watched<Log>>,
) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = format!("{prefix}{}", String::from_utf8_lossy(&line));
            log.with(|log| log.lines.push(line));
        }
        log.with(|log| log.open -= 1);
    })
}

fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("reading a pipe");
    bytes
}

fn pidfd_of(child: &Child) -> OwnedFd {
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a child that nobody waited for")
}

/// Waits until the process has ended; `false` after [`GUARD`].
fn wait_readable(pidfd: &OwnedFd) -> bool {
    let guard = Timespec::try_from(GUARD).expect("seconds");
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&guard)).expect("polling a descriptor") > 0
}
