//! The process's log: text for people, JSON for programs, written by a thread of its own so that a slow reader of standard
//! output never holds up a connection.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// The target of access-log lines: one per connection, when it ends.
pub const ACCESS: &str = "access";

/// Lines that may wait for the writer; past that, lines are dropped rather than connections delayed.
const BUFFERED_LINES: usize = 20_000;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `key=value` after the message.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard output. `filter` is in the form of `RUST_LOG` (`info,sotto::traffic=debug`).
/// Lines that still wait are written when the guard is dropped.
///
/// # Errors
/// When the filter cannot be parsed, or logging has already been started.
pub fn start(filter: &str, format: Format) -> io::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("log filter {filter:?}: {error}")))?;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).finish(io::stdout());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(io::Error::other)?;
    Ok(guard)
}
