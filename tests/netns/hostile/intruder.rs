//! A peer at a pod's HBONE port that does what it likes: certificates of its own making, and bytes of its choice in TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harness::{DEADLINE, External, Mesh};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::passport::{self, Anybody, Passport};

/// What the intruder asks to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Hbone,
    Sotto,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Hbone, Self::Sotto];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Hbone => b"h2",
            Self::Sotto => b"sotto/1",
        }
    }
}

/// A machine outside of the mesh that got hold of the mesh's authority.
pub(crate) struct Intruder {
    pub(crate) site: External,
    authority: PathBuf,
}

impl Intruder {
    pub(crate) fn new(mesh: &Mesh, name: &str) -> Self {
        Self { site: mesh.external(name), authority: mesh.ca_directory() }
    }

    /// TCP only.
    pub(crate) fn dial(&self, to: SocketAddr) -> TcpStream {
        let stream = self.site.netns().run(|| TcpStream::connect_timeout(&to, DEADLINE));
        let stream = stream.unwrap_or_else(|error| panic!("the intruder cannot connect to {to}: {error}"));
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        stream
    }

    /// TLS; that the server took the certificate shows only in what it answers.
    pub(crate) fn tls(&self, to: SocketAddr, passport: Passport, protocol: Protocol) -> io::Result<Tls> {
        let connection = ClientConnection::new(Arc::new(self.config(passport, protocol)), ServerName::from(to.ip()));
        let mut tls = StreamOwned::new(connection.map_err(io::Error::other)?, self.dial(to));
        tls.flush()?;
        Ok(Tls(tls))
    }

    /// TLS as a member of the mesh speaks it.
    pub(crate) fn member(&self, to: SocketAddr, protocol: Protocol) -> Tls {
        self.tls(to, Passport::Valid, protocol).expect("a valid certificate is accepted")
    }

    /// The first flight of a handshake.
    pub(crate) fn client_hello(&self, to: SocketAddr, protocol: Protocol) -> Vec<u8> {
        let config = Arc::new(self.config(Passport::Valid, protocol));
        let mut connection = ClientConnection::new(config, ServerName::from(to.ip())).expect("a client can be made");
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).expect("memory takes bytes");
        hello
    }

    fn config(&self, passport: Passport, protocol: Protocol) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let builder =
            builder.expect("the provider has TLS 1.3").dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = if passport == Passport::Missing {
            builder.with_no_client_auth()
        } else {
            let (chain, key) = passport::issue(&self.authority, passport);
            builder.with_client_auth_cert(chain, key).expect("key and certificate belong together")
        };
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        config
    }
}

/// An encrypted connection on which anything may be sent.
pub(crate) struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.sock.local_addr().expect("a connected socket has an address")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Bytes in the place of TLS records.
    pub(crate) fn send_unsealed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.sock.write_all(bytes)
    }

    /// A KeyUpdate, and nothing else.
    pub(crate) fn update_key(&mut self) -> io::Result<()> {
        self.0.conn.refresh_traffic_keys().map_err(io::Error::other)?;
        self.0.flush()
    }

    /// Fills the buffer; `None` at the end of the connection, whatever ended it.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.0.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if is_timeout(&error) => {
                panic!("the agent says nothing, and does not end the connection either")
            }
            Err(_) => None,
        }
    }

    /// Waits until the agent has ended the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self, what: &str) {
        let mut buffer = [0; 4096];
        let _ = self.0.sock.set_read_timeout(Some(Duration::from_secs(30)));
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("{what}: the agent did not end the connection"),
                Err(_) => return,
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
