//! A binary upgrade: the next process is started with our listening sockets, and we drain once it serves.
//!
//! Both accept from the same sockets meanwhile, so no connection is refused. A next process that does not
//! become ready changes nothing: this one goes on.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use crate::net::clock;

/// The first descriptor that is handed over, by systemd's convention.
const FIRST: i32 = 3;

/// How long the next process may take to become ready.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks at whether it still lives.
const LOOK: Duration = Duration::from_millis(100);

/// How this process was started, so that the next one can be started alike.
#[derive(Clone, Debug)]
pub struct Start {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Start {
    /// Remembers the program's path and arguments.
    ///
    /// # Errors
    ///
    /// The system does not tell the path; there can be no binary upgrade.
    pub fn of_this_process() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self { program, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts the next process, with copies of `listeners`.
    ///
    /// # Errors
    ///
    /// The file at the program's path cannot be run, or no descriptor is left: go on.
    pub(super) fn launch(&self, listeners: &[(&str, TcpListener)]) -> io::Result<Successor> {
        let (ours, theirs) = UnixDatagram::pair()?;
        let copies = listeners.iter().map(|(_, socket)| socket.try_clone().map(OwnedFd::from));
        let mut names: Vec<&str> = listeners.iter().map(|(name, _)| *name).collect();
        names.push("ready");
        let handed = copies.chain([Ok(OwnedFd::from(theirs))]);
        let mut mappings = Vec::with_capacity(listeners.len() + 1);
        for (child_fd, parent_fd) in (FIRST..).zip(handed) {
            mappings.push(FdMapping { parent_fd: parent_fd?, child_fd });
        }
        let count = mappings.len();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("LISTEN_FDS", count.to_string());
        // The number of the next process is not known before it runs.
        command.env_remove("LISTEN_PID").env("LISTEN_FDNAMES", names.join(":"));
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(Successor { process: command.spawn()?, words: ours })
    }
}

/// The next process, until it is ready.
#[derive(Debug)]
pub(super) struct Successor {
    process: Child,
    words: UnixDatagram,
}

impl Successor {
    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// It has ended, or was not ready in time and was killed: go on.
    pub(super) fn wait_until_ready(mut self) -> io::Result<()> {
        let until: Instant = clock::now() + PATIENCE;
        self.words.set_read_timeout(Some(LOOK))?;
        let mut word = [0; 16];
        loop {
            if matches!(self.words.recv(&mut word), Ok(1..)) {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(io::Error::other(format!("it has ended: {status}")));
            }
            if clock::now() >= until {
                self.process.kill().ok();
                self.process.wait().ok();
                return Err(io::Error::other("it was not ready in time"));
            }
        }
    }
}
