//! The agents of all nodes, as an operator reaches them from anywhere: their pods, and a way to a port of each that only its own
//! node may connect to (`pods/portforward`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Cluster;
use super::error::ApiError;
use super::objects::place::{escaped, parse};

/// What the agents' pods are told by.
pub const LABEL: &str = "app.kubernetes.io/name=sotto-node";

/// An agent's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentPod {
    /// Its node, or the one that it waits for.
    pub node: String,
    /// Its name.
    pub name: String,
    /// `Running`, `Pending` …
    pub phase: String,
    /// What keeps it from running: `CrashLoopBackOff`, `Unschedulable` …
    pub obstacle: Option<String>,
}

/// The agents' pods in a namespace, in the order of their nodes. Needs the right to list `pods` there. Those that have ended are left
/// out where their node has another.
///
/// # Errors
/// [`ApiError`]
pub async fn list(cluster: &Cluster, namespace: &str) -> Result<Vec<AgentPod>, ApiError> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector={}", escaped(namespace), escaped(LABEL));
    let what = format!("LIST pods of {namespace}");
    let answer: List = parse(&what, &cluster.get(&what, &path).await?)?;
    Ok(relevant(answer.items.into_iter().map(Found::told).collect()))
}

/// What `talk` makes of a connection to this port of the pod, as if from its own loopback. Needs the right to `get` and (since
/// Kubernetes 1.35) to `create` `pods/portforward`.
///
/// # Errors
/// [`ApiError`]
pub async fn connect<S, F, T>(
    cluster: &Cluster,
    (namespace, pod): (&str, &str),
    port: u16,
    talk: F,
) -> Result<T, ApiError>
where
    S: Future<Output = T>,
    F: FnOnce(Box<dyn Wire>) -> S,
{
    let what = format!("port {port} of {namespace}/{pod}");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let opened = pods.portforward(pod, &[port]).await;
    let mut forward = Forward(opened.map_err(|error| ApiError::of_kube(&format!("port-forward to {what}"), &error))?);
    let (Some(stream), Some(problem)) = (forward.0.take_stream(port), forward.0.take_error(port)) else {
        return Err(ApiError::bad(&what, "there is no connection in it"));
    };
    let problem = async {
        match problem.await {
            Some(text) => text,
            // The kubelet will say nothing any more: what is read decides.
            None => std::future::pending().await,
        }
    };
    // The kubelet says why before it ends the connection.
    tokio::select! {
        biased;
        why = problem => Err(ApiError::forward(&what, &why)),
        outcome = talk(Box::new(stream)) => Ok(outcome),
    }
}

/// A connection.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Ends with its value; kube would keep it open.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn relevant(mut pods: Vec<AgentPod>) -> Vec<AgentPod> {
    let alive = |pod: &AgentPod| !matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    let served: BTreeSet<_> = pods.iter().filter(|pod| alive(pod)).map(|pod| pod.node.clone()).collect();
    pods.retain(|pod| alive(pod) || !served.contains(&pod.node));
    pods.sort();
    pods
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Found>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    /// A DaemonSet's controller makes each pod for one node, and says so here.
    affinity: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: Option<String>,
}

impl Found {
    fn told(self) -> AgentPod {
        let Self { metadata, spec, status } = self;
        let wanted =
            "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        let wanted = || spec.affinity.pointer(wanted).and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        let mut waiting = status.container_statuses.into_iter().filter_map(|container| container.state.waiting?.reason);
        let unmet = |condition: Condition| {
            (condition.r#type == "PodScheduled" && condition.status == "False").then_some(condition.reason)?
        };
        AgentPod {
            node: Some(spec.node_name).filter(|node| !node.is_empty()).unwrap_or_else(wanted),
            name: metadata.name,
            phase: status.phase,
            obstacle: waiting.next().or_else(|| status.conditions.into_iter().find_map(unmet)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_says_for_which_node_it_is_and_what_keeps_it_from_running() {
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]},
        ]}}});
        let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
        let crashing = json!([{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        let list: List = serde_json::from_value(json!({"items": [
            {"metadata": {"name": "two"}, "spec": {"affinity": affinity}, "status": {"phase": "Pending", "conditions": unscheduled}},
            {"metadata": {"name": "one"}, "spec": {"nodeName": "a"}, "status": {"phase": "Running", "containerStatuses": crashing}},
            {"metadata": {"name": "odd"}},
        ]}))
        .unwrap();
        let pods = relevant(list.items.into_iter().map(Found::told).collect());
        let pod = |node: &str, name: &str, phase: &str, obstacle: Option<&str>| AgentPod {
            node: node.into(),
            name: name.into(),
            phase: phase.into(),
            obstacle: obstacle.map(str::to_owned),
        };
        let expected = [
            pod("", "odd", "", None),
            pod("a", "one", "Running", Some("CrashLoopBackOff")),
            pod("b", "two", "Pending", Some("Unschedulable")),
        ];
        assert_eq!(pods, expected);
    }

    #[test]
    fn who_has_ended_is_of_interest_where_nobody_has_followed() {
        let pod = |node: &str, name: &str, phase: &str| AgentPod {
            node: node.into(),
            name: name.into(),
            phase: phase.into(),
            obstacle: None,
        };
        let (evicted, next, last) =
            (pod("a", "evicted", "Failed"), pod("a", "next", "Pending"), pod("b", "last", "Failed"));
        assert_eq!(relevant(vec![last.clone(), evicted, next.clone()]), [next, last]);
    }
}
