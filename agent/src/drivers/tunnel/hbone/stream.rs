//! One TCP stream inside a tunnel: a half to send with and a half to receive with, without copies on the way.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};

use crate::runtime::budget::{Permit, Share};

use crate::drivers::tunnel::error::{ResetReason, StreamError, TunnelError};

/// The most that goes into one frame, in bytes: streams take turns frame by frame.
pub const SEND_CHUNK: usize = 64 * 1024;

/// What is taken in while the application is slow gets copied together if a piece is smaller than this, in bytes: a
/// small piece keeps alive the whole buffer that it was received in.
const COMPACT_BELOW: usize = 16 * 1024;

/// The size up to which small pieces are copied together, in bytes.
const COMPACT_TO: usize = 64 * 1024;

/// A stream, open in both directions. Dropped before both directions have ended, it is reset with `CANCEL`.
#[derive(Debug)]
pub struct Stream {
    /// Towards the peer.
    pub send: SendHalf,
    /// From the peer.
    pub recv: RecvHalf,
}

/// Counts as a live stream of its tunnel for as long as either half lives; what it does when dropped is the tunnel's.
pub(super) type Lease = Arc<dyn Send + Sync>;

impl Stream {
    pub(super) fn new(send: h2::SendStream<Bytes>, recv: h2::RecvStream, lease: Option<Lease>) -> Self {
        Self {
            send: SendHalf { inner: send, ended: false, _lease: lease.clone() },
            recv: RecvHalf {
                inner: recv,
                taken_in: VecDeque::new(),
                compact: BytesMut::new(),
                end: None,
                unreleased: 0,
                account: None,
                _lease: lease,
            },
        }
    }

    /// The two halves, for two directions of a relay.
    #[must_use]
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }
}

/// The half that sends.
pub struct SendHalf {
    inner: h2::SendStream<Bytes>,
    /// Finished or reset by us.
    ended: bool,
    _lease: Option<Lease>,
}

impl SendHalf {
    /// Sends all of `data`, in frames of up to [`SEND_CHUNK`]. Waits while the peer's windows or our send buffer are
    /// full. If dropped before it is ready, what is left in `data` has not been sent.
    ///
    /// # Errors
    /// [`StreamError`] when the peer reset the stream or the tunnel ended; the rest cannot be sent then.
    pub async fn send(&mut self, data: &mut Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, data.len().min(SEND_CHUNK))).await?;
            let part = data.split_to(room.min(data.len()).min(SEND_CHUNK));
            self.inner.send_data(part, false).map_err(|error| self.cause_or(error))?;
        }
        Ok(())
    }

    /// Ends this direction: TCP's FIN. What was sent before is delivered first.
    ///
    /// # Errors
    /// [`StreamError`] when the peer reset the stream or the tunnel ended.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.inner.send_data(Bytes::new(), true).map_err(|error| self.cause_or(error))
    }

    /// Ends both directions at once: TCP's RST. What was not yet sent is thrown away.
    pub fn reset(&mut self, reason: ResetReason) {
        self.ended = true;
        self.inner.send_reset(reason.to_h2());
    }

    /// Waits for the peer's reset or the end of the tunnel. To be selected on while there is nothing to send, also
    /// after [`finish`](Self::finish), so that a reset reaches the application at once. Never ready for a stream that
    /// ended in order.
    pub async fn broken(&mut self) -> StreamError {
        poll_fn(|cx| self.poll_broken(cx)).await
    }

    /// Ready with the number of bytes that may be sent now, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, StreamError>> {
        self.inner.reserve_capacity(wanted);
        loop {
            let room = self.inner.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(self.inner.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.cause_or(error))),
                None => return Poll::Ready(Err(self.cause().unwrap_or(TunnelError::Closed.into()))),
            }
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.inner.poll_reset(cx).map(|result| match result {
            Ok(reason) => StreamError::Reset(reason.into()),
            Err(error) => error.into(),
        })
    }

    /// Why the stream ended, if it did.
    fn cause(&mut self) -> Option<StreamError> {
        match self.poll_broken(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(cause) => Some(cause),
            Poll::Pending => None,
        }
    }

    fn cause_or(&mut self, error: h2::Error) -> StreamError {
        self.cause().unwrap_or_else(|| error.into())
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.ended {
            self.reset(ResetReason::Cancel);
        }
    }
}

impl std::fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendHalf").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// The half that receives.
///
/// The peer may send as much as [`Config::stream_window`](crate::drivers::tunnel::Config::stream_window) ahead of what was
/// [`consumed`](Self::consumed): backpressure is in saying so only when the application has taken the data.
pub struct RecvHalf {
    inner: h2::RecvStream,
    /// Taken in by [`recv_during`](Self::recv_during), oldest first; `compact` holds what comes after it.
    taken_in: VecDeque<Bytes>,
    compact: BytesMut,
    /// How the stream ended, to be told after the data before it.
    end: Option<Result<(), StreamError>>,
    /// Pays for what is taken in.
    account: Option<Permit>,
    /// Handed out and not yet consumed, in bytes.
    unreleased: usize,
    _lease: Option<Lease>,
}

impl RecvHalf {
    /// The next piece of data, never empty; `None` at the end of the stream (TCP's FIN). Nothing is lost if the future
    /// is dropped.
    ///
    /// # Errors
    /// [`StreamError`] when the peer reset the stream or the tunnel ended; given again at each further call.
    pub async fn recv(&mut self) -> Option<Result<Bytes, StreamError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Says that the application has taken `amount` bytes, so that the peer may send as many more.
    pub fn consumed(&mut self, amount: usize) {
        let amount = amount.min(self.unreleased);
        self.unreleased -= amount;
        // Fails only for more than was received, which cannot be.
        let _ = self.inner.flow_control().release_capacity(amount);
    }

    /// Does `work` (writing to a slow application) while it takes in what the peer sends meanwhile, as far as the
    /// window allows, small pieces copied together. Without this, pieces wait one by one in h2, which breaks the whole
    /// tunnel once too many small ones wait unread ([`Config::small_frame_budget`](crate::drivers::tunnel::Config::small_frame_budget)).
    ///
    /// # Errors
    /// [`StreamError`] when the peer reset the stream or the tunnel ended meanwhile, or when there is no memory for this stream:
    /// an application that never reads would keep it for good.
    pub async fn recv_during<F: Future>(&mut self, work: F) -> Result<F::Output, StreamError> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.take_in(cx);
            match &self.end {
                Some(Err(error)) => Poll::Ready(Err(error.clone())),
                Some(Ok(())) | None => Poll::Pending,
            }
        })
        .await
    }

    /// From now on, what [`recv_during`](Self::recv_during) takes in has to fit into `share`.
    pub fn charge(&mut self, share: &Arc<Share>) {
        // Nothing is asked for yet.
        self.account = share.take(0).ok();
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(data) = self.next_taken_in() {
            self.unreleased += data.len();
            return Poll::Ready(Some(Ok(data)));
        }
        while self.end.is_none() {
            if let Some(data) = ready!(self.poll_inner(cx)) {
                self.unreleased += data.len();
                return Poll::Ready(Some(Ok(data)));
            }
        }
        Poll::Ready(match &self.end {
            Some(Err(error)) => Some(Err(error.clone())),
            Some(Ok(())) | None => None,
        })
    }

    /// Data, or `None` after the end was noted or for an empty frame.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(match ready!(self.inner.poll_data(cx)) {
            Some(Ok(data)) if data.is_empty() => None,
            Some(Ok(data)) => Some(data),
            Some(Err(error)) => {
                self.end = Some(Err(error.into()));
                None
            }
            None => {
                self.end = Some(Ok(()));
                None
            }
        })
    }

    fn next_taken_in(&mut self) -> Option<Bytes> {
        let next = self.taken_in.pop_front();
        let next = next.or_else(|| (!self.compact.is_empty()).then(|| self.compact.split().freeze()))?;
        if let Some(account) = &mut self.account {
            account.shrink(next.len());
        }
        Some(next)
    }

    fn take_in(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            let taken = self.poll_inner(cx);
            if let (Poll::Ready(Some(data)), Some(account)) = (&taken, &mut self.account)
                && let Err(exhausted) = account.grow(data.len())
            {
                self.end = Some(Err(StreamError::Memory(exhausted)));
                return;
            }
            match taken {
                Poll::Ready(Some(data)) if data.len() < COMPACT_BELOW => {
                    if self.compact.len() + data.len() > COMPACT_TO {
                        self.taken_in.push_back(self.compact.split().freeze());
                    }
                    self.compact.extend_from_slice(&data);
                }
                Poll::Ready(Some(data)) => {
                    if !self.compact.is_empty() {
                        self.taken_in.push_back(self.compact.split().freeze());
                    }
                    self.taken_in.push_back(data);
                }
                Poll::Ready(None) => {}
                Poll::Pending => return,
            }
        }
    }
}

impl std::fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvHalf").field("end", &self.end).field("unreleased", &self.unreleased).finish_non_exhaustive()
    }
}
