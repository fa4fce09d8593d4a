//! Who runs where: the pods of a node, one pod by its name. Only the fields that are used are read from the answers.

use serde::Deserialize;

use super::client::Cluster;
use super::error::ApiError;
use super::objects::place::{escaped, parse};

/// A pod as the API server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Tells it from an earlier pod of the same name.
    pub uid: String,
    /// Where it runs; empty while it waits for a node.
    pub node: String,
    /// Whom it runs as.
    pub service_account: String,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Whether all of its containers have ended for good.
    pub finished: bool,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What the server has in memory: cheap, and perhaps a moment old.
    Cached,
    /// As it is now.
    Exact,
}

/// The pods of one node. Needs the right to list `pods`.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn on_node(cluster: &Cluster, node: &str, fresh: Freshness) -> Result<Vec<PodFacts>, ApiError> {
    let version = match fresh {
        Freshness::Cached => "&resourceVersion=0",
        Freshness::Exact => "",
    };
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}{version}", escaped(node));
    list(cluster, &format!("LIST pods of node {node}"), &path).await
}

/// One pod, if it is there. Needs the right to list `pods`.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn find(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<PodFacts>, ApiError> {
    // A list of one: "not there" is an answer then, and the right to list is needed anyway.
    let path =
        format!("/api/v1/namespaces/{}/pods?fieldSelector=metadata.name%3D{}", escaped(namespace), escaped(name));
    Ok(list(cluster, &format!("LIST pod {namespace}/{name}"), &path).await?.pop())
}

async fn list(cluster: &Cluster, what: &str, path: &str) -> Result<Vec<PodFacts>, ApiError> {
    let answer: List = parse(what, &cluster.get(what, path).await?)?;
    Ok(answer.items.into_iter().map(Pod::facts).collect())
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Pod>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    service_account_name: String,
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl Pod {
    fn facts(self) -> PodFacts {
        let Self { metadata, spec, status } = self;
        let account = Some(spec.service_account_name).filter(|account| !account.is_empty());
        PodFacts {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            node: spec.node_name,
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            host_network: spec.host_network,
            finished: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_that_are_used_are_read() {
        let list: List = serde_json::from_value(serde_json::json!({
            "kind": "PodList", "metadata": {"resourceVersion": "7"},
            "items": [
                {"metadata": {"namespace": "a", "name": "b", "uid": "u"}, "spec": {"nodeName": "n", "serviceAccountName": "s",
                 "hostNetwork": true, "containers": [{"name": "x"}]}, "status": {"phase": "Failed", "podIP": "1.2.3.4"}},
                {"metadata": {"name": "c"}},
            ],
        }))
        .unwrap();
        let pods: Vec<_> = list.items.into_iter().map(Pod::facts).collect();
        let first = PodFacts {
            namespace: "a".into(),
            name: "b".into(),
            uid: "u".into(),
            node: "n".into(),
            service_account: "s".into(),
            host_network: true,
            finished: true,
        };
        assert_eq!(pods[0], first);
        assert_eq!((pods[1].service_account.as_str(), pods[1].finished), ("default", false));
    }
}
