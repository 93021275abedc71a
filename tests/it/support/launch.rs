//! Starting the binary under circumstances: other files beside it, other limits, a stricter kernel.
//!
//! [`Proxy::start`] is enough for most tests. What is set up here between fork and exec may only be
//! system calls: the child has one thread, and other threads may have held the allocator's lock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use tempfile::TempDir;

use super::proxy::{command, completed};
use super::{Driver, Proxy};

/// The numbers of `io_uring_setup` and `io_uring_register`, the same on every architecture.
const IO_URING_SETUP: i64 = 425;
const IO_URING_REGISTER: i64 = 427;

/// A start that is being prepared, in a directory of its own.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    directory: TempDir,
}

impl Launch {
    /// Prepares a start without arguments.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a private directory");
        let mut command = command();
        command.current_dir(directory.path());
        Self { command, directory }
    }

    /// Adds arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Writes a file into the working directory, as it is.
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).expect("writing a file");
        self
    }

    /// The path of a file in the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `config.toml`, completed as [`Proxy::start`] does, and names it as the argument.
    pub fn config(self, driver: Driver, toml: &str) -> Self {
        self.file("config.toml", &completed(driver.into(), toml)).arguments(&["config.toml"])
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Makes the kernel refuse `io_uring_setup` to the proxy, as the seccomp profiles of containers do.
    pub fn without_io_uring(self) -> Self {
        self.refusing(IO_URING_SETUP, Errno::PERM)
    }

    /// Leaves the kernel no memory for what a ring registers, such as buffers.
    pub fn without_memory_for_rings(self) -> Self {
        self.refusing(IO_URING_REGISTER, Errno::NOMEM)
    }

    fn refusing(self, call: i64, error: Errno) -> Self {
        let error = error.raw_os_error().unsigned_abs();
        let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture it knows");
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Errno(error),
            arch,
        );
        let program = BpfProgram::try_from(filter.expect("a filter")).expect("a short program");
        self.before_exec(move || {
            apply_filter(&program).map_err(|_| io::Error::from(io::ErrorKind::PermissionDenied))
        })
    }

    /// Starts the proxy with this many open files as the soft limit; the hard one stays.
    pub fn soft_open_files(self, count: u64) -> Self {
        self.before_exec(move || {
            let maximum = getrlimit(Resource::Nofile).maximum;
            Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })?)
        })
    }

    /// Starts the proxy and waits until it listens.
    pub fn start(self) -> Proxy {
        Proxy::spawn(self.command, self.directory)
    }

    /// Runs the binary until it exits, at most for the guard.
    pub fn output(self) -> Output {
        Proxy::output(self.command)
    }

    #[expect(unsafe_code, reason = "what std offers for a step between fork and exec")]
    fn before_exec(mut self, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Self {
        // SAFETY: both callers make system calls only: they allocate nothing, take no lock and use
        // memory that was set up before the fork.
        unsafe { self.command.pre_exec(step) };
        self
    }
}

/// Returns stdout of an exited proxy as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns stderr of an exited proxy as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
