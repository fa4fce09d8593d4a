//! Options of the sockets that carry connections. Accepted ones are born with their listener's, which saves a call for each.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use crate::sys::socket;

/// How much of a tunnel may wait in the kernel before it is on its way, in bytes: what is added last waits for all of it.
const MOST_UNSENT: u32 = 128 * 1024;

/// After so much silence, and then as often, a peer is asked whether it is there; given up after nine times. As in ztunnel.
const KEEPALIVE: Duration = Duration::from_secs(180);

/// Between the agent and an application of its node, over loopback: no delay, reads tell what they leave, and a close is a reset until the relay
/// knows better. Either side's end is always told there, so nobody has to be asked.
///
/// # Errors
/// When the socket is closed already.
pub fn of_application(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket::set_tells_rest(socket.as_fd())?;
    socket.set_linger(Some(Duration::ZERO))
}

/// To or from somebody outside the mesh: also, one that died is noticed.
///
/// # Errors
/// When the socket is closed already.
pub fn of_stranger(socket: &Socket) -> io::Result<()> {
    of_application(socket)?;
    keep_alive(socket)
}

/// Under a tunnel: no delay, one that died is noticed, and little waits that could still be overtaken.
///
/// # Errors
/// When the socket is closed already.
pub fn of_tunnel(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket::set_unsent_limit(socket.as_fd(), MOST_UNSENT)?;
    keep_alive(socket)
}

fn keep_alive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(9))
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::*;

    /// What a socket has that was accepted by a listener with these options.
    fn accepted(options: fn(&Socket) -> io::Result<()>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        options(&SockRef::from(&listener)).unwrap();
        let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap().0
    }

    #[test]
    fn accepted_sockets_inherit_everything() {
        let socket = accepted(of_application);
        let (_, rest) = socket::receive(socket.as_fd(), &mut [IoSliceMut::new(&mut [0; 8])], 0).unwrap();
        assert_eq!(rest, Some(1), "reads tell what they leave, here the other side's end");
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && !socket.keepalive().unwrap());
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        let socket = accepted(of_stranger);
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        let socket = accepted(of_tunnel);
        let socket = SockRef::from(&socket);
        assert_eq!((socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap()), (true, KEEPALIVE));
        assert_eq!(socket.linger().unwrap(), None);
    }
}
