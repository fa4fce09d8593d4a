//! One TCP connection as an application has it, with a deadline on everything.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait::DEADLINE;

/// A TCP connection. Every method that fails panics and says on which connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Conn {
    /// Takes a connected stream over.
    ///
    /// # Errors
    /// When the stream is no longer connected.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let (local, peer) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
        Ok(Self { stream, local, peer })
    }

    /// The own address, as the application sees it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other side's address, as the application sees it (`getpeername`).
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The stream itself, for what has no word here.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Gives the other side less or more than the usual time.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        self.stream.set_read_timeout(Some(deadline)).expect("a socket takes a timeout");
        self
    }

    /// Sends all bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        self.succeed("send", sent);
    }

    /// Receives exactly `length` bytes.
    #[track_caller]
    pub fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let received = self.stream.read_exact(&mut bytes);
        self.succeed("receive", received);
        bytes
    }

    /// Receives as many bytes as `expected` has and compares.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let received = self.receive(expected.len());
        assert_eq!(String::from_utf8_lossy(&received), String::from_utf8_lossy(expected), "received on {self}");
    }

    /// Sends bytes and expects them back, as from an echo server.
    #[track_caller]
    pub fn exchange(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(bytes.as_ref());
        self.expect(bytes);
    }

    /// Receives up to and including the next line feed; returns the line without it.
    #[track_caller]
    pub fn receive_line(&mut self) -> String {
        let line = self.try_line();
        self.succeed("receive a line", line)
    }

    /// Receives until the other side has said that it sends no more.
    #[track_caller]
    pub fn receive_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let received = self.stream.read_to_end(&mut bytes);
        self.succeed("receive to the end", received);
        bytes
    }

    /// Says that nothing more will be sent (FIN); receiving goes on.
    #[track_caller]
    pub fn half_close(&mut self) {
        let closed = self.stream.shutdown(Shutdown::Write);
        self.succeed("half-close", closed);
    }

    /// Closes with RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket takes linger");
    }

    /// Expects the other side's clean end (FIN), with nothing before it.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        let rest = self.receive_to_end();
        assert!(rest.is_empty(), "more data on {self}: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Expects that the connection fails with RST (`ECONNRESET`), not with a clean end.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("a clean end instead of a reset on {self}"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{error} instead of a reset on {self}"),
            }
        }
    }

    fn try_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                return Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            }
            line.push(byte[0]);
        }
    }

    #[track_caller]
    fn succeed<T>(&self, what: &str, result: io::Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("{what} on {self}: nothing before the deadline")
            }
            Err(error) => panic!("{what} on {self}: {error}"),
        }
    }
}

impl std::fmt::Display for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.local, self.peer)
    }
}

/// The IPv4 address inside a v4-mapped one: servers listen on both families with one socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
