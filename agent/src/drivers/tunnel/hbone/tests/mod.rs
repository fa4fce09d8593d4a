//! Both ends of real tunnels in one process, over loopback TCP or an in-memory pipe, and peers that misbehave.

mod hostile;
mod lifecycle;
mod raw;
mod relay;
mod stalled;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Stream;
use super::client::{Client, handshake};
use super::server::{Incoming, serve};
use crate::drivers::tunnel::{Config, ConnectRequest, Refusal, ResetReason, StreamError, TunnelError};
use crate::model::baggage::BaggageText;

/// What the server's application does with a connection; its port says which.
#[derive(Clone, Copy)]
#[repr(u16)]
enum App {
    /// Sends back what it gets, then ends.
    Echo = 1,
    /// Reads all, then sends the checksum and the length (8 bytes each) and ends.
    Sum,
    /// Sends 32 MiB of [`pattern`] and ends, without reading.
    Source,
    /// Accepts and does nothing until the stream breaks.
    Stall,
    /// Sends what the windows take, 32 KiB at a time, and never reads.
    Flood,
    /// Denies.
    Deny,
    /// Accepts, waits for a byte, then resets.
    Reset,
    /// Never answers.
    Silent,
    /// Never answers, nor notices that the peer gave up.
    Deaf,
    /// Ends its direction at once, then reads all and expects the peer's reset.
    ExpectReset,
}

const SOURCE: usize = 32 << 20;

fn to(app: App) -> ConnectRequest {
    ConnectRequest::to(std::net::SocketAddr::from(([10, 0, 0, 1], app as u16)))
}

/// The application's side of the relay.
async fn application(incoming: Incoming) {
    let Incoming { request, mut respond } = incoming;
    let Ok(request) = request else { return respond.reject(Refusal::BAD_REQUEST) };
    let port = request.authority.port();
    let is = |app: App| port == app as u16;
    if is(App::Deny) {
        return respond.reject(Refusal::DENIED);
    }
    if is(App::Silent) {
        return respond.cancelled().await;
    }
    if is(App::Deaf) {
        return std::future::pending().await;
    }
    let Ok(mut stream) = respond.accept(Some(&BaggageText::received("service.name=server"))) else { return };
    let _ = match port {
        _ if is(App::Echo) => echo(&mut stream).await,
        _ if is(App::Sum) => sum(&mut stream).await,
        _ if is(App::Source) => source(&mut stream).await,
        _ if is(App::Stall) => Err(stream.send.broken().await),
        _ if is(App::Flood) => flood(&mut stream).await.map(drop),
        _ if is(App::Reset) => {
            let _ = stream.recv.recv().await;
            stream.send.reset(ResetReason::Connect);
            Ok(())
        }
        _ => expect_reset(&mut stream).await,
    };
}

async fn echo(stream: &mut Stream) -> Result<(), StreamError> {
    while let Some(data) = stream.recv.recv().await {
        let mut data = data?;
        let size = data.len();
        stream.send.send(&mut data).await?;
        stream.recv.consumed(size);
    }
    stream.send.finish()
}

async fn sum(stream: &mut Stream) -> Result<(), StreamError> {
    let mut sum = Checksum::default();
    sum.read(stream).await?;
    let answer = [sum.sum.to_be_bytes(), sum.length.to_be_bytes()].concat();
    stream.send.send(&mut answer.into()).await?;
    stream.send.finish()
}

async fn source(stream: &mut Stream) -> Result<(), StreamError> {
    for part in 0..SOURCE / PIECE {
        stream.send.send(&mut pattern(part)).await?;
    }
    stream.send.finish()
}

async fn flood(stream: &mut Stream) -> Result<usize, StreamError> {
    loop {
        stream.send.send(&mut Bytes::from_static(&[7; 32 << 10])).await?;
    }
}

async fn expect_reset(stream: &mut Stream) -> Result<(), StreamError> {
    stream.send.finish()?;
    let error = stream.send.broken().await;
    assert_eq!(error, StreamError::Reset(ResetReason::Connect));
    Err(error)
}

const PIECE: usize = 64 << 10;

/// The `n`th piece of a byte stream in which every piece differs.
fn pattern(n: usize) -> Bytes {
    let mut piece: Vec<u8> = (0..PIECE).map(|i| ((i * 31) >> 3) as u8).collect();
    piece[..8].copy_from_slice(&n.to_be_bytes());
    piece.into()
}

/// Depends on every byte and its place (FNV-1a, a word at a time).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Checksum {
    sum: u64,
    length: u64,
    partial: Vec<u8>,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { sum: 0xcbf2_9ce4_8422_2325, length: 0, partial: Vec::new() }
    }
}

impl Checksum {
    fn add(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        self.partial.extend_from_slice(data);
        let whole = self.partial.len() / 8 * 8;
        for word in self.partial[..whole].chunks_exact(8) {
            let word = u64::from_be_bytes(word.try_into().unwrap());
            self.sum = (self.sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
        }
        self.partial.drain(..whole);
    }

    /// Takes in a stream up to its end.
    async fn read(&mut self, stream: &mut Stream) -> Result<(), StreamError> {
        while let Some(data) = stream.recv.recv().await {
            let data = data?;
            self.add(&data);
            stream.recv.consumed(data.len());
        }
        Ok(())
    }
}

/// Both ends of one tunnel. Dropped, it is broken.
struct Tunnel {
    client: Client,
    shutdown: Option<oneshot::Sender<()>>,
    ends: JoinSet<(&'static str, Result<(), TunnelError>)>,
}

impl Tunnel {
    async fn over_tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (client, (server, _)) = (client.unwrap(), server.unwrap());
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        Self::over(client, server, &Config::default(), &Config::default()).await
    }

    async fn in_memory() -> Self {
        Self::with(&Config::default(), &Config::default()).await
    }

    async fn with(client: &Config, server: &Config) -> Self {
        let (one, other) = tokio::io::duplex(256 << 10);
        Self::over(one, other, client, server).await
    }

    async fn over<T>(one: T, other: T, client: &Config, server: &Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut ends = JoinSet::new();
        let (shutdown, stop) = oneshot::channel::<()>();
        let server = server.clone();
        ends.spawn(async move {
            let stop = async { drop(stop.await) };
            ("server", serve(other, &server, stop, application).await)
        });
        let (client, connection) = handshake(one, client).await.unwrap();
        ends.spawn(async move { ("client", connection.await) });
        Self { client, shutdown: Some(shutdown), ends }
    }

    async fn open(&self, app: App) -> Stream {
        self.client.open(&to(app)).await.unwrap().stream
    }

    /// Tells the server to shut down.
    fn shut_down(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// The result of the end that ends next.
    async fn next_end(&mut self) -> (&'static str, Result<(), TunnelError>) {
        soon(self.ends.join_next()).await.unwrap().unwrap()
    }

    /// A connection through the tunnel works.
    async fn assert_works(&self) {
        let mut stream = self.open(App::Echo).await;
        stream.send.send(&mut Bytes::from_static(b"hello")).await.unwrap();
        stream.send.finish().unwrap();
        assert_eq!(soon(read_all(&mut stream)).await.unwrap(), b"hello");
    }
}

async fn read_all(stream: &mut Stream) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(data) = stream.recv.recv().await {
        let data = data?;
        all.extend_from_slice(&data);
        stream.recv.consumed(data.len());
    }
    Ok(all)
}

/// What does not happen within half a minute does not happen.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("it should have happened by now")
}

/// Waits until the condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("not reached: {what}"));
}
