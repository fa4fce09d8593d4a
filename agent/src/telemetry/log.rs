//! The process's log: text for people, JSON for programs, written by a thread of its own so that a slow reader of standard
//! output never holds up a connection: when too many lines wait, new ones are dropped and counted. What is logged can be
//! changed while the process runs.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use super::access;
use super::filter::{Change, Filter, FilterError};
use super::lines::{self, Lines, Writer};

/// Where this process adds its lines.
static LINES: OnceLock<Lines> = OnceLock::new();

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
    _writer: Writer,
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
    let (lines, writer) = writer()?;
    tracing_subscriber::registry()
        .with(layer)
        .with(layer_of(format, lines.clone()))
        .try_init()
        .map_err(io::Error::other)?;
    access::start(format, lines);
    let handle: Handle<EnvFilter, Registry> = handle;
    let reload = Box::new(move |filter| handle.reload(filter));
    let now = Mutex::new(start.clone());
    Ok(Log { control: LogControl(Arc::new(Controlled { start, now, handle: reload })), _writer: writer })
}

/// Lines that were dropped because the reader of standard output did not keep up.
#[must_use]
pub fn dropped_lines() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

fn writer() -> io::Result<(Lines, Writer)> {
    // Not `io::stdout()`, which would write every line by itself.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (lines, writer) = lines::start(output)?;
    // Only the first log of a process is ever started.
    let _first = LINES.set(lines.clone());
    Ok((lines, writer))
}

fn layer_of<S>(format: Format, lines: Lines) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false);
    match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
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
