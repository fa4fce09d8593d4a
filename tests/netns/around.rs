//! Ways to open a TCP connection that are not a plain connect(): none leads around the capture.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use harness::{DEADLINE, Marker, Netns, Pod, Server, holds_for};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, getpeername, setsockopt, sockopt};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::Pair;

const PORT: u16 = 8080;

/// `MSG_FASTOPEN`
const FAST_OPEN: i32 = 0x2000_0000;

/// `net.ipv4.tcp_fastopen`: data in the SYN, without asking for a cookie first.
const WITHOUT_COOKIE: &str = "5";

/// Longer than two retransmissions of a SYN.
const PATIENCE: Duration = Duration::from_secs(15);

/// An enrolled client and a server that is about to hear of it.
struct Way {
    pair: Pair,
    echo: Server,
    to: SocketAddr,
    secret: Marker,
}

impl Way {
    fn new(test: &str) -> Option<Self> {
        let way = Self::plain(test)?;
        way.pair.enrol();
        Some(way)
    }

    fn plain(test: &str) -> Option<Self> {
        let pair = Pair::plain(test)?;
        let (echo, to) = (pair.server.serve_echo(PORT), pair.server.addr(PORT));
        Some(Self { pair, echo, to, secret: Marker::new() })
    }

    fn netns(&self) -> &Netns {
        self.pair.client.netns()
    }

    /// A TCP socket of the client.
    fn socket(&self) -> Socket {
        self.netns().run(tcp_socket)
    }

    /// `open` makes a connection on which the secret is the first that is sent. The server answers, sees the client's address,
    /// and the wire shows the tunnel alone.
    fn check<T>(&self, open: impl FnOnce() -> T, finish: impl FnOnce(T)) {
        let before = self.echo.peers().len();
        let capture = self.pair.mesh.capture();
        finish(open());
        assert_eq!(self.echo.peers()[before..].iter().map(SocketAddr::ip).collect::<Vec<_>>(), [self.pair.client.ip()]);
        let wire = capture.stop();
        wire.assert_never_in_clear(&self.secret);
        wire.assert_only_tls();
        assert!(wire.between(self.pair.client.ip(), self.pair.server.ip()).count() > 0, "nothing crossed: {wire}");
        let past = wire.streams().iter().filter(|s| [s.source.port(), s.destination.port()].contains(&PORT));
        assert_eq!(past.count(), 0, "past the agent: {wire}");
    }

    /// The same with a socket that is still to say the secret.
    fn check_socket(&self, open: impl FnOnce() -> Socket) {
        self.check(open, |socket| {
            let mut stream = TcpStream::from(socket);
            stream.set_nonblocking(false).unwrap();
            stream.write_all(self.secret.as_ref()).unwrap();
            self.finish(stream);
        });
    }

    fn finish(&self, stream: TcpStream) {
        self.expect_echo(&stream);
        assert_eq!(canonical(stream.peer_addr().unwrap()), self.to, "the application sees where it wanted to go");
    }

    fn expect_echo(&self, mut stream: &TcpStream) {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut echo = vec![0; self.secret.as_str().len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, self.secret.as_str().as_bytes());
    }
}

fn tcp_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket can be made")
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

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
fn a_process_that_enters_the_pod_later() {
    let Some(way) = Way::new("a_process_that_enters_the_pod_later") else { return };
    way.check_socket(|| {
        // As `kubectl exec` does: a new process, and inside of it a call of setns().
        let inside = thread::spawn({
            let (pod, to) = (way.pair.client.clone(), way.to);
            move || {
                pod.netns().run(|| {
                    let socket = tcp_socket();
                    socket.connect(&to.into()).unwrap();
                    socket
                })
            }
        });
        inside.join().unwrap()
    });
    let script = format!(
        "exec 3<>/dev/tcp/{}/{PORT} && echo {} >&3 && read -r line <&3 && echo \"$line\"",
        way.to.ip(),
        way.secret
    );
    let capture = way.pair.mesh.capture();
    assert_eq!(way.netns().output("bash", &["-c", &script]).trim(), way.secret.as_str());
    let wire = capture.stop();
    wire.assert_never_in_clear(&way.secret);
    wire.assert_only_tls();
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

#[test]
fn a_socket_of_the_pod_in_other_hands() {
    let Some(way) = Way::new("a_socket_of_the_pod_in_other_hands") else { return };
    way.check_socket(|| {
        let socket = Socket::from(hand_over(way.socket()).unwrap());
        // The node's own process connects it.
        way.pair.a.netns().run(|| socket.connect(&way.to.into())).unwrap();
        socket
    });
}

#[test]
fn a_socket_of_the_node_in_the_pods_hands_is_the_nodes() {
    let Some(way) = Way::new("a_socket_of_the_node_in_the_pods_hands_is_the_nodes") else { return };
    let socket = Socket::from(hand_over(way.pair.a.netns().run(tcp_socket)).unwrap());
    way.netns().run(|| socket.connect(&way.to.into())).unwrap();
    socket.send(way.secret.as_ref()).unwrap();
    way.expect_echo(&TcpStream::from(socket));
    assert_eq!(way.echo.peers()[0].ip(), way.pair.a.ip(), "nobody takes it for the pod");
}

/// Passes a socket through a UNIX socket, as to another process (`SCM_RIGHTS`).
fn hand_over(socket: Socket) -> io::Result<OwnedFd> {
    let (one, other) = UnixStream::pair()?;
    let fds = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(&one, &[IoSlice::new(b"x")], &mut message, rustix::net::SendFlags::empty())?;
    drop(socket);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(&other, &mut [IoSliceMut::new(&mut byte)], &mut message, rustix::net::RecvFlags::empty())?;
    let received = message
        .drain()
        .find_map(|message| if let RecvAncillaryMessage::ScmRights(mut fds) = message { fds.next() } else { None });
    received.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

#[test]
fn a_pod_without_ipv6_is_carried_and_held() {
    let Some(way) = Way::plain("a_pod_without_ipv6_is_carried_and_held") else { return };
    let client = &way.pair.client;
    client.netns().sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    client.netns().sysctl("net/ipv6/conf/lo/disable_ipv6", "1");
    check_single_family(&way, client.ip(), way.pair.server.addr(PORT), way.pair.server.addr6(PORT));
}

#[test]
fn a_pod_without_ipv4_is_carried_and_held() {
    let Some(way) = Way::plain("a_pod_without_ipv4_is_carried_and_held") else { return };
    let client = &way.pair.client;
    client.netns().ip(&format!("addr del {}/32 dev eth0", client.ip()));
    check_single_family(&way, client.ip6(), way.pair.server.addr6(PORT), way.pair.server.addr(PORT));
}

/// A client with one address talks to addresses of its family, also across a crash, and to none of the other.
fn check_single_family(way: &Way, own: IpAddr, to: SocketAddr, other: SocketAddr) {
    let Pair { mesh, client, a, agent_a, .. } = &way.pair;
    say_only_address(way, client, own);
    way.pair.enrol();
    let capture = mesh.capture();
    client.connect(to).exchange(&way.secret);
    assert_eq!(way.echo.peers().last().map(SocketAddr::ip), Some(own));
    client.try_connect(other, DEADLINE).expect_err("it has no address of that family");
    agent_a.kill();
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let conn = client.try_connect(to, PATIENCE).expect("it waits, then connects");
            conn.with_deadline(PATIENCE).exchange(&way.secret);
        });
        holds_for(Duration::from_millis(1200), "the connection waits", || !connecting.is_finished());
        let _next = a.start_agent();
        connecting.join().expect("served in the end");
    });
    let wire = capture.stop();
    wire.assert_never_in_clear(&way.secret);
    assert!(wire.streams().iter().all(|s| ![s.source.port(), s.destination.port()].contains(&PORT)), "{wire}");
}

fn say_only_address(way: &Way, pod: &Pod, ip: IpAddr) {
    let mut object = pod.object();
    object["status"]["podIP"] = json!(ip);
    object["status"]["podIPs"] = json!([{ "ip": ip }]);
    way.pair.mesh.write_manifest(&pod.manifest_file(), &object.to_string());
}
