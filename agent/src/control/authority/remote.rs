//! The authority as a node agent reaches it: Istio's certificate service, with the token of the agent's pod.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::drivers::certs::authority::{Authority, AuthorityError, IssuedChain, SigningRequest};
use crate::drivers::certs::tls::service;
use crate::drivers::grpc::client::{Ask, CertificateClient, Connect, Connection};
use crate::drivers::grpc::service::{CallError, ErrorKind, Token};

/// The largest file of a token or of roots that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What one TCP connection and one TLS handshake may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Where the authority is and how to be believed.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`.
    pub address: String,
    /// The name that its certificate must have.
    pub server_name: String,
    /// The roots that its certificate is checked against, PEM. Read at every connection: they change.
    pub roots: PathBuf,
    /// The token to show. Read at every call: the kubelet replaces it.
    pub token: PathBuf,
    /// The cluster that this node belongs to.
    pub cluster: String,
}

/// Asks the authority of a cluster.
#[derive(Debug)]
pub struct RemoteAuthority {
    config: Arc<Config>,
    client: OnceCell<CertificateClient>,
}

impl RemoteAuthority {
    /// An authority that is connected to when it is first asked.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&CertificateClient, CallError> {
        let new = async {
            let config = Arc::clone(&self.config);
            let connect: Connect = Arc::new(move || Box::pin(connect(Arc::clone(&config))));
            CertificateClient::new(&self.config.address, connect)
        };
        self.client.get_or_try_init(|| new).await
    }

    async fn ask(&self, request: SigningRequest) -> Result<IssuedChain, AuthorityError> {
        let Config { address, token, cluster, .. } = &*self.config;
        let unavailable = |error: io::Error| AuthorityError::Unavailable(format!("{}: {error}", token.display()));
        let text = read(token).await.map_err(unavailable)?;
        let text = std::str::from_utf8(&text).map_err(|error| unavailable(io::Error::other(error)))?;
        let ask = Ask {
            token: Token::new(text),
            cluster: cluster.clone(),
            csr: request.csr.pem(),
            lifetime: request.lifetime,
            impersonated: Some(request.identity.to_string()),
        };
        let answer = async { self.client().await?.create_certificate(ask).await };
        let answer = answer.await.map_err(|error| failed(address, &error))?;
        IssuedChain::from_texts(&answer)
    }
}

impl Authority for RemoteAuthority {
    fn sign(&self, request: SigningRequest) -> BoxFuture<'_, Result<IssuedChain, AuthorityError>> {
        Box::pin(self.ask(request))
    }
}

fn failed(address: &str, error: &CallError) -> AuthorityError {
    let text = format!("{address}: {error}");
    match error.kind {
        ErrorKind::Invalid | ErrorKind::Denied => AuthorityError::Refused(text),
        ErrorKind::Unauthenticated => {
            AuthorityError::Refused(format!("{text}; the token must be this pod's own, for the authority's audience"))
        }
        ErrorKind::Exhausted | ErrorKind::Unavailable | ErrorKind::Other => AuthorityError::Unavailable(text),
    }
}

/// The name is looked up and the roots are read each time: both change while the agent runs.
async fn connect(config: Arc<Config>) -> io::Result<Box<dyn Connection>> {
    let named = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let roots = read(&config.roots).await.map_err(|error| named(&config.roots.display().to_string(), error))?;
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&config.address)
        .await
        .map_err(|error| named("the name cannot be looked up", error))?
        .collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect_to(address, &config.server_name, &roots).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = named(&format!("connecting to {address}"), error),
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr, name: &str, roots: &[u8]) -> io::Result<Box<dyn Connection>> {
    let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await.map_err(slow)??;
    stream.set_nodelay(true)?;
    Ok(Box::new(service::connect(stream, (name, roots), &[b"h2"], HANDSHAKE_LIMIT).await?))
}

async fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = tokio::fs::File::open(path).await?;
    let mut content = Zeroizing::new(Vec::with_capacity(16 << 10));
    file.take(MAX_FILE).read_to_end(&mut content).await?;
    Ok(content)
}
