//! The mesh, in the dump: pods, services and policies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::policy::selector::Labels;

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadLine {
    /// `CLUSTER//Pod/NAMESPACE/NAME`, by which endpoints refer to it.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub workload_ips: Vec<IpAddr>,
    /// How peers reach it: `HBONE` or `TCP`.
    pub protocol: String,
    /// Whom its certificate names.
    pub identity: String,
    /// The same in parts.
    pub trust_domain: String,
    /// Its service account.
    pub service_account: String,
    /// Who made it, for telemetry.
    pub workload_name: String,
    /// `deployment`, `job`, `cronjob` or `pod`.
    pub workload_type: String,
    /// Istio's canonical service.
    pub canonical_name: String,
    /// Istio's canonical revision.
    pub canonical_revision: String,
    /// The cluster's name in telemetry.
    pub cluster_id: String,
    /// Where it runs.
    pub locality: LocalityLine,
    /// Whether it belongs to the mesh.
    pub enrolled: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A region and a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalityLine {
    /// `topology.kubernetes.io/region`
    pub region: String,
    /// `topology.kubernetes.io/zone`
    pub zone: String,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its DNS name.
    pub hostname: String,
    /// Its addresses (`NETWORK/ADDRESS`, with an empty network); none for a headless service.
    pub vips: Vec<String>,
    /// Its ports with what they are called; the target may differ from endpoint to endpoint, see there.
    pub ports: BTreeMap<u16, u16>,
    /// The names of its ports.
    pub port_names: BTreeMap<u16, String>,
    /// What is behind it, by the pod's uid, or the address where it is no pod.
    pub endpoints: BTreeMap<String, EndpointLine>,
}

/// What is behind a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointLine {
    /// The pod's uid, empty where it is no pod.
    pub workload_uid: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports of the service with those of the endpoint.
    pub port: BTreeMap<u16, u16>,
    /// `Healthy`, or `Unhealthy` if it gets no new connections.
    pub status: String,
}

/// One AuthorizationPolicy, as ztunnel lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Allow` or `Deny`.
    pub action: String,
    /// `Global`, `Namespace` or `WorkloadSelector`.
    pub scope: String,
}

/// One AuthorizationPolicy, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The labels of the pods that it is for; none for all in its scope.
    pub selector: Labels,
    /// `ALLOW` or `DENY`.
    pub action: String,
    /// How many rules it has.
    pub rules: usize,
    /// Whether it is wrong and fails closed.
    pub invalid: bool,
}

/// One PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerAuthenticationLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The labels of the pods that it is for; none for all in its scope.
    pub selector: Labels,
    /// `STRICT`, `PERMISSIVE`, `DISABLE` or `UNSET`.
    pub mode: String,
    /// Ports with a mode of their own.
    pub ports: BTreeMap<u16, String>,
}
