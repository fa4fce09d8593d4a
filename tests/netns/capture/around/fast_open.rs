//! TCP Fast Open and multipath TCP.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use harness::holds_for;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::way::Way;

/// `MSG_FASTOPEN`
const FAST_OPEN: i32 = 0x2000_0000;

/// `net.ipv4.tcp_fastopen`: data in the SYN, without asking for a cookie first.
const WITHOUT_COOKIE: &str = "5";

#[test]
fn fast_open_by_sendto() {
    let Some(way) = Way::new("fast_open_by_sendto") else { return };
    for cookie in ["1", WITHOUT_COOKIE] {
        way.netns().sysctl("net/ipv4/tcp_fastopen", cookie);
        let socket = way.socket();
        let open = || {
            let sent = socket.send_to_with_flags(way.secret.as_ref(), &way.to.into(), FAST_OPEN).unwrap();
            assert_eq!(sent, way.secret.as_str().len());
            TcpStream::from(socket)
        };
        way.check(open, |stream| way.finish(stream));
    }
}

#[test]
fn fast_open_by_connect() {
    let Some(way) = Way::new("fast_open_by_connect") else { return };
    for cookie in ["1", WITHOUT_COOKIE] {
        way.netns().sysctl("net/ipv4/tcp_fastopen", cookie);
        way.check_socket(|| {
            let socket = way.socket();
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).unwrap();
            socket.connect(&way.to.into()).unwrap();
            socket
        });
    }
}

#[test]
fn fast_open_is_held_while_the_agent_is_away() {
    let Some(way) = Way::new("fast_open_is_held_while_the_agent_is_away") else { return };
    way.netns().sysctl("net/ipv4/tcp_fastopen", WITHOUT_COOKIE);
    way.pair.agent_a.kill();
    let open = || {
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let stream = TcpStream::from(way.socket());
                let socket = socket2::SockRef::from(&stream);
                socket.send_to_with_flags(way.secret.as_ref(), &way.to.into(), FAST_OPEN).unwrap();
                way.finish(stream);
            });
            holds_for(Duration::from_millis(1200), "it waits", || !sending.is_finished());
            let agent = way.pair.a.start_agent();
            sending.join().expect("served in the end");
            agent
        })
    };
    way.check(open, drop);
}

#[test]
fn multipath_tcp() {
    let Some(way) = Way::new("multipath_tcp") else { return };
    if way.netns().read_sysctl("net/mptcp/enabled") != "1" {
        way.netns().sysctl("net/mptcp/enabled", "1");
    }
    way.netns().sysctl("net/ipv4/tcp_fastopen", WITHOUT_COOKIE);
    let socket = || {
        let made = way.netns().run(|| Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)));
        made.expect("the kernel speaks MPTCP")
    };
    let open = || {
        let socket = socket();
        socket.connect(&way.to.into()).unwrap();
        socket.send(way.secret.as_ref()).unwrap();
        TcpStream::from(socket)
    };
    // What getpeername() says of such a socket is not what was dialled: SECURITY.md.
    way.check(open, |stream| way.expect_echo(&stream));
    let open_fast = || {
        let socket = socket();
        socket.send_to_with_flags(way.secret.as_ref(), &way.to.into(), FAST_OPEN).unwrap();
        TcpStream::from(socket)
    };
    way.check(open_fast, |stream| way.expect_echo(&stream));
}
