//! The end of a tunnel that accepts connections.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;

use super::core::{Asked, Core};
use super::driver::{Driver, Turn};
use super::machine::Side;
use super::stream::MuxStream;
use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::error::{ResetReason, StreamError, TunnelError};
use crate::drivers::tunnel::refusal::{Cause, Refusal};
use crate::drivers::tunnel::settings::Config;
use crate::model::baggage::BaggageText;
use crate::runtime::budget::Share;
use crate::runtime::records::Records;

/// A request for a connection, to be answered.
#[derive(Debug)]
pub struct MuxIncoming {
    /// Where to, and on whose behalf.
    pub request: Result<ConnectRequest, ConnectError>,
    /// The way to answer.
    pub respond: MuxRespond,
}

/// The way to answer a request. Dropped without an answer, it refuses.
#[derive(Debug)]
pub struct MuxRespond(Option<MuxStream>);

/// Serves one tunnel, as [`crate::drivers::tunnel::hbone::server::serve`] does for HBONE.
///
/// # Errors
/// [`TunnelError`] when the tunnel did not end in order, also after all handlers are done.
pub async fn serve<R, S, H, F>(records: R, config: &Config, shutdown: S, handler: H) -> Result<(), TunnelError>
where
    R: Records,
    S: Future<Output = ()>,
    H: FnMut(MuxIncoming) -> F,
    F: Future<Output = ()>,
{
    let core = Core::new(Side::Server, config.mux_limits());
    let mut session = Session {
        driver: Driver::new(Rc::clone(&core), records),
        core,
        handler,
        running: FuturesUnordered::new(),
        abandoned: Abandoned { most: config.abandoned_streams, interval: config.keepalive_interval, since: None },
        result: None,
    };
    let mut shutdown = pin!(shutdown);
    let mut draining = false;
    poll_fn(|cx| {
        if !draining && shutdown.as_mut().poll(cx).is_ready() {
            draining = true;
            session.drain();
        }
        session.poll(cx)
    })
    .await
}

struct Session<R, H, F> {
    core: Rc<Core>,
    driver: Driver<R>,
    handler: H,
    running: FuturesUnordered<F>,
    abandoned: Abandoned,
    result: Option<Result<(), TunnelError>>,
}

impl<R, H, F> Session<R, H, F>
where
    R: Records,
    H: FnMut(MuxIncoming) -> F,
    F: Future<Output = ()>,
{
    fn drain(&self) {
        self.core.with_quietly(|inner| {
            inner.machine.leave(ResetReason::NoError);
            inner.closing = true;
        });
    }

    /// Handlers first: what they have to say is sent together.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        loop {
            self.core.with_quietly(|inner| inner.driven = true);
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {}
            self.limit_abandoned();
            let turn = if self.result.is_none() { self.driver.poll(cx) } else { Poll::Pending };
            self.core.with_quietly(|inner| inner.driven = false);
            match turn {
                Poll::Ready(Turn::Asked(asked)) => asked.into_iter().for_each(|asked| self.begin(asked)),
                Poll::Ready(Turn::Ended(result)) => self.result = Some(result),
                Poll::Pending => break,
            }
        }
        match &self.result {
            Some(result) if self.running.is_empty() => Poll::Ready(result.clone()),
            _ => Poll::Pending,
        }
    }

    fn begin(&mut self, (id, request): Asked) {
        let respond = MuxRespond(Some(MuxStream::new(Rc::clone(&self.core), id)));
        self.running.push((self.handler)(MuxIncoming { request, respond }));
    }

    fn limit_abandoned(&mut self) {
        let number = self.core.with_quietly(|inner| inner.abandoned);
        if number > 0 && self.abandoned.too_many(number, Instant::now(), &self.core) {
            let why = "too many requests abandoned before they were answered";
            self.driver.end(Err(TunnelError::Protocol(why.into())));
        }
    }
}

/// How many requests a peer may give up before they were answered: each cost us a dial.
struct Abandoned {
    most: usize,
    interval: Duration,
    since: Option<Instant>,
}

impl Abandoned {
    fn too_many(&mut self, number: usize, now: Instant, core: &Core) -> bool {
        let since = *self.since.get_or_insert(now);
        if now - since >= self.interval {
            self.since = None;
            core.with_quietly(|inner| inner.abandoned = 0);
            return false;
        }
        number > self.most
    }
}

impl MuxRespond {
    /// Accepts, with a description of the destination's workload.
    ///
    /// # Errors
    /// [`StreamError`] when the peer gave up meanwhile, or the tunnel ended.
    pub fn accept(mut self, baggage: Option<&BaggageText>) -> Result<MuxStream, StreamError> {
        let stream = self.0.take().ok_or(TunnelError::Closed)?;
        stream.accept(baggage)?;
        Ok(stream)
    }

    /// From now on, what comes before the answer has to fit into `share`.
    pub fn charge(&self, share: &Arc<Share>) {
        if let Some(stream) = &self.0 {
            stream.charge(share);
        }
    }

    /// Refuses.
    pub fn reject(mut self, refusal: Refusal) {
        self.refuse(refusal);
    }

    /// Waits until the peer gives up or the tunnel ends.
    pub async fn cancelled(&mut self) {
        if let Some(stream) = &self.0 {
            stream.broken().await;
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        if let Some(stream) = self.0.take() {
            stream.refuse(refusal);
        }
    }
}

impl Drop for MuxRespond {
    fn drop(&mut self) {
        self.refuse(Refusal::unavailable(Cause::Internal));
    }
}
