//! The end of a tunnel that accepts connections.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::model::baggage::BaggageText;

use super::meter::{Meter, Metered};
use super::stream::Stream;
use super::watchdog::{Watch, watch};
use crate::drivers::tunnel::connect::{self, ConnectError, ConnectRequest};
use crate::drivers::tunnel::error::{ResetReason, StreamError, TunnelError};
use crate::drivers::tunnel::refusal::{Cause, Refusal};
use crate::drivers::tunnel::settings::Config;

/// A request for a connection, to be answered.
#[derive(Debug)]
pub struct Incoming {
    /// Where to, and on whose behalf; or why it is no request of this kind, to be told and refused with 400.
    pub request: Result<ConnectRequest, ConnectError>,
    /// The way to answer.
    pub respond: Respond,
}

/// Serves one tunnel. Calls `handler` for each request and drives the futures that it returns, all in this one: they
/// run concurrently, none waits for another.
///
/// When `shutdown` is ready the peer is told (GOAWAY), requests that were already under way are still served, and the
/// future is ready once the last handler is. To end it sooner, drop it: that breaks what is left.
///
/// A handler must take notice when its stream breaks ([`SendHalf::broken`](super::SendHalf::broken),
/// [`Respond::cancelled`]), since this future waits for every handler.
///
/// # Errors
/// [`TunnelError`] when the tunnel did not end in order, also after all handlers are done.
pub async fn serve<T, S, H, F>(io: T, config: &Config, shutdown: S, handler: H) -> Result<(), TunnelError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Future<Output = ()>,
    H: FnMut(Incoming) -> F,
    F: Future<Output = ()>,
{
    let meter = Meter::new();
    let builder = config.server();
    let begun = builder.handshake(Metered::server(io, Arc::clone(&meter)));
    let begun = timeout(config.handshake_timeout, begun).await;
    let mut h2 = begun.map_err(|_| TunnelError::Handshake(config.handshake_timeout))??;
    let watch = watch(h2.ping_pong(), meter, config);
    let mut session = Session {
        h2: Some(h2),
        watch,
        handler,
        running: FuturesUnordered::new(),
        most_running: 2 * config.concurrent_streams() as usize,
        abandoned: Abandoned::new(config),
        result: Ok(()),
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

struct Session<T, H, F> {
    /// `None` once ended, so that the streams learn of it at once.
    h2: Option<h2::server::Connection<Metered<T>, Bytes>>,
    watch: Watch,
    handler: H,
    running: FuturesUnordered<F>,
    /// A peer that resets its streams may open new ones while the handlers of the old ones still wind up.
    most_running: usize,
    abandoned: Abandoned,
    result: Result<(), TunnelError>,
}

impl<T, H, F> Session<T, H, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    H: FnMut(Incoming) -> F,
    F: Future<Output = ()>,
{
    fn drain(&mut self) {
        if let Some(h2) = &mut self.h2 {
            h2.graceful_shutdown();
        }
    }

    /// Handlers first: what they do ends when they need the tunnel again (their send buffers are bounded), whereas the
    /// tunnel could go on for long without them.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        loop {
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {}
            if !self.poll_tunnel(cx) {
                break;
            }
        }
        if self.h2.is_none() && self.running.is_empty() {
            return Poll::Ready(self.result.clone());
        }
        Poll::Pending
    }

    /// Whether a request came in, so that there is more to do.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(h2) = &mut self.h2 else { return false };
        if let Poll::Ready(why) = self.watch.as_mut().poll(cx) {
            self.end(Err(why));
            return true;
        }
        if self.result.is_ok() && self.abandoned.too_many(Instant::now()) {
            self.result = Err(TunnelError::Protocol("too many requests abandoned before they were answered".into()));
            h2.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        }
        let next = pin!(h2.accept()).poll(cx);
        match next {
            Poll::Pending => return false,
            Poll::Ready(Some(Ok((request, response)))) => self.begin(request, response),
            Poll::Ready(Some(Err(error))) => self.end(Err(error.into())),
            Poll::Ready(None) => self.end(Ok(())),
        }
        true
    }

    fn end(&mut self, result: Result<(), TunnelError>) {
        self.result = self.result.clone().and(result);
        self.h2 = None;
    }

    fn begin(&mut self, request: Request<h2::RecvStream>, mut response: SendResponse<Bytes>) {
        if self.running.len() >= self.most_running {
            response.send_reset(h2::Reason::REFUSED_STREAM);
            return;
        }
        let (head, body) = request.into_parts();
        let respond = Respond { inner: Some((response, body)), abandoned: Arc::clone(&self.abandoned.count) };
        let request = ConnectRequest::from_http(&head);
        self.running.push((self.handler)(Incoming { request, respond }));
    }
}

/// Counts the streams that the peer gave up before they were answered. Each cost us a dial.
struct Abandoned {
    count: Arc<AtomicUsize>,
    most: usize,
    interval: Duration,
    since: Instant,
}

impl Abandoned {
    fn new(config: &Config) -> Self {
        let (most, interval) = (config.abandoned_streams, config.keepalive_interval);
        Self { count: Arc::default(), most, interval, since: Instant::now() }
    }

    fn too_many(&mut self, now: Instant) -> bool {
        if now - self.since >= self.interval {
            self.since = now;
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.load(Ordering::Relaxed) > self.most
    }
}

/// The way to answer a request. Dropped without an answer, it refuses with 503.
pub struct Respond {
    inner: Option<(SendResponse<Bytes>, h2::RecvStream)>,
    abandoned: Arc<AtomicUsize>,
}

impl Respond {
    /// Accepts: 200, with a description of the destination's workload. To be called once the application's host has
    /// accepted the connection.
    ///
    /// # Errors
    /// [`StreamError`] when the peer gave up meanwhile, or the tunnel ended.
    pub fn accept(mut self, baggage: Option<&BaggageText>) -> Result<Stream, StreamError> {
        let Some((mut response, body)) = self.inner.take() else { return Err(TunnelError::Closed.into()) };
        if let Some(error) = self.given_up(&mut response) {
            return Err(error);
        }
        let mut head = Response::new(());
        if let Some(baggage) = baggage {
            connect::insert(head.headers_mut(), connect::BAGGAGE, baggage.as_str());
        }
        let send = response.send_response(head, false)?;
        Ok(Stream::new(send, body, None))
    }

    /// Refuses.
    pub fn reject(mut self, refusal: Refusal) {
        self.refuse(refusal);
    }

    /// Waits until the peer gives up or the tunnel ends: there is no use in dialing any further then.
    pub async fn cancelled(&mut self) {
        poll_fn(|cx| {
            if let Some((response, _)) = &mut self.inner {
                let _ = ready!(response.poll_reset(cx));
            }
            Poll::Ready(())
        })
        .await;
    }

    fn refuse(&mut self, refusal: Refusal) {
        let Some((mut response, _)) = self.inner.take() else { return };
        if self.given_up(&mut response).is_none() {
            // Fails only if the stream has ended meanwhile.
            let _ = response.send_response(refusal.to_http(), true);
        }
    }

    fn given_up(&self, response: &mut SendResponse<Bytes>) -> Option<StreamError> {
        match response.poll_reset(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(Ok(reason)) => {
                self.abandoned.fetch_add(1, Ordering::Relaxed);
                Some(StreamError::Reset(ResetReason::from(reason)))
            }
            Poll::Ready(Err(error)) => Some(error.into()),
        }
    }
}

impl Drop for Respond {
    fn drop(&mut self) {
        self.refuse(Refusal::unavailable(Cause::Internal));
    }
}

impl std::fmt::Debug for Respond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Respond").finish_non_exhaustive()
    }
}
