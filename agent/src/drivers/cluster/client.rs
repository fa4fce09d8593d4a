//! The connection to the API server.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use kube::config::{InClusterError, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::error::ApiError;

/// How long the whole of an answer may take that is not a watch.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes: objects have at most some 3 MiB as JSON, and most have a few KiB.
pub(super) const MAX_ANSWER: usize = 128 << 20;

/// The longest error message that is read, in bytes.
const MAX_STATUS: usize = 1 << 20;

/// Why there can be no connection to any API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The file is not there or is no kubeconfig.
    #[error("the kubeconfig {}: {source}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// Not a pod, or one without a service account's token.
    #[error("no --kubeconfig, and this is no pod with a service account: {0}")]
    InCluster(#[source] Box<InClusterError>),
    /// Neither the operator nor the machine says where a cluster is.
    #[error("no cluster is known here; give a --kubeconfig, or set KUBECONFIG: {0}")]
    NoCluster(#[source] Box<InferConfigError>),
    /// No kubeconfig of the operator has such a context.
    #[error("the context {context}: {source}")]
    Context {
        /// Its name.
        context: String,
        /// What is wrong.
        source: Box<KubeconfigError>,
    },
    /// Certificates or credentials are not usable.
    #[error("the API server's certificates or credentials cannot be used: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// An API server. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Takes address and credentials from a kubeconfig, or from the pod that this process runs in. Nothing is sent yet. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, ConnectError> {
        Self::of(match kubeconfig {
            Some(path) => read(path, None).await?,
            None => Config::incluster().map_err(|error| ConnectError::InCluster(Box::new(error)))?,
        })
    }

    /// The same for somebody at a terminal, as `kubectl` finds it: a kubeconfig, else `KUBECONFIG` or `~/.kube/config`, else the pod
    /// that this process runs in; and a context other than the current one.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn of_operator(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ConnectError> {
        Self::of(match (kubeconfig, context) {
            (Some(path), context) => read(path, context).await?,
            (None, Some(context)) => {
                let failed = |source| ConnectError::Context { context: context.to_owned(), source: Box::new(source) };
                Config::from_kubeconfig(&in_context(Some(context))).await.map_err(failed)?
            }
            (None, None) => Config::infer().await.map_err(|error| ConnectError::NoCluster(Box::new(error)))?,
        })
    }

    fn of(mut config: Config) -> Result<Self, ConnectError> {
        config.connect_timeout = Some(CONNECT_LIMIT);
        // Who asks again, and when, is decided here: see `follow`.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
        Ok(Self { client })
    }

    /// The API server's clock, to a second. None where it does not say.
    ///
    /// # Errors
    /// [`ApiError`] when there is no answer.
    pub async fn time(&self) -> Result<Option<SystemTime>, ApiError> {
        const WHAT: &str = "GET version";
        let response = limited(WHAT, self.request(WHAT, Method::GET, "/version", Body::empty(), "")).await?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok()).map(Into::into))
    }

    /// kube's own words, for what is not done by hand here.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The whole answer to a GET.
    pub(super) async fn get(&self, what: &str, path: &str) -> Result<Bytes, ApiError> {
        self.ask(what, Method::GET, path, Body::empty(), "").await
    }

    /// The whole answer to a request with a body.
    pub(super) async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        (content_type, body): (&str, Vec<u8>),
    ) -> Result<Bytes, ApiError> {
        self.ask(what, method, path, Body::from(body), content_type).await
    }

    /// Begins a GET whose answer has no end.
    pub(super) async fn open(&self, what: &str, path: &str) -> Result<Body, ApiError> {
        let opening = self.request(what, Method::GET, path, Body::empty(), "");
        let response = limited(what, opening).await?;
        Ok(response.into_body())
    }

    async fn ask(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Body,
        content_type: &str,
    ) -> Result<Bytes, ApiError> {
        let answer = async {
            let response = self.request(what, method, path, body, content_type).await?;
            collect(what, response.into_body(), MAX_ANSWER).await
        };
        limited(what, answer).await
    }

    async fn request(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Body,
        content_type: &str,
    ) -> Result<Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
        // Watches cannot be decompressed event by event.
        request = request.header(ACCEPT_ENCODING, "identity");
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| ApiError::bad(what, error))?;
        let response = self.client.send(request).await.map_err(|error| ApiError::unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = collect(what, response.into_body(), MAX_STATUS).await.unwrap_or_default();
        Err(ApiError::status(what, code, &body, seconds.map(Duration::from_secs)))
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

async fn read(path: &Path, context: Option<&str>) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let read = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(read, &in_context(context)).await.map_err(failed)
}

fn in_context(context: Option<&str>) -> KubeConfigOptions {
    KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() }
}

async fn limited<T>(what: &str, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let silent = |_| ApiError::Silent { what: what.to_owned(), limit: ANSWER_LIMIT };
    tokio::time::timeout(ANSWER_LIMIT, work).await.map_err(silent)?
}

async fn collect(what: &str, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::bad(what, format!("it is longer than {limit} bytes")))
        }
        Err(error) => Err(ApiError::unreachable(&*error)),
    }
}
