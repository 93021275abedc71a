//! The command line: arguments in, one [`Command`] out.
//!
//! What the arguments name is not looked at here. Faults of a configuration file are told by the code
//! that reads it and end in exit code 1; faults of the command line end in 2.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// The port that is listened on when neither file nor argument names one.
const PORT: u16 = 3000;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run the proxy as a file says.
    Run {
        /// The configuration file, as it was typed.
        config: PathBuf,
    },
    /// Run the proxy with one route to one backend and defaults for the rest.
    RunBackend {
        /// The backend, as it was typed: not yet known to be a URL.
        url: String,
        /// The port to listen on; 0 lets the system choose.
        port: u16,
    },
    /// Run the proxy in front of the embedded backend.
    Demo {
        /// The port to listen on; 0 lets the system choose.
        port: u16,
    },
    /// Read a configuration file, tell its faults, and end.
    Check {
        /// The configuration file, as it was typed.
        config: PathBuf,
    },
}

const USAGE: &str = "phantom-frame [-t] CONFIG
       phantom-frame --backend URL [--port PORT]
       phantom-frame demo [--port PORT]";

const EXAMPLES: &str = "Examples:
  phantom-frame demo                               see it work: a page with a WebSocket on port 3000
  phantom-frame --backend http://localhost:8080    in front of your own server
  phantom-frame config.toml                        as a file says
  phantom-frame -t config.toml                     is the file right?

Environment:
  RUST_LOG    a level, or target=level,... (default: info)
  NO_COLOR    no colours in the log";

/// The arguments as typed; which of them go together is settled by clap.
#[derive(Parser)]
#[command(
    name = "phantom-frame",
    bin_name = "phantom-frame",
    version,
    about = "A reverse proxy for WebSockets and HTTP on io_uring",
    override_usage = USAGE,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    // A file may be called "help".
    disable_help_subcommand = true
)]
#[group(skip)]
struct Arguments {
    /// Configuration file to run
    #[arg(value_name = "CONFIG", groups = ["source", "checkable"])]
    file: Option<PathBuf>,

    /// The same, for a file with the name of a command
    #[arg(long, value_name = "CONFIG", groups = ["source", "checkable"])]
    config: Option<PathBuf>,

    /// Read the configuration file, tell what is wrong with it, and exit (0: nothing)
    #[arg(short = 't', long, requires = "checkable", conflicts_with = "backend")]
    check: bool,

    /// Run without a file, in front of this backend
    #[arg(long, value_name = "URL", group = "source")]
    backend: Option<String>,

    /// Port to listen on with --backend; 0 for any [default: 3000]
    // Both: clap lets a requirement go where it contradicts an argument that is there.
    #[arg(long, requires = "backend", conflicts_with_all = ["file", "config"])]
    port: Option<u16>,

    #[command(subcommand)]
    command: Option<Named>,
}

/// The commands that have a name.
#[derive(Subcommand)]
enum Named {
    /// Run the proxy and a backend of its own, and print the address of a page that shows a tunnel
    Demo {
        /// Port to listen on; 0 for any
        #[arg(long, default_value_t = PORT)]
        port: u16,
    },
}

/// Returns what the arguments of this process ask for.
///
/// Does not return for `--help` and `--version` (exit code 0), nor for arguments that make no sense
/// (the fault and the usage on stderr, exit code 2).
pub(crate) fn parse() -> Command {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Returns what `arguments` ask for; the first of them is the name of the program.
///
/// # Errors
///
/// Call [`clap::Error::exit`]: it prints what is to be printed, where it belongs, with the exit code.
pub(crate) fn parse_from<I>(arguments: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let Arguments { file, config, check, backend, port, command } =
        Arguments::try_parse_from(arguments)?;
    match (command, file.or(config), backend) {
        (Some(Named::Demo { port }), _, _) => Ok(Command::Demo { port }),
        (None, Some(config), _) if check => Ok(Command::Check { config }),
        (None, Some(config), _) => Ok(Command::Run { config }),
        (None, None, Some(url)) => Ok(Command::RunBackend { url, port: port.unwrap_or(PORT) }),
        // "phantom-frame --": something was given, so clap does not take it for nothing.
        (None, None, None) => {
            let kind = ErrorKind::MissingRequiredArgument;
            Err(Arguments::command()
                .error(kind, "a configuration file, --backend or demo is needed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse_from(std::iter::once("phantom-frame").chain(line.split_whitespace()))
    }

    #[test]
    fn every_form_means_its_command() {
        let run = |config: &str| Command::Run { config: config.into() };
        let check = |config: &str| Command::Check { config: config.into() };
        let backend = |url: &str, port| Command::RunBackend { url: url.to_owned(), port };
        for (line, command) in [
            ("config.toml", run("config.toml")),
            ("--config config.toml", run("config.toml")),
            ("--config=config.toml", run("config.toml")),
            ("--config demo", run("demo")),
            ("./demo", run("./demo")),
            ("help", run("help")),
            ("-- -t", run("-t")),
            ("-t a.toml", check("a.toml")),
            ("--check a.toml", check("a.toml")),
            ("a.toml -t", check("a.toml")),
            ("-t --config a.toml", check("a.toml")),
            ("--config a.toml --check", check("a.toml")),
            ("-t --config demo", check("demo")),
            ("-t demo", check("demo")),
            ("--backend http://localhost:8080", backend("http://localhost:8080", 3000)),
            ("--backend http://[::1]:80 --port 81", backend("http://[::1]:80", 81)),
            ("--port 0 --backend=http://a", backend("http://a", 0)),
            ("demo", Command::Demo { port: 3000 }),
            ("demo --port 0", Command::Demo { port: 0 }),
            ("demo --port=8000", Command::Demo { port: 8000 }),
        ] {
            assert_eq!(parsed(line).expect(line), command, "{line}");
        }
    }

    #[test]
    fn contradicting_and_unknown_arguments_are_usage_errors() {
        for line in [
            "a.toml b.toml",
            "a.toml --config b.toml",
            "a.toml --backend http://a",
            "--config a.toml --backend http://a",
            "--backend http://a --backend http://b",
            "-t",
            "-t --backend http://a",
            "--port 80",
            "a.toml --port 80",
            "--backend",
            "--backend http://a --port 65536",
            "--backend http://a --port x",
            "demo a.toml",
            "demo --port -1",
            "demo --backend http://a",
            "a.toml demo",
            "--bakcend http://a",
            "--",
        ] {
            let error = parsed(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.use_stderr(), "{line}");
        }
    }

    #[test]
    fn no_argument_shows_the_usage_and_names_the_demo() {
        let error = parsed("").expect_err("nothing was asked for");
        assert_eq!(error.exit_code(), 2);
        assert!(error.use_stderr());
        let text = error.to_string();
        assert!(text.contains("Usage: phantom-frame [-t] CONFIG\n"), "{text}");
        assert!(text.contains("phantom-frame demo"), "{text}");
    }

    #[test]
    fn help_and_version_are_answers_and_not_faults() {
        for line in ["-h", "--help", "-V", "--version", "demo --help"] {
            let answer = parsed(line).expect_err("clap prints these");
            assert_eq!(answer.exit_code(), 0, "{line}");
            assert!(!answer.use_stderr(), "{line}");
        }
        let version = parsed("--version").expect_err("clap prints these").to_string();
        assert_eq!(version.trim_end(), concat!("phantom-frame ", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_file_name_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;

        let name = OsString::from_vec(b"caf\xe9.toml".to_vec());
        let command = parse_from([OsString::from("phantom-frame"), name.clone()]);
        assert_eq!(command.expect("a file name"), Command::Run { config: name.into() });
    }

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }
}
