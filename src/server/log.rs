//! Log lines: `tracing` events to stdout, as text or as JSON, written by a thread of their own.
//!
//! A worker must never wait for whoever reads stdout. Events go into a bounded queue and a line that
//! does not fit is dropped and counted; the writer thread tells the count as soon as it has caught up.
//! The rest follows from that: nothing here may block for longer than `FLUSH_TIMEOUT`, not even the
//! end of the process behind a stalled pipe.

use std::env::{self, VarError};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config::LogLevel;

/// Lines waiting for the writer thread; arbitrary: some 4 MiB, a second of a very talkative process.
const QUEUE_LINES_MAX: usize = 16 * 1024;

/// Bytes gathered for one write to stdout; arbitrary.
const BATCH_BYTES: usize = 32 * 1024;

/// Lines written between two looks at the count of lost lines while the queue never runs empty.
const LINES_PER_CHECK: u32 = 1024;

/// How long the end of the process waits for stdout. More than the 1.1 s that `tracing_appender`
/// itself allows for the same.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line for people: time, level, target, message, then `key=value` fields. In colour on a
    /// terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object per line: `timestamp`, `level`, `target`, `message`, and each field as a key
    /// beside them.
    Json,
}

/// Keeps the writer thread; dropping it writes out what is queued.
///
/// Belongs in a variable of `main` that outlives every worker: lines logged after its drop are lost.
#[derive(Debug)]
#[must_use = "dropping the guard ends the log"]
pub struct LogGuard {
    /// `None` when another subscriber was installed before, which then owns the log.
    writer: Option<WorkerGuard>,
    levels: Levels,
}

impl LogGuard {
    /// A handle that changes what is logged, for any thread.
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }
}

/// Changes what is logged while the process goes on.
#[derive(Clone, Debug)]
pub struct Levels {
    /// `None` where the environment or another subscriber says what is logged.
    filter: Option<reload::Handle<Targets, Registry>>,
}

impl Levels {
    /// Logs what is at least as grave as `level` from now on, unless `RUST_LOG` says what is logged.
    pub fn set(&self, level: LogLevel) {
        if let Some(filter) = &self.filter {
            // Fails once the log is gone.
            filter.reload(Targets::new().with_default(least(level))).ok();
        }
    }
}

fn least(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let (done, flushed) = mpsc::sync_channel(1);
        // Not in place: with a full queue the writer's own drop prints to stdout, which is exactly
        // what hangs when nobody reads there, and panics when the reader is gone.
        let spawned = thread::Builder::new().name("log-flush".to_owned()).spawn(move || {
            drop(writer);
            // Fails when the process has waited long enough.
            done.send(()).is_ok()
        });
        if spawned.is_ok() && flushed.recv_timeout(FLUSH_TIMEOUT).is_err() {
            complain("stdout was not read: the last log lines are lost");
        }
    }
}

/// Sends the process's `tracing` events to stdout as `format`, from `level` on or as `RUST_LOG` says.
///
/// `RUST_LOG` is a level (`debug`) or a list of `target=level`
/// (`info,phantom_frame::proxy=debug`). A value that cannot be read is told on stderr, and `level`
/// counts.
///
/// Where a subscriber is installed already, as in a program that uses the library, that one stays and
/// the guard returned does nothing.
///
/// # Panics
///
/// When the system refuses a thread.
///
/// # Examples
///
/// ```
/// use phantom_frame::config::LogLevel;
/// use phantom_frame::server::log::{self, Format};
///
/// let _guard = log::init(Format::Text, LogLevel::Info);
/// tracing::info!(workers = 2, "started");
/// ```
pub fn init(format: Format, level: LogLevel) -> LogGuard {
    let rust_log = variable("RUST_LOG");
    let (targets, fault) = targets(rust_log.as_ref().map(Option::as_deref));
    let is_told = targets.is_some();
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(least(level)));
    if let Some(fault) = fault {
        complain(&fault);
    }
    // <https://no-color.org>: set and not empty.
    let colour = io::stdout().is_terminal()
        && variable("NO_COLOR").is_ok_and(|value| value.is_none_or(|value| value.is_empty()));
    let (queue, writer) = spawn_writer(BufWriter::with_capacity(BATCH_BYTES, io::stdout()), format);
    let (filter, handle) = reload::Layer::new(targets);
    let dispatch = dispatch(format, colour, filter, queue);
    let installed = tracing::dispatcher::set_global_default(dispatch).is_ok();
    let levels = Levels { filter: (installed && !is_told).then_some(handle) };
    LogGuard { writer: installed.then_some(writer), levels }
}

/// Returns an environment variable, `None` when it is not set; the error is a sentence.
#[expect(clippy::disallowed_methods, reason = "the log starts before any configuration is read")]
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// Says on stderr what cannot be said in the log.
#[expect(clippy::print_stderr, reason = "the log itself is what does not work")]
fn complain(fault: &str) {
    eprintln!("phantom-frame: {fault}");
}

/// Returns what `RUST_LOG` asks for, if it does, and what to complain about if it cannot be read.
fn targets(rust_log: Result<Option<&str>, &String>) -> (Option<Targets>, Option<String>) {
    match rust_log.map(|value| value.map(str::trim).filter(|value| !value.is_empty())) {
        Ok(None) => (None, None),
        Ok(Some(value)) => match value.parse() {
            Ok(targets) => (Some(targets), None),
            Err(error) => (None, Some(format!("RUST_LOG={value:?}: {error}; it is ignored"))),
        },
        Err(fault) => (None, Some(format!("{fault}; it is ignored"))),
    }
}

/// Builds the subscriber: filter, format, queue.
fn dispatch(
    format: Format,
    colour: bool,
    filter: reload::Layer<Targets, Registry>,
    queue: NonBlocking,
) -> Dispatch {
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(queue);
    match format {
        Format::Text => registry.with(lines.with_ansi(colour)).into(),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            registry.with(lines.with_current_span(false).with_span_list(false)).into()
        }
    }
}

/// Starts the thread that moves lines from the queue to `sink`.
fn spawn_writer<W: Write + Send + 'static>(sink: W, format: Format) -> (NonBlocking, WorkerGuard) {
    let counter = Arc::new(OnceLock::new());
    let sink = Tally { sink, format, counter: Arc::clone(&counter), told: 0, unchecked: 0 };
    let (queue, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(sink);
    counter.get_or_init(|| queue.error_counter());
    (queue, writer)
}

/// A sink that adds a line of its own whenever lines were lost on the way to it.
///
/// The line is written here and not logged: an event would go through the queue that was full.
struct Tally<W> {
    sink: W,
    format: Format,
    /// Lines that did not fit the queue. Set right after the queue exists, which needs this sink.
    counter: Arc<OnceLock<ErrorCounter>>,
    /// How many of them have been told. `told <= counter`.
    told: usize,
    /// Lines written since the count was looked at.
    unchecked: u32,
}

impl<W: Write> Tally<W> {
    /// Writes how many lines were lost since the last time, if any were.
    fn tell_lost(&mut self) -> io::Result<()> {
        self.unchecked = 0;
        let lost = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let fresh = lost.saturating_sub(self.told);
        if fresh == 0 {
            return Ok(());
        }
        self.told = lost;
        self.sink.write_all(lost_line(self.format, fresh).as_bytes())
    }
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.unchecked >= LINES_PER_CHECK {
            self.tell_lost()?;
        }
        self.unchecked += 1;
        // Whole, so that the line above never lands inside of one.
        self.sink.write_all(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tell_lost()?;
        self.sink.flush()
    }
}

/// Returns the line that tells of `lost` lost lines, with its line end.
fn lost_line(format: Format, lost: usize) -> String {
    let mut time = String::new();
    // Writing to a string fails only if the clock cannot be told; the line is worth more than that.
    if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
        time.clear();
    }
    let (target, message) = (module_path!(), "Log lines were lost: stdout is read too slowly");
    match format {
        Format::Text => format!("{time}  WARN {target}: {message} lost={lost}\n"),
        Format::Json => format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{message}\",\
             \"lost\":{lost},\"target\":\"{target}\"}}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink whose writes arrive at the other end of a channel, one by one.
    struct Sink(mpsc::Sender<String>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(String::from_utf8_lossy(bytes).into_owned())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs `events` under a subscriber as [`init`] builds it; returns everything written.
    fn written(format: Format, colour: bool, rust_log: &str, events: fn()) -> String {
        let (sender, lines) = mpsc::channel();
        let (queue, writer) = spawn_writer(Sink(sender), format);
        let (targets, fault) = targets(Ok(Some(rust_log)));
        assert_eq!(fault, None);
        let targets = targets.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
        let (filter, _) = reload::Layer::new(targets);
        tracing::dispatcher::with_default(&dispatch(format, colour, filter, queue), events);
        drop(LogGuard { writer: Some(writer), levels: Levels { filter: None } });
        lines.iter().collect()
    }

    fn tunnel_closed() {
        tracing::info!(
            target: "phantom_frame::proxy",
            route = "default",
            millis = 12,
            "Tunnel closed gracefully. Transferred {} bytes client->backend, {} bytes backend->client",
            1024,
            2048,
        );
    }

    #[test]
    fn a_text_line_has_the_message_first_and_its_fields_after() {
        let line = written(Format::Text, false, "info", tunnel_closed);
        let (time, rest) = line.split_once(' ').expect("time, then the rest");
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert_eq!(
            rest,
            " INFO phantom_frame::proxy: Tunnel closed gracefully. Transferred 1024 bytes \
             client->backend, 2048 bytes backend->client route=\"default\" millis=12\n"
        );
    }

    #[test]
    fn escapes_are_written_only_in_colour() {
        assert!(written(Format::Text, true, "info", tunnel_closed).contains('\x1b'));
        assert!(!written(Format::Text, false, "info", tunnel_closed).contains('\x1b'));
        assert!(!written(Format::Json, true, "info", tunnel_closed).contains('\x1b'));
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let line = written(Format::Json, false, "info", tunnel_closed);
        assert!(line.starts_with("{\"timestamp\":\"20") && line.ends_with("}\n"), "{line}");
        for part in [
            r#""level":"INFO""#,
            r#""message":"Tunnel closed gracefully. Transferred 1024 bytes client->backend, 2048"#,
            r#""route":"default""#,
            r#""millis":12"#,
            r#""target":"phantom_frame::proxy""#,
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert_eq!(line.matches('{').count(), 1, "{line}");
    }

    #[test]
    fn rust_log_selects_by_level_and_by_target() {
        fn events() {
            tracing::debug!(target: "phantom_frame::proxy", "one");
            tracing::debug!(target: "elsewhere", "two");
            tracing::warn!(target: "elsewhere", "three");
        }
        let lines = |rust_log| written(Format::Text, false, rust_log, events).lines().count();
        assert_eq!(lines(""), 1);
        assert_eq!(lines("debug"), 3);
        assert_eq!(lines("warn,phantom_frame::proxy=debug"), 2);
        assert_eq!(lines("off"), 0);
    }

    #[test]
    fn a_malformed_rust_log_is_told_and_ignored() {
        let not_utf8 = "RUST_LOG is not UTF-8".to_owned();
        for malformed in [Ok(Some("phantom_frame=loud")), Err(&not_utf8)] {
            let (targets, fault) = targets(malformed);
            assert_eq!(targets, None);
            let fault = fault.expect("a complaint");
            assert!(fault.starts_with("RUST_LOG") && fault.ends_with("it is ignored"), "{fault}");
        }
    }

    /// A sink that is stuck in its first write until the test lets go of it.
    struct Stalled {
        entered: mpsc::SyncSender<()>,
        release: mpsc::Receiver<()>,
        lines: Sink,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Either fails once the test has let go; from then on nothing waits.
            if self.entered.try_send(()).is_ok() {
                self.release.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            self.lines.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_and_told_without_blocking_the_logger() {
        for format in [Format::Text, Format::Json] {
            let (entered, first_write) = mpsc::sync_channel(1);
            let (let_go, release) = mpsc::channel();
            let (sender, lines) = mpsc::channel();
            let stalled = Stalled { entered, release, lines: Sink(sender) };
            let (mut queue, writer) = spawn_writer(stalled, format);

            queue.write_all(b"first\n").expect("a lossy queue takes everything");
            first_write.recv().expect("the writer thread has taken the first line");
            for _ in 0..QUEUE_LINES_MAX + 7 {
                queue.write_all(b"line\n").expect("a lossy queue takes everything");
            }
            drop(first_write);
            let_go.send(()).expect("the writer thread waits");
            let all: String = lines.iter().take(1 + QUEUE_LINES_MAX + 1).collect();
            assert_eq!(all.matches("line\n").count(), QUEUE_LINES_MAX);
            let told = all.lines().filter(|line| line.contains("Log lines were lost"));
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), 1, "{told:?}");
            let count = if format == Format::Json { "\"lost\":7," } else { " lost=7" };
            assert!(told.iter().all(|line| line.contains(count)), "{told:?}");
            drop(LogGuard { writer: Some(writer), levels: Levels { filter: None } });
        }
    }

    #[test]
    fn a_second_start_leaves_the_first_log_alone() {
        let first = init(Format::Text, LogLevel::Info);
        let second = init(Format::Json, LogLevel::Info);
        assert!(second.writer.is_none());
        drop(second);
        drop(first);
    }
}
