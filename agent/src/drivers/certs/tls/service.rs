//! TLS to and from a service outside of the mesh's identities: the server proves a DNS name, the client shows no certificate.
//! This is how the mesh's certificate authority is reached before one has a certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::drivers::certs::ca::serving::ServingCertificate;
use crate::drivers::certs::provider::provider;

/// An encrypted stream over `IO`, of either side.
pub type TlsStream<IO> = tokio_rustls::TlsStream<IO>;

/// What such a service offers to its clients.
#[derive(Clone, Debug)]
pub struct ServiceConfig(Arc<rustls::ServerConfig>);

impl ServiceConfig {
    /// A server that shows whatever `certificate` holds at each handshake, and offers `protocols` (ALPN).
    #[must_use]
    pub fn new(certificate: &ServingCertificate, protocols: &[&[u8]]) -> Self {
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites and groups of TLS 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificate.resolver());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Self(Arc::new(config))
    }

    /// Takes a client's connection. `within` bounds the whole handshake.
    ///
    /// # Errors
    /// When the client does not speak TLS 1.3, leaves, or is too slow.
    pub async fn accept<IO>(&self, io: IO, within: Duration) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(Arc::clone(&self.0)).accept(io);
        Ok(tokio::time::timeout(within, accepting).await.map_err(|_| slow(within))??.into())
    }
}

/// Opens a connection to the service called `name` (a DNS name or an address), which must show a certificate for it that leads
/// to one of `roots` (PEM). `within` bounds the whole handshake.
///
/// # Errors
/// When `roots` holds none or `name` is none; when the server proves to be somebody else, speaks another protocol, or is too slow.
pub async fn connect<IO>(
    io: IO,
    (name, roots): (&str, &[u8]),
    protocols: &[&[u8]],
    within: Duration,
) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let server = ServerName::try_from(name.to_owned()).map_err(|error| invalid(format!("{name:?}: {error}")))?;
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots) {
        let root = root.map_err(|error| invalid(format!("the roots cannot be read: {error}")))?;
        store.add(root).map_err(|error| invalid(format!("a root cannot be used: {error}")))?;
    }
    if store.is_empty() {
        return Err(invalid("there is no certificate among the roots".to_owned()));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites and groups of TLS 1.3")
        .with_webpki_verifier(verifier.map_err(|error| invalid(error.to_string()))?)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    let connecting = TlsConnector::from(Arc::new(config)).connect(server, io);
    Ok(tokio::time::timeout(within, connecting).await.map_err(|_| slow(within))??.into())
}

fn slow(within: Duration) -> io::Error {
    let message = format!("the TLS handshake did not end within {}", humantime::format_duration(within));
    io::Error::new(io::ErrorKind::TimedOut, message)
}
