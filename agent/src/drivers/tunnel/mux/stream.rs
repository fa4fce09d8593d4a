//! One stream, and how it becomes one with a socket.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{Either, select};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::core::Core;
use super::outbox::{Source, Taken};
use super::port::{Outlet, wait};
use crate::drivers::tunnel::error::{ResetReason, StreamError};
use crate::drivers::tunnel::refusal::Refusal;
use crate::model::baggage::BaggageText;
use crate::runtime::budget::Share;
use crate::runtime::traffic::{Sender, Traffic};

/// Bytes that one stream moves before others of the thread have their turn.
const TURN: usize = 128 * 1024;

/// Records that a busy stream fills at once.
const RECORDS: usize = 8;

/// An open stream. Dropped before both directions have ended, it is reset.
pub struct MuxStream {
    core: Rc<Core>,
    id: u32,
    /// What was sent along with the request, and is still in the application's socket.
    early: usize,
}

/// Why a direction ended early.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The socket failed; usually its owner reset it.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The stream failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl MuxStream {
    pub(super) fn new(core: Rc<Core>, id: u32) -> Self {
        Self { core, id, early: 0 }
    }

    /// So many bytes of the application's socket were sent before the answer.
    pub(super) fn after(mut self, early: usize) -> Self {
        self.early = early;
        self
    }

    /// From now on, what waits for the application has to fit into `share`.
    pub fn charge(&self, share: &Arc<Share>) {
        self.core.charge(self.id, share);
    }

    /// What comes in the stream is written to `socket` from now on, and counted in `traffic` as `sender`'s.
    pub fn attach(&self, socket: &Rc<TcpStream>, traffic: &Rc<Traffic>, sender: Sender) {
        let outlet = Outlet { socket: Rc::clone(socket), traffic: Rc::clone(traffic), sender };
        self.core.with(|inner| inner.attach(self.id, outlet));
    }

    /// Sends what comes from the socket, until its end.
    ///
    /// # Errors
    /// [`RelayError`]
    pub async fn send_all(&self, socket: &TcpStream, traffic: &Traffic, sender: Sender) -> Result<(), RelayError> {
        let early = Cell::new(self.early);
        traffic.moved(sender, self.early);
        let mut records = 1;
        let mut turn = 0;
        loop {
            let credit = self.credit_unless_reset(socket).await?;
            match self.core.take_from(self.id, Source::TakeAfter(&early, socket), credit.min(TURN), records)? {
                Taken::Bytes { length, is_full, is_last } => {
                    traffic.moved(sender, length);
                    if is_last {
                        break;
                    }
                    records = if is_full { RECORDS } else { 1 };
                    turn += length;
                    if turn >= TURN {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Taken::Nothing => poll_fn(|cx| self.poll_readable(socket, cx)).await?,
                Taken::End => break,
            }
        }
        Ok(self.core.with(|inner| inner.machine.finish(self.id))?)
    }

    /// Waits for leave to send. Meanwhile the socket may be reset: what it sent before is not waited for, since a peer that does
    /// not read would keep the connection for good.
    async fn credit_unless_reset(&self, socket: &TcpStream) -> Result<usize, RelayError> {
        let credit = poll_fn(|cx| self.core.poll_send(self.id, cx));
        match select(pin!(credit), pin!(socket.ready(Interest::ERROR))).await {
            Either::Left((credit, _)) => Ok(credit?),
            Either::Right((_, _)) => {
                let error = SockRef::from(socket).take_error()?;
                Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()).into())
            }
        }
    }

    /// Writes what comes in the stream and the socket did not take at once, until the stream's end. If the other direction has
    /// ended before, the socket is to be closed now.
    ///
    /// # Errors
    /// [`RelayError`]
    pub async fn receive_all(&self, socket: &TcpStream) -> Result<(), RelayError> {
        while poll_fn(|cx| self.poll_waiting(cx)).await? {
            while !self.core.with(|inner| inner.write_waiting(self.id))?? {
                poll_fn(|cx| self.poll_writable(socket, cx)).await?;
            }
        }
        if self.core.with_quietly(|inner| inner.machine.stream(self.id).is_some_and(|stream| stream.sent_end())) {
            // Nothing is left to read either: closing the socket says the same, in one call instead of two.
            return Ok(());
        }
        match SockRef::from(socket).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Answers the request that the stream began with.
    pub(super) fn accept(&self, baggage: Option<&BaggageText>) -> Result<(), StreamError> {
        self.core.port(self.id, |port| port.accepted = true)?;
        self.core.with(|inner| inner.machine.accept(self.id, baggage))
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.core.with(|inner| inner.machine.refuse(self.id, refusal));
    }

    /// Waits until nothing moves in the stream any more because of the peer or the tunnel.
    pub(super) async fn broken(&self) {
        poll_fn(|cx| match self.core.port(self.id, |port| wait(&mut port.writer, cx)) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        })
        .await;
    }

    /// Ends both directions at once: TCP's RST.
    pub fn reset(&self, reason: ResetReason) {
        self.core.with(|inner| inner.machine.reset(self.id, reason));
    }

    /// Ready with whether something waits to be written; if not, the peer has ended its direction.
    fn poll_waiting(&self, cx: &Context<'_>) -> Poll<Result<bool, StreamError>> {
        let finished = self.core.with_quietly(|inner| inner.machine.stream(self.id).is_some_and(|s| s.received_end()));
        Poll::Ready(Ok(ready!(self.core.port(self.id, |port| {
            if port.is_waiting() {
                return Poll::Ready(true);
            }
            if finished {
                return Poll::Ready(false);
            }
            wait(&mut port.reader, cx);
            Poll::Pending
        })?)))
    }

    fn poll_readable(&self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        self.core.port(self.id, |port| wait(&mut port.writer, cx))?;
        socket.poll_read_ready(cx).map_err(RelayError::Socket)
    }

    fn poll_writable(&self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        self.core.port(self.id, |port| wait(&mut port.reader, cx))?;
        socket.poll_write_ready(cx).map_err(RelayError::Socket)
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.core.release(self.id);
    }
}

impl std::fmt::Debug for MuxStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxStream").field("id", &self.id).finish_non_exhaustive()
    }
}
