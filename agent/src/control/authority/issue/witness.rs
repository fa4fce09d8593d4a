//! What the authority asks the cluster before it believes a caller. A seam: the API server in a cluster, a script in tests.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::drivers::cluster::node_pods::{self, Freshness, PodFacts};
use crate::drivers::cluster::review::token::{self, Reviewed};
use crate::drivers::cluster::{ApiError, Cluster};

/// Knows tokens and pods.
pub trait Witness: Send + Sync + 'static {
    /// Whose token this is; `Err` inside says why it is nobody's.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Result<Reviewed, String>, ApiError>>;

    /// One pod, if it is there.
    fn pod<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<PodFacts>, ApiError>>;

    /// The pods of a node.
    fn pods_on<'a>(&'a self, node: &'a str, fresh: Freshness) -> BoxFuture<'a, Result<Vec<PodFacts>, ApiError>>;
}

/// The API server as the witness.
///
/// Pods are asked for call by call. A watch of all pods would cost memory in every replica for a question that comes twice a day
/// per identity, and needs the same right (list, on all pods). Most questions are answered from the API server's own cache;
/// only a "no" is asked again, exactly, before it is believed: the pod may have come a moment ago.
#[derive(Clone, Debug)]
pub struct ApiServer {
    cluster: Cluster,
    audiences: Arc<[String]>,
}

impl ApiServer {
    /// Tokens have to be for one of `audiences`.
    #[must_use]
    pub fn new(cluster: Cluster, audiences: Vec<String>) -> Self {
        Self { cluster, audiences: audiences.into() }
    }
}

impl Witness for ApiServer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Result<Reviewed, String>, ApiError>> {
        Box::pin(token::review(&self.cluster, token, &self.audiences))
    }

    fn pod<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<PodFacts>, ApiError>> {
        Box::pin(node_pods::find(&self.cluster, namespace, name))
    }

    fn pods_on<'a>(&'a self, node: &'a str, fresh: Freshness) -> BoxFuture<'a, Result<Vec<PodFacts>, ApiError>> {
        Box::pin(node_pods::on_node(&self.cluster, node, fresh))
    }
}
