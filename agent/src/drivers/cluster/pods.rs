//! Everything that is written to the API server: an annotation of a pod, and Events about pods.

use http::Method;
use serde_json::{Value, json};

use super::client::Cluster;
use super::error::ApiError;

/// A pod that something is written about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID: a pod of the same name that came after it is another one.
    pub uid: String,
}

/// Something that happened to a pod, for `kubectl describe pod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// About which pod.
    pub pod: PodRef,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence for the operator.
    pub message: String,
    /// When, in RFC 3339 and UTC.
    pub at: String,
    /// Tells this event from all others of the pod.
    pub serial: u64,
}

/// Writes about the pods of one node. Needs the rights to patch `pods/status` and to create `events`.
#[derive(Clone, Debug)]
pub struct PodWriter {
    cluster: Cluster,
    node: String,
}

impl PodWriter {
    /// A writer that signs with this node's name.
    #[must_use]
    pub fn new(cluster: Cluster, node: &str) -> Self {
        Self { cluster, node: node.to_owned() }
    }

    /// Sets an annotation of a pod, or removes it. Says false if there is no such pod any more.
    ///
    /// The status is patched, which takes annotations as well: the right to do so cannot change what a pod runs.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn annotate(&self, pod: &PodRef, key: &str, value: Option<&str>) -> Result<bool, ApiError> {
        let PodRef { namespace, name, uid } = pod;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        // The UID makes it a conflict to meet another pod of that name.
        let patch = json!({ "metadata": { "uid": uid, "annotations": { key: value } } });
        let body = ("application/merge-patch+json", patch.to_string().into_bytes());
        match self.cluster.send("PATCH pods/status", Method::PATCH, &path, body).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a warning about a pod.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn warn(&self, event: &Event) -> Result<(), ApiError> {
        let path = format!("/api/v1/namespaces/{}/events", event.pod.namespace);
        let body = ("application/json", self.event(event).to_string().into_bytes());
        self.cluster.send("POST events", Method::POST, &path, body).await.map(drop)
    }

    fn event(&self, event: &Event) -> Value {
        let Event { pod: PodRef { namespace, name, uid }, reason, message, at, serial } = event;
        // The API server takes 1,024 bytes.
        let message: String = message.chars().take(250).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": format!("{name}.sotto.{serial:x}"), "namespace": namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": { "component": "sotto", "host": self.node },
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        })
    }
}
