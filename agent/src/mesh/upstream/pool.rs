//! The tunnels that one pod has to others, on one data-plane thread: made once under concurrent demand, shared by streams,
//! released when idle.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, LocalBoxFuture, Shared};
use tokio::sync::oneshot;

use super::attempts::Retry;
use super::dial::{self, DialError};
use super::options;
use crate::drivers::certs::tls::config::client_config;
use crate::drivers::certs::tls::handshake::{self, HandshakeError};
use crate::drivers::certs::tls::records::RecordStream;
use crate::drivers::redirect::Sockets;
use crate::drivers::tunnel::client::{Client, Opened};
use crate::drivers::tunnel::{
    Cause, Config as TunnelConfig, ConnectRequest, FirstBytes, OpenError, TunnelError as HboneError, hbone, mux,
};
use crate::mesh::local::LocalPod;
use crate::model::identity::Identity;
use crate::runtime::budget::{Exhausted, Permit};
use crate::runtime::tasks::LocalTasks;
use crate::telemetry::labels::ResponseFlags;
use crate::telemetry::metrics::{OpenTunnel, TunnelMetrics};

/// Whom a tunnel leads to. The source pod is the pool's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The destination pod's HBONE address.
    pub address: SocketAddr,
    /// The identity that the destination must prove.
    pub identity: Identity,
}

/// What a pool needs from the agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The redirection's notes about sockets.
    pub sockets: Sockets,
    /// Limits and timers of tunnels.
    pub tunnel: Arc<TunnelConfig>,
    /// What is offered to peers, the preferred one first.
    pub protocols: &'static [&'static [u8]],
    /// Time for the TLS and HTTP/2 handshakes.
    pub handshake_limit: Duration,
    /// Time for TCP to the peer's agent.
    pub dial_limit: Duration,
    /// A tunnel without a stream for this long is closed.
    pub idle: Duration,
    /// What is counted.
    pub metrics: TunnelMetrics,
}

/// See the module.
pub struct Pool {
    pod: Arc<LocalPod>,
    config: Config,
    tasks: LocalTasks,
    slots: RefCell<HashMap<Key, Slot>>,
    made: Cell<u64>,
}

#[derive(Default)]
struct Slot {
    open: Vec<Tunnel>,
    dialing: Option<Dialing>,
}

/// So many tunnels to one peer are made only to get out of the way of bulk transfers.
const MOST_BESIDE_BULK: usize = 4;

/// What there is for another stream.
enum Usable {
    /// This one.
    Quiet(Client),
    /// This one, if there is no other to be had: a bulk transfer goes through it.
    Busy(Client),
    /// Nothing.
    None,
}

/// A tunnel and its number in the pool.
#[derive(Clone)]
struct Tunnel {
    number: u64,
    client: Client,
}

type Dialing = Shared<oneshot::Receiver<Result<(), Arc<TunnelError>>>>;

/// Why no tunnel could be made.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// TCP to the peer's agent failed.
    #[error("the agent of the destination pod cannot be reached: {0}")]
    Dial(
        #[source]
        #[from]
        DialError,
    ),
    /// Mutual TLS failed.
    #[error("mutual TLS with the destination pod failed: {0}")]
    Tls(#[source] HandshakeError),
    /// HTTP/2 failed.
    #[error("HBONE with the destination pod failed: {0}")]
    Http2(#[source] HboneError),
    /// The pod holds as many descriptors as it may.
    #[error("no tunnel can be made: {0}")]
    Limit(#[from] Exhausted),
    /// The agent is ending.
    #[error("the agent is ending")]
    Ended,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// There is no tunnel to open it in.
    #[error(transparent)]
    Tunnel(#[from] Arc<TunnelError>),
    /// The peer's agent, or the tunnel, said no.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No answer in time.
    #[error("the destination pod's agent did not answer within {0:?}")]
    TimedOut(Duration),
}

impl TunnelError {
    /// The error in one word, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Dial(DialError::Refused(_)) => "refused",
            Self::Dial(DialError::TimedOut { .. }) => "timed_out",
            Self::Dial(DialError::Unreachable { .. }) => "unreachable",
            Self::Dial(DialError::Local { .. }) => "local",
            Self::Tls(HandshakeError::Credentials(_)) => "no_certificate",
            Self::Tls(_) => "tls",
            Self::Http2(_) => "http2",
            Self::Limit(_) => "limit",
            Self::Ended => "ended",
        }
    }
}

impl OpenFailure {
    /// Whether another attempt can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Tunnel(error) => match &**error {
                TunnelError::Dial(DialError::Refused(_)) | TunnelError::Http2(_) => Retry::Again,
                TunnelError::Dial(DialError::Local { .. }) | TunnelError::Limit(_) | TunnelError::Ended => Retry::Never,
                // The peer's agent may just be starting, ending or renewing: its socket was there, but nobody spoke for it.
                TunnelError::Tls(HandshakeError::Connection(_) | HandshakeError::Credentials(_)) => Retry::Again,
                TunnelError::Dial(_) | TunnelError::Tls(_) => Retry::Elsewhere,
            },
            Self::Open(OpenError::NotProcessed(_) | OpenError::Interrupted(_)) => Retry::Again,
            Self::Open(OpenError::Refused(refusal)) if refusal.cause == Cause::Denied => Retry::Never,
            Self::Open(OpenError::Refused(_) | OpenError::Reset(_)) | Self::TimedOut(_) => Retry::Elsewhere,
        }
    }

    /// Istio's flag for it.
    #[must_use]
    pub fn flags(&self) -> ResponseFlags {
        match self {
            Self::Tunnel(error) => match &**error {
                TunnelError::Dial(_) | TunnelError::Limit(_) | TunnelError::Ended => ResponseFlags::Connect,
                TunnelError::Tls(HandshakeError::Credentials(_)) => ResponseFlags::IdentityError,
                TunnelError::Tls(_) => ResponseFlags::TlsFailure,
                TunnelError::Http2(_) => ResponseFlags::H2HandshakeFailure,
            },
            Self::Open(OpenError::Refused(refusal)) if refusal.status == 401 => ResponseFlags::Deny,
            Self::Open(_) | Self::TimedOut(_) => ResponseFlags::Connect,
        }
    }
}

impl Pool {
    /// An empty pool of `pod`. Its tunnels are driven by `tasks`.
    #[must_use]
    pub fn new(pod: Arc<LocalPod>, config: Config, tasks: LocalTasks) -> Rc<Self> {
        Rc::new(Self { pod, config, tasks, slots: RefCell::default(), made: Cell::new(0) })
    }

    /// Opens a stream to a pod, in a tunnel that is there or in a new one, within `limit`.
    ///
    /// # Errors
    /// [`OpenFailure`]
    pub async fn open(
        self: &Rc<Self>,
        key: Key,
        (request, first): (&ConnectRequest, &FirstBytes<'_>),
        limit: Duration,
    ) -> Result<Opened, OpenFailure> {
        tokio::time::timeout(limit, self.open_unbounded(key, request, first))
            .await
            .unwrap_or(Err(OpenFailure::TimedOut(limit)))
    }

    async fn open_unbounded(
        self: &Rc<Self>,
        key: Key,
        request: &ConnectRequest,
        first: &FirstBytes<'_>,
    ) -> Result<Opened, OpenFailure> {
        loop {
            let client = match self.usable(&key) {
                Usable::Quiet(client) => client,
                // Better a moment for another tunnel than to wait behind the bulk for as long as both last.
                Usable::Busy(client) => match self.dialing(&key).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) | Err(_) => client,
                },
                Usable::None => {
                    self.dialing(&key).await.map_err(|_| Arc::new(TunnelError::Ended))??;
                    continue;
                }
            };
            match client.open(request, first).await {
                // The tunnel ended before the peer looked at the request: it is safe to ask again, in another tunnel.
                Err(error) if error.is_safe_to_retry() && !client.can_open() => {}
                result => return Ok(result?),
            }
        }
    }

    /// A tunnel that takes another stream, one without a bulk transfer if there is one or may be.
    fn usable(&self, key: &Key) -> Usable {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return Usable::None };
        slot.open.retain(|tunnel| !tunnel.client.is_closed());
        let mut open = slot.open.iter().map(|tunnel| &tunnel.client).filter(|client| client.can_open()).peekable();
        let Some(&first) = open.peek() else { return Usable::None };
        match open.find(|client| !client.is_busy()) {
            Some(quiet) => Usable::Quiet(quiet.clone()),
            None if slot.open.len() < MOST_BESIDE_BULK => Usable::Busy(first.clone()),
            None => Usable::Quiet(first.clone()),
        }
    }

    /// The one attempt to make a tunnel that is under way, or a new one.
    fn dialing(self: &Rc<Self>, key: &Key) -> Dialing {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(key.clone()).or_default();
        slot.dialing.get_or_insert_with(|| self.start_dialing(key.clone())).clone()
    }

    /// A task of its own: it ends also when everyone who waited for it has given up.
    fn start_dialing(self: &Rc<Self>, key: Key) -> Dialing {
        let (done, result) = oneshot::channel();
        let pool = Rc::clone(self);
        self.tasks.spawn(async move {
            let drain = pool.pod.drain.clone();
            tokio::select! {
                // Nobody may be waiting any more; the tunnel is there for the next.
                result = pool.dial(key) => drop(done.send(result)),
                () = drain.ended() => {}
            }
        });
        result.shared()
    }

    async fn dial(self: &Rc<Self>, key: Key) -> Result<(), Arc<TunnelError>> {
        self.config.metrics.dialling();
        let made = self.make(&key).await.inspect_err(|error| self.config.metrics.failed(error.reason()));
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(key.clone()).or_default();
        slot.dialing = None;
        match made {
            Ok((client, connection)) => {
                self.made.set(self.made.get() + 1);
                let tunnel = Tunnel { number: self.made.get(), client };
                slot.open.push(tunnel.clone());
                self.tasks.spawn(Rc::clone(self).drive(key, tunnel, connection));
                Ok(())
            }
            Err(error) => {
                if slot.open.is_empty() {
                    slots.remove(&key);
                }
                Err(Arc::new(error))
            }
        }
    }

    async fn make(&self, key: &Key) -> Result<(Client, LocalBoxFuture<'static, ()>), TunnelError> {
        let permit: Permit = self.pod.shares.descriptors.take(1)?;
        let Config { sockets, tunnel, handshake_limit, dial_limit, protocols, .. } = &self.config;
        let socket = dial::connect(&self.pod, sockets, (key.address, options::of_tunnel), *dial_limit).await?;
        let config = client_config(&self.pod.credentials, [key.identity.clone()].into(), protocols);
        let session = handshake::connect(socket, &config, *handshake_limit).await.map_err(TunnelError::Tls)?;
        if session.protocol.as_deref() == Some(mux::PROTOCOL) {
            let (client, connection) = mux::begin(session.connection, tunnel);
            return Ok((Client::Mux(client), held((permit, self.config.metrics.made()), connection)));
        }
        let handshake = hbone::client::handshake(RecordStream::from(session.connection), tunnel);
        let (client, connection) = handshake.await.map_err(TunnelError::Http2)?;
        Ok((Client::Hbone(client), held((permit, self.config.metrics.made()), connection)))
    }

    /// Runs a tunnel until it ends; ends it when it is idle or its pod leaves.
    async fn drive(self: Rc<Self>, key: Key, tunnel: Tunnel, connection: impl Future<Output = ()>) {
        let drain = self.pod.drain.clone();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            () = &mut connection => true,
            () = idle(&tunnel.client, self.config.idle) => false,
            () = drain.begun() => false,
        };
        self.forget(&key, tunnel.number);
        tunnel.client.close();
        if !ended {
            tokio::select! {
                () = connection => {}
                () = drain.ended() => {}
            }
        }
    }

    fn forget(&self, key: &Key, number: u64) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return };
        slot.open.retain(|tunnel| tunnel.number != number);
        if slot.open.is_empty() && slot.dialing.is_none() {
            slots.remove(key);
        }
    }
}

/// A tunnel's own work, which holds its descriptor until it ends.
fn held<E>(
    what: (Permit, OpenTunnel),
    connection: impl Future<Output = Result<(), E>> + 'static,
) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        let _held = what;
        drop(connection.await);
    })
}

/// Completes when the tunnel has had no stream for the whole time.
async fn idle(client: &Client, limit: Duration) {
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(limit / 4).await;
        if client.live() > 0 {
            since = Instant::now();
        } else if since.elapsed() >= limit {
            return;
        }
    }
}
