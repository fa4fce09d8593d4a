//! The end of a tunnel that opens connections.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::model::baggage::BaggageText;

use super::meter::{Meter, Metered};
use super::stream::Stream;
use super::watchdog::{Watch, watch};
use crate::drivers::tunnel::connect::{self, ConnectRequest};
use crate::drivers::tunnel::error::{NotProcessed, OpenError, TunnelError};
use crate::drivers::tunnel::refusal::Refusal;
use crate::drivers::tunnel::settings::Config;

/// Begins a tunnel: sends the preface and SETTINGS. Does not wait for the peer, so the first request shares their round
/// trip; a peer that never answers ends the [`Connection`].
///
/// # Errors
/// [`TunnelError`] when the preface could not be sent within [`Config::handshake_timeout`].
pub async fn handshake<T>(io: T, config: &Config) -> Result<(Client, Connection<T>), TunnelError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let meter = Meter::new();
    let builder = config.client();
    let begun = builder.handshake(Metered::client(io, Arc::clone(&meter)));
    let begun = timeout(config.handshake_timeout, begun).await;
    let (requests, mut h2) = begun.map_err(|_| TunnelError::Handshake(config.handshake_timeout))??;
    let state = Arc::new(State {
        live: AtomicUsize::new(0),
        limit: config.concurrent_streams() as usize,
        starved_after: config.starved_after,
        exhausted: AtomicBool::new(false),
        meter: Arc::clone(&meter),
        ended: watch::Sender::new(None),
    });
    let watch = watch(h2.ping_pong(), meter, config);
    let client = Client { requests: Arc::new(Mutex::new(Some(requests))), state: Arc::clone(&state) };
    Ok((client, Connection { h2: Some(h2), watch, state }))
}

/// What the client, its streams and its connection share.
struct State {
    live: AtomicUsize,
    limit: usize,
    starved_after: Duration,
    /// Out of stream numbers, or refused by h2 for another reason that will not go away.
    exhausted: AtomicBool,
    meter: Arc<Meter>,
    ended: watch::Sender<Option<TunnelError>>,
}

/// A live stream's place in the count.
struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens connections through one tunnel. Cheap to clone; when the last clone and the last stream are gone, the tunnel
/// closes by itself.
#[derive(Clone)]
pub struct Client {
    /// `None` once closed.
    requests: Arc<Mutex<Option<SendRequest<Bytes>>>>,
    state: Arc<State>,
}

/// A connection that the peer accepted.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub stream: Stream,
    /// The workload at the other end, as its node describes it; empty if it was not told.
    pub baggage: BaggageText,
}

impl Client {
    /// Asks the peer for a connection and waits for its answer, which may take as long as the peer's own dial. Dropping
    /// the future cancels the request.
    ///
    /// # Errors
    /// [`OpenError`] tells a refusal from a tunnel that did not take the request and from one that broke meanwhile.
    pub async fn open(&self, request: &ConnectRequest) -> Result<Opened, OpenError> {
        let request = request.to_http()?;
        let place = self.take_place()?;
        let mut requests = self.requests().ok_or(NotProcessed::Ended(TunnelError::Closed))?;
        let (answer, send) = requests.send_request(request, false).map_err(|error| self.not_sent(error))?;
        drop(requests);
        let (head, recv) = answer.await?.into_parts();
        if !head.status.is_success() {
            return Err(OpenError::Refused(Refusal::from_http(head.status, &head.headers)));
        }
        Ok(Opened { stream: Stream::new(send, recv, Some(Arc::new(place))), baggage: connect::baggage(&head.headers) })
    }

    /// How many streams are open or being opened.
    #[must_use]
    pub fn live(&self) -> usize {
        self.state.live.load(Ordering::Relaxed)
    }

    /// Whether it makes sense to open another stream here: the tunnel lives, the peer is not going away, neither our
    /// limit nor the peer's is reached, and the peer's connection window is not exhausted by readers that stalled. The
    /// last can happen with peers whose connection window is smaller than their streams' together (ztunnel: four
    /// stalled readers): what is open then waits for those readers, but new streams should take another tunnel.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.availability().is_ok()
    }

    /// Whether the tunnel has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.ended.borrow().is_some()
    }

    /// Waits for the tunnel's end and tells why; [`TunnelError::Closed`] if it was closed in order.
    pub async fn closed(&self) -> TunnelError {
        let mut ended = self.state.ended.subscribe();
        let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or(TunnelError::Closed)
    }

    /// Opens nothing more, here and in every clone; the tunnel ends when its live streams have.
    pub fn close(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn requests(&self) -> Option<SendRequest<Bytes>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn availability(&self) -> Result<(), NotProcessed> {
        if let Some(why) = &*self.state.ended.borrow() {
            return Err(NotProcessed::Ended(why.clone()));
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = requests.as_ref().ok_or(NotProcessed::Ended(TunnelError::Closed))?;
        let seen = self.state.meter.observed();
        if seen.going_away {
            return Err(NotProcessed::GoingAway);
        }
        let limit = self.state.limit.min(requests.current_max_send_streams());
        let starved = seen.starved_since.is_some_and(|since| since.elapsed() >= self.state.starved_after);
        if self.live() >= limit || starved || self.state.exhausted.load(Ordering::Relaxed) {
            return Err(NotProcessed::Full);
        }
        Ok(())
    }

    fn take_place(&self) -> Result<Place, NotProcessed> {
        self.availability()?;
        self.state.live.fetch_add(1, Ordering::Relaxed);
        Ok(Place(Arc::clone(&self.state)))
    }

    /// Judges an error of h2 about a request that it did not send.
    fn not_sent(&self, error: h2::Error) -> NotProcessed {
        if error.is_go_away() {
            return NotProcessed::GoingAway;
        }
        self.state.exhausted.store(true, Ordering::Relaxed);
        NotProcessed::Ended(error.into())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("live", &self.live()).field("available", &self.availability()).finish()
    }
}

/// The tunnel itself: nothing moves unless this future is driven. Ready with `Ok` when the tunnel was closed in order.
/// Dropping it breaks the tunnel and every stream in it.
pub struct Connection<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// `None` once ended, so that the streams learn of it at once.
    h2: Option<h2::client::Connection<Metered<T>, Bytes>>,
    watch: Watch,
    state: Arc<State>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), TunnelError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(h2) = &mut this.h2 else { return Poll::Ready(Ok(())) };
        let result = match this.watch.as_mut().poll(cx) {
            Poll::Ready(why) => Err(why),
            Poll::Pending => match Pin::new(h2).poll(cx) {
                Poll::Ready(result) => result.map_err(TunnelError::from),
                Poll::Pending => return Poll::Pending,
            },
        };
        this.end(result.clone().err().unwrap_or(TunnelError::Closed));
        Poll::Ready(result)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    fn end(&mut self, why: TunnelError) {
        self.state.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
        self.h2 = None;
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Connection<T> {
    fn drop(&mut self) {
        self.end(TunnelError::Closed);
    }
}
