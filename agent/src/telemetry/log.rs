//! The process's log: text for people, JSON for programs, written by a thread of its own so that a slow reader of standard
//! output never holds up a connection: when too many lines wait, new ones are dropped and counted. What is logged can be
//! changed while the process runs.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use super::filter::{Change, Filter, FilterError};

/// The target of access-log lines: one per connection, when it ends.
pub const ACCESS: &str = "access";

/// Lines that may wait for the writer; past that, lines are dropped rather than connections delayed.
const BUFFERED_LINES: usize = 20_000;

/// Lines that wait are written together, so many bytes at a time.
const BATCH: usize = 64 * 1024;

/// Lines that were dropped since the process has started.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `key=value` after the message.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A log that has been started. Lines that still wait are written when it is dropped.
#[derive(Debug)]
pub struct Log {
    /// Changes what is logged.
    pub control: LogControl,
    _writer: WorkerGuard,
}

/// Shows and changes what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogControl(Arc<Controlled>);

struct Controlled {
    start: Filter,
    now: Mutex<Filter>,
    handle: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Now, in the form of `RUST_LOG`.
    pub filter: String,
    /// As the process was started.
    pub start: String,
}

/// Starts logging to standard output. `filter` is in the form of `RUST_LOG` (`info,sotto::traffic=debug`).
///
/// # Errors
/// When the filter cannot be parsed, or logging has already been started.
pub fn start(filter: &str, format: Format) -> io::Result<Log> {
    let start = Filter::parse(filter)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("log filter {filter:?}: {error}")))?;
    let (layer, handle) = reload::Layer::new(start.compile().map_err(io::Error::other)?);
    let (writer, guard) = writer()?;
    tracing_subscriber::registry().with(layer).with(lines(format, writer)).try_init().map_err(io::Error::other)?;
    let handle: Handle<EnvFilter, Registry> = handle;
    let reload = Box::new(move |filter| handle.reload(filter));
    let now = Mutex::new(start.clone());
    Ok(Log { control: LogControl(Arc::new(Controlled { start, now, handle: reload })), _writer: guard })
}

/// Lines that were dropped because the reader of standard output did not keep up.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

fn writer() -> io::Result<(NonBlocking, WorkerGuard)> {
    // Not `io::stdout()`, which would write every line by itself.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (writer, guard) = apart(output);
    // Only the first log of a process is ever started.
    let _first = DROPPED.set(writer.error_counter());
    Ok((writer, guard))
}

/// A thread that writes, and a writer that never waits for it.
fn apart(output: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).thread_name("log");
    builder.finish(BufWriter::with_capacity(BATCH, output))
}

fn lines<S>(format: Format, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

impl LogControl {
    /// What is logged at the moment.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        Levels { filter: now.to_string(), start: self.0.start.to_string() }
    }

    /// Changes what is logged, all of it or nothing.
    ///
    /// # Errors
    /// [`FilterError`], in words for whoever asked.
    pub fn change(&self, change: &Change) -> Result<Levels, FilterError> {
        {
            let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
            let next = now.changed(&self.0.start, change)?;
            (self.0.handle)(next.compile()?).map_err(|error| FilterError::NotNow(error.to_string()))?;
            *now = next;
        }
        let levels = self.levels();
        tracing::info!(filter = %levels.filter, "what is logged has been changed");
        Ok(levels)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("levels", &self.levels()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Takes nothing before the other end of the channel is gone, and counts the calls.
    struct Stalled(Receiver<()>, Arc<Mutex<Vec<usize>>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Only an end is ever received.
            let _end = self.0.recv();
            self.1.lock().unwrap_or_else(PoisonError::into_inner).push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_holds_nobody_up() {
        let (standing, wait) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut writer, guard) = apart(Stalled(wait, Arc::clone(&written)));
        let (line, lines) = ([b'x'; 100], BUFFERED_LINES + 10_000);
        for _ in 0..lines {
            writer.write_all(&line).unwrap();
        }
        let dropped = writer.error_counter().dropped_lines();
        let most_taken = BUFFERED_LINES + BATCH / line.len() + 2;
        assert!((lines - most_taken..=lines - BUFFERED_LINES).contains(&dropped), "{dropped}");
        drop((standing, guard));
        let written = written.lock().unwrap();
        assert_eq!(written.iter().sum::<usize>(), (lines - dropped) * line.len());
        assert!(written.len() * 100 < lines - dropped, "{} writes for {} lines", written.len(), lines - dropped);
    }
}
