//! `Pod`: a workload.

use serde::Deserialize;

use super::meta::{ObjectMeta, nullable};

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, labels, annotations, owners.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(deserialize_with = "nullable")]
    pub spec: PodSpec,
    /// What is; in manifests, written by hand.
    #[serde(deserialize_with = "nullable")]
    pub status: PodStatus,
}

/// The part of a pod's spec that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that the pod runs on; empty until it is scheduled.
    #[serde(deserialize_with = "nullable")]
    pub node_name: String,
    /// Whether the pod shares its node's network namespace.
    #[serde(deserialize_with = "nullable")]
    pub host_network: bool,
    /// The pod's service account; empty means `default`.
    #[serde(deserialize_with = "nullable")]
    pub service_account_name: String,
    /// The deprecated spelling of `serviceAccountName`, which the API server still accepts.
    #[serde(deserialize_with = "nullable")]
    pub service_account: String,
    /// Containers, for the ports that they name.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
}

/// The part of a container that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Ports that the container declares.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The name that a Service's `targetPort` may use.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The port number.
    #[serde(deserialize_with = "nullable")]
    pub container_port: i32,
    /// `TCP` (also if empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "nullable")]
    pub protocol: String,
}

/// The part of a pod's status that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(deserialize_with = "nullable")]
    pub phase: String,
    /// The primary address.
    #[serde(rename = "podIP", deserialize_with = "nullable")]
    pub pod_ip: String,
    /// All addresses, the primary one first.
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pub pod_ips: Vec<PodIp>,
    /// Conditions; `Ready` is used.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<PodCondition>,
}

/// One address of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    #[serde(deserialize_with = "nullable")]
    pub ip: String,
}

/// One condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// `Ready` …
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
}

impl Pod {
    /// Whether the pod has run to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether the pod takes new connections. A status that says nothing about it (one written by hand) counts as ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready");
        ready.is_none_or(|condition| condition.status.eq_ignore_ascii_case("true"))
    }
}
