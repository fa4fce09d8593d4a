//! Byte copying between two ends of a connection, with half-close and reset kept as they are.
//!
//! While a connection is under way, closing one of its sockets is a reset: that is what any end of the agent itself means, a drain's
//! deadline, a crash. Half an answer must not look like a whole one. Sockets come here with that option set.
//!
//! An idle connection holds no buffer: a thread's connections share one scratch buffer that is only used between two awaits.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::drivers::tunnel::edge;
use crate::drivers::tunnel::hbone::{self, RecvHalf, SendHalf};
use crate::drivers::tunnel::mux::{self, MuxStream};
use crate::drivers::tunnel::stream::Stream;
use crate::drivers::tunnel::{ResetReason, StreamError};
use crate::model::policy::evaluate::Verdict;
use crate::runtime::traffic::Sender;
pub use crate::runtime::traffic::Traffic;

/// Bytes that one turn may move before other connections of the thread get theirs: without it, one bulk stream delays all others.
const TURN: usize = 128 * 1024;

const SCRATCH: usize = 256 * 1024;

/// Read sizes into a tunnel: a quiet connection starts small, a busy one grows to what fills records well.
const SMALLEST_READ: usize = 4 * 1024;
const LARGEST_READ: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Why a connection ended other than by both sides closing it.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A socket failed; usually its owner reset it.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The tunnel's stream failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Policies have changed and do not let it in any more.
    #[error("closed by a change of policy: {0}")]
    Revoked(Verdict),
}

/// Relays between two sockets until both directions have ended, or `revoked` is ready.
///
/// # Errors
/// [`RelayError`] when either side resets or the connection is revoked; both have been reset then.
pub async fn sockets(
    client: TcpStream,
    server: TcpStream,
    traffic: &Traffic,
    revoked: impl Future<Output = Verdict>,
) -> Result<(), RelayError> {
    let result = {
        let up = pin!(pump(&client, &server, &traffic.from_client));
        let down = pin!(pump(&server, &client, &traffic.from_server));
        unless_revoked(pin!(both(up, down, &client, Some(&server))), pin!(revoked)).await
    };
    finish(result, [Some(&client), Some(&server)])
}

/// Relays between a client's socket and a tunnel's stream that leads to its server.
///
/// # Errors
/// [`RelayError`]; both sides have been reset then.
pub fn to_tunnel(
    client: TcpStream,
    stream: Stream,
    traffic: &Rc<Traffic>,
) -> impl Future<Output = Result<(), RelayError>> {
    socket_and_stream(client, stream, (traffic, Sender::Client), std::future::pending())
}

/// Relays between a tunnel's stream that leads to a client and the server's socket, unless `revoked` is ready.
///
/// # Errors
/// [`RelayError`]; both sides have been reset then.
pub fn from_tunnel(
    stream: Stream,
    server: TcpStream,
    traffic: &Rc<Traffic>,
    revoked: impl Future<Output = Verdict>,
) -> impl Future<Output = Result<(), RelayError>> {
    socket_and_stream(server, stream, (traffic, Sender::Server), revoked)
}

async fn socket_and_stream(
    socket: TcpStream,
    stream: Stream,
    (traffic, sender): (&Rc<Traffic>, Sender),
    revoked: impl Future<Output = Verdict>,
) -> Result<(), RelayError> {
    match stream {
        Stream::Mux(stream) => with_mux(socket, stream, (traffic, sender), revoked).await,
        Stream::Hbone(stream) => {
            let counts = [traffic.of(sender), traffic.of(sender.other())];
            Box::pin(with_hbone(socket, *stream, counts, revoked)).await
        }
    }
}

async fn with_mux(
    socket: TcpStream,
    stream: MuxStream,
    (traffic, sender): (&Rc<Traffic>, Sender),
    revoked: impl Future<Output = Verdict>,
) -> Result<(), RelayError> {
    let socket = Rc::new(socket);
    stream.attach(&socket, traffic, sender.other());
    let result = {
        let up = pin!(async { Ok(stream.send_all(&socket, traffic, sender).await?) });
        let down = pin!(async { Ok(stream.receive_all(&socket).await?) });
        unless_revoked(pin!(both(up, down, &socket, None)), pin!(revoked)).await
    };
    if result.is_err() {
        stream.reset(ResetReason::Connect);
    }
    finish(result, [Some(&socket), None])
}

async fn with_hbone(
    socket: TcpStream,
    stream: hbone::Stream,
    [from_socket, from_stream]: [&Cell<u64>; 2],
    revoked: impl Future<Output = Verdict>,
) -> Result<(), RelayError> {
    let (mut sender, mut receiver) = stream.split();
    let result = {
        let up = pin!(into_stream(&socket, &mut sender, from_socket));
        let down = pin!(from_stream_into(&mut receiver, &socket, from_stream));
        unless_revoked(pin!(both(up, down, &socket, None)), pin!(revoked)).await
    };
    if result.is_err() {
        // RFC 9113, section 8.5: a TCP connection that fails is told as CONNECT_ERROR.
        sender.reset(ResetReason::Connect);
    }
    finish(result, [Some(&socket), None])
}

impl From<mux::RelayError> for RelayError {
    fn from(error: mux::RelayError) -> Self {
        match error {
            mux::RelayError::Socket(error) => Self::Socket(error),
            mux::RelayError::Stream(error) => Self::Stream(error),
        }
    }
}

fn finish(result: Result<(), RelayError>, sockets: [Option<&TcpStream>; 2]) -> Result<(), RelayError> {
    if result.is_ok() {
        // A socket that is closed already needs nothing more.
        sockets.into_iter().flatten().for_each(|socket| drop(SockRef::from(socket).set_linger(None)));
    }
    result
}

/// Futures come pinned: one that is moved into another is kept twice in it, once as what came in and once as what is awaited.
async fn unless_revoked(
    relay: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    revoked: Pin<&mut impl Future<Output = Verdict>>,
) -> Result<(), RelayError> {
    match select(revoked, relay).await {
        Either::Left((verdict, _)) => Err(RelayError::Revoked(verdict)),
        Either::Right((result, _)) => result,
    }
}

/// Runs both directions. Once one has ended, its source may still be reset while the other direction is quiet.
async fn both(
    up: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    down: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    up_source: &TcpStream,
    down_source: Option<&TcpStream>,
) -> Result<(), RelayError> {
    match select(up, down).await {
        Either::Left((result, down)) => {
            result?;
            unless_reset(down, Some(up_source)).await
        }
        Either::Right((result, up)) => {
            result?;
            unless_reset(up, down_source).await
        }
    }
}

async fn unless_reset(
    rest: impl Future<Output = Result<(), RelayError>> + Unpin,
    ended: Option<&TcpStream>,
) -> Result<(), RelayError> {
    let Some(ended) = ended else { return rest.await };
    match select(rest, pin!(ended.ready(Interest::ERROR))).await {
        Either::Left((result, _)) => result,
        Either::Right((_, _)) => Err(reset_of(ended)?.into()),
    }
}

async fn pump(from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> Result<(), RelayError> {
    let mut turn = Turn::default();
    loop {
        match move_once(from, to)? {
            Moved::Nothing => from.readable().await?,
            Moved::Everything(0) => break,
            Moved::Everything(length) => {
                count.set(count.get() + length as u64);
                turn.spend(length).await;
            }
            Moved::Part(length, rest) => {
                unless_source_reset(pin!(write_all(to, &rest)), from).await??;
                count.set(count.get() + length as u64);
                turn.spend(length).await;
            }
        }
    }
    close_write(to)?;
    Ok(())
}

/// Does `work`, unless `source` is reset meanwhile: what it sent before is not waited for, since a destination that does not read
/// would keep the connection for good.
async fn unless_source_reset<T>(work: Pin<&mut impl Future<Output = T>>, source: &TcpStream) -> io::Result<T> {
    match select(work, pin!(source.ready(Interest::ERROR))).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((_, _)) => Err(reset_of(source)?),
    }
}

fn reset_of(socket: &TcpStream) -> io::Result<io::Error> {
    Ok(SockRef::from(socket).take_error()?.unwrap_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)))
}

enum Moved {
    /// Nothing to read for now.
    Nothing,
    /// So many bytes were read and written; 0 is the end.
    Everything(usize),
    /// So many bytes were read, but these did not fit into the other socket.
    Part(usize, Vec<u8>),
}

fn move_once(from: &TcpStream, to: &TcpStream) -> io::Result<Moved> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = match from.try_read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Nothing),
            Err(error) => return Err(error),
        };
        let written = write_some(to, &buffer[..length])?;
        Ok(if written == length {
            Moved::Everything(length)
        } else {
            Moved::Part(length, buffer[written..length].to_vec())
        })
    })
}

fn write_some(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.try_write(&bytes[written..]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        bytes = &bytes[write_some(to, bytes)?..];
        if bytes.is_empty() {
            return Ok(());
        }
        to.writable().await?;
    }
}

async fn into_stream(from: &TcpStream, to: &mut SendHalf, count: &Cell<u64>) -> Result<(), RelayError> {
    let mut turn = Turn::default();
    let mut size = SMALLEST_READ;
    let mut buffer = BytesMut::new();
    loop {
        let read = if size == SMALLEST_READ { read_little(from) } else { read_much(from, &mut buffer, size) };
        match read {
            Ok((mut bytes, is_last)) => {
                let length = bytes.len();
                if length > 0 {
                    size = if length >= size { (size * 2).min(LARGEST_READ) } else { size };
                    unless_source_reset(pin!(to.send(&mut bytes)), from).await??;
                    count.set(count.get() + length as u64);
                }
                if is_last {
                    break;
                }
                turn.spend(length).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                buffer = BytesMut::new();
                readable_unless_reset(from, to).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    to.finish()?;
    Ok(())
}

/// Reads what fits into a small piece of memory of its own, and says whether nothing comes after it.
fn read_little(from: &TcpStream) -> io::Result<(Bytes, bool)> {
    BUFFER.with_borrow_mut(|buffer| {
        let buffer = &mut buffer[..SMALLEST_READ];
        let read = edge::read(from, &mut [IoSliceMut::new(buffer)])?;
        Ok((Bytes::copy_from_slice(&buffer[..read.length]), read.is_last))
    })
}

/// Reads at most `size` bytes to where they stay.
fn read_much(from: &TcpStream, buffer: &mut BytesMut, size: usize) -> io::Result<(Bytes, bool)> {
    buffer.reserve(size);
    let length = from.try_read_buf(buffer)?;
    Ok((buffer.split().freeze(), length == 0))
}

/// The peer may reset the stream while the socket has nothing to say.
async fn readable_unless_reset(from: &TcpStream, to: &mut SendHalf) -> Result<(), RelayError> {
    match select(pin!(from.readable()), pin!(to.broken())).await {
        Either::Left((readable, _)) => Ok(readable?),
        Either::Right((reset, _)) => Err(reset.into()),
    }
}

async fn from_stream_into(from: &mut RecvHalf, to: &TcpStream, count: &Cell<u64>) -> Result<(), RelayError> {
    let mut turn = Turn::default();
    while let Some(bytes) = from.recv().await {
        let bytes = bytes?;
        from.recv_during(write_all(to, &bytes)).await??;
        from.consumed(bytes.len());
        count.set(count.get() + bytes.len() as u64);
        turn.spend(bytes.len()).await;
    }
    close_write(to)?;
    Ok(())
}

fn close_write(socket: &TcpStream) -> io::Result<()> {
    match SockRef::from(socket).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

/// Counts down to the moment when a copy loop lets others run.
#[derive(Default)]
struct Turn(usize);

impl Turn {
    async fn spend(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= TURN {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}
