//! Sockets that are made, bound or connected in unusual ways.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, getpeername};
use socket2::{Domain, Protocol, Socket, Type};

use super::way::{PORT, Way};

#[test]
fn connect_by_io_uring() {
    let Some(way) = Way::new("connect_by_io_uring") else { return };
    let open = || {
        way.netns().run(|| {
            tokio_uring::start(async {
                let stream = tokio_uring::net::TcpStream::connect(way.to).await.unwrap();
                let peer: SockaddrStorage = getpeername(stream.as_raw_fd()).unwrap();
                assert_eq!(peer.to_string(), way.to.to_string());
                stream.write_all(way.secret.as_str().as_bytes().to_vec()).await.0.unwrap();
                let (mut echo, length) = (Vec::new(), way.secret.as_str().len());
                while echo.len() < length {
                    let (read, buffer) = stream.read(vec![0; length]).await;
                    let read = read.unwrap();
                    assert!(read > 0, "it ends early");
                    echo.extend_from_slice(&buffer[..read]);
                }
                assert_eq!(echo, way.secret.as_str().as_bytes());
            });
        });
    };
    way.check(open, drop);
}

#[test]
fn an_ipv4_mapped_address_on_an_ipv6_socket() {
    let Some(way) = Way::new("an_ipv4_mapped_address_on_an_ipv6_socket") else { return };
    let IpAddr::V4(v4) = way.to.ip() else { unreachable!("the first address is IPv4") };
    way.check_socket(|| {
        let socket = way.netns().run(|| Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))).unwrap();
        socket.connect(&SocketAddr::from((v4.to_ipv6_mapped(), PORT)).into()).unwrap();
        socket
    });
}

#[test]
fn a_socket_from_before_the_pod_joined() {
    let Some(way) = Way::plain("a_socket_from_before_the_pod_joined") else { return };
    let socket = way.socket();
    way.pair.enrol();
    way.check_socket(|| {
        socket.connect(&way.to.into()).unwrap();
        socket
    });
}

#[test]
fn a_socket_that_is_bound_to_an_address_and_a_port() {
    let Some(way) = Way::new("a_socket_that_is_bound_to_an_address_and_a_port") else { return };
    let own = way.pair.client.ip();
    for bound in [SocketAddr::new(own, 0), SocketAddr::new(own, 3333), (Ipv4Addr::UNSPECIFIED, 4444).into()] {
        way.check_socket(|| {
            let socket = way.socket();
            socket.bind(&bound.into()).unwrap();
            socket.connect(&way.to.into()).unwrap();
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(local.ip(), own);
            assert!(bound.port() == 0 || local.port() == bound.port());
            socket
        });
    }
}

#[test]
fn a_socket_that_is_bound_to_a_device_is_captured_or_fails() {
    let Some(way) = Way::new("a_socket_that_is_bound_to_a_device_is_captured_or_fails") else { return };
    let capture = way.pair.mesh.capture();
    let socket = way.socket();
    socket.bind_device(Some(b"eth0")).unwrap();
    if socket.connect_timeout(&way.to.into(), Duration::from_secs(3)).is_ok() {
        socket.set_nonblocking(false).unwrap();
        let _ = socket.send(way.secret.as_ref());
    }
    let wire = capture.stop();
    wire.assert_never_in_clear(&way.secret);
    wire.assert_only_tls();
    assert!(wire.streams().iter().all(|s| s.destination != way.to), "past the agent: {wire}");
}

#[test]
fn a_connect_that_does_not_block() {
    let Some(way) = Way::new("a_connect_that_does_not_block") else { return };
    way.check_socket(|| {
        let socket = way.socket();
        socket.set_nonblocking(true).unwrap();
        let begun = socket.connect(&way.to.into()).unwrap_err();
        assert_eq!(begun.raw_os_error(), Some(nix::libc::EINPROGRESS));
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap(), 1);
        assert!(socket.take_error().unwrap().is_none());
        socket.connect(&way.to.into()).expect("the second call says that it is there");
        socket
    });
}

#[test]
fn a_connect_again_after_one_that_failed() {
    let Some(way) = Way::new("a_connect_again_after_one_that_failed") else { return };
    let outside = way.pair.mesh.external("outside");
    way.check_socket(|| {
        let socket = way.socket();
        // Captured and then reset, left alone and refused, taken back: the last one counts.
        let _ = socket.connect(&outside.addr(9).into());
        let closed = TcpStream::from(socket);
        assert_eq!((&closed).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let socket = Socket::from(closed);
        rustix::net::connect_unspec(&socket).unwrap();
        let refused = socket.connect(&SocketAddr::from(([127, 0, 0, 1], 9)).into()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        socket.connect(&way.to.into()).unwrap();
        socket
    });
    let local = way.pair.client.serve_echo(7);
    let socket = way.socket();
    socket.connect(&way.to.into()).unwrap();
    rustix::net::connect_unspec(&socket).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], local.port()));
    socket.connect(&to.into()).unwrap();
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(to), "nothing is left of the first destination");
}
