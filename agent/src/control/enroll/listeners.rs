//! The agent's listening sockets inside a pod's network namespace.
//!
//! The redirection chooses them by socket, so the port they are bound to does not matter to it. They take their usual ports, which
//! is what people look for with `ss`; where the application already has one of them, any free port does.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::mesh::local::Listeners;
use crate::mesh::upstream::options;
use crate::sys::netns::Netns;

const OUTBOUND: u16 = 15001;
const PLAINTEXT: u16 = 15006;
const HBONE: u16 = 15008;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One set of listeners per data-plane thread. The kernel spreads new connections over the threads' sockets (`SO_REUSEPORT`).
///
/// # Errors
/// When the namespace cannot be entered or descriptors run out.
pub fn open(netns: &Netns, threads: usize) -> io::Result<Vec<Listeners>> {
    netns.run(|| {
        let mut outbound = group(OUTBOUND, threads, options::of_application)?.into_iter();
        let mut plaintext = group(PLAINTEXT, threads, options::of_stranger)?.into_iter();
        let mut hbone = group(HBONE, threads, options::of_tunnel)?.into_iter();
        let mut sets = Vec::with_capacity(threads);
        while let (Some(outbound), Some(plaintext), Some(hbone)) = (outbound.next(), plaintext.next(), hbone.next()) {
            sets.push(Listeners { outbound, plaintext, hbone });
        }
        Ok(sets)
    })?
}

/// What the sockets that a listener accepts are born with.
type Inherited = fn(&Socket) -> io::Result<()>;

fn group(port: u16, threads: usize, inherited: Inherited) -> io::Result<Vec<TcpListener>> {
    let first = match listen(port, inherited) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => listen(0, inherited),
        other => other,
    }?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(port, inherited)?);
    }
    Ok(listeners)
}

/// Listens on all addresses of both families, or of IPv4 alone where IPv6 is off.
fn listen(port: u16, inherited: Inherited) -> io::Result<TcpListener> {
    match Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            inherited(&socket)?;
            match bind(&socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
                // A namespace with net.ipv6.conf.all.disable_ipv6=1 makes the socket but refuses the address.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => listen_v4(port, inherited),
                bound => bound.map(|()| socket.into()),
            }
        }
        Err(_) => listen_v4(port, inherited),
    }
}

fn listen_v4(port: u16, inherited: Inherited) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    inherited(&socket)?;
    bind(&socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    Ok(socket.into())
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}
