//! What the certificate service asks and answers, without its wire form.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prost::Message as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::messages::CertificateRequest;

/// One call, as it came in. Nothing in it has been checked but its size.
pub struct CertificateCall {
    /// Who is connected.
    pub peer: SocketAddr,
    /// What the caller shows (`authorization: Bearer`), if it shows something.
    pub token: Option<Token>,
    /// The cluster that the caller says it belongs to (`clusterid`).
    pub cluster: Option<String>,
    /// What is asked for.
    pub wanted: Wanted,
}

/// The message of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The signing request, PEM.
    pub csr: String,
    /// For how long the certificate is wanted; zero when the caller does not say.
    pub lifetime: Duration,
    /// The identity that is wanted, where it is not the caller's own.
    pub impersonated: Option<String>,
}

impl Wanted {
    /// Reads a message as it comes in (protobuf).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for anything else, and for what must not be taken for something else.
    pub fn decode(message: &[u8]) -> Result<Self, CallError> {
        let message = CertificateRequest::decode(message);
        Self::read(message.map_err(|error| CallError::new(ErrorKind::Invalid, error.to_string()))?)
    }

    pub(super) fn read(mut message: CertificateRequest) -> Result<Self, CallError> {
        let invalid = |message: &str| CallError::new(ErrorKind::Invalid, message);
        let impersonated = message.take_impersonated().map_err(invalid)?;
        let seconds = u64::try_from(message.validity_duration);
        let seconds = seconds.map_err(|_| invalid("the validity duration is negative"))?;
        Ok(Self { csr: message.csr, lifetime: Duration::from_secs(seconds), impersonated })
    }
}

/// A bearer token. Not shown by `Debug`, and overwritten when dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// Answers calls.
pub trait CertificateService: Send + Sync + 'static {
    /// The chain in PEM: the leaf, the intermediates, and as the last entry all roots.
    fn create_certificate(&self, call: CertificateCall) -> BoxFuture<'_, Result<Vec<String>, CallError>>;
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CallError {
    /// The kind.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

/// Kinds of errors: gRPC's codes, as far as the service uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// Nobody knows who the caller is.
    Unauthenticated,
    /// The caller is known and may not.
    Denied,
    /// Too many calls; later ones may be answered.
    Exhausted,
    /// Not now.
    Unavailable,
    /// Anything else.
    Other,
}

impl Token {
    /// Takes a token as text, without the spaces and newlines around it that files tend to have.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl CallError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Debug for CertificateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCall")
            .field("peer", &self.peer)
            .field("cluster", &self.cluster)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}
