//! Lines on their way to standard output. Whoever adds one never waits; a thread of its own writes them, many at a time.
//!
//! The thread is woken for the first line and for each [`BATCH`], not for every line, which is costly: in between it gathers for
//! [`GATHER`].

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// What may wait for the writer, in bytes: past that, lines are dropped rather than connections delayed.
const LIMIT: usize = 8 << 20;

/// How long a line waits for others to be written with.
const GATHER: Duration = Duration::from_millis(5);

/// So much is written without waiting for more, in bytes.
const BATCH: usize = 256 * 1024;

/// Where lines are added. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

/// The thread that writes. Dropped, it writes what still waits first.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something for the writer to look at.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writer: Doing,
    dropped: u64,
    closed: bool,
}

/// What the writer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doing {
    /// It writes, and looks again by itself.
    #[default]
    Writing,
    /// It sleeps until there is a line.
    Sleeping,
    /// It sleeps for [`GATHER`], or until there is a [`BATCH`].
    Gathering,
}

/// Starts a thread that writes to `output`.
///
/// # Errors
/// When there can be no further thread.
pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Lines, Writer)> {
    let lines = Lines(Arc::default());
    let shared = Arc::clone(&lines.0);
    let thread = thread::Builder::new().name("log".into()).spawn(move || write_all(&shared, output))?;
    Ok((lines.clone(), Writer { lines, thread: Some(thread) }))
}

impl Lines {
    /// How many lines were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Adds a line, whole or not at all.
    pub(super) fn add(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > LIMIT {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        let wake = match state.writer {
            Doing::Writing => false,
            Doing::Sleeping => true,
            Doing::Gathering => state.waiting.len() >= BATCH,
        };
        if wake {
            // Once is enough.
            state.writer = Doing::Writing;
            drop(state);
            self.0.news.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and puts them into `batch`; false once there are none and never will be.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed {
            state.writer = Doing::Sleeping;
            let asleep = |state: &mut State| state.waiting.is_empty() && !state.closed;
            state = self.news.wait_while(state, asleep).unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.len() < BATCH && !state.closed {
            state.writer = Doing::Gathering;
            let too_few = |state: &mut State| state.waiting.len() < BATCH && !state.closed;
            let woken = self.news.wait_timeout_while(state, GATHER, too_few);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = Doing::Writing;
        mem::swap(&mut state.waiting, batch);
        !batch.is_empty() || !state.closed
    }
}

fn write_all(shared: &Shared, mut output: impl Write) {
    let mut batch = Vec::new();
    while shared.take(&mut batch) {
        // There is nobody to tell that the log cannot be written.
        let _lost = output.write_all(&batch).and_then(|()| output.flush());
        batch.clear();
        batch.shrink_to(BATCH);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// One call, one line: so the formatter does it.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.0.lock().closed = true;
        self.lines.0.news.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has said why.
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells of each write, and takes nothing before the other end of `wait` is gone.
    struct Stalled {
        wait: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Only an end is ever received.
            let _end = self.wait.recv();
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Lines, Writer, Sender<()>, Receiver<Vec<u8>>) {
        let ((standing, wait), (written, writes)) = (channel(), channel());
        let (lines, writer) = start(Stalled { wait, written }).unwrap();
        (lines, writer, standing, writes)
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_holds_nobody_up() {
        let (lines, writer, standing, writes) = stalled();
        let (line, number) = ([b'x'; 100], 3 * LIMIT / 100);
        for _ in 0..number {
            (&lines).write_all(&line).unwrap();
        }
        let dropped = usize::try_from(lines.dropped()).unwrap();
        // At most two fillings were taken: one waits, one is with the reader.
        assert!((number - 2 * LIMIT / 100 - 1..=number - LIMIT / 100).contains(&dropped), "{dropped} of {number}");
        drop((standing, writer));
        let written: Vec<Vec<u8>> = writes.try_iter().collect();
        assert_eq!(written.iter().map(Vec::len).sum::<usize>(), (number - dropped) * line.len());
        assert!(written.len() <= 3, "{} writes for {} lines", written.len(), number - dropped);
    }

    #[test]
    fn lines_are_written_whole_in_order_and_by_themselves() {
        let (lines, _writer, standing, writes) = stalled();
        drop(standing);
        for round in 0..3 {
            let expected = format!("first {round}\nsecond {round}\n");
            for line in expected.split_inclusive('\n') {
                (&lines).write_all(line.as_bytes()).unwrap();
            }
            let mut written = Vec::new();
            while written.len() < expected.len() {
                written.extend(writes.recv_timeout(Duration::from_secs(10)).unwrap());
            }
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
        assert_eq!(lines.dropped(), 0);
    }
}
