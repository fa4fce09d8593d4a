//! The byte stream below h2: passes everything on, keeps account of what goes by, and takes a break now and then so
//! that one busy tunnel leaves the thread to others.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{Scanner, Seen};

/// After so many bytes in one direction without a pause, the other tasks of the thread get their turn.
const TURN: usize = 256 * 1024;

/// The connection window before the peer said anything (RFC 9113, section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

/// Below this many bytes the peer's connection window counts as exhausted.
const STARVED: i64 = 16 * 1024;

/// What was seen so far.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// Bytes that came from the peer.
    pub(super) received: u64,
    /// Whether the peer has sent its SETTINGS.
    pub(super) settings: bool,
    /// Whether the peer has sent a GOAWAY.
    pub(super) going_away: bool,
    /// The number of the header block that the peer has begun and not ended.
    pub(super) open_block: Option<u64>,
    /// How much the peer lets us send in the whole tunnel. Followed for clients only.
    window: i64,
    /// Since when that is next to nothing.
    pub(super) starved_since: Option<Instant>,
}

/// The account of one tunnel, shared by those who ask.
#[derive(Debug)]
pub(super) struct Meter(Mutex<Observed>);

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Observed {
            received: 0,
            settings: false,
            going_away: false,
            open_block: None,
            window: FIRST_WINDOW,
            starved_since: None,
        })))
    }

    pub(super) fn observed(&self) -> Observed {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    fn note_received(&mut self, seen: Seen) {
        match seen {
            Seen::Settings => self.settings = true,
            Seen::GoAway => self.going_away = true,
            Seen::Window(more) => self.change_window(i64::from(more)),
            Seen::Data(_) => {}
        }
    }

    fn note_sent(&mut self, seen: Seen) {
        match seen {
            Seen::Data(size) => self.change_window(-i64::from(size)),
            Seen::Settings | Seen::GoAway | Seen::Window(_) => {}
        }
    }

    fn change_window(&mut self, change: i64) {
        self.window += change;
        if self.window >= STARVED {
            self.starved_since = None;
        } else if self.starved_since.is_none() {
            self.starved_since = Some(Instant::now());
        }
    }
}

/// A byte stream with a meter.
#[derive(Debug)]
pub(super) struct Metered<T> {
    io: T,
    meter: Arc<Meter>,
    incoming: Scanner,
    outgoing: Option<Scanner>,
    read: usize,
    written: usize,
}

impl<T> Metered<T> {
    /// The client's end of a connection.
    pub(super) fn client(io: T, meter: Arc<Meter>) -> Self {
        Self { outgoing: Some(Scanner::of_client()), incoming: Scanner::of_server(), ..Self::server(io, meter) }
    }

    /// The server's end of a connection. It cannot choose another tunnel, so it does not follow the peer's window.
    pub(super) fn server(io: T, meter: Arc<Meter>) -> Self {
        Self { io, meter, incoming: Scanner::of_client(), outgoing: None, read: 0, written: 0 }
    }

    fn note_read(&mut self, bytes: &[u8]) {
        let mut observed = self.meter.lock();
        observed.received += bytes.len() as u64;
        self.incoming.scan(bytes, |seen| observed.note_received(seen));
        observed.open_block = self.incoming.open_block();
    }

    fn note_written(&mut self, slices: &[IoSlice<'_>], mut size: usize) {
        self.written += size;
        let Some(outgoing) = &mut self.outgoing else { return };
        let mut observed = self.meter.lock();
        for slice in slices {
            let part = &slice[..size.min(slice.len())];
            outgoing.scan(part, |seen| observed.note_sent(seen));
            size -= part.len();
        }
    }
}

/// Whether it is time for a break; if so, the task will be woken again.
fn pause(amount: &mut usize, cx: &Context<'_>) -> bool {
    let due = *amount >= TURN;
    if due {
        *amount = 0;
        cx.waker().wake_by_ref();
    }
    due
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if pause(&mut this.read, cx) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        if result.is_pending() {
            this.read = 0;
        }
        ready!(result)?;
        this.read += buf.filled().len() - before;
        this.note_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if pause(&mut this.written, cx) {
            return Poll::Pending;
        }
        let io = Pin::new(&mut this.io);
        let result = match slices {
            [one] => io.poll_write(cx, one),
            several => io.poll_write_vectored(cx, several),
        };
        if result.is_pending() {
            this.written = 0;
        }
        let size = ready!(result)?;
        this.note_written(slices, size);
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// How many bytes go through before the first break.
    fn before_the_break(mut step: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>) -> usize {
        let mut total = 0;
        while let Poll::Ready(size) = step(&mut Context::from_waker(Waker::noop())) {
            total += size.unwrap();
            assert!(total <= 2 * TURN, "no break");
        }
        total
    }

    #[test]
    fn a_stream_that_never_waits_takes_breaks() {
        let mut io = Metered::client(tokio::io::join(tokio::io::repeat(0), tokio::io::sink()), Meter::new());
        for _ in 0..3 {
            let read = before_the_break(|cx| {
                let mut space = [0; 10_000];
                let mut buf = ReadBuf::new(&mut space);
                Pin::new(&mut io).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
            });
            let written = before_the_break(|cx| Pin::new(&mut io).poll_write(cx, &[0; 10_000]));
            assert!((TURN..TURN + 10_000).contains(&read), "{read}");
            assert!((TURN..TURN + 10_000).contains(&written), "{written}");
        }
    }

    #[test]
    fn the_connection_window_is_followed() {
        let mut observed = Meter::new().observed();
        observed.note_sent(Seen::Data(40_000));
        assert!(observed.starved_since.is_none());
        observed.note_sent(Seen::Data(20_000));
        assert!(observed.starved_since.is_some());
        observed.note_received(Seen::Window(10_000));
        assert!(observed.starved_since.is_some());
        observed.note_received(Seen::Window(1000));
        assert!(observed.starved_since.is_none());
    }
}
