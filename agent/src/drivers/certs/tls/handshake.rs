//! TLS handshakes over any byte stream, and whose fault it is when one fails.

use std::io;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error as TlsError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::config::{ClientConfig, ServerConfig};
use super::negotiate::{Facts, Failure, negotiate};
use super::records::{RecordConnection, RecordError};
use super::session::Session;
use crate::drivers::certs::store::CredentialsError;
use crate::drivers::certs::verify::PeerRejected;
use crate::model::identity::Identity;

/// A finished handshake.
#[derive(Debug)]
pub struct Established<IO> {
    /// The encrypted connection.
    pub connection: RecordConnection<IO>,
    /// Who the peer proved to be.
    pub peer: Identity,
    /// The certificate that it proved it with, DER.
    pub certificate: Vec<u8>,
    /// The protocol that both chose (ALPN); `None` if the peer offered none.
    pub protocol: Option<Vec<u8>>,
}

/// Why there is no encrypted stream.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// We have no certificate to show. The peer was not spoken to.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The peer did not answer in time.
    #[error("the TLS handshake did not end within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The peer closed, or the network failed.
    #[error("the connection ended during the TLS handshake: {0}")]
    Connection(io::Error),
    /// The peer does not speak TLS.
    #[error("the peer does not speak TLS ({0}); is a client outside of the mesh using a mesh port?")]
    NotTls(String),
    /// TLS, but not ours: an older version, other suites or no common protocol.
    #[error("the peer speaks TLS but not what the mesh requires, TLS 1.3 and a common ALPN protocol: {0}")]
    Incompatible(String),
    /// The peer has no certificate.
    #[error("the peer sent no certificate; every peer in the mesh has one")]
    NoCertificate,
    /// The peer's certificate breaks a rule.
    #[error(transparent)]
    PeerRejected(#[from] PeerRejected),
    /// The peer broke off with an alert.
    #[error("the peer refused the handshake: {}", describe(*.0))]
    Refused(Alert),
    /// The peer broke the protocol.
    #[error("the TLS handshake failed: {0}")]
    Protocol(String),
}

/// What the peer gave as its reason to break off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(AlertDescription);

/// Where to look for the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// On this node, or at its authority: we have no certificate, or the peer found fault with it.
    Ours,
    /// At the peer.
    Peer,
    /// In between: lost packets, a NetworkPolicy, a peer that died.
    Network,
}

impl HandshakeError {
    /// Istio's response flag for all of them, as metrics and access logs carry it.
    pub const RESPONSE_FLAG: &'static str = "TLS_FAILURE";

    /// Where to look for the cause.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Credentials(_) | Self::Refused(_) => Fault::Ours,
            Self::Timeout(_) | Self::Connection(_) => Fault::Network,
            Self::NotTls(_)
            | Self::Incompatible(_)
            | Self::NoCertificate
            | Self::PeerRejected(_)
            | Self::Protocol(_) => Fault::Peer,
        }
    }

    /// Finds a failed handshake behind the error of an established stream.
    ///
    /// In TLS 1.3 a client is done before the server has looked at its certificate: a refusal arrives as the error of
    /// its first read.
    #[must_use]
    pub fn behind(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<RecordError>()? {
            RecordError::Refused(alert) => Some(Self::Refused(Alert(*alert))),
            RecordError::Broken { .. } => None,
        }
    }
}

/// Takes a client's connection: shows it our certificate, and asks for its own.
///
/// `within` bounds the whole handshake; dropping the future ends it at once.
///
/// # Errors
/// [`HandshakeError`]; `io` is closed then.
pub async fn accept<IO>(io: IO, config: &ServerConfig, within: Duration) -> Result<Established<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (session, tls) = config.session()?;
    let side = UnbufferedServerConnection::new(tls).map_err(|error| HandshakeError::Protocol(error.to_string()))?;
    let result = tokio::time::timeout(within, negotiate(side, io)).await;
    conclude(&session, result.map_err(|_| within))
}

/// Opens a connection to a server, which must prove to be one of the configuration's expected identities.
///
/// `within` bounds the whole handshake; dropping the future ends it at once. The server may still refuse us after this
/// returned: see [`HandshakeError::behind`].
///
/// # Errors
/// [`HandshakeError`]; `io` is closed then.
pub async fn connect<IO>(io: IO, config: &ClientConfig, within: Duration) -> Result<Established<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (session, tls) = config.session()?;
    // The library wants a name. It is not sent (no SNI) and nothing is compared with it.
    let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let side =
        UnbufferedClientConnection::new(tls, nobody).map_err(|error| HandshakeError::Protocol(error.to_string()))?;
    let result = tokio::time::timeout(within, negotiate(side, io)).await;
    conclude(&session, result.map_err(|_| within))
}

fn conclude<IO>(
    session: &Session,
    result: Result<Result<(RecordConnection<IO>, Facts), Failure>, Duration>,
) -> Result<Established<IO>, HandshakeError> {
    let verdict = session.finish();
    let (connection, Facts { protocol, certificate }) = match result {
        Err(within) => return Err(HandshakeError::Timeout(within)),
        Ok(Err(error)) => return Err(failure(error, verdict)),
        Ok(Ok(established)) => established,
    };
    match verdict {
        Some(Ok(peer)) => Ok(Established { connection, peer, certificate, protocol }),
        Some(Err(rejected)) => Err(rejected.into()),
        None => Err(HandshakeError::NoCertificate),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enum grows; what has no name here is shown as it says it"
)]
fn failure(error: Failure, verdict: Option<Result<Identity, PeerRejected>>) -> HandshakeError {
    if let Some(Err(rejected)) = verdict {
        return rejected.into();
    }
    let tls = match error {
        Failure::Io(error) => return HandshakeError::Connection(error),
        Failure::Tls(error) => error,
    };
    match tls {
        TlsError::NoCertificatesPresented => HandshakeError::NoCertificate,
        TlsError::AlertReceived(alert) => HandshakeError::Refused(Alert(alert)),
        TlsError::InvalidMessage(what) => HandshakeError::NotTls(format!("{what:?}")),
        TlsError::PeerIncompatible(what) => HandshakeError::Incompatible(format!("{what:?}")),
        TlsError::NoApplicationProtocol => HandshakeError::Incompatible(tls.to_string()),
        _ => HandshakeError::Protocol(tls.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "alerts without advice are named only")]
fn describe(Alert(alert): Alert) -> String {
    let advice = match alert {
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::UnsupportedCertificate => "it does not accept our certificate; its log names the rule",
        AlertDescription::CertificateExpired => {
            "it holds our certificate for expired; compare the clocks of both nodes"
        }
        AlertDescription::UnknownCA => "it does not trust the authority of our certificate; compare both roots",
        AlertDescription::CertificateRequired => "it wants a certificate",
        AlertDescription::NoApplicationProtocol => "no common ALPN protocol",
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => "no common version or suite of TLS",
        _ => return format!("{alert:?}"),
    };
    format!("{alert:?}, {advice}")
}
