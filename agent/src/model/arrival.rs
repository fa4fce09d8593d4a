//! Pods whose sandbox is being made: known by the container runtime before the API server hears of their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What the container runtime says of a pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The runtime's name of the sandbox.
    pub container: String,
    /// The path of its network namespace, as the node has it.
    pub netns: PathBuf,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// Sandboxes of this node by the UID of their pods.
pub type Arrivals = BTreeMap<Arc<str>, Arrival>;
