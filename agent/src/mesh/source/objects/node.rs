//! `Node`: where pods run.

use serde::Deserialize;

use super::meta::{ObjectMeta, nullable};

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name and topology labels.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// What the kubelet reports.
    #[serde(deserialize_with = "nullable")]
    pub status: NodeStatus,
}

/// The part of a node's status that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// The node's addresses.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<NodeAddress>,
}

/// One address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` …
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// The address or name.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
}
