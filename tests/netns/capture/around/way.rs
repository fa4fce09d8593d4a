//! A client whose connections are watched.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::{DEADLINE, Marker, Netns, Server};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::Pair;

/// The port of the server.
pub(super) const PORT: u16 = 8080;

/// Longer than two retransmissions of a SYN.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// An enrolled client and a server that is about to hear of it.
pub(super) struct Way {
    pub(super) pair: Pair,
    pub(super) echo: Server,
    pub(super) to: SocketAddr,
    pub(super) secret: Marker,
}

impl Way {
    pub(super) fn new(test: &str) -> Option<Self> {
        let way = Self::plain(test)?;
        way.pair.enrol();
        Some(way)
    }

    pub(super) fn plain(test: &str) -> Option<Self> {
        let pair = Pair::plain(test)?;
        let (echo, to) = (pair.server.serve_echo(PORT), pair.server.addr(PORT));
        Some(Self { pair, echo, to, secret: Marker::new() })
    }

    pub(super) fn netns(&self) -> &Netns {
        self.pair.client.netns()
    }

    /// A TCP socket of the client.
    pub(super) fn socket(&self) -> Socket {
        self.netns().run(tcp_socket)
    }

    /// `open` makes a connection on which the secret is the first that is sent. The server answers, sees the client's address,
    /// and the wire shows the tunnel alone.
    pub(super) fn check<T>(&self, open: impl FnOnce() -> T, finish: impl FnOnce(T)) {
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
    pub(super) fn check_socket(&self, open: impl FnOnce() -> Socket) {
        self.check(open, |socket| {
            let mut stream = TcpStream::from(socket);
            stream.set_nonblocking(false).unwrap();
            stream.write_all(self.secret.as_ref()).unwrap();
            self.finish(stream);
        });
    }

    pub(super) fn finish(&self, stream: TcpStream) {
        self.expect_echo(&stream);
        assert_eq!(canonical(stream.peer_addr().unwrap()), self.to, "the application sees where it wanted to go");
    }

    pub(super) fn expect_echo(&self, mut stream: &TcpStream) {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut echo = vec![0; self.secret.as_str().len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, self.secret.as_str().as_bytes());
    }
}

pub(super) fn tcp_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket can be made")
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
