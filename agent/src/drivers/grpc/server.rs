//! The serving side: HTTP/2 connections that are encrypted already, each with bounds on what it may ask at a time.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::{Connected, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::messages::{CREATE_CERTIFICATE, CertificateRequest, CertificateResponse};
use super::service::{CallError, CertificateCall, CertificateService, ErrorKind, Token, Wanted};

/// The largest request in bytes; a real one has two thousand.
const MAX_REQUEST: usize = 64 << 10;

/// The largest header of a request, in bytes; a service account's token has about a thousand.
const MAX_HEADERS: u32 = 32 << 10;

/// Requests that one connection may have open at a time. A node agent has eight.
const MAX_STREAMS: u32 = 64;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// A connection that says nothing is asked whether it is there, and closed when it does not answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// Connections are closed at this age, when no request is open, so that callers spread over new replicas.
const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// The longest bearer token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// An encrypted connection with its peer's address; `guard` lives as long as the connection does.
#[derive(Debug)]
pub struct Accepted<IO, G> {
    /// The stream.
    pub io: IO,
    /// Who is connected.
    pub peer: SocketAddr,
    /// Dropped with the connection.
    pub guard: G,
}

/// The server broke down as a whole.
#[derive(Debug, Error)]
#[error("the gRPC server failed: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Answers calls on the connections of `incoming` until `stop` completes; then takes no new ones, and returns when those that
/// are open have been answered. The caller bounds that wait by dropping the future.
///
/// # Errors
/// [`ServeError`] when no connection can be served any more.
pub async fn serve<IO, G>(
    incoming: impl Stream<Item = Accepted<IO, G>>,
    service: Arc<dyn CertificateService>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Unpin + Send + 'static,
{
    use futures_util::StreamExt as _;
    let incoming = incoming.map(Ok::<_, Infallible>);
    let served = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(MAX_STREAMS as usize)
        .http2_max_header_list_size(MAX_HEADERS)
        .timeout(REQUEST_LIMIT)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .max_connection_age(CONNECTION_AGE)
        .serve_with_incoming_shutdown(Endpoint(service), incoming, stop)
        .await;
    Ok(served?)
}

/// Finds the method of a request.
#[derive(Clone)]
struct Endpoint(Arc<dyn CertificateService>);

impl NamedService for Endpoint {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl Service<http::Request<Body>> for Endpoint {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = CreateCertificate(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != CREATE_CERTIFICATE {
                return Ok(Status::unimplemented("only CreateCertificate is served here").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST);
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct CreateCertificate(Arc<dyn CertificateService>);

impl UnaryService<CertificateRequest> for CreateCertificate {
    type Response = CertificateResponse;
    type Future = BoxFuture<'static, Result<Response<CertificateResponse>, Status>>;

    fn call(&mut self, request: Request<CertificateRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let call = read(request).map_err(status)?;
            let cert_chain = service.create_certificate(call).await.map_err(status)?;
            Ok(Response::new(CertificateResponse { cert_chain }))
        })
    }
}

fn read(request: Request<CertificateRequest>) -> Result<CertificateCall, CallError> {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let peer = peer.ok_or_else(|| CallError::new(ErrorKind::Other, "the connection has no address"))?;
    let token = bearer(request.metadata())?;
    let cluster = request.metadata().get("clusterid").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(CertificateCall { peer, token, cluster, wanted: Wanted::read(request.into_inner())? })
}

/// The token of the only `authorization` header (RFC 6750, section 2.1).
fn bearer(metadata: &MetadataMap) -> Result<Option<Token>, CallError> {
    let error = |message: &str| CallError::new(ErrorKind::Unauthenticated, message);
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(error("there are several authorization headers; send one"));
    }
    let text = value.to_str().map_err(|_| error("the authorization header is not text"))?;
    let (scheme, token) =
        text.split_once(' ').ok_or_else(|| error("the authorization header is not `Bearer TOKEN`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() || token.len() > MAX_TOKEN {
        return Err(error("the authorization header is not `Bearer TOKEN`"));
    }
    Ok(Some(Token::new(token)))
}

fn status(error: CallError) -> Status {
    let CallError { kind, message } = error;
    match kind {
        ErrorKind::Invalid => Status::invalid_argument(message),
        ErrorKind::Unauthenticated => Status::unauthenticated(message),
        ErrorKind::Denied => Status::permission_denied(message),
        ErrorKind::Exhausted => Status::resource_exhausted(message),
        ErrorKind::Unavailable => Status::unavailable(message),
        ErrorKind::Other => Status::internal(message),
    }
}

/// What the library keeps about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(SocketAddr);

impl<IO, G> Connected for Accepted<IO, G> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl<IO: AsyncRead + Unpin, G: Unpin> AsyncRead for Accepted<IO, G> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}

impl<IO: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Accepted<IO, G> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
