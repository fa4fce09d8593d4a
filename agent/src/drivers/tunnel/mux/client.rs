//! The end of a tunnel that opens connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::core::Core;
use super::driver::{Driver, Turn};
use super::machine::Side;
use super::stream::MuxStream;
use crate::drivers::tunnel::connect::ConnectRequest;
use crate::drivers::tunnel::error::{OpenError, TunnelError};
use crate::drivers::tunnel::first::FirstBytes;
use crate::drivers::tunnel::settings::Config;
use crate::model::baggage::BaggageText;
use crate::runtime::records::Records;

/// Begins a tunnel over records that have been agreed on. Does not wait for the peer.
#[must_use]
pub fn begin<R: Records>(records: R, config: &Config) -> (MuxClient, MuxConnection<R>) {
    let core = Core::new(Side::Client, config.mux_limits());
    (MuxClient(Rc::clone(&core)), MuxConnection(Driver::new(core, records)))
}

/// Opens connections through one tunnel. Clones are the same.
#[derive(Clone)]
pub struct MuxClient(Rc<Core>);

impl MuxClient {
    /// Asks the peer for a connection and waits for its answer. Dropping the future cancels the request. What the application says
    /// meanwhile goes along with the request, if the peer is known to be there.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open(
        &self,
        request: &ConnectRequest,
        first: &FirstBytes<'_>,
    ) -> Result<(MuxStream, BaggageText), OpenError> {
        let id = self.0.open(request)?;
        // Releases what was asked for if nobody waits for it any more.
        let stream = MuxStream::new(Rc::clone(&self.0), id);
        let answer = poll_fn(|cx| {
            self.0.send_first(id, first, cx);
            self.0.poll_answer(id, cx)
        });
        match answer.await {
            Ok(baggage) => Ok((stream.after(first.arrived()), baggage)),
            Err(error) => {
                if error.is_the_peers_answer() {
                    first.refused();
                }
                Err(error)
            }
        }
    }

    /// How many streams are open or being opened.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.with_quietly(|inner| inner.machine.live())
    }

    /// Whether another stream can be opened here.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.0.with_quietly(|inner| inner.can_open().is_ok())
    }

    /// Whether a bulk transfer goes through, beside which a new stream would wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.0.with_quietly(|inner| inner.load.is_busy(Instant::now()))
    }

    /// Whether the tunnel has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.with_quietly(|inner| inner.ended.is_some())
    }

    /// Waits for the tunnel's end and tells why.
    pub async fn closed(&self) -> TunnelError {
        poll_fn(|cx| self.0.poll_ended(cx)).await
    }

    /// Opens nothing more; the tunnel ends when its streams have.
    pub fn close(&self) {
        self.0.with_quietly(|inner| {
            inner.closing = true;
            inner.wake_driver();
        });
    }
}

impl std::fmt::Debug for MuxClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxClient").field("live", &self.live()).finish_non_exhaustive()
    }
}

/// The tunnel itself: nothing moves unless this future is driven. Dropping it breaks the tunnel.
pub struct MuxConnection<R: Records>(Driver<R>);

impl<R: Records + Unpin> Future for MuxConnection<R> {
    type Output = Result<(), TunnelError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(self.0.poll(cx)) {
                Turn::Ended(result) => return Poll::Ready(result),
                // A server opens no streams: the protocol's state refuses them.
                Turn::Asked(_) => {}
            }
        }
    }
}
