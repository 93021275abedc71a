//! The binary: arguments, then what they ask for.

mod cli;
mod demo;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use cli::Command;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Demo { .. } => match serve_demo() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Command::Run { .. } | Command::RunBackend { .. } | Command::Check { .. } => {
            ExitCode::FAILURE
        }
    }
}

/// Shows the demo's backend by itself, until there is a proxy to put before it.
fn serve_demo() -> io::Result<()> {
    let backend = demo::start_backend()?;
    writeln!(io::stdout(), "http://{backend}/")?;
    loop {
        thread::park();
    }
}
