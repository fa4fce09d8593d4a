//! The asking side: one HTTP/2 connection, opened when it is needed and again when it has broken.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::messages::{CREATE_CERTIFICATE, CertificateRequest, CertificateResponse};
use super::service::{CallError, ErrorKind, Token};

/// The largest answer in bytes; a chain with a bundle of roots has less than ten thousand.
const MAX_ANSWER: usize = 1 << 20;

/// An idle connection is tried this often, so that one that a firewall forgot is not waited for.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// How many characters of a server's words are repeated.
const SHOWN: usize = 600;

/// An encrypted stream of whatever kind.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for IO {}

/// Opens a connection to the server: TCP, TLS and the check of its name.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Connection>>> + Send + Sync>;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What the caller shows.
    pub token: Token,
    /// The cluster that the caller belongs to.
    pub cluster: String,
    /// The signing request, PEM.
    pub csr: String,
    /// For how long the certificate is wanted.
    pub lifetime: Duration,
    /// Whom the certificate is for, if not for the caller.
    pub impersonated: Option<String>,
}

/// A client of one server.
#[derive(Clone)]
pub struct CertificateClient(Channel);

impl CertificateClient {
    /// A client that has not connected yet. `server` is the name that requests carry (`host:port`). Must be called inside a
    /// runtime: the connection is driven by a task of the library's, which ends with the client.
    ///
    /// # Errors
    /// When `server` is no authority of a URI.
    pub fn new(server: &str, connect: Connect) -> Result<Self, CallError> {
        let uri = Uri::builder().scheme("https").authority(server).path_and_query("/").build();
        let uri = uri.map_err(|error| CallError::new(ErrorKind::Invalid, format!("{server:?}: {error}")))?;
        let endpoint = Endpoint::from(uri)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_LIMIT)
            .keep_alive_while_idle(true);
        Ok(Self(endpoint.connect_with_connector_lazy(Connector(connect))))
    }

    /// Asks for a certificate. The answer is PEM: the leaf, the intermediates, and as the last entry all roots.
    ///
    /// # Errors
    /// [`CallError`] as the server gave it, or [`ErrorKind::Unavailable`] when it could not be asked.
    pub async fn create_certificate(&self, ask: Ask) -> Result<Vec<String>, CallError> {
        let invalid = |what: &str| CallError::new(ErrorKind::Invalid, what);
        let seconds = i64::try_from(ask.lifetime.as_secs()).map_err(|_| invalid("the lifetime is too long"))?;
        let mut request = Request::new(CertificateRequest::new(ask.csr, seconds.max(1), ask.impersonated));
        let mut bearer = AsciiMetadataValue::try_from(format!("Bearer {}", ask.token.reveal()))
            .map_err(|_| invalid("the token holds characters that no token has"))?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        let cluster = AsciiMetadataValue::try_from(ask.cluster);
        request.metadata_mut().insert("clusterid", cluster.map_err(|_| invalid("the cluster's name is not ASCII"))?);

        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(MAX_ANSWER);
        grpc.ready().await.map_err(|error| CallError::new(ErrorKind::Unavailable, chain(&error)))?;
        let codec = ProstCodec::<CertificateRequest, CertificateResponse>::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(CREATE_CERTIFICATE), codec).await;
        Ok(answer.map_err(|status| call_error(&status))?.into_inner().cert_chain)
    }
}

impl fmt::Debug for CertificateClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateClient")
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "codes that the service does not use are one kind")]
fn call_error(status: &Status) -> CallError {
    let kind = match status.code() {
        Code::InvalidArgument => ErrorKind::Invalid,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Denied,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    // Errors of the connection are wrapped, the cause innermost.
    let message = match status.source() {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    };
    let kind = if status.source().is_some() { ErrorKind::Unavailable } else { kind };
    CallError { kind, message: printable(&message) }
}

/// The innermost cause is the one that tells; what wraps it says "transport error" and "connection error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Keeps what a server sent from steering a terminal.
fn printable(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

struct Connector(Connect);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Connection>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let opening = (self.0)();
        Box::pin(async move { Ok(TokioIo::new(opening.await?)) })
    }
}
