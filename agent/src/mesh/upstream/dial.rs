//! TCP connections that the agent makes from inside a pod's network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

use super::options;
use crate::drivers::redirect::Sockets;
use crate::mesh::local::LocalPod;
use crate::sys::pod::reply_path::REPLY_MARK;
use crate::sys::socket;

/// An application of the node answers within a fraction of this, if it can; each further try has twice as long.
const ANOTHER_PORT_AFTER: Duration = Duration::from_millis(50);

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there: the far side answered with a reset.
    #[error("connection to {0} refused: nothing listens there")]
    Refused(SocketAddr),
    /// No answer in time.
    #[error(
        "connection to {address} timed out after {limit:?}; a NetworkPolicy or a firewall may drop it, or the node is down"
    )]
    TimedOut {
        /// Whom the agent dialled.
        address: SocketAddr,
        /// How long it waited.
        limit: Duration,
    },
    /// The network said that there is no way.
    #[error("no way to {address}: {source}; a route is missing, or a NetworkPolicy or firewall rejects it")]
    Unreachable {
        /// Whom the agent dialled.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent could not even begin: descriptors, ports or rights are missing.
    #[error(
        "this agent cannot make a connection to {address}: {source}; are its open files or the pod's source ports used up?"
    )]
    Local {
        /// Whom the agent wanted to dial.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Dials from the pod's own address, with these [`options`]; the redirection leaves the socket alone.
///
/// # Errors
/// [`DialError`]
pub async fn connect(
    pod: &LocalPod,
    sockets: &Sockets,
    (address, options): (SocketAddr, fn(&Socket) -> io::Result<()>),
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let local = |source| DialError::Local { address, source };
    let socket = pod.netns().run(|| socket::tcp_socket(address.ip())).and_then(|made| made).map_err(local)?;
    options(&socket).map_err(local)?;
    sockets.note_own(&socket).map_err(local)?;
    establish(socket, address, limit).await
}

/// Dials an application in the pod, speaking from `client`'s address where it is given, so that the application sees whom it
/// really talks to. The address must be of the application's family.
///
/// The source port is the kernel's choice, and the kernel does not know which ports the client uses itself: one that the application
/// already speaks to without us gets its answer, and we get none. An application that does not answer at once is dialled from
/// another port.
///
/// # Errors
/// [`DialError`]
pub async fn connect_application(
    pod: &LocalPod,
    sockets: &Sockets,
    client: Option<IpAddr>,
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let (mut left, mut wait) = (limit, ANOTHER_PORT_AFTER);
    loop {
        match connect_from(pod, sockets, client, address, wait.min(left)).await {
            Err(DialError::TimedOut { .. }) if wait < left => left -= wait,
            Err(DialError::TimedOut { .. }) => return Err(DialError::TimedOut { address, limit }),
            done => return done,
        }
        wait *= 2;
    }
}

async fn connect_from(
    pod: &LocalPod,
    sockets: &Sockets,
    client: Option<IpAddr>,
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let local = |source| DialError::Local { address, source };
    let socket = pod.netns().run(|| socket::tcp_socket(address.ip())).and_then(|made| made).map_err(local)?;
    options::of_application(&socket).map_err(local)?;
    sockets.note_delivery(&socket).map_err(local)?;
    socket.set_mark(REPLY_MARK).map_err(local)?;
    if let Some(client) = client {
        speak_from(&socket, client).map_err(local)?;
    }
    establish(socket, address, limit).await
}

/// Whether an accepted connection is a delivery of the agent's own that came back to it: the accepted socket inherits the mark of
/// the dial (`tcp_fwmark_accept`), and a mark does not survive the way between two namespaces.
///
/// # Errors
/// When the socket is closed already.
pub fn is_own_delivery(accepted: &TcpStream) -> io::Result<bool> {
    Ok(SockRef::from(accepted).mark()? == REPLY_MARK)
}

fn speak_from(socket: &Socket, client: IpAddr) -> io::Result<()> {
    socket::set_transparent(socket.as_fd(), client)?;
    socket::set_bind_address_no_port(socket.as_fd())?;
    socket.bind(&SocketAddr::new(client, 0).into())
}

async fn establish(socket: Socket, address: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
    let failed = |source| classify(address, limit, source);
    // Within the node the handshake is over by then.
    let is_established = socket::begin_connect(&socket, address).map_err(failed)?;
    let stream = TcpStream::from_std(socket.into()).map_err(failed)?;
    if is_established {
        return Ok(stream);
    }
    let answered = async {
        stream.writable().await?;
        stream.take_error()?.map_or(Ok(()), Err)
    };
    match tokio::time::timeout(limit, answered).await {
        Err(_) => Err(DialError::TimedOut { address, limit }),
        Ok(answer) => answer.map(|()| stream).map_err(failed),
    }
}

fn classify(address: SocketAddr, limit: Duration, source: io::Error) -> DialError {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of error kinds grows")]
    match source.kind() {
        ConnectionRefused | ConnectionReset => DialError::Refused(address),
        TimedOut => DialError::TimedOut { address, limit },
        HostUnreachable | NetworkUnreachable => DialError::Unreachable { address, source },
        _ => DialError::Local { address, source },
    }
}
