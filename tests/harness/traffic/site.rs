//! A place in the network that serves and connects: a pod, a node or a machine outside.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::conn::Conn;
use super::server::{self, Server, Servers};
use crate::netns::Netns;
use crate::wait::DEADLINE;

/// A network namespace in which applications run. Pods, nodes and external machines are sites.
#[derive(Clone, Debug)]
pub struct Site {
    name: String,
    netns: Arc<Netns>,
    servers: Arc<Servers>,
}

impl Site {
    pub(crate) fn new(name: &str, netns: Arc<Netns>, servers: Arc<Servers>) -> Self {
        Self { name: name.to_owned(), netns, servers }
    }

    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Connects to `address`.
    ///
    /// # Panics
    /// When that fails or takes longer than [`DEADLINE`].
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Conn {
        match self.try_connect(address, DEADLINE) {
            Ok(conn) => conn,
            Err(error) => panic!("{} cannot connect to {address}: {error}", self.name),
        }
    }

    /// Connects to `address` within `deadline`.
    ///
    /// # Errors
    /// As the application would see them.
    pub fn try_connect(&self, address: SocketAddr, deadline: Duration) -> io::Result<Conn> {
        // The socket stays in the namespace it was made in; the thread is there only for this one call.
        self.netns.run(|| TcpStream::connect_timeout(&address, deadline)).and_then(Conn::new)
    }

    /// Sends `GET path` on a new connection and returns the whole response.
    #[track_caller]
    #[must_use]
    pub fn http_get(&self, address: SocketAddr, path: &str) -> String {
        let mut conn = self.connect(address);
        conn.send(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n"));
        String::from_utf8_lossy(&conn.receive_to_end()).into_owned()
    }

    /// Serves every connection to `port` (0: any free one), IPv4 and IPv6, with `handler`.
    ///
    /// # Panics
    /// When the port is taken.
    #[track_caller]
    pub fn serve(&self, port: u16, handler: impl Fn(Conn) + Send + Sync + 'static) -> Server {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = self.netns.run(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("{} cannot listen on {port}: {error}", self.name));
        let server = Server::start(listener, handler);
        self.servers.add(&server);
        server
    }

    /// Serves a port that sends back what comes.
    #[track_caller]
    pub fn serve_echo(&self, port: u16) -> Server {
        self.serve(port, |conn| server::echo(&conn))
    }

    /// Serves a port that answers each HTTP request with what `body` says for the client's address.
    #[track_caller]
    pub fn serve_http(&self, port: u16, body: impl Fn(SocketAddr) -> String + Send + Sync + 'static) -> Server {
        self.serve(port, move |mut conn| {
            let body = body(conn.peer_addr());
            server::http(&mut conn, &body);
        })
    }

    /// Serves a port that takes everything and, when the client has ended, answers with the number of bytes and closes.
    #[track_caller]
    pub fn serve_sink(&self, port: u16) -> Server {
        self.serve(port, |mut conn| {
            let bytes = conn.receive_to_end();
            conn.send(bytes.len().to_string());
        })
    }

    /// Serves a port that speaks first: says `banner`, then sends back what comes.
    #[track_caller]
    pub fn serve_banner(&self, port: u16, banner: &'static str) -> Server {
        self.serve(port, move |mut conn| {
            conn.send(banner);
            server::echo(&conn);
        })
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
